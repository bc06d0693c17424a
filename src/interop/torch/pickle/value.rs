//! What a pickle makes: nodes of a graph that name each other by number, so that neither shared nor
//! cyclic values need counting or recursion.

use super::globals::{Dtype, Global};
use crate::interop::torch::problem::Problem;

/// Most nodes of one pickle: 16 million numbers of a log beside the weights are fewer.
const MOST_NODES: usize = 1 << 24;

/// Most elements and bytes that calls may copy, since one that is shared can be copied many times.
const MOST_COPIED: usize = 1 << 24;

/// Number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

/// A Python object.
#[derive(Debug)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits with sign: two's complement, little end first.
    Long(Box<[u8]>),
    Float(f64),
    Str(Box<str>),
    Bytes(Box<[u8]>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    /// In the order of insertion; of equal keys the last one counts.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A type of numpy: its kind, such as `f`, and its width in bytes.
    NumpyType(u8, usize),
    /// Number of a use of a storage.
    Storage(usize),
    Tensor(Box<RawTensor>),
}

/// A storage as a tensor names it.
#[derive(Clone, Debug)]
pub(crate) struct StorageUse {
    pub(crate) key: Box<str>,
    pub(crate) dtype: Dtype,
    /// Elements of the whole storage.
    pub(crate) elements: i64,
    /// First element and length of the part that is meant; only in files before torch 1.6.
    pub(crate) part: Option<(i64, i64)>,
}

/// A tensor as the pickle has it, of which nothing is checked.
#[derive(Clone, Debug)]
pub(crate) struct RawTensor {
    /// Number of a use of a storage.
    pub(crate) storage: usize,
    pub(crate) dtype: Dtype,
    /// First element, in elements of the storage.
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

/// All nodes of a pickle.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    pub(crate) storages: Vec<StorageUse>,
    copied: usize,
}

impl Graph {
    pub(crate) fn add(&mut self, node: Node) -> Result<Id, Problem> {
        match u32::try_from(self.nodes.len()) {
            Ok(number) if self.nodes.len() < MOST_NODES => {
                self.nodes.push(node);
                Ok(Id(number))
            }
            _ => Err(Problem::unsupported(format!(
                "a pickle of more than {MOST_NODES} objects"
            ))),
        }
    }

    /// Counts what a call that gets `ids` may copy of them.
    pub(crate) fn count_copies(&mut self, ids: &[Id]) -> Result<(), Problem> {
        for id in ids {
            self.copied += match self.node(*id) {
                Node::Str(text) => text.len(),
                Node::Bytes(bytes) => bytes.len(),
                Node::List(ids) | Node::Tuple(ids) => ids.len(),
                _ => 0,
            };
            if self.copied > MOST_COPIED {
                return Err(Problem::unsupported(format!(
                    "a pickle whose calls get more than {MOST_COPIED} elements and bytes"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The text of a string.
    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer that has 64 bits.
    pub(crate) fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of a list or a tuple.
    pub(crate) fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::List(ids) | Node::Tuple(ids) => Some(ids),
            _ => None,
        }
    }

    /// The integers of a list or a tuple of nothing else.
    pub(crate) fn ints(&self, id: Id) -> Option<Vec<i64>> {
        self.sequence(id)?.iter().map(|id| self.int(*id)).collect()
    }

    /// Keys and values of a dict.
    pub(crate) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value of a key of a dict.
    pub(crate) fn get(&self, dict: Id, key: &str) -> Option<Id> {
        let pairs = self.dict(dict)?.iter().rev();
        pairs
            .copied()
            .find(|(id, _)| self.text(*id) == Some(key))
            .map(|(_, value)| value)
    }

    /// What Python calls the type of a node.
    pub(crate) fn type_name(&self, id: Id) -> &'static str {
        match self.node(id) {
            Node::None => "None",
            Node::Bool(_) => "bool",
            Node::Int(_) | Node::Long(_) => "int",
            Node::Float(_) => "float",
            Node::Str(_) => "str",
            Node::Bytes(_) => "bytes",
            Node::List(_) => "list",
            Node::Tuple(_) => "tuple",
            Node::Set(_) => "set",
            Node::Dict(_) => "dict",
            Node::Global(_) => "class or function",
            Node::NumpyType(..) => "numpy.dtype",
            Node::Storage(_) => "storage",
            Node::Tensor(_) => "tensor",
        }
    }
}
