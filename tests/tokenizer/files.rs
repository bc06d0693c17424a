//! Tokenizer files: saved and loaded, damaged and refused.

use gpu_tlm::data::tokenizer::train::train;
use gpu_tlm::data::tokenizer::{Tokenizer, TokenizerError};

use super::{learn, options};

/// What the damaged files are made of.
const SMALL_TEXT: &str = "low lower lowest";

#[test]
fn loading_gives_back_what_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let saved = learn("low lower lowest 日本語 <|endoftext|>\n", 290);
    saved.save(&dir.path().join("new/dir")).unwrap();
    let loaded = Tokenizer::load(&dir.path().join("new/dir")).unwrap();
    assert_eq!(loaded.hash(), saved.hash());
    assert_eq!(loaded.special_ids(), [0]);
    assert_eq!(loaded.encode("slower 日\n"), saved.encode("slower 日\n"));
    let names = std::fs::read_dir(dir.path().join("new/dir"))
        .unwrap()
        .count();
    assert_eq!(names, 2, "temporary files are left");
}

#[test]
fn hash_tells_tokenizers_apart() {
    let hash = |text, vocab_size| learn(text, vocab_size).hash();
    assert_eq!(hash(SMALL_TEXT, 260), hash(SMALL_TEXT, 260));
    assert_eq!(hash(SMALL_TEXT, 260).len(), 64);
    // Token files and checkpoints of earlier versions name it.
    assert_eq!(
        hash(SMALL_TEXT, 262),
        "038595be0ed524e07b848f35b9bf82ca756e564a4bc3a95ed4183553855fdbd8"
    );
    assert_ne!(hash(SMALL_TEXT, 260), hash(SMALL_TEXT, 259));
    assert_ne!(hash("ab", 258), hash("ac", 258));
    let special = train(&[""], &options(257, &["<a>"])).unwrap();
    assert_ne!(special.hash(), hash("", 257));
}

/// Saves a small tokenizer, replaces a piece of one of its files, and loads it.
fn load_damaged(file: &str, from: &str, to: &str) -> Result<Tokenizer, TokenizerError> {
    let dir = tempfile::tempdir().unwrap();
    learn(SMALL_TEXT, 262).save(dir.path()).unwrap();
    let path = dir.path().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}: {text}");
    std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
    Tokenizer::load(dir.path())
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn damaged_files_are_refused_by_file_and_entry() {
    for (file, from, to, wanted) in [
        (
            "vocab.json",
            "\"!\": 1,",
            "\"!\": 2,",
            "token \"\\\"\" has id 2, as \"!\" has",
        ),
        (
            "vocab.json",
            "\"!\": 1,",
            "\"!\": 999,",
            "token \"!\" has id 999, which leaves a gap",
        ),
        (
            "vocab.json",
            "\"!\": 1,",
            "\"#\": 1,",
            "token \"#\" is there twice",
        ),
        (
            "vocab.json",
            "\"!\": 1,",
            "\"Ġ!\": 1,",
            "token \"!\" is missing, the token of byte 33",
        ),
        (
            "vocab.json",
            "\"!\": 1,",
            "\"!\": -1,",
            "expected u32 at line 3",
        ),
        (
            "vocab.json",
            "\"!\": 1,",
            "",
            "leaves a gap: 261 tokens have ids 0 to 260",
        ),
        (
            "vocab.json",
            "\"<|endoftext|>\"",
            "\"\"",
            "token \"\" is an empty token",
        ),
        ("vocab.json", "\n}", "", "EOF while parsing"),
        (
            "vocab.json",
            "\"low\"",
            "\"lov\"",
            "line 2, merge \"l ow\", makes \"low\", which is not in",
        ),
        (
            "merges.txt",
            "o w\n",
            "",
            "line 1, merge \"l ow\", joins \"ow\", which is neither",
        ),
        (
            "merges.txt",
            "o w\n",
            "o w\no w\n",
            "line 2, merge \"o w\", is there twice",
        ),
        (
            "merges.txt",
            "o w\n",
            "o  w\n",
            "line 1, merge \"o  w\", is not two tokens",
        ),
        (
            "merges.txt",
            "o w\n",
            "ow\n",
            "line 1, merge \"ow\", is not two tokens",
        ),
    ] {
        let error = load_damaged(file, from, to).unwrap_err();
        let message = error.to_string();
        let named = if wanted.contains("line 2, merge \"l") {
            "merges.txt"
        } else {
            file
        };
        assert!(
            message.contains(wanted) && message.contains(named),
            "{from:?} {to:?}: {message}"
        );
        assert!(!message.contains('\n') && !error.is_usage(), "{message}");
    }
}

#[test]
fn version_lines_and_missing_last_newlines_are_accepted() {
    let wanted = learn(SMALL_TEXT, 262).hash();
    let versioned = load_damaged("merges.txt", "o w\n", "#version: 0.2\no w\n").unwrap();
    assert_eq!(versioned.hash(), wanted);
    let windows = load_damaged("merges.txt", "o w\n", "o w\r\n").unwrap();
    assert_eq!(windows.hash(), wanted);
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("vocab.json"), "{error}");
}
