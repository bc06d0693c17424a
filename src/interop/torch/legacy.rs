//! The format of `torch.save` before torch 1.6: five pickles (a magic number, a version, notes on the
//! system, the object, the keys of the storages), then each storage as its length and its elements.
//!
//! Source: `torch.serialization._legacy_save` and `_legacy_load`, and `torch/csrc/serialization.cpp` for
//! the storages, which are little-endian on every machine.

use rustc_hash::FxHashMap;

use super::pickle::{self, Dtype, Graph, Node, Pickle};
use super::problem::Problem;
use super::storages::{Place, bytes_of};
use crate::data::positional::PositionalFile;

/// `0x1950a86a20f9469cfc6c`.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Version of the format, the only one.
const VERSION: i64 = 1001;

/// Reads the object of a file, and where its storages lie. `most` is how long all pickles may be.
pub(crate) fn read(
    file: &PositionalFile,
    most: usize,
) -> Result<(Pickle, FxHashMap<String, Place>), Problem> {
    let bytes = file.start(most)?;
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::run(&bytes[at..]).map_err(|problem| {
            if (bytes.len() as u64) < file.len() && matches!(problem, Problem::Damaged(_)) {
                return Problem::unsupported(format!("more than {most} bytes of pickles"));
            }
            problem
        })?;
        at += pickle.len;
        Ok::<_, Problem>((pickle, at))
    };
    let (magic, _) = next()?;
    if !matches!(magic.graph.node(magic.root), Node::Long(magic) if **magic == MAGIC) {
        return Err(Problem::damaged(
            "it does not start with torch's magic number",
        ));
    }
    let (version, _) = next()?;
    if version.graph.int(version.root) != Some(VERSION) {
        return Err(Problem::damaged(format!(
            "its format has another version than {VERSION}"
        )));
    }
    next()?;
    let (object, _) = next()?;
    let (keys, start) = next()?;
    let places = places(file, &object.graph, &keys, start as u64)?;
    Ok((object, places))
}

/// Where the storages lie that begin at byte `at`, in the order of their keys.
fn places(
    file: &PositionalFile,
    graph: &Graph,
    keys: &Pickle,
    mut at: u64,
) -> Result<FxHashMap<String, Place>, Problem> {
    // The first use of a key says how wide its elements are.
    let mut dtypes: FxHashMap<&str, Dtype> = FxHashMap::default();
    for storage in &graph.storages {
        dtypes.entry(&storage.key).or_insert(storage.dtype);
    }
    let ids = keys.graph.sequence(keys.root);
    let ids = ids.ok_or_else(|| Problem::damaged("it has no list of storages"))?;
    let mut places = FxHashMap::default();
    for id in ids {
        let key = keys.graph.text(*id);
        let key = key.ok_or_else(|| Problem::damaged("its list of storages has no names"))?;
        let Some(dtype) = dtypes.get(key) else {
            return Err(Problem::damaged(format!(
                "no tensor uses its storage '{key}'"
            )));
        };
        let cut = || Problem::damaged(format!("it ends within or before its storage '{key}'"));
        let start = at.checked_add(8).filter(|start| *start <= file.len());
        let start = start.ok_or_else(cut)?;
        let mut elements = [0; 8];
        file.read_at(at, &mut elements)?;
        let len = bytes_of(i64::from_le_bytes(elements), *dtype).ok_or_else(cut)?;
        at = start
            .checked_add(len)
            .filter(|end| *end <= file.len())
            .ok_or_else(cut)?;
        let place = Place { start, len, crc: 0 };
        if places.insert(key.to_owned(), place).is_some() {
            return Err(Problem::damaged(format!(
                "it has its storage '{key}' twice"
            )));
        }
    }
    if at != file.len() {
        return Err(Problem::damaged(format!(
            "it has {} bytes behind its last storage",
            file.len() - at
        )));
    }
    Ok(places)
}
