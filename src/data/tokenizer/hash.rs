//! What tells tokenizers apart, whatever files they lie in.

use sha2::{Digest, Sha256};

use super::Tokenizer;
use super::rules::Rules;

impl Tokenizer {
    /// SHA-256 of the vocabulary, merges and special tokens as 64 hexadecimal digits.
    ///
    /// Two tokenizers with the same hash encode and decode alike, however their files are laid
    /// out: what is hashed is each token's length and bytes by id, then the number of merges and
    /// their ids, then the ids of the special tokens, all numbers as 64 bits, little end first.
    /// Unused ids after the last token are left out. Where the rules are others than GPT-2's, the
    /// word `rules` follows, the name of the split, whether texts are normalised and whether
    /// merges are ignored, as numbers, and the ids of special tokens that are looked for last.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        let number = |hasher: &mut Sha256, value: usize| {
            hasher.update((value as u64).to_le_bytes());
        };
        let tokens = &self.tokens[..self.used_len()];
        number(&mut hasher, tokens.len());
        for token in tokens {
            number(&mut hasher, token.len());
            hasher.update(token);
        }
        number(&mut hasher, self.merges.len());
        for merge in &self.merges {
            for id in [merge.left, merge.right, merge.product] {
                hasher.update(u64::from(id).to_le_bytes());
            }
        }
        for &id in self.special_ids() {
            hasher.update(u64::from(id).to_le_bytes());
        }
        let (rules, late_ids) = (self.specials.rules(), self.specials.late_ids());
        if rules != Rules::default() || !late_ids.is_empty() {
            hasher.update("rules");
            hasher.update(rules.split.name());
            number(&mut hasher, usize::from(rules.normalizes));
            number(&mut hasher, usize::from(rules.ignores_merges));
            for &id in late_ids {
                hasher.update(u64::from(id).to_le_bytes());
            }
        }
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Number of tokens up to the last one that stands for a text.
    fn used_len(&self) -> usize {
        let last = self.tokens.iter().rposition(|token| !token.is_empty());
        last.map_or(0, |last| last + 1)
    }
}
