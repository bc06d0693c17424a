//! What the few globals of a pickle do when they are called.

use super::globals::{Dtype, Global};
use super::value::{Graph, Id, Node, RawTensor, StorageUse};
use crate::interop::torch::problem::Problem;

/// Calls a global with a tuple of arguments, and gives the result's number.
pub(crate) fn call(graph: &mut Graph, function: Id, tuple: Id) -> Result<Id, Problem> {
    let (&Node::Global(global), Node::Tuple(arguments)) = (graph.node(function), graph.node(tuple))
    else {
        return Err(Problem::damaged(format!(
            "its pickle calls a {} with a {}",
            graph.type_name(function),
            graph.type_name(tuple)
        )));
    };
    let arguments = arguments.clone();
    // The tuple itself may be shared, too.
    graph.count_copies(&[function, tuple])?;
    graph.count_copies(&arguments)?;
    let made = match (global, &*arguments) {
        // These give what they got.
        (Global::RebuildParameter | Global::RebuildParameterWithState, [data, ..])
            if matches!(graph.node(*data), Node::Tensor(_)) =>
        {
            return Ok(*data);
        }
        (Global::Size, [sizes]) if graph.sequence(*sizes).is_some() => return Ok(*sizes),
        _ => made(graph, global, &arguments),
    };
    let made = made.ok_or_else(|| {
        let types = arguments.iter().take(8).map(|id| graph.type_name(*id));
        let types = types.collect::<Vec<_>>().join(", ");
        Problem::damaged(format!("its pickle calls {global} with ({types})"))
    })?;
    graph.add(made)
}

/// The new object that a call gives, if the arguments fit it.
fn made(graph: &Graph, global: Global, arguments: &[Id]) -> Option<Node> {
    let text = || graph.text(*arguments.first()?);
    match global {
        Global::OrderedDict => ordered_dict(graph, arguments),
        Global::RebuildTensor | Global::RebuildTensorV2 | Global::RebuildTensorV3 => {
            tensor(graph, global, arguments)
        }
        Global::Size if arguments.is_empty() => Some(Node::Tuple(Vec::new())),
        Global::Device => device(graph, arguments),
        Global::GetLayout => text().map(|name| Node::Str(name.into())),
        Global::CodecsEncode => encoded(graph, arguments).map(|bytes| Node::Bytes(bytes.into())),
        Global::NumpyDtype => text().and_then(numpy_type),
        Global::NumpyScalar => numpy_scalar(graph, arguments),
        _ => None,
    }
}

/// The storage of a persistent id: `('storage', class, key, device, elements)`, and before torch 1.6 one
/// more, which is None or `(key, first element, elements)` of a part.
pub(crate) fn storage(graph: &mut Graph, id: Id) -> Result<Node, Problem> {
    let parts = graph.sequence(id).unwrap_or_default();
    // More would be none of its parts.
    let parts: Vec<Id> = parts.iter().copied().take(7).collect();
    graph.count_copies(&parts)?;
    let found = (|| {
        let [kind, class, key, _, elements, rest @ ..] = &*parts else {
            return None;
        };
        let Node::Global(Global::Storage(dtype)) = graph.node(*class) else {
            return None;
        };
        let part = match rest {
            [] => None,
            [part] if matches!(graph.node(*part), Node::None) => None,
            [part] => match *graph.sequence(*part)? {
                [_, first, len] => Some((graph.int(first)?, graph.int(len)?)),
                _ => return None,
            },
            _ => return None,
        };
        (graph.text(*kind)? == "storage").then_some(StorageUse {
            key: graph.text(*key)?.into(),
            dtype: *dtype,
            elements: graph.int(*elements)?,
            part,
        })
    })();
    let found = found.ok_or_else(|| Problem::damaged("its pickle refers to what is no storage"))?;
    graph.storages.push(found);
    Ok(Node::Storage(graph.storages.len() - 1))
}

/// Gives an object its state. That of a dict is torch's note on versions of modules, that of a type of
/// numpy its byte order.
pub(crate) fn set_state(graph: &Graph, target: Id, state: Id) -> Result<(), Problem> {
    match graph.node(target) {
        Node::Dict(_) => Ok(()),
        Node::NumpyType(..) => {
            let order = graph.sequence(state).and_then(|parts| parts.get(1));
            match order.and_then(|id| graph.text(*id)) {
                Some("<" | "=" | "|") => Ok(()),
                _ => Err(Problem::unsupported(
                    "a numpy scalar that is not little-endian",
                )),
            }
        }
        _ => Err(Problem::damaged(format!(
            "its pickle gives a state to a {}",
            graph.type_name(target)
        ))),
    }
}

