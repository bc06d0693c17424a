//! Text to ids: pre-tokens are merged by rank, and remembered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::pretokenize::pretokens;
use super::specials::Part;
use super::{Tokenizer, index};

/// Pre-tokens that an encoder remembers at most, and their longest length in bytes: together
/// they bound its memory to some hundred MiB.
const CACHE_ENTRIES: usize = 1 << 20;
const CACHED_LEN: usize = 64;

/// From this many bytes on a heap finds the next merge sooner than a scan over all pairs.
const HEAP_LEN: usize = 128;

/// Rank of a pair that is not merged.
const NO_RANK: u32 = u32::MAX;

/// Encodes texts one after another on one thread.
#[derive(Debug)]
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Where in `cached_ids` the ids of a pre-token are.
    cache: FxHashMap<Box<str>, Range<usize>>,
    cached_ids: Vec<u32>,
}

impl<'t> Encoder<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            cache: FxHashMap::default(),
            cached_ids: Vec::new(),
        }
    }

    /// Appends the ids of `text` to `out`; special tokens are recognised, the longest wins.
    pub fn encode(&mut self, text: &str, out: &mut Vec<u32>) {
        let tokenizer = self.tokenizer;
        for part in tokenizer.specials.parts(text) {
            match part {
                Part::Special { id, .. } => out.push(id),
                Part::Text(text) => {
                    for pretoken in pretokens(text) {
                        self.encode_pretoken(pretoken, out);
                    }
                }
            }
        }
    }

    fn encode_pretoken(&mut self, pretoken: &str, out: &mut Vec<u32>) {
        if let Some(range) = self.cache.get(pretoken) {
            out.extend_from_slice(&self.cached_ids[range.clone()]);
            return;
        }
        let ids = merge(self.tokenizer, pretoken.as_bytes());
        out.extend_from_slice(&ids);
        if pretoken.len() <= CACHED_LEN && self.cache.len() < CACHE_ENTRIES {
            let start = self.cached_ids.len();
            self.cached_ids.extend_from_slice(&ids);
            self.cache
                .insert(pretoken.into(), start..self.cached_ids.len());
        }
    }
}

/// The ids of `text`, a block a chunk of about `chunk_len` bytes.
pub(super) fn blocks<'t>(
    tokenizer: &'t Tokenizer,
    text: &'t str,
    chunk_len: usize,
) -> impl Iterator<Item = Vec<u32>> {
    // Encoders go back to this pool, so that each chunk meets a cache that is warm.
    let pool = Mutex::new(Vec::new());
    let encode_chunk = move |chunk: &&str| {
        let idle = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut encoder = idle.unwrap_or_else(|| tokenizer.encoder());
        let mut ids = Vec::with_capacity(chunk.len() / 3);
        encoder.encode(chunk, &mut ids);
        pool.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(encoder);
        ids
    };
    let mut chunks = tokenizer.specials.chunks(text, chunk_len);
    let batch_len = 4 * rayon::current_num_threads();
    let batches = std::iter::from_fn(move || {
        let batch: Vec<&str> = chunks.by_ref().take(batch_len).collect();
        (!batch.is_empty()).then_some(batch)
    });
    batches.flat_map(move |batch| batch.par_iter().map(&encode_chunk).collect::<Vec<_>>())
}

/// The ids of one pre-token: of all neighbours the pair of lowest rank is joined, the leftmost
/// first, until none has a rank.
fn merge(tokenizer: &Tokenizer, pretoken: &[u8]) -> Vec<u32> {
    let ids = pretoken
        .iter()
        .map(|&byte| tokenizer.byte_ids[usize::from(byte)])
        .collect();
    if pretoken.len() < HEAP_LEN {
        merge_by_scan(tokenizer, ids)
    } else {
        merge_by_heap(tokenizer, ids)
    }
}

fn rank(tokenizer: &Tokenizer, left: u32, right: u32) -> u32 {
    tokenizer
        .ranks
        .get(&(left, right))
        .copied()
        .unwrap_or(NO_RANK)
}

fn product(tokenizer: &Tokenizer, rank: u32) -> u32 {
    tokenizer.merges[index(rank)].product
}

