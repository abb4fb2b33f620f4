//! The Thrift compact protocol, as far as the header of a page needs it: integers by field number. Allocates little more
//! than it reads.

use std::io::Read;

/// Structures within structures at most; a page header has three levels.
const MOST_DEPTH: u32 = 16;

/// A value of a field; what no check needs is passed over.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Integer(i64),
    Struct(Fields),
    Other,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Fields(Vec<(i16, Value)>);

impl Fields {
    /// The last value that was given for a field, as decoders keep it.
    fn get(&self, field: i16) -> Option<&Value> {
        self.0.iter().rev().find(|(id, _)| *id == field).map(|(_, value)| value)
    }

    pub(super) fn integer(&self, field: i16) -> Option<i64> {
        match self.get(field) {
            Some(Value::Integer(value)) => Some(*value),
            Some(Value::Struct(_) | Value::Other) | None => None,
        }
    }

    pub(super) fn fields(&self, field: i16) -> Option<&Fields> {
        match self.get(field) {
            Some(Value::Struct(fields)) => Some(fields),
            Some(Value::Integer(_) | Value::Other) | None => None,
        }
    }
}

/// Bytes under way, counted.
pub(super) struct Input<R> {
    reader: R,
    pub(super) read: u64,
}

type Parsed<T> = Result<T, &'static str>;

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Input<R> {
        Input { reader, read: 0 }
    }

    /// A structure up to its end mark.
    ///
    /// # Errors
    /// Input that ends before, or is no Thrift.
    pub(super) fn structure(&mut self) -> Parsed<Fields> {
        self.fields(0)
    }

    fn fields(&mut self, depth: u32) -> Parsed<Fields> {
        if depth > MOST_DEPTH {
            return Err("a page header is nested too deeply");
        }
        let mut fields = Fields::default();
        let mut last: i16 = 0;
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Ok(fields);
            }
            last = match byte >> 4 {
                0 => self.integer()? as i16,
                step => last.wrapping_add(i16::from(step)),
            };
            fields.0.push((last, self.value(byte & 15, depth)?));
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Parsed<Value> {
        match kind {
            // booleans lie in the kind itself
            1 | 2 => Ok(Value::Other),
            3 => Ok(Value::Integer(i64::from(self.byte()? as i8))),
            4..=6 => Ok(Value::Integer(self.integer()?)),
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)
            }
            9 | 10 => self.list(depth),
            11 => self.map(depth),
            12 => Ok(Value::Struct(self.fields(depth + 1)?)),
            _ => Err("a page header has a field of an unknown type"),
        }
    }

    /// Each element takes a byte at least, so the input bounds the loop.
    fn list(&mut self, depth: u32) -> Parsed<Value> {
        let byte = self.byte()?;
        let size = if byte >> 4 == 15 { self.varint()? } else { u64::from(byte >> 4) };
        for _ in 0..size {
            self.element(byte & 15, depth)?;
        }
        Ok(Value::Other)
    }

    fn map(&mut self, depth: u32) -> Parsed<Value> {
        let size = self.varint()?;
        if size > 0 {
            let kinds = self.byte()?;
            for _ in 0..size {
                self.element(kinds >> 4, depth)?;
                self.element(kinds & 15, depth)?;
            }
        }
        Ok(Value::Other)
    }

    fn element(&mut self, kind: u8, depth: u32) -> Parsed<()> {
        match kind {
            1 | 2 => self.byte().map(|_| ()),
            _ if depth >= MOST_DEPTH => Err("a page header is nested too deeply"),
            _ => self.value(kind, depth + 1).map(|_| ()),
        }
    }

    fn byte(&mut self) -> Parsed<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte).map_err(|_| "a page header is cut short")?;
        self.read += 1;
        Ok(byte[0])
    }

    fn skip(&mut self, length: u64) -> Parsed<Value> {
        let skipped = std::io::copy(&mut self.reader.by_ref().take(length), &mut std::io::sink());
        if skipped.ok() != Some(length) {
            return Err("a page header is cut short");
        }
        self.read += length;
        Ok(Value::Other)
    }

    fn varint(&mut self) -> Parsed<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a page header has a number of more than 64 bits")
    }

    /// Zigzag: 0, -1, 1, -2, ...
    fn integer(&mut self) -> Parsed<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_by_number_and_the_rest_is_passed_over() {
        // 1: i32 -2; 3: "ab"; 4: list of two i32; 5: {1: i64 300}; 6: true
        let bytes = [0x15, 3, 0x28, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x1c, 0x16, 0xd8, 4, 0, 0x11, 0, 99];
        let mut input = Input::new(&bytes[..]);
        let fields = input.structure().unwrap();
        assert_eq!((fields.integer(1), fields.integer(3), fields.integer(4)), (Some(-2), None, None));
        assert_eq!(fields.fields(5).unwrap().integer(1), Some(300));
        assert_eq!(input.read, 17);
    }

    #[test]
    fn damaged_headers_are_errors() {
        for bytes in [&[][..], &[0x15], &[0x18, 200, 1, b'a'], &[0x19, 0xf5, 255, 255, 255, 15], &[0x1d], &[0x1c; 40]] {
            assert!(Input::new(bytes).structure().is_err(), "{bytes:?}");
        }
    }
}
