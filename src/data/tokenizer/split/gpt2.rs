//! GPT-2's pre-tokens: the matches of
//! `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! (Radford et al. 2019, `encoder.py`).

use super::super::classes::{Class, char_start, class_at, run_end};
use super::Char;

/// Length in bytes of the first pre-token of a text that is not empty.
#[inline]
pub(in super::super) fn first_len(text: &[u8]) -> usize {
    let first = text[0];
    if first == b'\''
        && let Some(len) = contraction_len(text)
    {
        return len;
    }
    let lead = usize::from(first == b' ');
    match class_at(text, lead) {
        Some((class, len)) if class != Class::Space => run_end(text, lead + len, class),
        _ => space_len(text),
    }
}

/// Whether a text may be cut between two characters without changing its pre-tokens.
///
/// That is where the class changes after something that is no white space: a run of one class is
/// one pre-token or its end, only white space goes on into the next class, and only white space
/// looks ahead. An apostrophe before a letter may start a contraction, so it is left alone.
pub(super) fn may_cut(before: Char, after: Char) -> bool {
    let is_contraction = before.byte == b'\'' && after.class == Class::Letter;
    before.class != Class::Space && before.class != after.class && !is_contraction
}

pub(super) fn contraction_len(text: &[u8]) -> Option<usize> {
    match text {
        [b'\'', b's' | b'd' | b'm' | b't', ..] => Some(2),
        [b'\'', b'l', b'l', ..] | [b'\'', b'v' | b'r', b'e', ..] => Some(3),
        _ => None,
    }
}

/// Length of the white space that a text starts with, less its last character where something
/// else follows: that one belongs to the next pre-token, or stands alone.
pub(super) fn space_len(text: &[u8]) -> usize {
    let len = run_end(text, 0, Class::Space);
    if len == text.len() {
        return len;
    }
    less_last(text, len)
}

/// Length of the white space that a text starts with and that goes to `len`, less its last
/// character if it has others.
pub(super) fn less_last(text: &[u8], len: usize) -> usize {
    match char_start(text, len) {
        0 => len,
        last => last,
    }
}

/// Each case is a text as its pre-tokens, as Python's `regex` finds them.
#[cfg(test)]
pub(super) const CASES: &[&[&str]] = &[
    &[],
    &[" "],
    &["a"],
    &["Hello", ",", " world", "!"],
    // Contractions: lower case only, straight apostrophe only, wherever they stand.
    &[
        "I", "'m", " you", "'re", " he", "'s", " we", "'ve", " they", "'ll", " I", "'d", " can",
        "'t",
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

#[cfg(test)]
mod tests {
    use super::super::{Split, pretokens};
    use super::*;

    #[test]
    fn pretokens_agree_with_the_hand_listed_cases() {
        for &case in CASES {
            let text = case.concat();
            assert_eq!(pretokens(Split::Gpt2, &text), case, "{text:?}");
        }
    }
}
