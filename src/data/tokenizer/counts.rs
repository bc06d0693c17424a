//! How often each pre-token occurs, counted by any number of threads.

use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::finder::Part;
use super::short_key::ShortKey;
use super::specials::Specials;
use super::split::gpt2_len;

/// Distinct pre-tokens that a thread counts by itself before it hands them over: the bound of a
/// thread's memory, some 50 MB.
const LOCAL_LEN: usize = 1 << 20;

/// Parts of the common counts, each with a lock of its own.
const N_SHARDS: usize = 16;

/// Counts of one thread, or a part of the common ones.
#[derive(Debug, Default)]
struct Counts {
    short: FxHashMap<ShortKey, u64>,
    long: FxHashMap<Box<[u8]>, u64>,
}

impl Counts {
    fn len(&self) -> usize {
        self.short.len() + self.long.len()
    }

    /// Counts the pre-tokens of a text without special tokens; GPT-2's are what is learnt from.
    fn add_text(&mut self, text: &[u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            let len = gpt2_len(rest);
            match ShortKey::new(rest, len) {
                Some(key) => *self.short.entry(key).or_default() += 1,
                None => self.add_long(&rest[..len], 1),
            }
            rest = &rest[len..];
        }
    }

    fn add_long(&mut self, pretoken: &[u8], count: u64) {
        match self.long.get_mut(pretoken) {
            Some(known) => *known += count,
            None => {
                self.long.insert(pretoken.into(), count);
            }
        }
    }
}

/// The counts of all threads, whose memory grows with the number of distinct pre-tokens.
#[derive(Debug)]
pub(super) struct SharedCounts {
    shards: Vec<Mutex<Counts>>,
    /// Counts of threads that are not counting now.
    locals: Mutex<Vec<Counts>>,
}

impl SharedCounts {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..N_SHARDS).map(|_| Mutex::default()).collect(),
            locals: Mutex::default(),
        }
    }

    /// Counts the pre-tokens of a text.
    pub(super) fn add(&self, text: &str, specials: &Specials) {
        let mut local = lock(&self.locals).pop().unwrap_or_default();
        for part in specials.parts(text.as_bytes()) {
            if let Part::Text(text) = part {
                local.add_text(text);
            }
        }
        if local.len() > LOCAL_LEN {
            self.hand_over(&mut local);
        }
        lock(&self.locals).push(local);
    }

    /// All pre-tokens and their counts, the most frequent first.
    pub(super) fn into_words(self) -> Vec<Word> {
        for mut local in std::mem::take(&mut *lock(&self.locals)) {
            self.hand_over(&mut local);
        }
        let mut words = Vec::with_capacity(self.shards.iter().map(|shard| lock(shard).len()).sum());
        for shard in self.shards {
            let Counts { short, long } = shard.into_inner().unwrap_or_else(PoisonError::into_inner);
            words.extend(short.into_iter().map(|(key, count)| Word {
                bytes: WordBytes::Short(key),
                count,
            }));
            words.extend(long.into_iter().map(|(bytes, count)| Word {
                bytes: WordBytes::Long(bytes),
                count,
            }));
        }
        words.sort_unstable_by_key(|word| std::cmp::Reverse(word.count));
        words
    }

    /// Adds a thread's counts to the common ones and empties them, one shard after the other so
    /// that threads seldom wait for each other.
    fn hand_over(&self, local: &mut Counts) {
        let shard_of = |hash: u64| (hash >> 60) as usize % N_SHARDS;
        for (shard_idx, shard) in self.shards.iter().enumerate() {
            let mut shard = lock(shard);
            local
                .short
                .iter()
                .filter(|(key, _)| shard_of(key.mixed()) == shard_idx)
                .for_each(|(key, count)| *shard.short.entry(*key).or_default() += count);
            local
                .long
                .iter()
                .filter(|(bytes, _)| shard_of(FxBuildHasher.hash_one(bytes)) == shard_idx)
                .for_each(|(bytes, &count)| shard.add_long(bytes, count));
        }
        local.short.clear();
        local.long.clear();
    }
}

/// A distinct pre-token.
pub(super) struct Word {
    bytes: WordBytes,
    pub(super) count: u64,
}

enum WordBytes {
    Short(ShortKey),
    Long(Box<[u8]>),
}

impl Word {
    /// The pre-token, through `use_bytes`, since a short one is put together on demand.
    pub(super) fn with_bytes<T>(&self, use_bytes: impl FnOnce(&[u8]) -> T) -> T {
        match &self.bytes {
            WordBytes::Short(key) => use_bytes(&key.bytes()[..key.len()]),
            WordBytes::Long(bytes) => use_bytes(bytes),
        }
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> usize {
        match &self.bytes {
            WordBytes::Short(key) => key.len(),
            WordBytes::Long(bytes) => bytes.len(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn count(chunks: &[&str], specials: &Specials) -> BTreeMap<Vec<u8>, u64> {
        let counts = SharedCounts::new();
        for chunk in chunks {
            counts.add(chunk, specials);
            // As a thread does that has counted more than it may hold.
            let mut local = lock(&counts.locals).pop().unwrap();
            counts.hand_over(&mut local);
        }
        let words = counts.into_words();
        assert!(words.is_sorted_by(|a, b| a.count >= b.count));
        let entry = |word: &Word| (word.with_bytes(<[u8]>::to_vec), word.count);
        words.iter().map(entry).collect()
    }

    #[test]
    fn counts_do_not_depend_on_the_chunks() {
        let text = "the cat <|endoftext|>sat  on\n\nthe incomprehensibilities; the<|endoftext|>";
        let text = text.repeat(20);
        let specials = Specials::new(&[(0, "<|endoftext|>".to_owned())]);
        let whole = count(&[&text], &specials);
        for (word, wanted) in [
            (" sat", 0),
            ("sat", 20),
            ("the", 40),
            (" incomprehensibilities", 20),
        ] {
            let found = whole.get(word.as_bytes()).copied().unwrap_or(0);
            assert_eq!(found, wanted, "{word:?}");
        }
        assert!(!whole.contains_key(&b"<|"[..]));
        for chunk_len in [1, 2, 17, 100, text.len()] {
            let chunks: Vec<&str> = specials.chunks(&text, chunk_len).collect();
            assert_eq!(count(&chunks, &specials), whole, "chunks of {chunk_len}");
        }
    }
}
