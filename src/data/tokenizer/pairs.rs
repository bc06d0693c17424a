//! Counts of neighbouring tokens while merges are learnt, kept up to date by each merge.

use std::collections::BinaryHeap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::{Merge, index};

/// Left and right token id.
type Pair = (u32, u32);

/// All distinct pre-tokens as they are merged so far, and the pairs in them.
pub(super) struct Pairs {
    words: Vec<Word>,
    stats: FxHashMap<Pair, PairStats>,
    /// Bytes of each token, by id.
    bytes: Vec<Rc<[u8]>>,
    /// Each pair with a count at or above its true one: counts fall without notice, and a pair
    /// whose count rises is pushed again.
    heap: BinaryHeap<Candidate>,
}

struct Word {
    ids: Vec<u32>,
    count: i64,
}

#[derive(Default)]
struct PairStats {
    count: i64,
    /// Indices of all words with the pair, and of some that have lost it.
    words: Vec<u32>,
}

/// Ordered by count, then by the bytes of the left and of the right part.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    count: i64,
    left_bytes: Rc<[u8]>,
    right_bytes: Rc<[u8]>,
    pair: Pair,
}

impl Pairs {
    /// Takes each distinct pre-token's ids and count, and the bytes of each token by id.
    pub(super) fn new(words: Vec<(Vec<u32>, u64)>, tokens: &[Box<[u8]>]) -> Self {
        let words = words.into_iter().map(|(ids, count)| {
            let count = i64::try_from(count).expect("a text is shorter than 2^63 bytes");
            Word { ids, count }
        });
        let mut pairs = Self {
            words: words.collect(),
            stats: FxHashMap::default(),
            bytes: tokens.iter().map(|token| Rc::from(&token[..])).collect(),
            heap: BinaryHeap::new(),
        };
        for (word_idx, word) in (0..).zip(&pairs.words) {
            for pair in word.ids.windows(2) {
                let stats = pairs.stats.entry((pair[0], pair[1])).or_default();
                stats.add(word.count, word_idx);
            }
        }
        let all: Vec<Pair> = pairs.stats.keys().copied().collect();
        for pair in all {
            pairs.push_candidate(pair);
        }
        pairs
    }

    /// Takes out the most frequent pair, or `None` where no pair is left.
    pub(super) fn pop_most_frequent(&mut self) -> Option<Pair> {
        while let Some(mut candidate) = self.heap.pop() {
            let count = self
                .stats
                .get(&candidate.pair)
                .map_or(0, |stats| stats.count);
            if count == 0 {
                self.stats.remove(&candidate.pair);
            } else if count == candidate.count {
                return Some(candidate.pair);
            } else {
                candidate.count = count;
                self.heap.push(candidate);
            }
        }
        None
    }

    /// The bytes of the token that a pair makes.
    pub(super) fn joined_bytes(&self, left: u32, right: u32) -> Vec<u8> {
        [&self.bytes_of(left)[..], self.bytes_of(right)].concat()
    }

    /// Merges a pair in all words, and counts anew the pairs beside it.
    pub(super) fn apply(&mut self, merge: Merge) {
        if index(merge.product) == self.bytes.len() {
            self.bytes
                .push(self.joined_bytes(merge.left, merge.right).into());
        }
        let pair = (merge.left, merge.right);
        let word_idxs = self.stats.remove(&pair).unwrap_or_default().words;
        let mut risen = Vec::new();
        for word_idx in word_idxs {
            let word = &mut self.words[index(word_idx)];
            let count = word.count;
            word.merge(merge, |changed, sign| {
                // The merged pair itself is gone for good.
                if changed == pair {
                    return;
                }
                let stats = self.stats.entry(changed).or_default();
                stats.add(sign * count, word_idx);
                if sign > 0 {
                    risen.push(changed);
                }
            });
        }
        risen.sort_unstable();
        risen.dedup();
        for pair in risen {
            self.push_candidate(pair);
        }
    }

    fn push_candidate(&mut self, pair: Pair) {
        let count = self.stats[&pair].count;
        let left_bytes = Rc::clone(self.bytes_of(pair.0));
        let right_bytes = Rc::clone(self.bytes_of(pair.1));
        self.heap.push(Candidate {
            count,
            left_bytes,
            right_bytes,
            pair,
        });
    }

    fn bytes_of(&self, id: u32) -> &Rc<[u8]> {
        &self.bytes[index(id)]
    }
}

impl PairStats {
    fn add(&mut self, count: i64, word_idx: u32) {
        self.count += count;
        if count > 0 && self.words.last() != Some(&word_idx) {
            self.words.push(word_idx);
        }
    }
}

impl Word {
    /// Merges each occurrence, the leftmost first, and reports the pairs beside it that go (-1)
    /// and come (+1).
    fn merge(&mut self, merge: Merge, mut change: impl FnMut(Pair, i64)) {
        let ids = &mut self.ids;
        let mut kept = 0;
        let mut at = 0;
        while at < ids.len() {
            let is_match = ids[at] == merge.left && ids.get(at + 1) == Some(&merge.right);
            if !is_match {
                ids[kept] = ids[at];
                kept += 1;
                at += 1;
                continue;
            }
            if kept > 0 {
                change((ids[kept - 1], merge.left), -1);
                change((ids[kept - 1], merge.product), 1);
            }
            if let Some(&next) = ids.get(at + 2) {
                change((merge.right, next), -1);
                change((merge.product, next), 1);
            }
            ids[kept] = merge.product;
            kept += 1;
            at += 2;
        }
        ids.truncate(kept);
    }
}
