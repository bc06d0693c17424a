//! The four classes of characters that GPT-2's pattern tells apart, looked up in text as bytes.
//!
//! They come from regex-syntax, the tables of the engine that tiktoken runs the pattern on, since
//! each version of Unicode adds letters and the ids should be the same.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as Set, HirKind};

/// What the pattern takes a character for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// `\p{L}`.
    Letter,
    /// `\p{N}`.
    Number,
    /// `\s`: Unicode's `White_Space`.
    Space,
    /// Everything else, and bytes that belong to no character.
    Other,
}

/// Of a byte that starts no ASCII character: the class takes more than one byte to tell.
const MANY_BYTES: u8 = 4;

/// The class of each ASCII character.
const BYTE_CLASSES: [u8; 256] = {
    let mut classes = [MANY_BYTES; 256];
    let mut code = 0;
    while code < 128u8 {
        classes[code as usize] = match code {
            b'A'..=b'Z' | b'a'..=b'z' => Class::Letter as u8,
            b'0'..=b'9' => Class::Number as u8,
            b'\t'..=b'\r' | b' ' => Class::Space as u8,
            _ => Class::Other as u8,
        };
        code += 1;
    }
    classes
};

/// The class of every code point, in two bits each.
static TABLE: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    // Four of `Class::Other`.
    let mut table = vec![0xFF; 0x11_0000 / 4];
    for (pattern, class) in [
        (r"\p{L}", Class::Letter),
        (r"\p{N}", Class::Number),
        (r"\s", Class::Space),
    ] {
        for code in code_points(pattern) {
            let shift = 2 * (code % 4);
            let quad: &mut u8 = &mut table[(code / 4) as usize];
            *quad = *quad & !(3 << shift) | (class as u8) << shift;
        }
    }
    table.into()
});

/// The code points that a class of the pattern's language matches.
pub(super) fn code_points(pattern: &str) -> impl Iterator<Item = u32> {
    let class = regex_syntax::parse(pattern).expect("the pattern is sound");
    let HirKind::Class(Set::Unicode(set)) = class.into_kind() else {
        unreachable!("the pattern is a class of characters");
    };
    let ranges: Vec<_> = set.ranges().to_vec();
    ranges
        .into_iter()
        .flat_map(|range| u32::from(range.start())..=u32::from(range.end()))
}

/// Class and length in bytes of the character at byte `at`, or `None` at the end.
#[inline]
pub(super) fn class_at(text: &[u8], at: usize) -> Option<(Class, usize)> {
    let byte = *text.get(at)?;
    if byte.is_ascii() {
        return Some((class_from_bits(BYTE_CLASSES[usize::from(byte)]), 1));
    }
    Some(class_of_many_bytes(&text[at..]))
}

/// The end of the run of characters of one class that goes on at byte `end`.
#[inline]
pub(super) fn run_end(text: &[u8], mut end: usize, class: Class) -> usize {
    loop {
        let Some(&byte) = text.get(end) else {
            return end;
        };
        let bits = BYTE_CLASSES[usize::from(byte)];
        if bits == class as u8 {
            end += 1;
        } else if bits == MANY_BYTES {
            match class_of_many_bytes(&text[end..]) {
                (found, len) if found == class => end += len,
                _ => return end,
            }
        } else {
            return end;
        }
    }
}

/// Where the character starts whose last byte is before `end`, which is not 0, in a text of whole
/// characters.
pub(super) fn char_start(text: &[u8], end: usize) -> usize {
    let mut start = end - 1;
    while start > 0 && is_continuation(text[start]) {
        start -= 1;
    }
    start
}

/// Whether a byte goes on with a character of UTF-8 rather than starting one.
pub(super) fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

fn class_of_many_bytes(text: &[u8]) -> (Class, usize) {
    let Some((code, len)) = decode(text) else {
        return (Class::Other, 1);
    };
    let bits = TABLE[(code / 4) as usize] >> (2 * (code % 4));
    (class_from_bits(bits & 3), len)
}

