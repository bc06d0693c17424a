//! What is in a token file, gathered in one pass on all cores.

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::npy::{NpyError, TokenFile};

/// Ids that a core looks at at a time.
const BLOCK_LEN: usize = 1 << 20;

/// The tokens and documents of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenStats {
    /// Distinct ids and how often each occurs, the commonest first and equals by id.
    pub counts: Vec<(u32, u64)>,
    /// Lengths of the documents in tokens, without the end-of-text token that ends them.
    pub documents: Lengths,
}

/// Lengths of documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Number of documents.
    pub n: u64,
    /// Sum of the lengths.
    pub total: u64,
    /// The shortest one.
    pub shortest: u64,
    /// The longest one.
    pub longest: u64,
}

impl Lengths {
    fn add(&mut self, len: u64) {
        self.shortest = if self.n == 0 {
            len
        } else {
            self.shortest.min(len)
        };
        self.longest = self.longest.max(len);
        self.total += len;
        self.n += 1;
    }
}

impl TokenStats {
    /// Looks at all ids of a file, in which `end_of_text` ends documents; without such a token the
    /// file is one document.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn of(file: &TokenFile, end_of_text: Option<u32>) -> Result<Self, NpyError> {
        let starts: Vec<usize> = (0..file.len()).step_by(BLOCK_LEN).collect();
        let blocks = starts.par_iter().map(|&start| {
            let ids = file.get(start..file.len().min(start + BLOCK_LEN))?;
            let mut counts: FxHashMap<u32, u64> = FxHashMap::default();
            let mut ends = Vec::new();
            for (position, id) in (start as u64..).zip(ids) {
                *counts.entry(id).or_default() += 1;
                if Some(id) == end_of_text {
                    ends.push(position);
                }
            }
            Ok((counts, ends))
        });
        let merge = |(mut counts, mut ends): (FxHashMap<u32, u64>, Vec<u64>), (others, more)| {
            let others: FxHashMap<u32, u64> = others;
            let more: Vec<u64> = more;
            others
                .into_iter()
                .for_each(|(id, count)| *counts.entry(id).or_default() += count);
            ends.extend(more);
            Ok((counts, ends))
        };
        let (counts, ends) = blocks.try_reduce(Default::default, merge)?;
        let mut counts: Vec<(u32, u64)> = counts.into_iter().collect();
        counts.sort_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
        let mut documents = Lengths::default();
        let mut start = 0;
        for end in ends {
            documents.add(end - start);
            start = end + 1;
        }
        if start < file.len() as u64 {
            documents.add(file.len() as u64 - start);
        }
        Ok(Self { counts, documents })
    }
}
