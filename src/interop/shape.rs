//! What is known of a model's shape: keys of a [`ModelConfig`] that a file tells, by its own config or by the shapes
//! of its tensors; what its metadata may mean; and what somebody gives.

use std::path::Path;

use serde_json::{Map, Value};

use super::{InteropError, TensorSource, plain};
use crate::config::ModelConfig;

/// What is known.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// What the file tells and somebody gave.
    told: Map<String, Value>,
    /// What notes in the file may mean, where nothing else is known.
    hinted: Map<String, Value>,
}

impl Shape {
    /// All of a model of `config`.
    pub fn of(config: &ModelConfig) -> Self {
        Self::told(config.shape_keys())
    }

    /// What a file tells.
    pub fn told(told: Map<String, Value>) -> Self {
        Self {
            told,
            hinted: Map::new(),
        }
    }

    /// Adds what notes in a file may mean.
    pub(super) fn hint(&mut self, key: &str, value: &Value) {
        let known = self.hinted.entry(key);
        known.or_insert_with(|| value.clone());
    }

    /// Says that the file does not tell something else.
    pub(super) fn tell(&mut self, key: &str, value: Value) {
        self.told.insert(key.to_owned(), value);
    }

    /// Adds keys that somebody knows.
    ///
    /// # Errors
    /// When the file tells another value, see [`expect`].
    pub(super) fn give(
        &mut self,
        path: &Path,
        given: &Map<String, Value>,
    ) -> Result<(), InteropError> {
        expect(path, &self.told, given)?;
        for (key, value) in given {
            self.tell(key, value.clone());
        }
        Ok(())
    }

    /// Every key that is known, with what the shapes of projections tell of heads.
    pub(super) fn keys(&self, source: &dyn TensorSource) -> Map<String, Value> {
        let mut keys = self.told.clone();
        for (key, value) in &self.hinted {
            keys.entry(key).or_insert_with(|| value.clone());
        }
        plain::add_heads(&mut keys, source);
        keys
    }
}

/// Holds what somebody gives against what a file tells.
///
/// # Errors
/// When they differ. A context may be another than the model's: longer or shorter where positions are angles, and
/// shorter where each has a vector.
pub(crate) fn expect(
    path: &Path,
    told: &Map<String, Value>,
    given: &Map<String, Value>,
) -> Result<(), InteropError> {
    let has_vectors = told.get("positions") == Some(&Value::from("learned"));
    for (key, wanted) in given {
        let Some(found) = told.get(key) else {
            continue;
        };
        let is_less = || wanted.as_u64() <= found.as_u64();
        let may_differ = key == "context_length" && (!has_vectors || is_less());
        let is_same = match (found.as_f64(), wanted.as_f64()) {
            (Some(found), Some(wanted)) => found == wanted,
            _ => found == wanted,
        };
        if !is_same && !may_differ {
            return Err(InteropError::OtherShape {
                path: path.to_owned(),
                key: key.clone(),
                found: found.to_string(),
                wanted: wanted.to_string(),
            });
        }
    }
    Ok(())
}
