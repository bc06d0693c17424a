//! The machine that a pickle is a program for: protocols 2 to 5, without what none of torch's files has.
//!
//! The opcodes are those of CPython's `Lib/pickletools.py`. Every step takes at least one byte and adds at
//! most one node, so time and memory are bounded by the length of the pickle.

use rustc_hash::FxHashMap;

use super::calls;
use super::globals::Global;
use super::operands::{self, Operands};
use super::value::{Graph, Id, Node};
use crate::interop::torch::problem::Problem;

/// A pickle that has been read.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub(crate) graph: Graph,
    pub(crate) root: Id,
    /// Bytes that it took.
    pub(crate) len: usize,
}

/// Runs the pickle at the start of `bytes`.
pub(crate) fn run(bytes: &[u8]) -> Result<Pickle, Problem> {
    let mut machine = Machine {
        operands: Operands::new(bytes),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: FxHashMap::default(),
        graph: Graph::default(),
    };
    while machine.step()? {}
    let root = machine.pop()?;
    Ok(Pickle {
        graph: machine.graph,
        root,
        len: machine.operands.at,
    })
}

struct Machine<'a> {
    operands: Operands<'a>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: FxHashMap<u32, Id>,
    graph: Graph,
}

impl Machine<'_> {
    /// Runs one opcode; false at the end.
    fn step(&mut self) -> Result<bool, Problem> {
        let opcode = self.operands.take(1)?[0];
        match opcode {
            b'.' => return Ok(false),
            // The protocol's version and the frames say nothing that is needed.
            0x80 => drop(self.operands.take(1)?),
            0x95 => drop(self.operands.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop_or_mark()?,
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'h' | b'j' | b'q' | b'r' | 0x94 => self.memo(opcode)?,
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'b' | b'Q' => self.object(opcode)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode)?,
            b']' | b')' | b'}' | 0x8f | b'l' | b't' | b'd' | 0x91 | 0x85 | 0x86 | 0x87 => {
                self.collection(opcode)?;
            }
            _ => {
                let node = self.constant(opcode)?;
                self.push(node)?;
            }
        }
        Ok(true)
    }

    /// Opcodes that push a number, a text or a constant.
    fn constant(&mut self, opcode: u8) -> Result<Node, Problem> {
        Ok(match opcode {
            b'N' => Node::None,
            0x88 => Node::Bool(true),
            0x89 => Node::Bool(false),
            b'K' => Node::Int(self.operands.number::<1>()? as i64),
            b'M' => Node::Int(self.operands.number::<2>()? as i64),
            b'J' => Node::Int(i32::from_le_bytes(self.operands.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.operands.array()?)),
            0x8a => operands::long(self.operands.counted::<1>()?),
            0x8b => operands::long(self.operands.counted::<4>()?),
            0x8c => self.operands.text::<1>()?,
            b'X' => self.operands.text::<4>()?,
            0x8d => self.operands.text::<8>()?,
            b'C' => Node::Bytes(self.operands.counted::<1>()?.into()),
            b'B' => Node::Bytes(self.operands.counted::<4>()?.into()),
            0x8e | 0x96 => Node::Bytes(self.operands.counted::<8>()?.into()),
            // Strings of Python 2, which are text where they can be.
            b'U' => operands::python2_text(self.operands.counted::<1>()?),
            b'T' => operands::python2_text(self.operands.counted::<4>()?),
            _ => {
                return Err(Problem::damaged(format!(
                    "its pickle has the opcode {opcode:#04x} at byte {}, which torch does not write",
                    self.operands.at - 1
                )));
            }
        })
    }

    /// Opcodes that make a list, tuple, dict or set.
    fn collection(&mut self, opcode: u8) -> Result<(), Problem> {
        let node = match opcode {
            b']' => Node::List(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            0x8f => Node::Set(Vec::new()),
            b'l' => Node::List(self.pop_mark()?),
            b't' => Node::Tuple(self.pop_mark()?),
            b'd' => Node::Dict(self.pop_pairs()?),
            0x91 => Node::Set(self.pop_mark()?),
            _ => {
                let len = usize::from(opcode - 0x84);
                let start = self.above_mark(len)?;
                Node::Tuple(self.stack.split_off(start))
            }
        };
        self.push(node)
    }

    /// Opcodes that add to the collection below their operands.
    fn fill(&mut self, opcode: u8) -> Result<(), Problem> {
        match opcode {
            b'a' | b'e' | 0x90 => {
                let items = match opcode {
                    b'a' => vec![self.pop()?],
                    _ => self.pop_mark()?,
                };
                let target = self.top()?;
                match (self.graph.node_mut(target), opcode) {
                    (Node::List(list), b'a' | b'e') => list.extend(items),
                    (Node::Set(set), 0x90) => set.extend(items),
                    _ => return Err(self.misplaced("an element", target)),
                }
            }
            _ => {
                let pairs = match opcode {
                    b's' => {
                        let value = self.pop()?;
                        vec![(self.pop()?, value)]
                    }
                    _ => self.pop_pairs()?,
                };
                let target = self.top()?;
                match self.graph.node_mut(target) {
                    Node::Dict(dict) => dict.extend(pairs),
                    _ => return Err(self.misplaced("a key and a value", target)),
                }
            }
        }
        Ok(())
    }

    fn misplaced(&self, what: &str, target: Id) -> Problem {
        let target = self.graph.type_name(target);
        Problem::damaged(format!("its pickle adds {what} to a {target}"))
    }

    /// Opcodes that remember or recall.
    fn memo(&mut self, opcode: u8) -> Result<(), Problem> {
        let key = match opcode {
            b'h' | b'q' => self.operands.number::<1>()?,
            b'j' | b'r' => self.operands.number::<4>()?,
            _ => self.memo.len() as u64,
        };
        let key = u32::try_from(key).unwrap_or(u32::MAX);
        if matches!(opcode, b'h' | b'j') {
            let found = self.memo.get(&key).copied();
            let missing =
                || Problem::damaged(format!("its pickle recalls {key}, which it never kept"));
            self.stack.push(found.ok_or_else(missing)?);
        } else {
            let top = self.top()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    /// Opcodes that name, call or fill an object.
    fn object(&mut self, opcode: u8) -> Result<(), Problem> {
        let node = match opcode {
            b'c' => {
                let (module, name) = (self.operands.line()?, self.operands.line()?);
                Node::Global(Global::find(module, name)?)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Some(module), Some(name)) = (self.graph.text(module), self.graph.text(name))
                else {
                    return Err(Problem::damaged("its pickle names a global by no text"));
                };
                Node::Global(Global::find(module, name)?)
            }
            b'Q' => {
                let id = self.pop()?;
                calls::storage(&mut self.graph, id)?
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                return calls::set_state(&self.graph, target, state);
            }
            _ => {
                if opcode == 0x92 {
                    let named = self.pop()?;
                    if self.graph.dict(named).is_none_or(|pairs| !pairs.is_empty()) {
                        return Err(Problem::damaged("its pickle calls with named arguments"));
                    }
                }
                let (arguments, function) = (self.pop()?, self.pop()?);
                let result = calls::call(&mut self.graph, function, arguments)?;
                self.stack.push(result);
                return Ok(());
            }
        };
        self.push(node)
    }

    fn push(&mut self, node: Node) -> Result<(), Problem> {
        let id = self.graph.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Where the top `len` of the stack begin, none of which may lie below the last mark.
    fn above_mark(&self, len: usize) -> Result<usize, Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(len);
        start
            .filter(|start| *start >= floor)
            .ok_or_else(|| Problem::damaged("its pickle takes more from its stack than there is"))
    }

    fn pop(&mut self) -> Result<Id, Problem> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Id, Problem> {
        let at = self.above_mark(1)?;
        Ok(self.stack[at])
    }

    /// Drops the top, or the mark where one is on top.
    fn pop_or_mark(&mut self) -> Result<(), Problem> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, Problem> {
        let start = self.marks.pop();
        let start =
            start.ok_or_else(|| Problem::damaged("its pickle has no mark to go back to"))?;
        Ok(self.stack.split_off(start))
    }

    fn pop_pairs(&mut self) -> Result<Vec<(Id, Id)>, Problem> {
        let items = self.pop_mark()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Problem::damaged("its pickle has a key without a value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }
}
