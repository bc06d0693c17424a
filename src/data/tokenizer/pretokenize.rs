//! Cuts text into GPT-2's pre-tokens, across which no merge reaches.
//!
//! The rule is that of the regular expression
//! `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! (Radford et al. 2019, `encoder.py`), matched by hand: each branch decides by the class of the
//! next character, so no branch is ever tried twice.

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The pre-tokens of a text, in order; together they are the text.
pub(super) fn pretokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (pretoken, after) = rest.split_at(first_len(rest));
        rest = after;
        Some(pretoken)
    })
}

/// The first place after `from` where `text` may be cut without changing its pre-tokens, or its
/// end.
///
/// That is before white space which follows something else: no pre-token goes on there, and the
/// one before it does not look ahead.
pub(super) fn next_cut(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    (from + 1..bytes.len())
        .find(|&at| {
            bytes[at].is_ascii_whitespace()
                && text[..at]
                    .chars()
                    .next_back()
                    .is_some_and(|before| !before.is_whitespace())
        })
        .unwrap_or(bytes.len())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

const ASCII_CLASSES: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut code: u8 = 0;
    while code < 128 {
        classes[code as usize] = match code {
            b'A'..=b'Z' | b'a'..=b'z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\t'..=b'\r' | b' ' => Class::Space,
            _ => Class::Other,
        };
        code += 1;
    }
    classes
};

/// Length in bytes of the first pre-token of a text that is not empty.
fn first_len(text: &str) -> usize {
    if let Some(len) = contraction_len(text.as_bytes()) {
        return len;
    }
    let lead = usize::from(text.starts_with(' '));
    match class_at(text, lead) {
        Some((class, _)) if class != Class::Space => run_end(text, lead, class),
        _ => space_len(text),
    }
}

fn contraction_len(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\'', b's' | b'd' | b'm' | b't', ..] => Some(2),
        [b'\'', b'l', b'l', ..] | [b'\'', b'v' | b'r', b'e', ..] => Some(3),
        _ => None,
    }
}

/// Length of the white space that a text starts with, less its last character where something
/// else follows: that one belongs to the next pre-token, or stands alone.
fn space_len(text: &str) -> usize {
    let len = run_end(text, 0, Class::Space);
    if len == text.len() {
        return len;
    }
    let last_len = text[..len].chars().next_back().map_or(0, char::len_utf8);
    if last_len < len { len - last_len } else { len }
}

/// The end of the run of one class that starts at byte `start`.
fn run_end(text: &str, start: usize, class: Class) -> usize {
    let mut end = start;
    while let Some((next, len)) = class_at(text, end) {
        if next != class {
            break;
        }
        end += len;
    }
    end
}

/// Class and length in bytes of the character at byte `at`, or `None` at the end.
fn class_at(text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if byte.is_ascii() {
        return Some((ASCII_CLASSES[usize::from(byte)], 1));
    }
    let character = text[at..].chars().next()?;
    Some((class_of(character), character.len_utf8()))
}

fn class_of(character: char) -> Class {
    if character.is_whitespace() {
        return Class::Space;
    }
    match character.general_category_group() {
        GeneralCategoryGroup::Letter => Class::Letter,
        GeneralCategoryGroup::Number => Class::Number,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each case is a text as its pre-tokens, as Python's `regex` finds them.
    const CASES: &[&[&str]] = &[
        &[],
        &[" "],
        &["a"],
        &["Hello", ",", " world", "!"],
        // Contractions: lower case only, straight apostrophe only, wherever they stand.
        &[
            "I", "'m", " you", "'re", " he", "'s", " we", "'ve", " they", "'ll", " I", "'d",
            " can", "'t",
        ],
        &["'s", "ick"],
        &["IT", "'", "S"],
        &["don", "’", "t"],
        &["a", "''", "s"],
        &[" '", "s"],
        &["'", "x"],
        &["'", "l"],
        // White space leaves its last character to what follows.
        &["a", " b"],
        &["a", " ", " b"],
        &["a", "   ", " b"],
        &["a", "\n", "b"],
        &["a", "\n", "\n", "b"],
        &["a", "\n\n", " b"],
        &["a", " ", "\n", "b"],
        &["a", " \n\t "],
        &["\r\n", "\t", "x"],
        &["a", "\u{A0}", "b"],
        &["a", "\u{3000}", " b"],
        &["a", "  ", "\u{2003}", "1"],
        // White_Space has U+0085 and not the separators U+001C to U+001F.
        &["a", "\u{85}", "b"],
        &["a", "\u{1C}\u{1F}", "b"],
        &["a", " \u{1C}", " \n"],
        &["a", "\u{200B}", "b"],
        // Letters, numbers and the rest part from each other.
        &["abc", "123", "def", "!?", "456"],
        &[" 42", " .", "5"],
        &["x", "²½Ⅷ٣"],
        &["日本語", "、", "テスト", "123"],
        &["Привет", " мир", "!"],
        &["naïve", " café"],
        // A combining mark is neither a letter nor a number.
        &["e", "\u{301}", "a"],
        &["नमस", "्", "त", "े"],
        &["👍🏽", " 👨\u{200D}👩"],
        &["_", "snake", "_", "case"],
        &["<|", "endoftext", "|>"],
    ];

    #[test]
    fn pretokens_agree_with_the_hand_listed_cases() {
        for &case in CASES {
            let text = case.concat();
            let found: Vec<&str> = pretokens(&text).collect();
            assert_eq!(found, case, "{text:?}");
        }
    }

    #[test]
    fn cutting_where_allowed_changes_no_pretoken() {
        for &case in CASES {
            let text = case.concat();
            for from in 0..text.len() {
                let (left, right) = text.split_at(next_cut(&text, from));
                let found: Vec<&str> = pretokens(left).chain(pretokens(right)).collect();
                assert_eq!(found, case, "{left:?} {right:?}");
            }
        }
    }
}
