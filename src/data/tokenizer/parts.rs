//! Puts a tokenizer together, and works out what is looked up while encoding.

use rustc_hash::{FxHashMap, FxHashSet};

use super::rules::{Rules, SpecialToken};
use super::specials::Specials;
use super::{Merge, NO_TOKEN, Tokenizer, index};

/// What a tokenizer is put together from: tokens differ, but that a special one may have the
/// bytes of another one; each merge joins tokens and makes one; the ids of special and unused
/// tokens rise.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) tokens: Vec<Box<[u8]>>,
    pub(super) merges: Vec<Merge>,
    pub(super) specials: Vec<SpecialToken>,
    pub(super) unused: Vec<(u32, String)>,
    pub(super) rules: Rules,
}

impl Tokenizer {
    pub(super) fn from_parts(parts: Parts) -> Self {
        let Parts {
            tokens,
            merges,
            specials,
            unused,
            rules,
        } = parts;
        let is_special: FxHashSet<u32> = specials.iter().map(|token| token.id).collect();
        let mut ids: FxHashMap<Box<[u8]>, u32> = (0..)
            .zip(&tokens)
            .filter(|(id, bytes)| !is_special.contains(id) && !bytes.is_empty())
            .map(|(id, bytes)| (bytes.clone(), id))
            .collect();
        for special in &specials {
            let bytes = tokens[index(special.id)].clone();
            ids.entry(bytes).or_insert(special.id);
        }
        let byte_id = |byte: u8| ids.get(&[byte][..]).copied().unwrap_or(NO_TOKEN);
        let mut byte_ids = [NO_TOKEN; 256];
        for byte in 0..=255u8 {
            byte_ids[usize::from(byte)] = byte_id(byte);
        }
        let pairs = merges.iter().map(|merge| (merge.left, merge.right));
        let ranks = pairs.zip(0..).collect();
        Self {
            prompt_prefix: None,
            merges_rise: merges_rise(&merges),
            tokens,
            ids,
            byte_ids,
            merges,
            ranks,
            specials: Specials::with_rules(specials, rules),
            unused,
        }
    }
}

/// See [`Tokenizer::merges_rise`].
fn merges_rise(merges: &[Merge]) -> bool {
    let made = merges.iter().map(|merge| merge.product);
    let last_made: FxHashMap<u32, usize> = made.zip(0..).collect();
    merges.iter().enumerate().all(|(rank, merge)| {
        let parts = [merge.left, merge.right];
        parts
            .iter()
            .all(|part| last_made.get(part).is_none_or(|&made| made < rank))
    })
}
