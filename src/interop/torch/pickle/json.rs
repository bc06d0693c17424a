//! Values of a pickle as JSON.

use std::cell::Cell;

use serde_json::{Map, Number, Value};

use super::value::{Graph, Id, Node, RawTensor};
use crate::interop::torch::problem::Problem;

/// Deepest nesting; a value that contains itself is deeper than any.
const MOST_DEPTH: usize = 64;
/// Most values and bytes of text that all metadata may become. Values that are shared in the pickle are
/// written out each time, which a few bytes could make endless.
const MOST_SIZE: usize = 1 << 22;

/// Turns values of a graph into JSON: tuples and sets become arrays; keys text; floats that JSON lacks
/// `"inf"`, `"-inf"` and `"nan"`; integers beyond 64 bits a text of their hexadecimal digits; a type its
/// name; bytes and tensors of several elements a text that says what they were.
pub(crate) struct ToJson<'a, F> {
    graph: &'a Graph,
    /// The only element of a tensor that has one, as a number.
    scalar: F,
    budget: &'a Budget,
}

/// How many values and bytes of text metadata have become so far.
#[derive(Debug, Default)]
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    /// Counts `size` more, for the entry `name`.
    pub(crate) fn take(&self, name: &str, size: usize) -> Result<(), Problem> {
        self.0.set(self.0.get().saturating_add(size));
        if self.0.get() > MOST_SIZE {
            return Err(Problem::unsupported(format!(
                "metadata of more than {MOST_SIZE} values and bytes, which '{name}' makes it have,"
            )));
        }
        Ok(())
    }
}

impl<'a, F> ToJson<'a, F>
where
    F: FnMut(&RawTensor) -> Result<Option<Value>, Problem>,
{
    pub(crate) fn new(graph: &'a Graph, budget: &'a Budget, scalar: F) -> Self {
        Self {
            graph,
            scalar,
            budget,
        }
    }

    /// The value `id`, which errors call `name`.
    pub(crate) fn value(&mut self, name: &str, id: Id) -> Result<Value, Problem> {
        self.convert(name, id, 0)
    }

    fn convert(&mut self, name: &str, id: Id, depth: usize) -> Result<Value, Problem> {
        if depth > MOST_DEPTH {
            return Err(Problem::damaged(format!(
                "its entry '{name}' contains itself, or nests deeper than {MOST_DEPTH} levels"
            )));
        }
        self.budget.take(name, 1)?;
        let value = match self.graph.node(id) {
            Node::None => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::from(*value),
            Node::Long(bytes) => long(bytes),
            Node::Float(value) => float(*value),
            Node::Str(text) => Value::from(&**text),
            Node::Bytes(bytes) => Value::from(format!("{} bytes", bytes.len())),
            Node::List(ids) | Node::Tuple(ids) | Node::Set(ids) => {
                let values = ids.iter().map(|id| self.convert(name, *id, depth + 1));
                Value::Array(values.collect::<Result<_, _>>()?)
            }
            Node::Dict(pairs) => {
                let mut map = Map::new();
                for (key, value) in pairs {
                    let key = match self.convert(name, *key, depth + 1)? {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    map.insert(key, self.convert(name, *value, depth + 1)?);
                }
                Value::Object(map)
            }
            Node::Global(global) => Value::from(global.to_string()),
            Node::NumpyType(kind, width) => Value::from(format!("{}{width}", char::from(*kind))),
            Node::Storage(_) => Value::from("a storage"),
            Node::Tensor(tensor) => match (self.scalar)(tensor)? {
                Some(value) => value,
                None => Value::from(format!(
                    "a tensor of {} {:?}",
                    tensor.dtype.name(),
                    tensor.shape
                )),
            },
        };
        if let Value::String(text) = &value {
            self.budget.take(name, text.len())?;
        }
        Ok(value)
    }
}

/// A float, also one that JSON lacks.
pub(crate) fn float(value: f64) -> Value {
    let text = match value {
        _ if value.is_nan() => "nan",
        f64::INFINITY => "inf",
        f64::NEG_INFINITY => "-inf",
        _ => return Number::from_f64(value).map_or(Value::Null, Value::Number),
    };
    Value::from(text)
}

fn long(bytes: &[u8]) -> Value {
    // Above 63 bits without sign, such as a seed.
    if let Some((low, high)) = bytes.split_first_chunk::<8>()
        && high.iter().all(|byte| *byte == 0)
    {
        return Value::from(u64::from_le_bytes(*low));
    }
    let digits: String = bytes
        .iter()
        .rev()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Value::from(format!("0x{digits}"))
}
