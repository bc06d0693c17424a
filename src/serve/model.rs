//! The model that is served, as requests and answers know it.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::error::ApiError;
use crate::data::tokenizer::{TokenRoles, Tokenizer};
use crate::decode::Generator;

/// What does not change while the server runs.
#[derive(Debug)]
pub struct ServedModel {
    pub(super) name: String,
    /// Other names that requests may use.
    pub(super) aliases: Vec<String>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) vocab_size: usize,
    pub(super) context_length: usize,
    pub(super) num_layers: usize,
    /// Heads of each layer.
    pub(super) num_heads: usize,
    /// The tokens of which each ends a text, where the tokenizer has some; the first one begins a text, too.
    pub(super) ends: Vec<u32>,
    /// When the server was started, in seconds since 1970.
    pub(super) created: u64,
    /// What the page says of it.
    about: Value,
}

impl ServedModel {
    /// The model of `generator`, which was read from `checkpoint`; its name is `name`, or else
    /// [`default_name`].
    pub fn new(
        generator: &Generator,
        (tokenizer, roles): (Tokenizer, &TokenRoles),
        checkpoint: &Path,
        name: Option<String>,
    ) -> Self {
        let config = generator.config();
        let device = generator.device();
        let name = name.unwrap_or_else(|| default_name(checkpoint));
        let about = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "parameters": generator.model().table.count(),
            "layers": config.num_layers,
            "heads": config.num_heads,
            "d_model": config.d_model,
            "context_length": config.context_length,
            "vocab_size": config.vocab_size,
            "precision": config.precision,
            "adapter": device.name(),
            "driver": device.driver(),
            "backend": device.backend(),
        });
        Self {
            aliases: vec![checkpoint.display().to_string()],
            vocab_size: config.vocab_size,
            context_length: config.context_length,
            num_layers: config.num_layers,
            num_heads: config.num_heads,
            ends: roles.eos.clone(),
            tokenizer: Arc::new(tokenizer),
            created: seconds_since_1970(),
            name,
            about,
        }
    }

    /// Its name in the API.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes a request's model: none, or one of the names.
    pub(super) fn expect(&self, asked: Option<&str>) -> Result<(), ApiError> {
        let Some(asked) = asked else {
            return Ok(());
        };
        if asked == self.name || self.aliases.iter().any(|alias| alias == asked) {
            return Ok(());
        }
        Err(ApiError {
            status: StatusCode::NOT_FOUND,
            ..ApiError::field(
                "model",
                format!("the model '{asked}' does not exist; '{}' does", self.name),
            )
        }
        .with_code("model_not_found"))
    }

    /// As `/v1/models` lists it.
    pub(super) fn entry(&self) -> Value {
        json!({
            "id": self.name, "object": "model", "created": self.created, "owned_by": "gpu-tlm",
            "max_model_len": self.context_length,
        })
    }

    /// As the page shows it.
    pub(super) fn about(&self) -> Value {
        let mut about = json!({ "model": self.name });
        for (key, value) in self.about.as_object().into_iter().flatten() {
            about[key] = value.clone();
        }
        about
    }
}

/// The name of a checkpoint's run: the folder that its `checkpoints` is in, or else the file's own name.
pub fn default_name(checkpoint: &Path) -> String {
    let path = checkpoint
        .canonicalize()
        .unwrap_or_else(|_| checkpoint.to_owned());
    let run = path
        .parent()
        .filter(|folder| folder.ends_with("checkpoints"))
        .and_then(Path::parent)
        .and_then(Path::file_name);
    let name = run.or(path.file_stem());
    name.map_or_else(
        || "gpu-tlm".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

pub(super) fn seconds_since_1970() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |time| time.as_secs())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::data::tokenizer::END_OF_TEXT;
    use crate::data::tokenizer::train::{TrainOptions, train};

    /// A model by the name `small`, with a context of 16, 2 layers of 4 heads, and tokens for `the` and the
    /// end of a text.
    pub(in crate::serve) fn small() -> ServedModel {
        let options = TrainOptions {
            vocab_size: 260,
            special_tokens: vec![END_OF_TEXT.to_owned()],
            ..TrainOptions::default()
        };
        let tokenizer = train(&["the cat and the mat and the hat"], &options).unwrap();
        ServedModel {
            name: "small".to_owned(),
            aliases: vec!["runs/small.safetensors".to_owned()],
            vocab_size: tokenizer.vocab_size(),
            context_length: 16,
            num_layers: 2,
            num_heads: 4,
            ends: tokenizer.token_id(END_OF_TEXT).into_iter().collect(),
            tokenizer: Arc::new(tokenizer),
            created: 0,
            about: json!({}),
        }
    }

    #[test]
    fn a_model_is_named_after_its_run_or_its_file() {
        for (path, name) in [
            ("runs/mine/checkpoints/best.safetensors", "mine"),
            ("models/small.safetensors", "small"),
            ("/checkpoints/last.safetensors", "last"),
        ] {
            assert_eq!(default_name(Path::new(path)), name, "{path}");
        }
    }
}
