//! GGUF's keys of a tokenizer.

use super::value::Numbers;
use super::{GgufFile, GgufValue};
use crate::data::tokenizer::GgufTokenizer;
use crate::interop::InteropError;

const PREFIX: &str = "tokenizer.ggml.";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
/// Type of a token that is in no text.
const UNUSED: i32 = 5;

/// What the file says of its tokenizer, if it has one.
///
/// # Errors
/// When a key has a value of another type.
pub(in super::super) fn read(file: &GgufFile) -> Result<Option<GgufTokenizer>, InteropError> {
    let metadata = file.metadata();
    let key = |name: &str| format!("{PREFIX}{name}");
    let Some(model) = metadata.find_str(&key("model"))? else {
        return Ok(None);
    };
    let text = |name: &str| -> Result<String, InteropError> {
        Ok(metadata
            .find_str(&key(name))?
            .unwrap_or_default()
            .to_owned())
    };
    let texts = |name: &str| -> Result<Vec<String>, InteropError> {
        Ok(metadata
            .find_texts(&key(name))?
            .unwrap_or_default()
            .to_vec())
    };
    let id = |name: &str| -> Result<Option<u32>, InteropError> {
        let value = metadata.find_u64(&key(name))?;
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    };
    let types = metadata
        .find_integers(&key("token_type"))?
        .unwrap_or_default();
    let types = types
        .iter()
        .map(|kind| i32::try_from(*kind).unwrap_or(UNUSED));
    Ok(Some(GgufTokenizer {
        model: model.to_owned(),
        pre: text("pre")?,
        tokens: texts("tokens")?,
        token_types: types.collect(),
        merges: texts("merges")?,
        bos: id("bos_token_id")?,
        eos: id("eos_token_id")?,
        eot: id("eot_token_id")?,
        eom: id("eom_token_id")?,
        padding: id("padding_token_id")?,
        unknown: id("unknown_token_id")?,
        add_bos: metadata.find_bool(&key("add_bos_token"))?,
        chat_template: metadata.find_str(CHAT_TEMPLATE)?.map(str::to_owned),
    }))
}

/// The keys of a tokenizer for a model of `vocab_size`; llama.cpp wants as many tokens as the embedding has rows, so
/// unused ones fill them up.
pub(crate) fn keys(tokenizer: GgufTokenizer, vocab_size: usize) -> Vec<(String, GgufValue)> {
    let GgufTokenizer {
        model,
        pre,
        mut tokens,
        mut token_types,
        merges,
        bos,
        eos,
        eot,
        eom,
        padding,
        unknown,
        add_bos,
        chat_template,
    } = tokenizer;
    for id in tokens.len()..vocab_size {
        tokens.push(format!("[PAD{id}]"));
        token_types.push(UNUSED);
    }
    let mut keys = Vec::new();
    let mut own = |name: &str, value| keys.push((format!("{PREFIX}{name}"), value));
    own("model", GgufValue::Text(model));
    own("pre", GgufValue::Text(pre));
    own("tokens", GgufValue::Texts(tokens));
    own(
        "token_type",
        GgufValue::Numbers(Numbers::of_i32(&token_types)),
    );
    own("merges", GgufValue::Texts(merges));
    for (name, id) in [
        ("bos_token_id", bos),
        ("eos_token_id", eos),
        ("eot_token_id", eot),
        ("eom_token_id", eom),
        ("padding_token_id", padding),
        ("unknown_token_id", unknown),
    ] {
        if let Some(id) = id {
            own(name, GgufValue::U32(id));
        }
    }
    // Unsaid, it depends on the way text is cut.
    own("add_bos_token", GgufValue::Bool(add_bos.unwrap_or(false)));
    if let Some(template) = chat_template {
        keys.push((CHAT_TEMPLATE.to_owned(), GgufValue::Text(template)));
    }
    keys
}
