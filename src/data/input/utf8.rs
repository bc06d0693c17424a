//! Bytes to text as they come, whole characters at a time.

/// Bytes that are no UTF-8, and where the first of them is, counted from the first byte ever given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidUtf8 {
    pub(crate) offset: u64,
}

/// Turns blocks of bytes into text. What begins a character at the end of a block waits for the
/// next one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Utf8Decoder {
    is_lossy: bool,
    waiting: Vec<u8>,
    /// Bytes given before those that wait.
    offset: u64,
    replaced: u64,
}

impl Utf8Decoder {
    /// Either replaces what is no UTF-8, as `String::from_utf8_lossy` does, or refuses it.
    pub(crate) fn new(is_lossy: bool) -> Self {
        Self {
            is_lossy,
            ..Self::default()
        }
    }

    /// Sequences that were replaced so far.
    pub(crate) fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Appends the text of the next bytes, of which `is_end` are the last.
    ///
    /// # Errors
    ///
    /// At the first byte that is no UTF-8, unless it is to be replaced.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        is_end: bool,
        text: &mut String,
    ) -> Result<(), InvalidUtf8> {
        let joined;
        let mut rest = bytes;
        if !self.waiting.is_empty() {
            joined = [&std::mem::take(&mut self.waiting)[..], bytes].concat();
            rest = &joined;
        }
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.offset += rest.len() as u64;
                    return Ok(());
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(valid).unwrap_or_default());
            self.offset += valid.len() as u64;
            let invalid_len = match error.error_len() {
                None if !is_end => {
                    self.waiting = after.to_vec();
                    return Ok(());
                }
                len => len.unwrap_or(after.len()),
            };
            if !self.is_lossy {
                return Err(InvalidUtf8 {
                    offset: self.offset,
                });
            }
            text.push(char::REPLACEMENT_CHARACTER);
            self.replaced += 1;
            self.offset += invalid_len as u64;
            rest = &after[invalid_len..];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(
        bytes: &[u8],
        block_len: usize,
        is_lossy: bool,
    ) -> Result<(String, u64), InvalidUtf8> {
        let mut decoder = Utf8Decoder::new(is_lossy);
        let mut text = String::new();
        for block in bytes.chunks(block_len) {
            decoder.push(block, false, &mut text)?;
        }
        decoder.push(&[], true, &mut text)?;
        Ok((text, decoder.replaced()))
    }

    #[test]
    fn blocks_of_any_length_decode_as_the_whole() {
        let piece = prop_oneof![
            "\\PC".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 1..3),
            Just(b"\xED\xA0\x80".to_vec()),
            Just(b"\xF0\x9F\x91".to_vec()),
        ];
        let bytes = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
        proptest!(|(bytes in bytes, block_len in 1..9usize)| {
            let wanted = String::from_utf8_lossy(&bytes);
            let (text, replaced) = decode(&bytes, block_len, true).unwrap();
            prop_assert_eq!(&text, &wanted);
            match std::str::from_utf8(&bytes) {
                Ok(valid) => {
                    prop_assert_eq!(decode(&bytes, block_len, false).unwrap().0, valid);
                    prop_assert_eq!(replaced, 0);
                }
                Err(error) => {
                    let offset = error.valid_up_to() as u64;
                    prop_assert_eq!(decode(&bytes, block_len, false), Err(InvalidUtf8 { offset }));
                    prop_assert!(replaced > 0);
                }
            }
        });
    }
}
