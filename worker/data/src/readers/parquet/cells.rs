//! Decoded cells: some rows of some columns, without an allocation for each cell. Decodes nothing itself.

/// Some rows of the wanted columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Number of the first row in its file, from 0.
    pub first_row: u64,
    pub rows: usize,
    /// In the order in which they were asked for.
    pub columns: Vec<Cells>,
}

/// The cells of one column: one a row, nulls included.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    pub values: Values,
    /// By row, whether the cell holds a value; none where every cell does.
    pub(super) present: Option<Vec<bool>>,
}

/// By row; what stands for a null is of no meaning.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of the kinds `Integer`, unless one is beyond `i64`, and `Timestamp`.
    Integers(Vec<i64>),
    /// Of the kinds `Float` and `Decimal`.
    Floats(Vec<f64>),
    /// Of the kind `Text`, and large integers in decimals.
    Texts(Texts),
    Booleans(Vec<bool>),
    Lists(Lists),
}

/// Strings, one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    text: String,
    ends: Vec<usize>,
}

/// Lists of floats, one behind the other. A null within a list is a NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    values: Vec<f64>,
    ends: Vec<usize>,
}

impl Cells {
    pub fn is_null(&self, row: usize) -> bool {
        self.present.as_ref().is_some_and(|present| !present.get(row).copied().unwrap_or(false))
    }

    /// Nulls among the cells.
    pub fn nulls(&self) -> usize {
        self.present.as_ref().map_or(0, |present| present.iter().filter(|p| !**p).count())
    }

    /// Values of all lists together; 0 for other columns.
    pub(super) fn list_values(&self) -> usize {
        match &self.values {
            Values::Lists(lists) => lists.values.len(),
            Values::Integers(_) | Values::Floats(_) | Values::Texts(_) | Values::Booleans(_) => 0,
        }
    }
}

impl Texts {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// The string of a row; empty for a row there is not.
    pub fn get(&self, row: usize) -> &str {
        self.text.get(span(&self.ends, row)).unwrap_or("")
    }
}

impl Lists {
    pub(super) fn push_value(&mut self, value: f64) {
        self.values.push(value);
    }

    pub(super) fn end_list(&mut self) {
        self.ends.push(self.values.len());
    }

    /// The list of a row; empty for a row there is not.
    pub fn get(&self, row: usize) -> &[f64] {
        self.values.get(span(&self.ends, row)).unwrap_or(&[])
    }
}

fn span(ends: &[usize], row: usize) -> std::ops::Range<usize> {
    let from = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    from..ends.get(row).copied().unwrap_or(from)
}
