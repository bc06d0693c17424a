//! Cuts text into GPT-2's pre-tokens, across which no merge reaches.
//!
//! The rule is that of the regular expression
//! `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! (Radford et al. 2019, `encoder.py`), matched by hand: each branch decides by the class of the
//! next character, so no branch is ever tried twice.

use super::classes::{Class, char_start, class_at, is_continuation, run_end};

/// Length in bytes of the first pre-token of a text that is not empty.
#[inline]
pub(super) fn first_len(text: &[u8]) -> usize {
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

/// The first place at or after `from`, and after the start, where a text of whole characters may
/// be cut without changing its pre-tokens, or `None` where there is none before its end.
///
/// That is where the class changes after something that is no white space: a run of one class is
/// one pre-token or its end, only white space goes on into the next class, and only white space
/// looks ahead. An apostrophe before a letter may start a contraction, so it is left alone.
pub(super) fn next_cut(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from.max(1);
    while is_continuation(*text.get(at)?) {
        at += 1;
    }
    let start = char_start(text, at);
    let mut before = (class_at(text, start)?.0, text[start]);
    loop {
        let (class, len) = class_at(text, at)?;
        let is_contraction = before.1 == b'\'' && class == Class::Letter;
        if before.0 != Class::Space && before.0 != class && !is_contraction {
            return Some(at);
        }
        before = (class, text[at]);
        at += len;
    }
}

fn contraction_len(text: &[u8]) -> Option<usize> {
    match text {
        [b'\'', b's' | b'd' | b'm' | b't', ..] => Some(2),
        [b'\'', b'l', b'l', ..] | [b'\'', b'v' | b'r', b'e', ..] => Some(3),
        _ => None,
    }
}

/// Length of the white space that a text starts with, less its last character where something
/// else follows: that one belongs to the next pre-token, or stands alone.
fn space_len(text: &[u8]) -> usize {
    let len = run_end(text, 0, Class::Space);
    if len == text.len() {
        return len;
    }
    match char_start(text, len) {
        0 => len,
        last => last,
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
            assert_eq!(found(&text), case, "{text:?}");
        }
    }

    /// The pre-tokens of a text, in order; together they are the text.
    fn found(text: &str) -> Vec<&str> {
        let mut rest = text;
        let mut pretokens = Vec::new();
        while !rest.is_empty() {
            let (pretoken, after) = rest.split_at(first_len(rest.as_bytes()));
            pretokens.push(pretoken);
            rest = after;
        }
        pretokens
    }

    fn check_cuts(text: &str) {
        let whole = found(text);
        let mut from = 0;
        while let Some(cut) = next_cut(text.as_bytes(), from) {
            let (left, right) = text.split_at(cut);
            let parts = [found(left), found(right)].concat();
            assert_eq!(parts, whole, "{left:?} {right:?}");
            from = cut + 1;
        }
    }

    #[test]
    fn cutting_where_allowed_changes_no_pretoken() {
        CASES.iter().for_each(|case| check_cuts(&case.concat()));
        proptest::proptest!(|(text in "([a-zA-Zé語]|[0-9²]|[ \n\u{3000}]|'(s|t|re|ll|x)?|[!?👍\u{301}]){0,30}")| {
            check_cuts(&text);
        });
    }

    #[test]
    fn cuts_are_found_in_every_kind_of_text() {
        for (text, from, cut) in [
            ("ab cd", 0, Some(2)),
            ("ab cd", 3, None),
            ("ab12", 1, Some(2)),
            ("'s", 0, None),
            ("語、語", 1, Some(3)),
            ("語、語", 4, Some(6)),
            ("    ", 0, None),
            (" a", 0, None),
            ("aaaa", 2, None),
            ("", 0, None),
        ] {
            assert_eq!(next_cut(text.as_bytes(), from), cut, "{text:?} {from}");
        }
    }
}
