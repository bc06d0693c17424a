//! Counts of neighbouring tokens while merges are learnt, kept up to date by each merge.

use std::collections::BinaryHeap;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::counts::Word;
use super::pieces::Pieces;
use super::{Merge, index};

/// Left and right token id.
type Pair = (u32, u32);

/// All distinct pre-tokens as they are merged so far, and the pairs in them.
pub(super) struct Pairs {
    pieces: Pieces,
    weights: Weights,
    stats: FxHashMap<Pair, PairStats>,
    /// Bytes of each token, by id.
    bytes: Vec<Rc<[u8]>>,
    /// Each pair with a count at or above its true one: counts fall without notice, and a pair
    /// whose count rises is pushed again.
    heap: BinaryHeap<Candidate>,
    n_merges: u64,
}

#[derive(Default)]
struct PairStats {
    count: i64,
    /// Rising places of the pair, and some where it no longer stands.
    places: Vec<u32>,
    /// Number of the last merge that made the count rise.
    risen_in: u64,
}

/// Ordered by count, then by the bytes of the left and of the right part.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    count: i64,
    left_bytes: Rc<[u8]>,
    right_bytes: Rc<[u8]>,
    pair: Pair,
}

/// How often the pre-token at a place occurs. The most frequent pre-tokens lie first, so that a
/// few steps tell it for all places.
struct Weights {
    /// Where the pre-tokens of each count start, rising.
    starts: Vec<u32>,
    counts: Vec<i64>,
}

impl Weights {
    fn at(&self, place: u32) -> i64 {
        let step = self.starts.partition_point(|&start| start <= place);
        self.counts[step - 1]
    }
}

impl Pairs {
    /// Takes each distinct pre-token, the most frequent first, and the bytes of each token by id;
    /// `byte_ids` are the ids of the tokens of one byte.
    ///
    /// `None` where the pre-tokens together have 4 GiB or more.
    pub(super) fn new(
        words: Vec<Word>,
        tokens: &[Box<[u8]>],
        byte_ids: &[u32; 256],
    ) -> Option<Self> {
        let n_places = words.iter().map(|word| word.len() + 1).sum::<usize>() + 1;
        u32::try_from(n_places).ok()?;
        let bytes: Vec<Rc<[u8]>> = tokens.iter().map(|token| Rc::from(&token[..])).collect();
        let lens = bytes.iter().map(|token| len_of(token)).collect();
        let mut pieces = Pieces::with_capacity(n_places, lens);
        let (mut starts, mut counts) = (Vec::new(), Vec::new());
        for word in words {
            let count = i64::try_from(word.count).expect("a text is shorter than 2^63 bytes");
            if counts.last() != Some(&count) {
                starts.push(u32::try_from(pieces.len()).ok()?);
                counts.push(count);
            }
            let id = |&byte: &u8| byte_ids[usize::from(byte)];
            word.with_bytes(|bytes| pieces.push(bytes.iter().map(id)));
        }
        let weights = Weights { starts, counts };
        let mut pairs = Self {
            stats: count_pairs(&pieces, &weights),
            pieces,
            weights,
            bytes,
            heap: BinaryHeap::new(),
            n_merges: 0,
        };
        let all: Vec<Pair> = pairs.stats.keys().copied().collect();
        for pair in all {
            pairs.push_candidate(pair);
        }
        Some(pairs)
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
            let bytes = self.joined_bytes(merge.left, merge.right);
            self.pieces.add_token(len_of(&bytes));
            self.bytes.push(bytes.into());
        }
        let pair = (merge.left, merge.right);
        let mut places = self.stats.remove(&pair).unwrap_or_default().places;
        // Out of order only where two merges make one token.
        if !places.is_sorted() {
            places.sort_unstable();
        }
        self.n_merges += 1;
        let this_merge = self.n_merges;
        let mut risen = Vec::new();
        let (stats, weights) = (&mut self.stats, &self.weights);
        // The merged pair itself is gone for good.
        let fall = |stats: &mut FxHashMap<Pair, PairStats>, fallen: Pair, count: i64| {
            if fallen != pair {
                let entry = stats.entry(fallen).or_default();
                entry.count -= count;
                if entry.count == 0 {
                    entry.places.clear();
                }
            }
        };
        let mut rise = |stats: &mut FxHashMap<Pair, PairStats>, pair: Pair, count: i64, at: u32| {
            let entry = stats.entry(pair).or_default();
            entry.count += count;
            entry.places.push(at);
            if entry.risen_in != this_merge {
                entry.risen_in = this_merge;
                risen.push(pair);
            }
        };
        self.pieces.merge(merge, &places, |merged| {
            let count = weights.at(merged.at);
            if let Some((before, start)) = merged.before {
                fall(stats, (before, merge.left), count);
                rise(stats, (before, merge.product), count, start);
            }
            if let Some(after) = merged.after {
                fall(stats, (merge.right, after), count);
                rise(stats, (merge.product, after), count, merged.at);
            }
        });
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

/// The pairs of single bytes. Lists get their exact length, since they are most of the memory;
/// pairs of so few tokens are counted in a table.
fn count_pairs(pieces: &Pieces, weights: &Weights) -> FxHashMap<Pair, PairStats> {
    let ids = pieces.byte_pairs().flat_map(|(_, pair)| pair);
    let n_ids = ids.max().map_or(0, |highest| index(highest) + 1);
    let cell = |[left, right]: [u32; 2]| index(left) * n_ids + index(right);
    let mut lens = vec![0; n_ids * n_ids];
    for (_, pair) in pieces.byte_pairs() {
        lens[cell(pair)] += 1;
    }
    let with_room = |len: &usize| PairStats {
        places: Vec::with_capacity(*len),
        ..PairStats::default()
    };
    let mut table: Vec<PairStats> = lens.iter().map(with_room).collect();
    for (at, pair) in pieces.byte_pairs() {
        let stats = &mut table[cell(pair)];
        stats.count += weights.at(at);
        stats.places.push(at);
    }
    let id = |at: usize| u32::try_from(at).expect("ids are u32");
    let found = table.into_iter().enumerate();
    found
        .filter(|(_, stats)| stats.count > 0)
        .map(|(cell, stats)| ((id(cell / n_ids), id(cell % n_ids)), stats))
        .collect()
}

fn len_of(token: &[u8]) -> u32 {
    u32::try_from(token.len()).expect("a token is a part of a pre-token, which is below 4 GiB")
}
