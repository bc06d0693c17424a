//! GPT-2's alphabet: a printable character for each of the 256 bytes, used in token files.
//!
//! Bytes that are printable in Latin-1 stand for themselves; the other 68, in rising order, are
//! written as U+0100, U+0101 and so on, so that a token never holds a space or a control sign.

/// The 256 bytes in the order of their tokens: the printable ones, then the others.
pub(super) fn byte_order() -> impl Iterator<Item = u8> {
    let printable = (0..=255).filter(|&byte| is_printable(byte));
    let others = (0..=255).filter(|&byte| !is_printable(byte));
    printable.chain(others)
}

/// The text of a token in a file: one character a byte.
pub(super) fn text_from_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char_from_byte(byte)).collect()
}

/// The bytes of a token's text, or `None` where a character is not in the alphabet.
pub(super) fn bytes_from_text(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte_from_char).collect()
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

fn char_from_byte(byte: u8) -> char {
    let code = u32::from(byte);
    let code = match byte {
        0..=0x20 => 0x100 + code,
        0x7F..=0xA0 => 0x121 + (code - 0x7F),
        0xAD => 0x143,
        _ => code,
    };
    char::from_u32(code).expect("all codes are below U+0144")
}

fn byte_from_char(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7F,
        0x143 => 0xAD,
        _ => code,
    };
    let byte = u8::try_from(byte).ok()?;
    (code >= 0x100 || is_printable(byte)).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_back() {
        let order: Vec<u8> = byte_order().collect();
        assert_eq!(order.len(), 256);
        assert_eq!(
            (order[0], order[187], order[188], order[255]),
            (b'!', 0xFF, 0, 0xAD)
        );
        let text = text_from_bytes(&order);
        assert_eq!(bytes_from_text(&text), Some(order));
        let rising: Vec<char> = text.chars().skip(188).collect();
        let wanted: Vec<char> = ('\u{100}'..='\u{143}').collect();
        assert_eq!(rising, wanted);
    }

    #[test]
    fn well_known_characters_agree_with_gpt2() {
        for (byte, text) in [
            (b' ', "Ġ"),
            (b'\n', "Ċ"),
            (b'\t', "ĉ"),
            (b'a', "a"),
            (0xAD, "Ń"),
        ] {
            assert_eq!(text_from_bytes(&[byte]), text);
        }
        for foreign in [" ", "\u{7F}", "\u{AD}", "\u{144}", "語"] {
            assert_eq!(bytes_from_text(foreign), None);
        }
    }
}
