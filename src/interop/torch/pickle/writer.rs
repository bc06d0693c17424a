//! Writes pickles of protocol 2, with the opcodes that `torch.load` takes with `weights_only=True`: those of
//! `torch/_weights_only_unpickler.py`. Torch 1.13 takes no float there.

use std::io;

use serde_json::{Map, Number, Value};

use super::globals::{Dtype, storage_class};

/// Deepest nesting of metadata, as [`super::ToJson`] reads it.
const MOST_DEPTH: usize = 64;

/// A pickle that is being written. Each method writes one value, but for those that open and close others.
pub(crate) struct PickleWriter(Vec<u8>);

impl PickleWriter {
    pub(crate) fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.0.push(b'.');
        self.0
    }

    /// Begins a dict; its keys and values in turn follow, then [`Self::close_dict`].
    pub(crate) fn open_dict(&mut self) {
        self.0.extend(b"}(");
    }

    /// Begins a `collections.OrderedDict`, otherwise as [`Self::open_dict`].
    pub(crate) fn open_ordered_dict(&mut self) {
        self.0.extend(b"ccollections\nOrderedDict\n)R(");
    }

    pub(crate) fn close_dict(&mut self) {
        self.0.push(b'u');
    }

    /// Begins a list; its elements follow, then [`Self::close_list`].
    pub(crate) fn open_list(&mut self) {
        self.0.extend(b"](");
    }

    pub(crate) fn close_list(&mut self) {
        self.0.push(b'e');
    }

    pub(crate) fn none(&mut self) {
        self.0.push(b'N');
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(if value { 0x88 } else { 0x89 });
    }

    pub(crate) fn int(&mut self, value: i128) {
        if let Ok(value) = i32::try_from(value) {
            self.0.push(b'J');
            self.0.extend(value.to_le_bytes());
        } else {
            // 16 bytes of two's complement.
            self.0.extend([0x8a, 16]);
            self.0.extend(value.to_le_bytes());
        }
    }

    pub(crate) fn float(&mut self, value: f64) {
        self.0.push(b'G');
        self.0.extend(value.to_be_bytes());
    }

    /// # Errors
    /// When it has 4 GiB.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        let len = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.0.push(b'X');
        self.0.extend(len.to_le_bytes());
        self.0.extend(text.as_bytes());
        Ok(())
    }

    /// A tuple of two floats.
    pub(crate) fn float_pair(&mut self, (first, second): (f64, f64)) {
        self.float(first);
        self.float(second);
        self.0.push(0x86);
    }

    fn ints(&mut self, values: &[usize]) {
        self.0.push(b'(');
        for value in values {
            self.int(*value as i128);
        }
        self.0.push(b't');
    }

    /// A tensor that has the storage `key` for itself.
    ///
    /// # Errors
    /// When torch has no storage of its type.
    pub(crate) fn tensor(&mut self, key: &str, dtype: Dtype, shape: &[usize]) -> io::Result<()> {
        let class = storage_class(dtype);
        let class = class.ok_or_else(|| io::Error::other("no storage has this type"))?;
        self.0.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage")?;
        self.0.extend(format!("ctorch\n{class}\n").bytes());
        self.text(key)?;
        self.text("cpu")?;
        self.int(shape.iter().product::<usize>() as i128);
        self.0.extend(b"tQ");
        self.int(0);
        self.ints(shape);
        let mut strides = vec![1; shape.len()];
        for dimension in (1..shape.len()).rev() {
            strides[dimension - 1] = strides[dimension] * shape[dimension].max(1);
        }
        self.ints(&strides);
        // It needs no gradient, and has no hooks for one.
        self.bool(false);
        self.0.extend(b"ccollections\nOrderedDict\n)RtR");
        Ok(())
    }

    /// The entries of an open dict.
    ///
    /// # Errors
    /// When it nests too deep.
    pub(crate) fn entries(&mut self, map: &Map<String, Value>) -> io::Result<()> {
        self.entries_at(map, 0)
    }

    fn entries_at(&mut self, map: &Map<String, Value>, depth: usize) -> io::Result<()> {
        for (key, value) in map {
            self.text(key)?;
            self.json_at(value, depth)?;
        }
        Ok(())
    }

    fn json_at(&mut self, value: &Value, depth: usize) -> io::Result<()> {
        if depth > MOST_DEPTH {
            return Err(io::Error::other(format!(
                "its metadata nests deeper than {MOST_DEPTH} levels"
            )));
        }
        match value {
            Value::Null => self.none(),
            Value::Bool(value) => self.bool(*value),
            Value::Number(number) => self.number(number),
            Value::String(text) => self.text(text)?,
            Value::Array(values) => {
                self.open_list();
                for value in values {
                    self.json_at(value, depth + 1)?;
                }
                self.close_list();
            }
            Value::Object(map) => {
                self.open_dict();
                self.entries_at(map, depth + 1)?;
                self.close_dict();
            }
        }
        Ok(())
    }

    fn number(&mut self, number: &Number) {
        match number.as_i128() {
            Some(value) => self.int(value),
            None => self.float(number.as_f64().unwrap_or(f64::NAN)),
        }
    }
}
