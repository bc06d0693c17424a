//! The ids of one pre-token: pairs of neighbours are joined by rank.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::pieces::Pieces;
use super::{NO_TOKEN, Tokenizer, index};

/// From this many bytes on a heap finds the next merge sooner than a scan over all pairs.
const HEAP_LEN: usize = 128;

/// From this many bytes on all pairs of one rank are merged before the next rank.
const SWEEP_LEN: usize = 1 << 16;

/// Rank of a pair that is not merged.
const NO_RANK: u32 = u32::MAX;

/// Room for the work on one pre-token, kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The tokens, and in the end the ids of the pre-token.
    ids: Vec<u32>,
    /// The rank of each token with the next one.
    ranks: Vec<u32>,
}

/// The ids of one pre-token: of all neighbours the pair of lowest rank is joined, the leftmost
/// first, until none has a rank. Bytes without a token are left out first, as Hugging Face's
/// tokenizers do.
pub(super) fn merge<'s>(
    tokenizer: &Tokenizer,
    pretoken: &[u8],
    scratch: &'s mut Scratch,
) -> &'s [u32] {
    let ids = pretoken
        .iter()
        .map(|&byte| tokenizer.byte_ids[usize::from(byte)])
        .filter(|&id| id != NO_TOKEN);
    scratch.ids.clear();
    match pretoken.len() {
        ..HEAP_LEN => {
            scratch.ids.extend(ids);
            merge_by_scan(tokenizer, scratch);
        }
        SWEEP_LEN.. if tokenizer.merges_rise && u32::try_from(pretoken.len() + 2).is_ok() => {
            scratch.ids = merge_by_sweep(tokenizer, ids, pretoken.len());
        }
        _ => scratch.ids = merge_by_heap(tokenizer, ids.collect()),
    }
    &scratch.ids
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
fn merge_by_scan(tokenizer: &Tokenizer, scratch: &mut Scratch) {
    let Scratch { ids, ranks } = scratch;
    ranks.clear();
    let pairs = ids.array_windows::<2>();
    ranks.extend(pairs.map(|&[left, right]| rank(tokenizer, left, right)));
    loop {
        let lowest = ranks
            .iter()
            .enumerate()
            .min_by_key(|&(at, &rank)| (rank, at));
        let Some((at, &lowest)) = lowest.filter(|&(_, &rank)| rank != NO_RANK) else {
            return;
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

/// The same in n log n time.
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

/// The same in linear time, for pre-tokens without an end such as a hundred megabytes of one
/// letter: each rank in turn, in which no merge makes a pair of a lower rank. There are up to
/// `most` ids.
fn merge_by_sweep(tokenizer: &Tokenizer, ids: impl Iterator<Item = u32>, most: usize) -> Vec<u32> {
    let token_len = |token: &[u8]| u32::try_from(token.len()).unwrap_or(u32::MAX);
    let lens = tokenizer.tokens.iter().map(|token| token_len(token));
    let mut pieces = Pieces::with_capacity(most + 1, lens.collect());
    pieces.push(ids);
    let mut places: Vec<Vec<u32>> = vec![Vec::new(); tokenizer.merges.len()];
    for (at, [left, right]) in pieces.byte_pairs() {
        if let Some(places) = places.get_mut(index(rank(tokenizer, left, right))) {
            places.push(at);
        }
    }
    for (this_rank, &merge) in tokenizer.merges.iter().enumerate() {
        let mut now = std::mem::take(&mut places[this_rank]);
        if !now.is_sorted() {
            now.sort_unstable();
        }
        let mut add = |left: u32, right: u32, at: u32| {
            if let Some(places) = places.get_mut(index(rank(tokenizer, left, right))) {
                places.push(at);
            }
        };
        pieces.merge(merge, &now, |merged| {
            if let Some((before, start)) = merged.before {
                add(before, merge.product, start);
            }
            if let Some(after) = merged.after {
                add(merge.product, after, merged.at);
            }
        });
    }
    pieces.tokens().collect()
}

#[cfg(test)]
mod tests {
    use super::super::train::{TrainOptions, train};
    use super::*;

    #[test]
    fn scan_heap_and_sweep_merge_alike() {
        let corpus = "aaaa abab abcabc bca aab aaaaaaaab ccc cacb bb aaaabaaaa";
        let options = TrainOptions {
            vocab_size: 290,
            ..TrainOptions::default()
        };
        let tokenizer = train(&[corpus], &options).unwrap();
        assert!(tokenizer.merges_rise && tokenizer.n_merges() > 20);
        proptest::proptest!(|(text in "[abc]{0,200}")| {
            let ids: Vec<u32> =
                text.bytes().map(|byte| tokenizer.byte_ids[usize::from(byte)]).collect();
            let mut scratch = Scratch { ids: ids.clone(), ..Scratch::default() };
            merge_by_scan(&tokenizer, &mut scratch);
            proptest::prop_assert_eq!(&merge_by_heap(&tokenizer, ids.clone()), &scratch.ids);
            proptest::prop_assert_eq!(&merge_by_sweep(&tokenizer, ids.into_iter(), text.len()), &scratch.ids);
        });
    }
}
