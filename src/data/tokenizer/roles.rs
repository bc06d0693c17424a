//! What the files of a model say of its tokens beside the vocabulary: which one begins a text,
//! which ones end it, and how a chat is written.

use std::path::Path;

use serde_json::Value;

use super::formats::{self, CONFIG_FILE, GENERATION_FILE, HUGGING_FACE_FILE, TEMPLATE_FILE};
use super::{END_OF_TEXT, Tokenizer, TokenizerError, index};

/// Tokens with a part to play, and the chat template. They travel beside a [`Tokenizer`], whose
/// ids depend on none of them: encoding adds no token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRoles {
    /// Comes before a text.
    pub bos: Option<u32>,
    /// End a text, the one that the files name first, without repetitions.
    pub eos: Vec<u32>,
    /// Fills up batches.
    pub pad: Option<u32>,
    /// Stands for what has no token, as a model's files have it; nothing is encoded to it.
    pub unknown: Option<u32>,
    /// Whether other programs put `bos` before a text unasked, where the files say so.
    pub add_bos: Option<bool>,
    /// A chat as text, as a template of Jinja.
    pub chat_template: Option<String>,
}

impl TokenRoles {
    /// What a vocabulary alone says: `<|endoftext|>`, where it has it, stands before and after a
    /// text.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let end_of_text = tokenizer.token_id(END_OF_TEXT);
        Self {
            bos: end_of_text,
            eos: Vec::from_iter(end_of_text),
            ..Self::default()
        }
    }

    /// Reads what lies beside a tokenizer in Hugging Face's files: `tokenizer_config.json`,
    /// `chat_template.jinja`, `generation_config.json`, and the template of `tokenizer.json`. Where
    /// they name no token that begins or ends a text, [`TokenRoles::of`] the tokenizer tells.
    ///
    /// `path` is that of the tokenizer, a folder or a file.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or names a token that the tokenizer does not have.
    pub fn load(path: &Path, tokenizer: &Tokenizer) -> Result<Self, TokenizerError> {
        let folder = match path.is_dir() {
            true => path,
            false => path.parent().unwrap_or(Path::new("")),
        };
        let mut roles = Self::default();
        let tokenizer_path = match path.is_dir() {
            true => folder.join(HUGGING_FACE_FILE),
            false => path.to_owned(),
        };
        if tokenizer_path.extension().is_some_and(|end| end == "json") {
            let file = Described::read(&tokenizer_path, tokenizer)?;
            roles.read_template(&file);
        }
        roles.read_config(&Described::read(&folder.join(CONFIG_FILE), tokenizer)?)?;
        roles.read_generation(&Described::read(&folder.join(GENERATION_FILE), tokenizer)?)?;
        let template = formats::read_if_there(&folder.join(TEMPLATE_FILE))?;
        roles.chat_template = template.or(roles.chat_template);
        if roles.bos.is_none() && roles.eos.is_empty() {
            let Self { bos, eos, .. } = Self::of(tokenizer);
            roles = Self { bos, eos, ..roles };
        }
        Ok(roles)
    }

    /// The ids with a role, and its name.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let one = |name, id: Option<u32>| id.map(|id| (name, id));
        let eos = self.eos.iter().map(|&id| ("eos_token", id));
        let others = [
            one("bos_token", self.bos),
            one("pad_token", self.pad),
            one("unk_token", self.unknown),
        ];
        others.into_iter().flatten().chain(eos)
    }

    pub(super) fn add_eos(&mut self, id: u32) {
        if !self.eos.contains(&id) {
            self.eos.push(id);
        }
    }

    /// The token that `tokenizer.json` puts before a text.
    fn read_template(&mut self, file: &Described<'_>) {
        let processor = &file.json["post_processor"];
        let steps = match &processor["processors"] {
            Value::Array(steps) => &steps[..],
            _ => std::slice::from_ref(processor),
        };
        let template = steps
            .iter()
            .find(|step| step["type"] == "TemplateProcessing");
        let first = template.and_then(|template| template["single"].get(0));
        if let Some(token) = first.and_then(|first| first["SpecialToken"]["id"].as_str()) {
            self.bos = file.tokenizer.token_id(token);
            self.add_bos = Some(true);
        }
    }

    fn read_config(&mut self, file: &Described<'_>) -> Result<(), TokenizerError> {
        self.bos = file.token("bos_token")?.or(self.bos);
        self.eos.extend(file.token("eos_token")?);
        // Programs add these two where the vocabulary lacks them; here they play no part then.
        self.pad = file.token("pad_token").unwrap_or(None);
        self.unknown = file.token("unk_token").unwrap_or(None);
        self.add_bos = file.json["add_bos_token"].as_bool().or(self.add_bos);
        self.chat_template = match &file.json["chat_template"] {
            Value::String(template) => Some(template.clone()),
            Value::Array(named) => named
                .iter()
                .find(|template| template["name"] == "default")
                .and_then(|template| Some(template["template"].as_str()?.to_owned())),
            _ => None,
        };
        Ok(())
    }

    fn read_generation(&mut self, file: &Described<'_>) -> Result<(), TokenizerError> {
        let eos = &file.json["eos_token_id"];
        let listed = eos
            .as_array()
            .map_or(std::slice::from_ref(eos), Vec::as_slice);
        for value in listed.iter().filter(|value| !value.is_null()) {
            self.add_eos(file.id("eos_token_id", value)?);
        }
        for (key, role) in [
            ("bos_token_id", &mut self.bos),
            ("pad_token_id", &mut self.pad),
        ] {
            let value = &file.json[key];
            if role.is_none() && !value.is_null() {
                *role = Some(file.id(key, value)?);
            }
        }
        Ok(())
    }
}

/// A file that describes a tokenizer; `null` where there is none.
struct Described<'p> {
    path: &'p Path,
    json: Value,
    tokenizer: &'p Tokenizer,
}

impl<'p> Described<'p> {
    fn read(path: &'p Path, tokenizer: &'p Tokenizer) -> Result<Self, TokenizerError> {
        let json = match formats::read_if_there(path)? {
            Some(text) => serde_json::from_str(&text).map_err(|cause| TokenizerError::Config {
                path: path.to_owned(),
                cause,
            })?,
            None => Value::Null,
        };
        Ok(Self {
            path,
            json,
            tokenizer,
        })
    }

    /// The id of a token that is named by its text, in either spelling.
    fn token(&self, key: &str) -> Result<Option<u32>, TokenizerError> {
        let value = &self.json[key];
        let text = value.as_str().or_else(|| value["content"].as_str());
        let Some(text) = text else {
            return Ok(None);
        };
        match self.tokenizer.token_id(text) {
            Some(id) => Ok(Some(id)),
            None => Err(self.problem(key, format!("is {text:?}, which is no token"))),
        }
    }

    /// An id, which has to be that of a token.
    fn id(&self, key: &str, value: &Value) -> Result<u32, TokenizerError> {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        let vocab_size = self.tokenizer.vocab_size();
        id.filter(|&id| index(id) < vocab_size).ok_or_else(|| {
            self.problem(
                key,
                format!("is {value}, which is no id of {vocab_size} tokens"),
            )
        })
    }

    fn problem(&self, key: &str, problem: String) -> TokenizerError {
        TokenizerError::Entry {
            path: self.path.to_owned(),
            entry: key.to_owned(),
            problem,
        }
    }
}