fn ordered_dict(graph: &Graph, arguments: &[Id]) -> Option<Node> {
    let pairs = match arguments {
        [] => &[],
        [items] => graph.sequence(*items)?,
        _ => return None,
    };
    let pairs = pairs.iter().map(|pair| match *graph.sequence(*pair)? {
        [key, value] => Some((key, value)),
        _ => None,
    });
    pairs.collect::<Option<_>>().map(Node::Dict)
}

/// `(storage, offset, size, stride)`, in version 3 with the type as the seventh.
fn tensor(graph: &Graph, version: Global, arguments: &[Id]) -> Option<Node> {
    let [storage, offset, shape, strides, rest @ ..] = arguments else {
        return None;
    };
    let Node::Storage(storage) = *graph.node(*storage) else {
        return None;
    };
    let dtype = match version {
        Global::RebuildTensorV3 => match graph.node(*rest.get(2)?) {
            Node::Global(Global::Dtype(dtype)) => *dtype,
            _ => return None,
        },
        _ => graph.storages[storage].dtype,
    };
    Some(Node::Tensor(Box::new(RawTensor {
        storage,
        dtype,
        offset: graph.int(*offset)?,
        shape: graph.ints(*shape)?,
        strides: graph.ints(*strides)?,
    })))
}

fn device(graph: &Graph, arguments: &[Id]) -> Option<Node> {
    let name = graph.text(*arguments.first()?)?;
    let index = arguments.get(1).and_then(|id| graph.int(*id));
    let text = index.map_or_else(|| name.to_owned(), |index| format!("{name}:{index}"));
    Some(Node::Str(text.into()))
}

/// The bytes that protocol 2 writes as a text of the characters up to U+00FF.
fn encoded(graph: &Graph, arguments: &[Id]) -> Option<Vec<u8>> {
    let [text, encoding] = arguments else {
        return None;
    };
    if graph.text(*encoding)? != "latin1" {
        return None;
    }
    let chars = graph.text(*text)?.chars();
    chars.map(|c| u8::try_from(c).ok()).collect()
}

/// Such as `f8`.
fn numpy_type(name: &str) -> Option<Node> {
    let (kind, width) = name.split_at_checked(1)?;
    let width: usize = width.parse().ok()?;
    let kind = kind.as_bytes()[0];
    numpy_dtype(kind, width).map(|_| Node::NumpyType(kind, width))
}

fn numpy_dtype(kind: u8, width: usize) -> Option<Dtype> {
    Some(match (kind, width) {
        (b'f', 8) => Dtype::F64,
        (b'f', 4) => Dtype::F32,
        (b'f', 2) => Dtype::F16,
        (b'i', 8) => Dtype::I64,
        (b'i', 4) => Dtype::I32,
        (b'i', 2) => Dtype::I16,
        (b'i', 1) => Dtype::I8,
        (b'u', 1) => Dtype::U8,
        (b'b', 1) => Dtype::Bool,
        (b'u', 2) => Dtype::Other("uint16", 2),
        (b'u', 4) => Dtype::Other("uint32", 4),
        (b'u', 8) => Dtype::Other("uint64", 8),
        _ => return None,
    })
}

fn numpy_scalar(graph: &Graph, arguments: &[Id]) -> Option<Node> {
    let [kind, bytes] = arguments else {
        return None;
    };
    let (Node::NumpyType(kind, width), Node::Bytes(bytes)) =
        (graph.node(*kind), graph.node(*bytes))
    else {
        return None;
    };
    let dtype = numpy_dtype(*kind, *width)?;
    if bytes.len() != *width {
        return None;
    }
    if let Some(int) = dtype.int(bytes) {
        return Some(Node::Int(int));
    }
    match dtype {
        Dtype::Bool => Some(Node::Bool(bytes[0] != 0)),
        // An unsigned number is a two's complement once a byte of sign follows.
        Dtype::Other(..) => {
            let mut long = bytes.to_vec();
            long.push(0);
            Some(super::operands::long(&long))
        }
        _ => dtype.float(bytes).map(Node::Float),
    }
}
