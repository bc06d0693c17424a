//! Unicode's normal form C, which some models' files ask for before a text is cut.
//!
//! It is the form of Unicode 9, as in Hugging Face's tokenizers: of characters that came later,
//! some marks would move and some letters join, and models have never seen them do so.

use std::borrow::Cow;
use std::sync::LazyLock;

use rustc_hash::FxHashSet;
use unicode_normalization::char::{canonical_combining_class, decompose_canonical};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::classes::code_points;

/// Characters that came after Unicode 9 and that newer normal forms move or join; in the older one
/// each stays as it is, and nothing joins across it.
static NEWER: LazyLock<FxHashSet<char>> = LazyLock::new(|| {
    let newer = code_points(r"\P{age:9.0}").filter_map(char::from_u32);
    newer.filter(|&character| !is_inert(character)).collect()
});

/// The text in normal form C. Bytes that are no UTF-8 stay as they are, and nothing joins across
/// them.
pub(super) fn nfc(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let is_normal = |text: &str| is_nfc_quick(text.chars()) == IsNormalized::Yes;
    if text.utf8_chunks().all(|chunk| is_normal(chunk.valid())) {
        return Cow::Borrowed(text);
    }
    let mut normal = Vec::with_capacity(text.len());
    let newer = &*NEWER;
    for chunk in text.utf8_chunks() {
        for piece in chunk
            .valid()
            .split_inclusive(|character| newer.contains(&character))
        {
            let last = piece.char_indices().next_back();
            let last = last.filter(|(_, character)| newer.contains(character));
            let (older, newer) = piece.split_at(last.map_or(piece.len(), |(at, _)| at));
            normal.extend(older.nfc().collect::<String>().as_bytes());
            normal.extend(newer.as_bytes());
        }
        normal.extend(chunk.invalid());
    }
    Cow::Owned(normal)
}

/// Whether the sides of a cut between two characters can be normalised apart, and neither becomes
/// a character of another class.
///
/// Normal form C has a boundary before a character that begins one (combining class 0), that
/// joins nothing before it, and that is its own decomposition (Unicode Standard Annex 15). The
/// character before the cut has to be no mark either, since a mark could join a letter before it.
pub(super) fn may_cut(before: char, after: char) -> bool {
    (before.is_ascii() || joins_nothing_before(before)) && (after.is_ascii() || is_inert(after))
}

/// The first character of the canonical decomposition, on which class and boundaries depend.
pub(super) fn base(character: char) -> char {
    let mut first = None;
    decompose_canonical(character, |part| {
        first.get_or_insert(part);
    });
    first.unwrap_or(character)
}

/// Whether a character is its own decomposition, and neither moves nor joins what is before it.
fn is_inert(character: char) -> bool {
    joins_nothing_before(character) && base(character) == character
}

fn joins_nothing_before(character: char) -> bool {
    canonical_combining_class(character) == 0
        && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes
}

#[cfg(test)]
mod tests {
    use super::super::classes::class_at;
    use super::*;

    fn nfc_text(text: &str) -> String {
        String::from_utf8(nfc(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn what_is_no_utf8_stays_and_parts() {
        for (text, wanted) in [
            (&b"abc"[..], &b"abc"[..]),
            (b"e\xCC\x81", b"\xC3\xA9"),
            (b"\xFFe\xCC\x81\xC0", b"\xFF\xC3\xA9\xC0"),
            (b"e\xFF\xCC\x81", b"e\xFF\xCC\x81"),
        ] {
            assert_eq!(&*nfc(text), wanted);
        }
    }

    #[test]
    fn characters_newer_than_the_form_stay() {
        // U+0898 of Unicode 14 would move before U+0301, and U+11938 of Unicode 13 be made.
        for text in [
            "q\u{301}\u{898}\u{323}",
            "\u{11935}\u{11930}",
            "\u{16D67}\u{16D67}",
        ] {
            assert_eq!(nfc_text(text), text);
        }
        assert_eq!(nfc_text("e\u{301}\u{898}e\u{301}"), "é\u{898}é");
        assert!(NEWER.len() < 1000, "{} characters", NEWER.len());
    }

    #[test]
    fn a_composite_has_the_class_of_its_base() {
        let class = |character: char| class_at(character.to_string().as_bytes(), 0).unwrap().0;
        for character in ('\0'..=char::MAX).filter(|&character| joins_nothing_before(character)) {
            assert_eq!(class(character), class(base(character)), "{character:?}");
        }
    }

    #[test]
    fn cutting_where_allowed_changes_no_normal_form() {
        let piece = "[eaKo<= ]|[éǖ\u{212A}\u{2126}]|[\u{300}\u{301}\u{308}\u{323}\u{338}\u{345}]\
            |[ᄀ가각ᅡᆨ]|[\u{898}\u{9C7}\u{9BE}\u{16D63}\u{16D67}\u{16D68}]|[語。]";
        let pieces = format!("({piece}){{0,12}}");
        proptest::proptest!(|(text in &*pieces)| {
            for (cut, after) in text.char_indices().skip(1) {
                let before = text[..cut].chars().next_back().unwrap();
                if may_cut(before, after) {
                    let parts = nfc_text(&text[..cut]) + &nfc_text(&text[cut..]);
                    proptest::prop_assert_eq!(&parts, &nfc_text(&text), "{:?} at {}", text, cut);
                }
            }
        });
        assert!(may_cut('a', 'e') && may_cut('é', ' ') && may_cut('가', '。'));
        assert!(!may_cut('e', '\u{301}') && !may_cut('\u{301}', 'e') && !may_cut('a', 'é'));
    }
}
