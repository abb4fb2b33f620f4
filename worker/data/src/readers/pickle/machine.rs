//! The stack machine: bytes of a pickle -> objects, the last of which is the pickle's value. Its memory is bounded by
//! [`MOST_OPCODES`] and a few bytes for each; strings stay in the file's bytes.

use super::input::Input;
use super::object::{Bytes, Global, Id, Object, Objects, SparseKind};
use super::opcode::{self as op, refusal};
use super::{Refusal, numpy};
use std::collections::HashMap;

/// A matrix takes about a hundred; a file with as many as these holds lists of Python's numbers or dictionaries.
pub(super) const MOST_OPCODES: usize = 1 << 20;

/// Runs a whole pickle.
pub(super) fn run(bytes: &[u8]) -> Result<(Objects<'_>, Id), Refusal> {
    let mut machine = Machine {
        input: Input::of(bytes)?,
        objects: Objects::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    for _ in 0..MOST_OPCODES {
        let begin = machine.input.at();
        let at = |refusal: Refusal| Refusal { problem: format!("{} (byte {begin})", refusal.problem), ..refusal };
        let opcode = machine.input.u8().map_err(at)?;
        if opcode == op::STOP {
            let top = machine.pop().map_err(at)?;
            machine.input.ends()?;
            return Ok((machine.objects, top));
        }
        machine.step(opcode).map_err(at)?;
    }
    Err(Refusal::new(
        format!("the pickle has more than {MOST_OPCODES} opcodes: it holds many small objects"),
        "save one scipy.sparse matrix or one numpy array, not lists or dictionaries",
    ))
}

struct Machine<'a> {
    input: Input<'a>,
    objects: Objects<'a>,
    stack: Vec<Id>,
    /// Height of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, opcode: u8) -> Result<(), Refusal> {
        match opcode {
            op::FRAME => self.input.frame()?,
            op::MARK => self.marks.push(self.stack.len()),
            op::POP => self.pop_object_or_mark()?,
            op::POP_MARK => drop(self.pop_mark()?),
            op::DUP => self.stack.push(self.top()?),
            op::NONE => self.push(Object::None),
            op::NEWTRUE => self.push(Object::Bool(true)),
            op::NEWFALSE => self.push(Object::Bool(false)),
            op::BININT | op::BININT1 | op::BININT2 | op::LONG1 => {
                let value = self.input.integer(opcode)?;
                self.push(Object::Int(value));
            }
            op::BINFLOAT => {
                self.input.take(8)?;
                self.push(Object::Float);
            }
            op::BINUNICODE | op::SHORT_BINUNICODE | op::BINUNICODE8 => {
                let text = self.input.string(opcode)?;
                let text = std::str::from_utf8(text).map_err(|_| Refusal::damaged("a text is not UTF-8"))?;
                self.push(Object::Text(text));
            }
            op::BINSTRING
            | op::SHORT_BINSTRING
            | op::BINBYTES
            | op::SHORT_BINBYTES
            | op::BINBYTES8
            | op::BYTEARRAY8 => {
                let bytes = self.input.string(opcode)?;
                self.push(Object::Bytes(Bytes::Plain(bytes)));
            }
            op::EMPTY_TUPLE => self.push(Object::Tuple(Box::default())),
            op::TUPLE => {
                let items = self.pop_mark()?;
                self.push(Object::Tuple(items.into()));
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => self.short_tuple(usize::from(opcode - op::TUPLE1) + 1)?,
            op::EMPTY_LIST | op::LIST | op::APPEND | op::APPENDS => self.list(opcode)?,
            op::EMPTY_DICT | op::DICT | op::SETITEM | op::SETITEMS => self.dictionary(opcode)?,
            op::BINPUT | op::LONG_BINPUT | op::MEMOIZE | op::BINGET | op::LONG_BINGET => self.memory(opcode)?,
            op::GLOBAL => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.push(Object::Global(Global::resolve(module, name)?));
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.objects.text(module), self.objects.text(name)) else {
                    return Err(Refusal::damaged("the name of a class or function is not text"));
                };
                self.push(Object::Global(Global::resolve(module, name)?));
            }
            op::REDUCE | op::NEWOBJ => self.make(opcode)?,
            op::BUILD => {
                let (state, target) = (self.pop()?, self.top()?);
                self.build(target, state)?;
            }
            other => return Err(refusal(other)),
        }
        Ok(())
    }

    fn push(&mut self, object: Object<'a>) {
        let id = self.objects.add(object);
        self.stack.push(id);
    }

    /// The topmost object above the last MARK.
    fn top(&self) -> Result<Id, Refusal> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&top) if self.stack.len() > floor => Ok(top),
            _ => Err(Refusal::damaged("an opcode takes more objects than there are")),
        }
    }

    fn pop(&mut self) -> Result<Id, Refusal> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// All objects above the last MARK, and the MARK.
    fn pop_mark(&mut self) -> Result<Vec<Id>, Refusal> {
        let floor = self.marks.pop().ok_or_else(|| Refusal::damaged("an opcode takes a MARK that is not there"))?;
        Ok(self.stack.split_off(floor))
    }

    fn pop_object_or_mark(&mut self) -> Result<(), Refusal> {
        match self.marks.last() {
            Some(&floor) if floor == self.stack.len() => {
                self.marks.pop();
                Ok(())
            }
            _ => self.pop().map(drop),
        }
    }

    fn short_tuple(&mut self, len: usize) -> Result<(), Refusal> {
        let mut items = vec![self.pop()?];
        for _ in 1..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Object::Tuple(items.into()));
        Ok(())
    }

    fn list(&mut self, opcode: u8) -> Result<(), Refusal> {
        match opcode {
            op::LIST => drop(self.pop_mark()?),
            op::APPEND => drop(self.pop()?),
            op::APPENDS => drop(self.pop_mark()?),
            _ => {}
        }
        if matches!(opcode, op::EMPTY_LIST | op::LIST) {
            self.push(Object::List);
            return Ok(());
        }
        match self.objects.get(self.top()?) {
            Object::List => Ok(()),
            other => Err(Refusal::damaged(format!("an element is appended to {}", other.kind()))),
        }
    }

    fn dictionary(&mut self, opcode: u8) -> Result<(), Refusal> {
        let items = match opcode {
            op::DICT | op::SETITEMS => self.pop_mark()?,
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                vec![key, value]
            }
            _ => Vec::new(),
        };
        if items.len() % 2 != 0 {
            return Err(Refusal::damaged("a dictionary has a key without a value"));
        }
        if matches!(opcode, op::EMPTY_DICT | op::DICT) {
            self.push(Object::Dict(Vec::new()));
        }
        let top = self.top()?;
        match self.objects.get_mut(top) {
            Object::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            other => return Err(Refusal::damaged(format!("a key is set in {}", other.kind()))),
        }
        Ok(())
    }

    fn memory(&mut self, opcode: u8) -> Result<(), Refusal> {
        let key = match opcode {
            op::MEMOIZE => self.memo.len() as u32,
            op::BINPUT | op::BINGET => u32::from(self.input.u8()?),
            _ => self.input.u32()?,
        };
        if matches!(opcode, op::BINGET | op::LONG_BINGET) {
            let id = self.memo.get(&key).copied();
            let id = id.ok_or_else(|| Refusal::damaged(format!("entry {key} of the memo is used before it is set")))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    /// REDUCE and NEWOBJ: an object from a name and its arguments.
    fn make(&mut self, opcode: u8) -> Result<(), Refusal> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let Object::Global(global) = *self.objects.get(callable) else {
            let kind = self.objects.get(callable).kind();
            return Err(Refusal::damaged(format!("{kind} is called")));
        };
        let arguments =
            self.objects.tuple(arguments).ok_or_else(|| Refusal::damaged("the arguments of a call are no tuple"))?;
        let made = match (global, opcode) {
            (Global::Sparse(kind), op::NEWOBJ) if arguments.is_empty() => Object::Sparse { kind, state: None },
            (_, op::REDUCE) => numpy::made(&self.objects, global, arguments)?,
            _ => return Err(Refusal::damaged("an object is made in a way that numpy and scipy do not write")),
        };
        self.push(made);
        Ok(())
    }

    fn build(&mut self, target: Id, state: Id) -> Result<(), Refusal> {
        let twice = || Refusal::damaged("the state of an object is set twice");
        match self.objects.get(target) {
            Object::Array { state: None } => {
                let filled = numpy::array_state(&self.objects, state)?;
                *self.objects.get_mut(target) = Object::Array { state: Some(filled) };
                Ok(())
            }
            Object::Dtype(dtype) if dtype.order.is_none() => {
                let ordered = numpy::with_order(&self.objects, *dtype, state)?;
                *self.objects.get_mut(target) = Object::Dtype(ordered);
                Ok(())
            }
            &Object::Sparse { kind, state: None } => self.fill_sparse(target, kind, state),
            Object::Array { .. } | Object::Dtype(_) | Object::Sparse { .. } => Err(twice()),
            other => Err(Refusal::damaged(format!("the state of {} is set", other.kind()))),
        }
    }

    fn fill_sparse(&mut self, target: Id, kind: SparseKind, state: Id) -> Result<(), Refusal> {
        match self.objects.get(state) {
            Object::Dict(_) => {
                *self.objects.get_mut(target) = Object::Sparse { kind, state: Some(state) };
                Ok(())
            }
            other => Err(Refusal::damaged(format!("the state of a matrix is {}, not a dictionary", other.kind()))),
        }
    }
}