/// Quadratic in the length, and the fastest for short pre-tokens.
fn merge_by_scan(tokenizer: &Tokenizer, mut ids: Vec<u32>) -> Vec<u32> {
    let mut ranks: Vec<u32> = ids
        .windows(2)
        .map(|pair| rank(tokenizer, pair[0], pair[1]))
        .collect();
    loop {
        let lowest = ranks
            .iter()
            .enumerate()
            .min_by_key(|&(at, &rank)| (rank, at));
        let Some((at, &lowest)) = lowest.filter(|&(_, &rank)| rank != NO_RANK) else {
            return ids;
        };
        ids[at] = product(tokenizer, lowest);
        ids.remove(at + 1);
        ranks.remove(at);
        if at > 0 {
            ranks[at - 1] = rank(tokenizer, ids[at - 1], ids[at]);
        }
        if at < ranks.len() {
            ranks[at] = rank(tokenizer, ids[at], ids[at + 1]);
        }
    }
}

/// The same in n log n time, for pre-tokens without an end such as a megabyte of one letter.
fn merge_by_heap(tokenizer: &Tokenizer, mut ids: Vec<u32>) -> Vec<u32> {
    let end = ids.len();
    let mut before: Vec<usize> = (0..end).map(|at| at.saturating_sub(1)).collect();
    let mut after: Vec<usize> = (1..=end).collect();
    let mut alive = vec![true; end];
    // Entries go stale when a neighbour changes: then the rank is no longer that of the pair.
    let mut heap: BinaryHeap<Reverse<(u32, usize)>> = ids
        .windows(2)
        .enumerate()
        .map(|(at, pair)| Reverse((rank(tokenizer, pair[0], pair[1]), at)))
        .filter(|entry| entry.0.0 != NO_RANK)
        .collect();
    while let Some(Reverse((lowest, at))) = heap.pop() {
        let next = after[at];
        if !alive[at] || next == end || rank(tokenizer, ids[at], ids[next]) != lowest {
            continue;
        }
        ids[at] = product(tokenizer, lowest);
        alive[next] = false;
        after[at] = after[next];
        if after[at] < end {
            before[after[at]] = at;
        }
        for left in [before[at], at] {
            let right = after[left];
            if right < end && left < right {
                let rank = rank(tokenizer, ids[left], ids[right]);
                if rank != NO_RANK {
                    heap.push(Reverse((rank, left)));
                }
            }
        }
    }
    let alive = alive.into_iter();
    ids.into_iter()
        .zip(alive)
        .filter_map(|(id, alive)| alive.then_some(id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::train::{TrainOptions, train};
    use super::*;

    #[test]
    fn heap_and_scan_merge_alike() {
        let corpus = "aaaa abab abcabc bca aab aaaaaaaab ccc cacb bb aaaabaaaa";
        let options = TrainOptions {
            vocab_size: 290,
            special_tokens: Vec::new(),
        };
        let tokenizer = train(&[corpus], &options).unwrap();
        proptest::proptest!(|(text in "[abc]{0,200}")| {
            let ids: Vec<u32> =
                text.bytes().map(|byte| tokenizer.byte_ids[usize::from(byte)]).collect();
            let scanned = merge_by_scan(&tokenizer, ids.clone());
            proptest::prop_assert_eq!(merge_by_heap(&tokenizer, ids), scanned);
        });
    }

    #[test]
    fn blocks_do_not_depend_on_the_chunks() {
        let text = "a cat, the cat <|e|>and  the\n\nmat<|e|><|e|> ".repeat(20);
        let options = TrainOptions {
            vocab_size: 280,
            special_tokens: vec!["<|e|>".to_owned()],
        };
        let tokenizer = train(&[&text], &options).unwrap();
        let whole: Vec<u32> = blocks(&tokenizer, &text, usize::MAX / 2)
            .flatten()
            .collect();
        for chunk_len in [1, 2, 13, 100] {
            let cut: Vec<u32> = blocks(&tokenizer, &text, chunk_len).flatten().collect();
            assert_eq!(cut, whole, "chunks of {chunk_len} bytes");
        }
    }
}
