//! Tokenizers as GGUF's values and back.

use std::path::Path;

use gpu_tlm::data::tokenizer::{GgufTokenizer, TokenRoles};

use super::models::{MODELS, load};

#[test]
fn ggufs_values_give_back_what_was_written() {
    for (name, _, pre) in MODELS {
        let (saved, mut roles) = load(name);
        let values = GgufTokenizer::new(&saved, &roles).unwrap();
        assert_eq!((&values.model[..], &values.pre[..]), ("gpt2", pre));
        let (loaded, found) = values.tokenizer(Path::new("m.gguf")).unwrap();
        roles.add_bos = Some(roles.add_bos.unwrap_or(false));
        assert_eq!(found, roles, "{name}");
        assert_eq!(loaded.vocab_size(), saved.vocab_size());
        // GGUF cannot say that a token is looked for in normal form, or after others.
        let mut tokens = saved.special_tokens().to_vec();
        tokens
            .iter_mut()
            .for_each(|token| token.is_normalized = false);
        assert_eq!(loaded.special_tokens(), tokens, "{name}");
        let is_same = tokens == saved.special_tokens();
        assert_eq!(is_same, name == "smollm" || name == "llama3");
        assert_eq!(loaded.hash() == saved.hash(), is_same, "{name}");
    }
}

/// Values of a small tokenizer with one token of each kind that is no text.
fn values() -> GgufTokenizer {
    let (tokenizer, _) = load("smollm");
    let mut values = GgufTokenizer::new(&tokenizer, &TokenRoles::default()).unwrap();
    let more = [
        ("<ctl>", 3),
        ("<user>", 4),
        ("plain", 1),
        ("[PAD9]", 5),
        ("é", 4),
        ("Ġ\u{2581}", 1),
    ];
    for (text, kind) in more {
        values.tokens.push(text.to_owned());
        values.token_types.push(kind);
    }
    values
}

#[test]
fn only_control_and_user_defined_tokens_are_found_in_texts() {
    let first = u32::try_from(values().tokens.len()).unwrap() - 6;
    let (tokenizer, _) = values().tokenizer(Path::new("m.gguf")).unwrap();
    let found = tokenizer.encode("<ctl>plain<user>[PAD9]é");
    let beyond: Vec<u32> = found.into_iter().filter(|&id| id >= first).collect();
    assert_eq!(beyond, [first, first + 1, first + 4]);
    assert_eq!(
        tokenizer.unused_tokens(),
        [(first + 3, "[PAD9]".to_owned())]
    );
    let ids: Vec<u32> = (first..first + 6).collect();
    assert_eq!(
        tokenizer.decode(&ids).unwrap(),
        "<ctl><user>plainéĠ\u{2581}".as_bytes()
    );
    let control: Vec<bool> = tokenizer
        .special_tokens()
        .iter()
        .map(|token| token.is_control)
        .collect();
    assert_eq!(control, [true, true, true, true, false, false]);
    // Padding at the end says nothing of the tokenizer; a token does.
    let hash_with = |text: &str, kind: i32| {
        let mut values = values();
        values.tokens.push(text.to_owned());
        values.token_types.push(kind);
        values.tokenizer(Path::new("m.gguf")).unwrap().0.hash()
    };
    assert_eq!(hash_with("[PAD10]", 5), tokenizer.hash());
    assert_ne!(hash_with("[PAD10]", 1), tokenizer.hash());
}

#[test]
fn every_name_of_a_pre_tokenizer_has_its_rules() {
    let rules = |pre: &str| {
        let values = GgufTokenizer {
            pre: pre.to_owned(),
            ..values()
        };
        let (tokenizer, roles) = values.tokenizer(Path::new("m.gguf")).unwrap();
        let name = tokenizer.split().name();
        (
            name,
            tokenizer.normalizes(),
            tokenizer.ignores_merges(),
            roles.add_bos,
        )
    };
    let no = Some(false);
    assert_eq!(rules("gpt-2"), ("gpt2", false, false, no));
    assert_eq!(rules("starcoder"), ("smollm", false, false, no));
    assert_eq!(rules("llama-v3"), ("llama3", false, true, no));
    assert_eq!(rules("smaug-bpe"), ("llama3", false, false, no));
    assert_eq!(rules("qwen2"), ("qwen2", true, false, no));
    assert_eq!(rules("deepseek-r1-qwen"), ("qwen2", false, false, no));
    // Where a file does not say, the name does.
    let adds = |pre: &str| {
        let values = GgufTokenizer {
            pre: pre.to_owned(),
            add_bos: None,
            ..values()
        };
        values.tokenizer(Path::new("m.gguf")).unwrap().1.add_bos
    };
    assert_eq!((adds("llama3"), adds("smollm")), (Some(true), None));
}

#[test]
fn other_and_damaged_values_of_gguf_are_refused() {
    type Damage = fn(&mut GgufTokenizer);
    let cases: [(Damage, &str); 11] = [
        (
            |values| values.model = "llama".to_owned(),
            "model \"llama\" (SentencePiece, not \"gpt2\")",
        ),
        (
            |values| values.pre = "default".to_owned(),
            "the pre-tokens \"default\"",
        ),
        (|values| values.pre = String::new(), "no tokenizer.ggml.pre"),
        (
            |values| values.pre = "tekken".to_owned(),
            "the pre-tokens \"tekken\"",
        ),
        (
            |values| values.token_types.truncate(9),
            "token_type has 9 kinds, expected 3",
        ),
        (
            |values| values.token_types[7] = 6,
            "of id 7 has kind 6, a byte to fall back to",
        ),
        (|values| values.token_types[7] = -1, "of id 7 has kind -1"),
        (
            |values| values.tokens[8] = values.tokens[7].clone(),
            "stands for the same bytes",
        ),
        (
            |values| values.merges[3] = "abc".to_owned(),
            "merge 3, \"abc\", is not two tokens",
        ),
        (
            |values| values.merges[0] = "q q".to_owned(),
            "merge 0, \"q q\", makes \"qq\", which is not",
        ),
        (|values| values.bos = Some(9999), "bos_token is id 9999"),
    ];
    for (damage, wanted) in cases {
        let mut values = values();
        damage(&mut values);
        let error = values
            .tokenizer(Path::new("m.gguf"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("m.gguf") && error.contains(wanted),
            "{wanted}: {error}"
        );
    }
}
