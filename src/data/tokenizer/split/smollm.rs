//! SmolLM's pre-tokens: each digit is one, and what lies between is cut as by GPT-2.
//!
//! SmolLM2's `tokenizer.json` has Hugging Face's `Digits` before `ByteLevel`. Its digits are those
//! of Rust's `char::is_numeric`, of a newer Unicode than the pattern's `\p{N}`.

use super::super::classes::{Class, class_at, run_end};
use super::Char;
use super::gpt2::{self, contraction_len, less_last};

/// The first byte of every digit that `char::is_numeric` knows and `\p{N}` does not.
const NEWER_DIGIT: u8 = 0xF0;

/// Length in bytes of the first pre-token of a text that is not empty.
#[inline]
pub(super) fn first_len(text: &[u8]) -> usize {
    if text[0] == b'\''
        && let Some(len) = contraction_len(text)
    {
        return len;
    }
    let lead = usize::from(text[0] == b' ');
    match class_at(text, lead) {
        Some((Class::Letter, len)) => run_end(text, lead + len, Class::Letter),
        Some((Class::Other, len)) => {
            let end = run_end(text, lead + len, Class::Other);
            other_len(&text[..end], lead)
        }
        Some((Class::Number, len)) if lead == 0 => len,
        // A space before a digit, or more white space.
        _ => space_len(text),
    }
}

/// Whether a text may be cut between two characters without changing its pre-tokens: beside every
/// digit, and where GPT-2 allows it.
pub(super) fn may_cut(before: Char, after: Char) -> bool {
    before.class == Class::Number || after.class == Class::Number || gpt2::may_cut(before, after)
}

/// Length of the white space that a text starts with, less its last character where something
/// else than a digit follows; before a digit all of it is a pre-token, as at the end.
fn space_len(text: &[u8]) -> usize {
    let len = run_end(text, 0, Class::Space);
    match text.get(len) {
        None => len,
        Some(_) if is_digit_at(text, len) => len,
        Some(_) => less_last(text, len),
    }
}

fn is_digit_at(text: &[u8], at: usize) -> bool {
    match class_at(text, at) {
        Some((Class::Number, _)) => true,
        Some((Class::Other, len)) => is_newer_digit(&text[at..at + len]),
        _ => false,
    }
}

/// Length of the pre-token of a run of neither letters, numbers nor white space, which starts
/// after `lead` bytes of space: a newer digit ends it, or is it.
fn other_len(run: &[u8], lead: usize) -> usize {
    if !run.contains(&NEWER_DIGIT) {
        return run.len();
    }
    let mut at = lead;
    while let Some((_, len)) = class_at(run, at) {
        if is_newer_digit(&run[at..at + len]) {
            return if at == 0 { len } else { at };
        }
        at += len;
    }
    run.len()
}

fn is_newer_digit(character: &[u8]) -> bool {
    character[0] == NEWER_DIGIT
        && std::str::from_utf8(character).is_ok_and(|text| text.chars().all(char::is_numeric))
}

/// Each case is a text as its pre-tokens, as Hugging Face's tokenizers 0.23 find them.
#[cfg(test)]
pub(super) const CASES: &[&[&str]] = &[
    &["a", "1", "2", "b"],
    &["1"],
    &[" ", "1"],
    &["a", " ", "1"],
    &["a", "  ", "1", " ", "2"],
    &["a", " ", " b"],
    &["a", "\n\n ", "7", "\n", "b"],
    &["'", "1", "'s"],
    &["x", "²", "½", "Ⅷ", "٣"],
    &["1", " a"],
    &["!", "1", "!!", "2", "."],
    &["don", "'t", " ", "4", "'t"],
    // A digit of Unicode 17.
    &["!", "\u{11DE0}", "?"],
    &[" ", "\u{11DE0}", "\u{11DE1}", "!"],
    &[" 👍", "\u{11DE0}", "a"],
    &[" \n", "\u{16FF4}", " ", "1"],
];

#[cfg(test)]
mod tests {
    use super::super::{Split, pretokens};
    use super::*;

    #[test]
    fn digits_stand_alone() {
        for &case in CASES {
            let text = case.concat();
            assert_eq!(pretokens(Split::Smollm, &text), case, "{text:?}");
        }
    }

    #[test]
    fn digits_are_those_that_rust_knows() {
        let mut bytes = [0; 4];
        let mut newer = 0;
        for character in '\0'..=char::MAX {
            let text = character.encode_utf8(&mut bytes).as_bytes();
            let is_digit = is_digit_at(text, 0);
            assert_eq!(is_digit, character.is_numeric(), "{character:?}");
            newer += usize::from(
                is_newer_digit(text)
                    && class_at(text, 0).is_some_and(|(class, _)| class == Class::Other),
            );
        }
        // Those of Unicode 17; none has to be looked for once the tables of classes have them.
        assert_eq!(newer, 13);
    }
}
