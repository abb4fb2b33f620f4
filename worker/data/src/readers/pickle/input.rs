//! The bytes of a pickle: lengths, numbers and strings, each checked against what is left of the file. Knows nothing of
//! the objects they make.

use super::Refusal;
use super::opcode as op;
use crate::readers::npy::fixed;

/// What is left of the file.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// # Errors
    /// A file that does not begin as a pickle of protocols 2 to 5.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Input<'a>, Refusal> {
        if let &[op::PROTO, version, ..] = bytes {
            return match version {
                2..=5 => Ok(Input { bytes, at: 2 }),
                _ => Err(Refusal::new(
                    format!("the pickle has protocol {version}; protocols 2 to 5 are read"),
                    "write it again with pickle.dump(matrix, file, protocol=4)",
                )),
            };
        }
        Err(not_a_pickle(bytes))
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Refusal> {
        let rest = self.bytes.len() - self.at;
        let end = self.at.checked_add(len).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| Refusal::damaged(format!("{len} bytes are needed and {rest} are left")))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(u32::from_le_bytes(fixed(self.take(4)?)))
    }

    fn u64(&mut self) -> Result<u64, Refusal> {
        Ok(u64::from_le_bytes(fixed(self.take(8)?)))
    }

    pub(super) fn integer(&mut self, opcode: u8) -> Result<i64, Refusal> {
        Ok(match opcode {
            op::BININT => i64::from(i32::from_le_bytes(fixed(self.take(4)?))),
            op::BININT1 => i64::from(self.u8()?),
            op::BININT2 => i64::from(u16::from_le_bytes(fixed(self.take(2)?))),
            _ => {
                let len = usize::from(self.u8()?);
                let bytes = self.take(len)?;
                if len > 8 {
                    return Err(Refusal::damaged(format!("an integer of {len} bytes")));
                }
                // two's complement of any length
                let sign = if bytes.last().is_some_and(|&last| last >= 0x80) { 0xff } else { 0 };
                let mut wide = [sign; 8];
                wide[..len].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        })
    }

    /// The bytes of a string behind its length.
    pub(super) fn string(&mut self, opcode: u8) -> Result<&'a [u8], Refusal> {
        let len = match opcode {
            op::SHORT_BINSTRING | op::SHORT_BINBYTES | op::SHORT_BINUNICODE => u64::from(self.u8()?),
            op::BINBYTES8 | op::BYTEARRAY8 | op::BINUNICODE8 => self.u64()?,
            _ => u64::from(self.u32()?),
        };
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Text up to the end of a line.
    pub(super) fn line(&mut self) -> Result<&'a str, Refusal> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n');
        let end = end.ok_or_else(|| Refusal::damaged("the name of a class or function does not end"))?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| Refusal::damaged("the name of a class or function is not UTF-8"))
    }

    /// A frame only says how much a reader should buffer.
    pub(super) fn frame(&mut self) -> Result<(), Refusal> {
        let (len, rest) = (self.u64()?, (self.bytes.len() - self.at) as u64);
        if len > rest {
            return Err(Refusal::damaged(format!("a frame has {len} bytes and {rest} are left")));
        }
        Ok(())
    }

    pub(super) fn ends(&self) -> Result<(), Refusal> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            rest => Err(Refusal::new(
                format!("{rest} bytes follow the end of the pickle"),
                "save one matrix or array in each file",
            )),
        }
    }
}

fn not_a_pickle(bytes: &[u8]) -> Refusal {
    const AGAIN: &str = "write it again with pickle.dump(matrix, file, protocol=4)";
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    match () {
        () if begins(b"\x1f\x8b") => Refusal::new("the file is compressed by gzip", "unpack it: gunzip < OLD > NEW"),
        () if begins(b"PK\x03\x04") => Refusal::new(
            "the file is a zip archive, as torch.save and numpy.savez write",
            "a torch tensor is saved with numpy.save(name, tensor.numpy()); a matrix of numpy is named .npz",
        ),
        () if begins(b"\x93NUMPY") => {
            Refusal::new("the file is a numpy array, not a pickle", "give it the ending .npy")
        }
        () if begins(b"version https://git-lfs") => {
            Refusal::new("the file is a placeholder of Git LFS, not the data", "fetch the data: git lfs pull")
        }
        // protocol 0 and 1 begin with the opcode of the first object
        () if begins(b"c") || begins(b"(") || begins(b"]") || begins(b"}") => {
            Refusal::new("not a pickle of protocol 2 to 5; it may be one of protocol 0 or 1", AGAIN)
        }
        () => Refusal::new("not a pickle of protocol 2 to 5 (wrong first byte)", AGAIN),
    }
}
