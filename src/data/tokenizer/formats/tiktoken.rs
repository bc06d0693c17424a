//! tiktoken's files of ranks: a token in base64 and its rank a line. The rank is the id, and of
//! all pairs the one whose product has the lowest rank is merged first.
//!
//! Such a file says nothing of special tokens and of the pattern that makes pre-tokens. GPT-2's is
//! taken, which is right for `r50k_base` and `p50k_base`.

use std::io::Write;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::rules::Rules;
use super::super::{Tokenizer, TokenizerError, alphabet, index};
use super::merges::Merges;
use super::vocabulary::{Entry, Kind, Vocabulary, problem_of};
use super::{commit, prepare, read};

/// Vocabularies that are known to go with another pattern, by their number of ranks.
const OTHER_PATTERNS: &[(usize, &str)] = &[(100_256, "cl100k_base"), (199_998, "o200k_base")];

/// Reads the file at `path`; the special tokens get the ids that no rank takes, the lowest first.
pub(super) fn load(path: &Path, special_tokens: &[String]) -> Result<Tokenizer, TokenizerError> {
    let text = read(path)?;
    let ranks = read_ranks(path, &text)?;
    if let Some((_, name)) = OTHER_PATTERNS
        .iter()
        .find(|(n_ranks, _)| *n_ranks == ranks.len())
    {
        return Err(TokenizerError::Unsupported {
            path: path.to_owned(),
            what: format!("the ranks of {name}, which parts text by another pattern than GPT-2's"),
        });
    }
    let taken: FxHashSet<u32> = ranks.iter().map(|&(_, rank)| rank).collect();
    let free = (0..).filter(|id| !taken.contains(id));
    let mut entries: Vec<Entry> = ranks
        .iter()
        .map(|(bytes, rank)| Entry {
            shown: alphabet::text_from_bytes(bytes),
            id: *rank,
            learnt: Some(bytes.clone()),
            special: bytes.clone(),
            kind: Kind::Untold,
        })
        .collect();
    entries.extend(special_tokens.iter().zip(free).map(|(token, id)| Entry {
        learnt: None,
        ..Entry::in_alphabet(token.clone(), id)
    }));
    let vocabulary = Vocabulary::new(path.to_owned(), entries)?;
    let merges = recover_merges(path, &vocabulary, &ranks)?;
    vocabulary.tokenizer(merges, Rules::default())
}

/// Writes the file at `path`, without the special tokens, for which the format has no place.
pub(super) fn save(tokenizer: &Tokenizer, path: &Path) -> Result<(), TokenizerError> {
    let is_special = |id: &u32| tokenizer.special_ids().contains(id);
    let ids = (0u32..)
        .zip(&tokenizer.tokens)
        .filter(|(id, _)| !is_special(id));
    let ranks: Vec<(Vec<u8>, u32)> = ids.map(|(id, bytes)| (bytes.to_vec(), id)).collect();
    // Ranks alone have to tell the merges, in their order.
    let mut merges = tokenizer.merges.iter();
    for (bytes, rank) in ranks.iter().filter(|(bytes, _)| bytes.len() > 1) {
        let merge = merges.next();
        let is_told = merge.is_some_and(|merge| {
            merge.product == *rank && {
                let left = &tokenizer.tokens[index(merge.left)];
                split_before(tokenizer_ranks(tokenizer), bytes, *rank) == Some(left.len())
            }
        });
        if !is_told {
            let shown = alphabet::text_from_bytes(bytes);
            let problem = "cannot be written as a rank: ids do not follow the order of the merges";
            return Err(problem_of(path, &shown, problem.to_owned()));
        }
    }
    let written = prepare(path, |out| {
        ranks
            .iter()
            .try_for_each(|(bytes, rank)| writeln!(out, "{} {rank}", BASE64_STANDARD.encode(bytes)))
    })?;
    commit([(path, written)])
}

/// Tokens and ranks in the order of the file.
fn read_ranks(path: &Path, text: &str) -> Result<Vec<(Vec<u8>, u32)>, TokenizerError> {
    let mut ranks = Vec::new();
    let mut seen = FxHashSet::default();
    for (line_idx, line) in text.lines().enumerate() {
        if line.is_empty() {
            continue;
        }
        let problem = |problem: &str| TokenizerError::Entry {
            path: path.to_owned(),
            entry: format!("line {}, {line:?},", line_idx + 1),
            problem: problem.to_owned(),
        };
        let Some((token, rank)) = line.split_once(' ') else {
            return Err(problem("is not a token and a rank with a space between"));
        };
        let bytes = BASE64_STANDARD.decode(token);
        let bytes = bytes.map_err(|_| problem("has a token that is no base64"))?;
        let rank = rank
            .parse()
            .map_err(|_| problem("has a rank that is no number"))?;
        if !seen.insert(bytes.clone()) {
            return Err(problem("has a token that is there before"));
        }
        ranks.push((bytes, rank));
    }
    Ok(ranks)
}

/// The merge of each token of two bytes or more: what is left of it once all merges of lower ranks
/// are done has to be two tokens.
fn recover_merges(
    path: &Path,
    vocabulary: &Vocabulary,
    ranks: &[(Vec<u8>, u32)],
) -> Result<Merges, TokenizerError> {
    let by_bytes: FxHashMap<&[u8], u32> = ranks.iter().map(|(b, rank)| (&b[..], *rank)).collect();
    let mut rising: Vec<&(Vec<u8>, u32)> = ranks.iter().filter(|(b, _)| b.len() > 1).collect();
    rising.sort_by_key(|(_, rank)| *rank);
    let mut merges = Merges::default();
    for (bytes, rank) in rising {
        let problem =
            |problem: String| problem_of(path, &alphabet::text_from_bytes(bytes), problem);
        let rank_of = |part: &[u8]| by_bytes.get(part).copied();
        let split = split_before(rank_of, bytes, *rank);
        let split = split.ok_or_else(|| {
            problem(format!(
                "of rank {rank} is not made of two tokens of lower ranks"
            ))
        })?;
        let (left, right) = bytes.split_at(split);
        merges.push(vocabulary, left, right).map_err(problem)?;
    }
    Ok(merges)
}

fn tokenizer_ranks(tokenizer: &Tokenizer) -> impl Fn(&[u8]) -> Option<u32> {
    |bytes| tokenizer.ids.get(bytes).copied()
}

/// Where the second of the two tokens starts that are left of `bytes` when everything of a rank
/// below `rank` is merged, or `None` where another number is left.
fn split_before(rank_of: impl Fn(&[u8]) -> Option<u32>, bytes: &[u8], rank: u32) -> Option<usize> {
    let mut starts: Vec<usize> = (0..=bytes.len()).collect();
    while starts.len() > 3 {
        let pairs = starts.array_windows::<3>().enumerate();
        let ranked = pairs.filter_map(|(at, [start, _, end])| {
            let found = rank_of(&bytes[*start..*end])?;
            (found < rank).then_some((found, at))
        });
        let (_, at) = ranked.min()?;
        starts.remove(at + 1);
    }
    (starts.len() == 3).then(|| starts[1])
}
