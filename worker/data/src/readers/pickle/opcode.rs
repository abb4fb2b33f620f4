//! The opcodes of Python's pickletools that the machine follows, and why it refuses the others. Reads nothing.

use super::{DAMAGED, Refusal};

pub(super) const PROTO: u8 = 0x80;
pub(super) const STOP: u8 = b'.';
pub(super) const FRAME: u8 = 0x95;

pub(super) const MARK: u8 = b'(';
pub(super) const POP: u8 = b'0';
pub(super) const POP_MARK: u8 = b'1';
pub(super) const DUP: u8 = b'2';

pub(super) const NONE: u8 = b'N';
pub(super) const NEWTRUE: u8 = 0x88;
pub(super) const NEWFALSE: u8 = 0x89;
pub(super) const BININT: u8 = b'J';
pub(super) const BININT1: u8 = b'K';
pub(super) const BININT2: u8 = b'M';
pub(super) const LONG1: u8 = 0x8a;
pub(super) const BINFLOAT: u8 = b'G';

pub(super) const BINSTRING: u8 = b'T';
pub(super) const SHORT_BINSTRING: u8 = b'U';
pub(super) const BINBYTES: u8 = b'B';
pub(super) const SHORT_BINBYTES: u8 = b'C';
pub(super) const BINBYTES8: u8 = 0x8e;
pub(super) const BYTEARRAY8: u8 = 0x96;
pub(super) const BINUNICODE: u8 = b'X';
pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
pub(super) const BINUNICODE8: u8 = 0x8d;

pub(super) const EMPTY_TUPLE: u8 = b')';
pub(super) const TUPLE: u8 = b't';
pub(super) const TUPLE1: u8 = 0x85;
pub(super) const TUPLE2: u8 = 0x86;
pub(super) const TUPLE3: u8 = 0x87;
pub(super) const EMPTY_LIST: u8 = b']';
pub(super) const LIST: u8 = b'l';
pub(super) const APPEND: u8 = b'a';
pub(super) const APPENDS: u8 = b'e';
pub(super) const EMPTY_DICT: u8 = b'}';
pub(super) const DICT: u8 = b'd';
pub(super) const SETITEM: u8 = b's';
pub(super) const SETITEMS: u8 = b'u';

pub(super) const BINPUT: u8 = b'q';
pub(super) const LONG_BINPUT: u8 = b'r';
pub(super) const MEMOIZE: u8 = 0x94;
pub(super) const BINGET: u8 = b'h';
pub(super) const LONG_BINGET: u8 = b'j';

pub(super) const GLOBAL: u8 = b'c';
pub(super) const STACK_GLOBAL: u8 = 0x93;
pub(super) const REDUCE: u8 = b'R';
pub(super) const NEWOBJ: u8 = 0x81;
pub(super) const BUILD: u8 = b'b';

/// Why an opcode that is not among the constants above is not followed.
pub(super) fn refusal(opcode: u8) -> Refusal {
    const ONE: &str = "save one scipy.sparse matrix or one numpy array";
    const IN_FILE: &str = "write it again with pickle.dump, without buffer_callback";
    const TENSOR: &str = "a torch tensor is saved with numpy.save(name, tensor.numpy())";
    let (name, does, advice) = match opcode {
        b'P' => ("PERSID", "refers to data outside of it, as torch.save writes", TENSOR),
        b'Q' => ("BINPERSID", "refers to data outside of it, as torch.save writes", TENSOR),
        0x82 => ("EXT1", "refers to a registry of the process that wrote it", ONE),
        0x83 => ("EXT2", "refers to a registry of the process that wrote it", ONE),
        0x84 => ("EXT4", "refers to a registry of the process that wrote it", ONE),
        0x97 => ("NEXT_BUFFER", "keeps its data outside of the file", IN_FILE),
        0x98 => ("READONLY_BUFFER", "keeps its data outside of the file", IN_FILE),
        b'i' => ("INST", "makes an object of a class", ONE),
        b'o' => ("OBJ", "makes an object of a class", ONE),
        0x92 => ("NEWOBJ_EX", "makes an object of a class", ONE),
        0x8b => ("LONG4", "holds an integer beyond 64 bits", ONE),
        0x8f => ("EMPTY_SET", "holds a set", ONE),
        0x90 => ("ADDITEMS", "holds a set", ONE),
        0x91 => ("FROZENSET", "holds a set", ONE),
        PROTO => ("PROTO", "begins a second time", DAMAGED),
        _ => return Refusal::damaged(format!("the pickle has the byte {opcode:#04x} in the place of an opcode")),
    };
    Refusal::new(format!("the pickle {does} ({name})"), advice)
}
