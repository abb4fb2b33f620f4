//! One request and one answer a connection: integers are little endian, fields are their length and their bytes.

use std::io::{self, Read, Write};
use std::time::Duration;

/// What is asked. Keys must exist, or the request waits for them, where it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// The value of the key; waits.
    Get,
    /// Sets the key to the value.
    Set,
    /// Waits for all keys.
    Wait,
    /// Adds the decimal number in the value to that of the key, which is 0 at first; answers the sum.
    Add,
    /// Answers "1" when the key was there, else "0".
    Delete,
}

/// In the order of their numbers, also in cpp/callback_store.h.
pub(crate) const VERBS: [Verb; 5] = [Verb::Get, Verb::Set, Verb::Wait, Verb::Add, Verb::Delete];

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) wait: Duration,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) value: Vec<u8>,
}

/// None when the keys were not there in time.
pub(super) type Answer = Option<Vec<u8>>;

/// Far more than c10d stores in a key, and little enough to hold.
const LONGEST: u32 = 16 << 20;
const MOST_KEYS: u32 = 1 << 16;

impl Request {
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let place = VERBS.iter().position(|verb| *verb == self.verb).unwrap_or_default();
        let wait = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let mut bytes = vec![place as u8];
        bytes.extend(wait.to_le_bytes());
        bytes.extend((self.keys.len() as u32).to_le_bytes());
        self.keys.iter().chain([&self.value]).for_each(|field| push(&mut bytes, field));
        to.write_all(&bytes)
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Request> {
        let [verb] = array(from)?;
        let verb = *VERBS.get(usize::from(verb)).ok_or_else(|| invalid("verb"))?;
        let wait = Duration::from_millis(u64::from_le_bytes(array(from)?));
        let count = u32::from_le_bytes(array(from)?);
        if count > MOST_KEYS {
            return Err(invalid("number of keys"));
        }
        let keys = (0..count).map(|_| field(from)).collect::<io::Result<_>>()?;
        Ok(Request { verb, wait, keys, value: field(from)? })
    }
}

pub(super) fn write_answer(answer: &Answer, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = vec![u8::from(answer.is_some())];
    push(&mut bytes, answer.as_deref().unwrap_or_default());
    to.write_all(&bytes)
}

pub(super) fn read_answer(from: &mut impl Read) -> io::Result<Answer> {
    let [found] = array(from)?;
    let value = field(from)?;
    Ok((found == 1).then_some(value))
}

fn push(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend((field.len() as u32).to_le_bytes());
    bytes.extend(field);
}

fn field(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = u32::from_le_bytes(array(from)?);
    if length > LONGEST {
        return Err(invalid("length"));
    }
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the {what} makes no sense"))
}
