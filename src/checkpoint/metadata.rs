//! What a run notes beside its weights.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Base;
use crate::tuner::Record;

/// What a checkpoint knows besides tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    /// Updates done.
    pub iteration: u64,
    /// The settings of the run, with every key of the model resolved.
    pub config: Map<String, Value>,
    /// Hash of the tokenizer, if one was named.
    pub tokenizer_hash: Option<String>,
    /// Loss of the last iteration, in nats.
    pub train_loss: Option<f64>,
    /// Validation loss of the last evaluation, in nats.
    pub val_loss: Option<f64>,
    /// Lowest validation loss so far, in nats.
    pub best_val_loss: Option<f64>,
    /// The model that the parameters are adapters of, if they are.
    pub base: Option<Base>,
    /// Which kernels the run was planned with, if it says so.
    pub tuning: Option<Record>,
}

/// Key of the model that adapters are of.
const BASE: &str = "base";

impl Metadata {
    pub(super) fn to_map(&self) -> HashMap<String, String> {
        let number = |value: Option<f64>| value.map_or(String::new(), |v| v.to_string());
        let mut map = HashMap::from([
            ("iteration".to_owned(), self.iteration.to_string()),
            (
                "config".to_owned(),
                Value::Object(self.config.clone()).to_string(),
            ),
            (
                "tokenizer_hash".to_owned(),
                self.tokenizer_hash.clone().unwrap_or_default(),
            ),
            ("train_loss".to_owned(), number(self.train_loss)),
            ("val_loss".to_owned(), number(self.val_loss)),
            (
                "val_perplexity".to_owned(),
                number(self.val_loss.map(f64::exp)),
            ),
            ("best_val_loss".to_owned(), number(self.best_val_loss)),
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            (
                "tuning".to_owned(),
                serde_json::to_string(&self.tuning).unwrap_or_default(),
            ),
        ]);
        if let Some(base) = &self.base {
            let text = serde_json::to_string(base).unwrap_or_default();
            map.insert(BASE.to_owned(), text);
        }
        map
    }

    pub(super) fn from_map(map: &HashMap<String, String>) -> Option<Self> {
        let number = |key: &str| map.get(key).and_then(|v| v.parse().ok());
        Some(Self {
            iteration: map.get("iteration")?.parse().ok()?,
            config: serde_json::from_str(map.get("config")?).ok()?,
            tokenizer_hash: map
                .get("tokenizer_hash")
                .filter(|hash| !hash.is_empty())
                .cloned(),
            train_loss: number("train_loss"),
            val_loss: number("val_loss"),
            best_val_loss: number("best_val_loss"),
            base: match map.get(BASE) {
                None => None,
                Some(text) => Some(serde_json::from_str(text).ok()?),
            },
            // A file of an earlier version has none.
            tuning: map
                .get("tuning")
                .and_then(|text| serde_json::from_str(text).ok()),
        })
    }
}
