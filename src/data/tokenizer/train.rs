//! Learns a vocabulary: the most frequent pair of tokens is merged, again and again.

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::alphabet;
use super::pairs::Pairs;
use super::pretokenize::pretokens;
use super::specials::{Part, Specials};
use super::{CHUNK_LEN, MIN_LEARNT, Merge, Tokenizer, TokenizerError};

/// What to learn.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Number of tokens wanted: 256 bytes, the special tokens, and one a merge.
    pub vocab_size: usize,
    /// Tokens that are never merged, and at which texts are split; they get the first ids.
    pub special_tokens: Vec<String>,
}

/// Learns a tokenizer from texts, each a document of its own.
///
/// Ids are given to the special tokens in order, then to the bytes in GPT-2's order, then to the
/// merges. Of all pairs the most frequent is merged; of equally frequent ones the pair whose left
/// part, then right part, is the greatest as a string of bytes. The result depends on nothing
/// else, such as the number of threads. Where no pair is left before `vocab_size` is reached, the
/// vocabulary is smaller, and a warning says so.
///
/// # Errors
///
/// If `vocab_size` cannot hold the bytes and special tokens, or if a special token is empty,
/// given twice, or written like another token.
pub fn train(texts: &[&str], options: &TrainOptions) -> Result<Tokenizer, TokenizerError> {
    let least = MIN_LEARNT + options.special_tokens.len();
    if options.vocab_size < least || u32::try_from(options.vocab_size).is_err() {
        return Err(TokenizerError::VocabSize {
            requested: options.vocab_size,
            least,
        });
    }
    check_special_tokens(&options.special_tokens)?;
    let specials: Vec<(u32, String)> = (0..).zip(options.special_tokens.iter().cloned()).collect();
    let counts = count_pretokens(texts, &Specials::new(&specials), CHUNK_LEN);

    let mut vocabulary = Vocabulary::new(&options.special_tokens);
    let merges = learn_merges(&mut vocabulary, &counts, options.vocab_size);
    check_written_apart(&options.special_tokens, &vocabulary)?;
    if vocabulary.tokens.len() < options.vocab_size {
        tracing::warn!(
            "the text has no pair left to merge: {} tokens instead of {}",
            vocabulary.tokens.len(),
            options.vocab_size
        );
    }
    Ok(Tokenizer::from_parts(vocabulary.tokens, merges, &specials))
}

/// The tokens learnt so far.
struct Vocabulary {
    tokens: Vec<Box<[u8]>>,
    /// Ids of the bytes and products.
    ids: FxHashMap<Box<[u8]>, u32>,
}

impl Vocabulary {
    fn new(special_tokens: &[String]) -> Self {
        let mut vocabulary = Self {
            tokens: Vec::new(),
            ids: FxHashMap::default(),
        };
        for token in special_tokens {
            vocabulary.tokens.push(token.as_bytes().into());
        }
        for byte in alphabet::byte_order() {
            vocabulary.id_of(&[byte]);
        }
        vocabulary
    }

    /// The id of the token with these bytes, which is new unless another pair made it before.
    fn id_of(&mut self, bytes: &[u8]) -> u32 {
        if let Some(&id) = self.ids.get(bytes) {
            return id;
        }
        let id = u32::try_from(self.tokens.len()).expect("the vocabulary size is a u32");
        self.tokens.push(bytes.into());
        self.ids.insert(bytes.into(), id);
        id
    }
}

fn learn_merges(
    vocabulary: &mut Vocabulary,
    counts: &FxHashMap<&str, u64>,
    vocab_size: usize,
) -> Vec<Merge> {
    let words = counts.iter().map(|(pretoken, &count)| {
        let ids = pretoken.bytes().map(|byte| vocabulary.ids[&[byte][..]]);
        (ids.collect(), count)
    });
    let mut pairs = Pairs::new(words.collect(), &vocabulary.tokens);
    let mut merges = Vec::new();
    while vocabulary.tokens.len() < vocab_size {
        let Some((left, right)) = pairs.pop_most_frequent() else {
            break;
        };
        let product = vocabulary.id_of(&pairs.joined_bytes(left, right));
        let merge = Merge {
            left,
            right,
            product,
        };
        pairs.apply(merge);
        merges.push(merge);
    }
    merges
}

/// How often each pre-token occurs, counted over chunks on all cores.
fn count_pretokens<'t>(
    texts: &[&'t str],
    specials: &Specials,
    chunk_len: usize,
) -> FxHashMap<&'t str, u64> {
    let chunks = texts
        .iter()
        .flat_map(|text| specials.chunks(text, chunk_len));
    let count_chunk = |mut counts: FxHashMap<&'t str, u64>, chunk: &'t str| {
        for part in specials.parts(chunk) {
            let Part::Text(text) = part else { continue };
            for pretoken in pretokens(text) {
                *counts.entry(pretoken).or_default() += 1;
            }
        }
        counts
    };
    chunks
        .par_bridge()
        .fold(FxHashMap::default, count_chunk)
        .reduce(FxHashMap::default, add_counts)
}

fn add_counts<'t>(
    mut counts: FxHashMap<&'t str, u64>,
    other: FxHashMap<&'t str, u64>,
) -> FxHashMap<&'t str, u64> {
    if counts.len() < other.len() {
        return add_counts(other, counts);
    }
    other
        .into_iter()
        .for_each(|(pretoken, count)| *counts.entry(pretoken).or_default() += count);
    counts
}

fn check_special_tokens(special_tokens: &[String]) -> Result<(), TokenizerError> {
    for (index, token) in special_tokens.iter().enumerate() {
        let problem = if token.is_empty() {
            "is empty"
        } else if special_tokens[..index].contains(token) {
            "is given twice"
        } else if token.len() == 1
            || alphabet::bytes_from_text(token).is_some_and(|bytes| bytes.len() == 1)
        {
            "is the token of a byte"
        } else {
            continue;
        };
        return Err(TokenizerError::SpecialToken {
            token: token.clone(),
            problem,
        });
    }
    Ok(())
}

/// Refuses a special token that `vocab.json` would write like a learnt one.
fn check_written_apart(
    special_tokens: &[String],
    vocabulary: &Vocabulary,
) -> Result<(), TokenizerError> {
    let is_learnt = |token: &&String| {
        alphabet::bytes_from_text(token)
            .is_some_and(|bytes| vocabulary.ids.contains_key(&bytes[..]))
    };
    match special_tokens.iter().find(is_learnt) {
        None => Ok(()),
        Some(token) => Err(TokenizerError::SpecialToken {
            token: token.clone(),
            problem: "is written like a token learnt from the text",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special_tokens() -> Vec<String> {
        vec!["<|endoftext|>".to_owned()]
    }

    #[test]
    fn counts_do_not_depend_on_the_chunks() {
        let text = "the cat <|endoftext|>sat  on\n\nthe mat; the<|endoftext|>".repeat(20);
        let specials = Specials::new(&[(0, special_tokens().remove(0))]);
        let serial = count_pretokens(&[&text], &specials, usize::MAX / 2);
        assert_eq!(serial[" mat"], 20);
        assert_eq!(serial["the"], 40);
        assert!(!serial.contains_key("<|"));
        for chunk_len in [1, 2, 17, 100, text.len()] {
            assert_eq!(count_pretokens(&[&text], &specials, chunk_len), serial);
        }
    }
}
