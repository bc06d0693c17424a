//! What an encoder remembers of the pre-tokens that it has seen.

use rustc_hash::FxHashMap;

use super::short_key::ShortKey;

/// Slots for short pre-tokens: 2 MiB, about a core's own cache. Of two pre-tokens that meet in
/// one slot the later one stays.
const SLOT_BITS: u32 = 16;

/// Most ids of a pre-token with a slot.
const SLOT_IDS: usize = 3;

/// Longest pre-token that is remembered without a slot, in bytes, and most such pre-tokens.
const LONG_LEN: usize = 64;
const LONG_ENTRIES: usize = 1 << 16;

/// Ids by pre-token, within a few MiB.
#[derive(Debug)]
pub(super) struct Cache {
    slots: Vec<Slot>,
    long: FxHashMap<Box<[u8]>, Box<[u32]>>,
}

/// A short pre-token and its ids; without a pre-token the length of the key is 0.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    key: ShortKey,
    ids: [u32; SLOT_IDS],
    n_ids: u32,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Slot::default(); 1 << SLOT_BITS],
            long: FxHashMap::default(),
        }
    }

    /// Appends the ids of the short pre-token `key`, if they are remembered, and says so.
    #[inline]
    pub(super) fn append_short(&self, key: ShortKey, out: &mut Vec<u32>) -> bool {
        let slot = &self.slots[slot_idx(key)];
        if slot.key != key {
            return false;
        }
        // A copy of fixed length and a cut are quicker than a copy of few ids.
        let len = out.len() + slot.n_ids as usize;
        out.extend_from_slice(&slot.ids);
        out.truncate(len);
        true
    }

    /// Appends the ids of a pre-token without a slot, if they are remembered, and says so.
    pub(super) fn append_long(&self, pretoken: &[u8], out: &mut Vec<u32>) -> bool {
        if pretoken.len() > LONG_LEN {
            return false;
        }
        match self.long.get(pretoken) {
            Some(ids) => out.extend_from_slice(ids),
            None => return false,
        }
        true
    }

    /// Remembers the ids of a pre-token, if it is one of those that are kept.
    pub(super) fn insert(&mut self, pretoken: &[u8], ids: &[u32]) {
        if let Some(key) = ShortKey::new(pretoken, pretoken.len())
            && let Some(n_ids) = u32::try_from(ids.len())
                .ok()
                .filter(|_| ids.len() <= SLOT_IDS)
        {
            let slot = &mut self.slots[slot_idx(key)];
            slot.key = key;
            slot.ids[..ids.len()].copy_from_slice(ids);
            slot.n_ids = n_ids;
        } else if pretoken.len() <= LONG_LEN {
            if self.long.len() >= LONG_ENTRIES {
                self.long.clear();
            }
            self.long.insert(pretoken.into(), ids.into());
        }
    }
}

fn slot_idx(key: ShortKey) -> usize {
    (key.mixed() >> (u64::BITS - SLOT_BITS)) as usize
}
