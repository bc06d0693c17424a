//! Pre-tokens as tokens in one flat array, in which any number of pairs is merged in time
//! proportional to that number.
//!
//! The array has a place for every byte. A token's id stands at its first and at its last place,
//! so that both neighbours of a token are found by their lengths, without links.

use super::{Merge, index};

/// Stands around every pre-token.
const GAP: u32 = u32::MAX;

/// Stands at the places inside of a token.
const INNER: u32 = u32::MAX - 1;

/// Pre-tokens, merged as far as they are.
pub(super) struct Pieces {
    ids: Vec<u32>,
    /// Length in bytes of each token, by id.
    lens: Vec<u32>,
}

/// The neighbours of a pair that was merged.
pub(super) struct Merged {
    /// Where the pair starts.
    pub(super) at: u32,
    /// The token before it in the pre-token, and where that starts.
    pub(super) before: Option<(u32, u32)>,
    /// The token after it in the pre-token.
    pub(super) after: Option<u32>,
}

impl Pieces {
    /// Without pre-tokens, with room for `len` bytes; the length of each token is `lens[id]`.
    pub(super) fn with_capacity(len: usize, lens: Vec<u32>) -> Self {
        let mut ids = Vec::with_capacity(len + 1);
        ids.push(GAP);
        Self { ids, lens }
    }

    /// Appends a pre-token, given the token of each of its bytes.
    pub(super) fn push(&mut self, ids: impl Iterator<Item = u32>) {
        self.ids.extend(ids);
        self.ids.push(GAP);
    }

    /// Makes known a token of `len` bytes, whose id is the next one.
    pub(super) fn add_token(&mut self, len: u32) {
        self.lens.push(len);
    }

    /// Number of places, which bounds those of all tokens.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Each place where two single bytes stand side by side, with their tokens, in order; called
    /// before the first merge.
    pub(super) fn byte_pairs(&self) -> impl Iterator<Item = (u32, [u32; 2])> {
        (0..)
            .zip(self.ids.array_windows::<2>().copied())
            .filter(|(_, pair)| !pair.contains(&GAP))
    }

    /// Merges a pair at each of the rising `places` where it still stands, and reports what is
    /// beside it, as it was before that merge.
    ///
    /// A place may be out of date. Tokens only grow, so a token that once started at a place and
    /// has grown never has its old id there again.
    pub(super) fn merge(&mut self, merge: Merge, places: &[u32], mut merged: impl FnMut(Merged)) {
        let len = |id: u32| index(self.lens[index(id)]);
        let (left_len, both_len) = (len(merge.left), len(merge.left) + len(merge.right));
        for &at in places {
            let start = index(at);
            let (middle, end) = (start + left_len, start + both_len);
            if self.ids[start] != merge.left || self.ids[middle] != merge.right {
                continue;
            }
            let token = |id: u32| (id != GAP).then_some(id);
            merged(Merged {
                at,
                before: token(self.ids[start - 1]).map(|id| (id, at - self.lens[index(id)])),
                after: token(self.ids[end]),
            });
            self.ids[middle - 1] = INNER;
            self.ids[middle] = INNER;
            self.ids[start] = merge.product;
            self.ids[end - 1] = merge.product;
        }
    }

    /// The tokens of all pre-tokens, in order.
    pub(super) fn tokens(&self) -> impl Iterator<Item = u32> {
        let mut at = 1;
        std::iter::from_fn(move || {
            while *self.ids.get(at)? == GAP {
                at += 1;
            }
            let id = self.ids[at];
            at += index(self.lens[index(id)]);
            Some(id)
        })
    }
}
