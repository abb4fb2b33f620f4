//! Ids that a table cannot mean: a line of words among whole numbers, one id in two forms, ids that a spreadsheet rounded.
//! `users.txt` and `items.txt` list ids as they are, and switch this off.

use super::layout::shorten;
use super::tables::{Token, canonical_integer};
use crate::error::{DataError, Side, place};
use std::collections::HashMap;
use std::path::PathBuf;

/// Where there are fewer whole numbers, words among them are no surprise.
const ENOUGH_INTEGERS: usize = 20;

/// # Errors
/// Tokens of which some cannot be ids, with their lines.
pub(super) fn refuse_damaged(tokens: &[Token], side: Side, files: &[PathBuf]) -> Result<(), DataError> {
    let ids = Ids { tokens, side, files };
    ids.refuse_rounded()?;
    ids.refuse_strays()?;
    ids.refuse_two_forms()
}

struct Ids<'a> {
    tokens: &'a [Token],
    side: Side,
    files: &'a [PathBuf],
}

impl Ids<'_> {
    fn refuse(&self, token: &Token, problem: String, advice: String) -> DataError {
        let (_, file, line) = token;
        let path = self.files.get(*file as usize).cloned().unwrap_or_default();
        DataError::Malformed { place: place(&path, *line), problem, advice }
    }

    fn place(&self, (_, file, line): &Token) -> String {
        self.files.get(*file as usize).map_or(String::new(), |path| place(path, *line))
    }

    /// `7.65614E+16`: what a spreadsheet makes of a long number. Different ids become one.
    fn refuse_rounded(&self) -> Result<(), DataError> {
        let is_rounded = |token: &&Token| {
            let (digits, power) = token.0.split_once("E+").unwrap_or_default();
            !power.is_empty() && power.parse::<u32>().is_ok() && digits.parse::<f64>().is_ok()
        };
        let rounded: Vec<&Token> = self.tokens.iter().filter(is_rounded).collect();
        match rounded.as_slice() {
            [first, ..] if 2 * rounded.len() >= self.tokens.len() => Err(self.refuse(
                first,
                format!(
                    "the {} id `{}` was rounded, as spreadsheets do: several ids may have become one",
                    self.side, first.0
                ),
                "export the table again from where it came from, ids as text".into(),
            )),
            _ => Ok(()),
        }
    }

    /// A title, a sum or a second header in a table of whole numbers.
    fn refuse_strays(&self) -> Result<(), DataError> {
        let strays: Vec<&Token> = self.tokens.iter().filter(|token| canonical_integer(&token.0).is_none()).collect();
        let integers = self.tokens.len() - strays.len();
        let few = (self.tokens.len() / 1000).max(2);
        match strays.as_slice() {
            [first, ..] if strays.len() <= few && integers >= ENOUGH_INTEGERS => {
                let (side, id) = (self.side, shorten(&first.0));
                Err(self.refuse(
                    first,
                    format!("the {side} id `{id}` is no whole number, as {integers} others are: the line may be no interaction"),
                    format!("remove the line; where it is an id, list all {side} ids in {side}s.txt, one a line"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// `7` in one line and `7.0` or `007` in another: one user would be two.
    fn refuse_two_forms(&self) -> Result<(), DataError> {
        let value = |token: &Token| -> Option<i64> {
            // beyond 2^53 two whole numbers are one f64
            const EXACT: f64 = 9.0e15;
            match canonical_integer(&token.0) {
                Some(value) => Some(value),
                None => token.0.parse::<f64>().ok().filter(|v| v.fract() == 0.0 && v.abs() < EXACT).map(|v| v as i64),
            }
        };
        let mut odd: HashMap<i64, &Token> = HashMap::new();
        for token in self.tokens.iter().filter(|token| canonical_integer(&token.0).is_none()) {
            let Some(number) = value(token) else { continue };
            if let Some(other) = odd.insert(number, token) {
                return Err(self.two_forms(other, token));
            }
        }
        if odd.is_empty() {
            return Ok(());
        }
        for token in self.tokens {
            let number = canonical_integer(&token.0);
            if let Some(other) = number.and_then(|number| odd.get(&number)) {
                return Err(self.two_forms(other, token));
            }
        }
        Ok(())
    }

    fn two_forms(&self, one: &Token, other: &Token) -> DataError {
        let side = self.side;
        self.refuse(
            one,
            format!("the {side} ids `{}` and `{}` ({}) may be one id in two forms", one.0, other.0, self.place(other)),
            format!(
                "write ids in one form; where they are two {side}s, list all {side} ids in {side}s.txt, one a line"
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ids: impl IntoIterator<Item = String>) -> Result<(), String> {
        let tokens: Vec<Token> = ids.into_iter().zip(1..).map(|(id, line)| (id, 0, line)).collect();
        refuse_damaged(&tokens, Side::User, &[PathBuf::from("a.csv")]).map_err(|error| error.to_string())
    }

    fn numbers() -> impl Iterator<Item = String> {
        (0..40).map(|n| n.to_string())
    }

    #[test]
    fn a_word_among_whole_numbers_is_told_with_its_line() {
        for word in ["Total", "#", "---", "user_id"] {
            let error = of(numbers().chain([word.to_string()])).unwrap_err();
            assert!(error.contains("a.csv:41") && error.contains(word) && error.contains("users.txt"), "{error}");
        }
        assert_eq!(of(numbers().chain(["a".into(), "b".into(), "c".into()])), Ok(()), "several words are ids");
        assert_eq!(of(["1".to_string(), "x".into()]), Ok(()), "a few ids say nothing");
    }

    #[test]
    fn one_id_in_two_forms_is_refused() {
        for (one, other) in [("7", "7.0"), ("007", "7"), ("1e5", "100000"), ("07", "7.0")] {
            let error = of(["a", "b", one, other].map(String::from)).unwrap_err();
            assert!(error.contains(one) && error.contains(other) && error.contains("two forms"), "{error}");
        }
        assert_eq!(of(["7.0", "8.0", "9.5", "x7", "inf", "nan"].map(String::from)), Ok(()));
    }

    #[test]
    fn ids_that_a_spreadsheet_rounded_are_refused() {
        let error = of(["7.65614E+16", "7.65615E+16"].map(String::from)).unwrap_err();
        assert!(error.contains("rounded"), "{error}");
    }
}
