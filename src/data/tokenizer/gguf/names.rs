//! The names of tokenizers in GGUF files, as llama.cpp's `llama-vocab.cpp` takes them.

use super::super::Split;
use super::super::rules::Rules;

/// The model of byte-level BPE.
pub(super) const MODEL: &str = "gpt2";

/// What llama.cpp knows pre-tokenizers as, by the rules that give the same ids; the first name of
/// some rules is the one that is written.
///
/// It normalises no text. Qwen's own files do, so that the name that is theirs alone stands for
/// that; and it ignores merges by the name.
const PRE_TOKENIZERS: &[(&[&str], Rules)] = &[
    (
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        by(Split::Gpt2, false, false),
    ),
    (
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        by(Split::Smollm, false, false),
    ),
    (ADDING_BOS, by(Split::Llama3, false, true)),
    (
        &["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"],
        by(Split::Llama3, false, false),
    ),
    (&["qwen2"], by(Split::Qwen2, true, false)),
    (
        &[
            "deepseek-r1-qwen",
            "megrez",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        by(Split::Qwen2, false, false),
    ),
];

/// Those by which llama.cpp puts the first token before a text where a file does not say.
const ADDING_BOS: &[&str] = &[
    "llama-bpe",
    "llama3",
    "llama-v3",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
];

const fn by(split: Split, normalizes: bool, ignores_merges: bool) -> Rules {
    Rules {
        split,
        normalizes,
        ignores_merges,
    }
}

/// The name that is written for some rules, if one stands for them.
pub(super) fn of_rules(rules: Rules) -> Option<&'static str> {
    let known = PRE_TOKENIZERS.iter().find(|(_, known)| *known == rules);
    known.and_then(|(names, _)| names.first().copied())
}

/// Whether the name of a pre-tokenizer says that the first token comes before a text, where the
/// file does not say.
pub(super) fn add_bos(pre: &str) -> bool {
    ADDING_BOS.contains(&pre)
}

/// The rules that the names stand for, or what is not supported.
pub(super) fn rules(model: &str, pre: &str) -> Result<Rules, String> {
    let kind = match model {
        MODEL => None,
        "llama" => Some("SentencePiece, ".to_owned()),
        "bert" => Some("WordPiece, ".to_owned()),
        "t5" => Some("Unigram, ".to_owned()),
        _ => Some(String::new()),
    };
    if let Some(kind) = kind {
        return Err(format!(
            "a tokenizer of model {:?} ({kind}not {MODEL:?})",
            model
        ));
    }
    let known = PRE_TOKENIZERS
        .iter()
        .find(|(names, _)| names.contains(&pre));
    match known {
        Some((_, rules)) => Ok(*rules),
        None if pre.is_empty() => {
            Err("no tokenizer.ggml.pre, which names its pre-tokens".to_owned())
        }
        None => Err(format!("the pre-tokens {pre:?}")),
    }
}
