//! The pre-tokens of Llama 3 and Qwen2: the matches of
//! `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
//! for Qwen2 with `\p{N}` in place of `\p{N}{1,3}` (the models' `tokenizer.json`).

use super::super::classes::{Class, class_at, run_end};
use super::gpt2::space_len;
use super::{Char, is_line_end};

/// Length in bytes of the first pre-token of a text that is not empty; up to `DIGITS` digits are
/// one.
#[inline]
pub(super) fn first_len<const DIGITS: usize>(text: &[u8]) -> usize {
    let first = text[0];
    if first == b'\''
        && let Some(len) = contraction_len(text)
    {
        return len;
    }
    let Some((class, len)) = class_at(text, 0) else {
        return 0;
    };
    match class {
        Class::Letter => run_end(text, len, Class::Letter),
        Class::Number => number_len::<DIGITS>(text, len),
        // Any one character but the end of a line goes with the letters that follow it.
        _ if !is_line_end(first) && letters_follow(text, len) => run_end(text, len, Class::Letter),
        Class::Other => other_len(text, len),
        Class::Space
            if first == b' ' && class_at(text, 1).is_some_and(|(c, _)| c == Class::Other) =>
        {
            other_len(text, 1)
        }
        Class::Space => white_len(text),
    }
}

/// Whether a text may be cut between two characters without changing its pre-tokens.
///
/// Letters go on into letters alone, digits into digits, and only white space looks ahead.
/// Anything else may start a word with the letter after it, or take the line ends after it along;
/// what ends a line may be followed by more white space up to the next line end.
pub(super) fn may_cut<const DIGITS: usize>(before: Char, after: Char) -> bool {
    match before.class {
        Class::Letter => after.class != Class::Letter,
        Class::Number => after.class != Class::Number || DIGITS == 1,
        Class::Other => match after.class {
            Class::Number => true,
            Class::Space => !after.is_line_end(),
            _ => false,
        },
        Class::Space => before.is_line_end() && after.class != Class::Space,
    }
}

fn letters_follow(text: &[u8], at: usize) -> bool {
    class_at(text, at).is_some_and(|(class, _)| class == Class::Letter)
}

/// Length of the contraction that a text with an apostrophe starts with, in capitals or not.
///
/// Without regard to case, `s` is also the long s, U+017F, as Unicode folds it.
fn contraction_len(text: &[u8]) -> Option<usize> {
    let letter = |at: usize| text.get(at).map(u8::to_ascii_lowercase);
    match (letter(1)?, letter(2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(2),
        (b'l', Some(b'l')) | (b'r' | b'v', Some(b'e')) => Some(3),
        (0xC5, Some(0xBF)) => Some(3),
        _ => None,
    }
}

/// Length of the group of digits that a text starts with, whose first has `len` bytes.
#[inline]
fn number_len<const DIGITS: usize>(text: &[u8], mut len: usize) -> usize {
    for _ in 1..DIGITS {
        match class_at(text, len) {
            Some((Class::Number, more)) => len += more,
            _ => break,
        }
    }
    len
}

/// Length of a run of neither letters, numbers nor white space that goes on at byte `at`, with the
/// line ends after it.
fn other_len(text: &[u8], at: usize) -> usize {
    let end = run_end(text, at, Class::Other);
    let line_ends = text[end..].iter().take_while(|&&byte| is_line_end(byte));
    end + line_ends.count()
}

/// Length of the white space that a text starts with: up to the last end of a line in it, or else
/// less its last character where something else follows.
fn white_len(text: &[u8]) -> usize {
    let run = &text[..run_end(text, 0, Class::Space)];
    match run.iter().rposition(|&byte| is_line_end(byte)) {
        Some(last) => last + 1,
        None => space_len(text),
    }
}

/// Each case is a text as its pre-tokens, as Hugging Face's tokenizers 0.23 find them.
#[cfg(test)]
pub(super) const CASES: &[&[&str]] = &[
    &["Hello", ",", " world", "!"],
    &["I", "'M", " he", "'Ll", " IT", "'S", " don", "'t"],
    // The long s folds to s; a ligature does not.
    &["'ſ", "ick"],
    &["'ﬅ"],
    &["'x"],
    &["''", "s"],
    &["(abc", ")("],
    &["((", "abc"],
    &["\tabc"],
    &["\u{3000}語"],
    &["\n", "abc"],
    &["123", "456", "7"],
    &["²½Ⅷ", "٣"],
    &[" ", "12"],
    &["  ", " ", "12"],
    &["a", "  ", " b"],
    &["!!\n\n", "a"],
    &["!\r\n", " \n", "b"],
    &[" !\n", "  ", "\tb"],
    &["a", " \n \n", "  ", " b"],
    &["a", "\n", " ", " !"],
    &["a", " \u{3000} "],
    &["\u{301}a", "\u{301}\u{301}", "a"],
    &["👍a", " 👍👍", "1"],
    &["a", "\u{85}b", "\u{2028}", "\u{2028}", "1"],
    &["a", "\u{b}\n", "\u{b}\u{b}", "\u{c}x"],
];

/// The same for Qwen2.
#[cfg(test)]
pub(super) const QWEN2_CASES: &[&[&str]] = &[
    &["1", "2", "3", "4"],
    &["a", " ", "1", "\n", "x"],
    &["²", "½", "Ⅷ", "٣"],
    &["(a", ")\n", "1"],
];

#[cfg(test)]
mod tests {
    use super::super::{Split, pretokens};
    use super::*;

    #[test]
    fn pretokens_agree_with_hugging_faces() {
        for (split, cases) in [(Split::Llama3, CASES), (Split::Qwen2, QWEN2_CASES)] {
            for &case in cases {
                let text = case.concat();
                assert_eq!(pretokens(split, &text), case, "{split:?} {text:?}");
            }
        }
    }
}