/// Code point and length of the character of two to four bytes that `text` starts with, or `None`
/// where its first byte belongs to no character (Unicode 17, table 3-7).
fn decode(text: &[u8]) -> Option<(u32, usize)> {
    let low = |byte: u8| u32::from(byte & 0x3F);
    match *text {
        [a @ 0xC2..=0xDF, b @ 0x80..=0xBF, ..] => Some((u32::from(a & 0x1F) << 6 | low(b), 2)),
        [a @ 0xE0..=0xEF, b @ 0x80..=0xBF, c @ 0x80..=0xBF, ..] => {
            let code = u32::from(a & 0x0F) << 12 | low(b) << 6 | low(c);
            let is_char = code >= 0x800 && !(0xD800..=0xDFFF).contains(&code);
            is_char.then_some((code, 3))
        }
        [
            a @ 0xF0..=0xF4,
            b @ 0x80..=0xBF,
            c @ 0x80..=0xBF,
            d @ 0x80..=0xBF,
            ..,
        ] => {
            let code = u32::from(a & 0x07) << 18 | low(b) << 12 | low(c) << 6 | low(d);
            (0x1_0000..=0x10_FFFF).contains(&code).then_some((code, 4))
        }
        _ => None,
    }
}

fn class_from_bits(bits: u8) -> Class {
    match bits {
        0 => Class::Letter,
        1 => Class::Number,
        2 => Class::Space,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_one_class() {
        let mut counts = [0; 4];
        let mut bytes = [0; 4];
        for character in '\0'..=char::MAX {
            let text = character.encode_utf8(&mut bytes).as_bytes();
            let (class, len) = class_at(text, 0).unwrap();
            assert_eq!(len, text.len(), "{character:?}");
            assert_eq!(
                class == Class::Space,
                character.is_whitespace(),
                "{character:?}"
            );
            if character.is_ascii() {
                assert_eq!(class == Class::Letter, character.is_ascii_alphabetic());
                assert_eq!(class == Class::Number, character.is_ascii_digit());
            }
            counts[class as usize] += 1;
        }
        // `White_Space` has 25 characters; letters are added by each version of Unicode.
        assert_eq!(counts[Class::Space as usize], 25);
        assert!(counts[Class::Letter as usize] > 140_000 && counts[Class::Number as usize] > 1_900);
    }

    #[test]
    fn known_characters_have_the_class_of_their_category() {
        for (characters, class) in [
            ("éßЖא日あ한ªʰ\u{10400}\u{20000}", Class::Letter),
            ("²½Ⅷ٣３\u{1D7D8}", Class::Number),
            ("\u{85}\u{A0}\u{2028}\u{3000}", Class::Space),
            (
                "\u{1F}\u{301}\u{200B}\u{FEFF}_€👍\u{E000}\u{FFFD}\u{3D000}",
                Class::Other,
            ),
        ] {
            for character in characters.chars() {
                let text = character.to_string();
                assert_eq!(
                    class_at(text.as_bytes(), 0).unwrap().0,
                    class,
                    "{character:?}"
                );
            }
        }
    }

    #[test]
    fn bytes_that_are_no_character_are_one_other_each() {
        for first in 0x80..=0xFFu8 {
            for second in [0x20, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF] {
                for rest in [&[][..], &[0x80], &[0x80, 0xBF], &[0xBF, 0x20]] {
                    let text = [&[first, second][..], rest].concat();
                    let is_char = (1..=text.len().min(4)).any(|len| {
                        std::str::from_utf8(&text[..len])
                            .is_ok_and(|text| text.chars().count() == 1)
                    });
                    let found = class_at(&text, 0);
                    assert_eq!(found == Some((Class::Other, 1)), !is_char, "{text:x?}");
                }
            }
        }
    }
}
