//! Texts to compare on: those of a folder, the project's own sources, and strings that were drawn.

use std::path::{Path, PathBuf};

use anyhow::Result;
use gpu_tlm::data::corpus::StoryCorpus;
use gpu_tlm::random::{Philox, Stream};

/// All files of a folder and of those below it that are UTF-8, by name.
pub(crate) fn files(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files.extend(self::files(&path)?);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            files.push((path, text));
        }
    }
    Ok(files)
}

/// A text of at least `len` bytes that goes round its sources, and what those are. The sources are
/// the project's own, 2 MB of the built-in stories, and the text files of `data`.
pub(crate) fn mixture(data: Option<&Path>, len: usize) -> Result<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    let stories = StoryCorpus::new(0);
    let range = stories.range_for_bytes(0, 2_000_000);
    sources.push(("built-in stories".to_owned(), stories.text(range)));
    for folder in ["src", "shaders", "docs", "tests"] {
        let texts = files(&root.join(folder))?.into_iter().map(|(_, text)| text);
        sources.push((format!("{folder}/ of this project"), texts.collect()));
    }
    for (path, text) in data.map(files).transpose()?.unwrap_or_default() {
        if path
            .extension()
            .is_some_and(|end| end == "txt" || end == "en")
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            sources.push((name.into_owned(), text));
        }
    }
    let total: usize = sources.iter().map(|(_, text)| text.len()).sum();
    let names: Vec<&str> = sources.iter().map(|(name, _)| &name[..]).collect();
    let about = format!("{} bytes of {} in turn", total, names.join(", "));
    let mut text = String::with_capacity(len + total);
    while text.len() < len {
        for (_, source) in &sources {
            text.push_str(source);
            text.push_str(super::gpt2::END_OF_TEXT);
        }
    }
    Ok((text, about))
}

/// A text cut at line ends into parts of about 4 KB, as documents of a data set are.
pub(crate) fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let cut = rest
            .as_bytes()
            .iter()
            .skip(4_096)
            .position(|&byte| byte == b'\n');
        let (document, after) = rest.split_at(cut.map_or(rest.len(), |cut| cut + 4_097));
        documents.push(document);
        rest = after;
    }
    documents
}

/// What strings are drawn from: each line is a kind of text.
const PIECES: &[&[&str]] = &[
    &[
        "the", " and", "Hello", " world", "don't", "I'll", "we've", "'s", "'S", "'re", "x'd",
        " 'tis",
    ],
    &[
        " ", "  ", "\n", "\r\n", "\t", "\u{b}", "\u{c}", "\u{1c}", "\u{1f}", "\u{85}", "\u{a0}",
    ],
    &[
        "\u{1680}", "\u{2003}", "\u{2028}", "\u{2029}", "\u{202f}", "\u{3000}", "\u{200b}",
        "\u{feff}", "\u{180e}",
    ],
    &["0", "42", " 1999", "²", "Ⅷ", "٣", "१२", "½", "３"],
    &[
        "日本語",
        "漢字",
        "한국어",
        "Привет",
        "Ελληνικά",
        "עברית",
        "العربية",
        "हिन्दी",
        "ไทย",
        "ქართული",
    ],
    &[
        "e\u{301}",
        "a\u{308}\u{304}",
        "\u{301}",
        "\u{fe0f}",
        "\u{200d}",
        "\u{20e3}",
        "ñ",
        "é",
    ],
    &[
        "👍",
        "👍🏽",
        "👨\u{200d}👩\u{200d}👧",
        "🇩🇪",
        "🏳️\u{200d}🌈",
        "😀",
        "♥",
    ],
    &[
        "!",
        "?!",
        "...",
        "—",
        "“",
        "”",
        "’",
        "'",
        "''",
        "\"",
        "<|",
        "|>",
        "<|endoftext|>",
        "_",
        "$",
        "€",
        "+",
    ],
    &[
        "\u{10400}",
        "\u{1d400}",
        "\u{20000}",
        "\u{e000}",
        "\u{fffd}",
        "\u{10ffff}",
        "\0",
        "\u{7f}",
    ],
];

/// Bytes that are no UTF-8, halves of UTF-16 pairs among them.
const INVALID: &[&[u8]] = &[
    b"\xED\xA0\x80",
    b"\xED\xB0\x80",
    b"\xFF",
    b"\xC3",
    b"\xF0\x9F\x91",
    b"\x80",
];

/// The `number`-th drawn string: some pieces of some kinds, any characters, at times a long run.
pub(crate) fn drawn(number: u64) -> String {
    let philox = Philox::new(number, Stream::Sample);
    let mut counter = 0;
    let mut below = |n: usize| {
        counter += 1;
        philox.below(counter, n as u64) as usize
    };
    let mut bytes = Vec::new();
    for _ in 0..1 + below(24) {
        let kind = &PIECES[below(PIECES.len())];
        let piece = kind[below(kind.len())];
        match below(40) {
            0 => bytes.extend_from_slice(INVALID[below(INVALID.len())]),
            1 => {
                let code = below(0x11_0000) as u32;
                let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                bytes.extend_from_slice(character.to_string().as_bytes());
            }
            2 => bytes.extend_from_slice(piece.repeat(1 + below(300)).as_bytes()),
            _ => bytes.extend_from_slice(piece.as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
