//! The first bytes of a file, which tell its version and its model's shape.

use std::path::Path;

use super::FORMAT;
use crate::interop::InteropError;

/// Bytes of the header of version 1, with the zeros behind it.
pub(super) const V1_BYTES: usize = 256;
/// Seven numbers.
const V0_BYTES: usize = 28;
/// "ak42". As the first number of version 0 it would be the width of a model whose rows have 6 GB.
const MAGIC: i32 = 0x616b_3432;
/// Where the byte is that says whether the classifier is the embeddings.
const SHARED_AT: usize = 36;
/// No model is so deep; a file that says so is of another kind.
const MOST_LAYERS: usize = 1 << 14;

/// Which layout a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Seven numbers, then the tensors in the order of computation, and tables of the rotary embedding. What
    /// llama2.c's `run` reads.
    Zero,
    /// A magic number and a version before the seven numbers, then norms first.
    One,
}

/// The shape of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Width of the model.
    pub(crate) dim: usize,
    /// Width within a feed-forward layer.
    pub(crate) hidden_dim: usize,
    /// Number of layers.
    pub(crate) n_layers: usize,
    /// Heads of queries.
    pub(crate) n_heads: usize,
    /// Heads of keys and values.
    pub(crate) n_kv_heads: usize,
    /// Number of tokens.
    pub(crate) vocab_size: usize,
    /// Most positions of a sequence.
    pub(crate) max_seq_len: usize,
    /// Whether the classifier is the token embeddings, and not in the file.
    pub(crate) shared_classifier: bool,
}

/// Why a file is not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Damaged(String),
    Unsupported(String),
}

impl Problem {
    pub(super) fn at(self, path: &Path) -> InteropError {
        let path = path.to_owned();
        match self {
            Self::Damaged(problem) => InteropError::Damaged {
                path,
                format: FORMAT,
                problem,
            },
            Self::Unsupported(what) => InteropError::Unsupported { path, what },
        }
    }
}

impl Version {
    pub(super) fn header_bytes(self) -> u64 {
        match self {
            Self::Zero => V0_BYTES as u64,
            Self::One => V1_BYTES as u64,
        }
    }
}

impl Header {
    /// Width of a head.
    pub(crate) fn head_size(&self) -> usize {
        self.dim / self.n_heads
    }

    /// Width of all keys, or values.
    pub(super) fn kv_dim(&self) -> usize {
        self.head_size() * self.n_kv_heads
    }

    /// What no file can have.
    pub(super) fn check(&self) -> Result<(), String> {
        let numbers = [
            ("dim", self.dim),
            ("hidden_dim", self.hidden_dim),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.n_kv_heads),
            ("vocab_size", self.vocab_size),
            ("max_seq_len", self.max_seq_len),
        ];
        for (name, value) in numbers {
            if value == 0 || i32::try_from(value).is_err() {
                return Err(format!("{name} is {value}, and not from 1 to {}", i32::MAX));
            }
        }
        let (dim, heads, kv_heads) = (self.dim, self.n_heads, self.n_kv_heads);
        if !dim.is_multiple_of(heads) || !(dim / heads).is_multiple_of(2) {
            return Err(format!(
                "dim is {dim}, which is no even number for each of n_heads = {heads}"
            ));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!(
                "n_heads is {heads}, which is no multiple of n_kv_heads = {kv_heads}"
            ));
        }
        if self.n_layers > MOST_LAYERS {
            return Err(format!(
                "n_layers is {}, and not up to {MOST_LAYERS}",
                self.n_layers
            ));
        }
        Ok(())
    }

    /// The bytes before the tensors.
    pub(super) fn to_bytes(self, version: Version) -> Vec<u8> {
        let mut numbers = [
            self.dim,
            self.hidden_dim,
            self.n_layers,
            self.n_heads,
            self.n_kv_heads,
            self.vocab_size,
            self.max_seq_len,
        ]
        // Checked before.
        .map(|value| i32::try_from(value).unwrap_or(i32::MAX));
        let all = match version {
            Version::Zero => {
                if !self.shared_classifier {
                    numbers[5] = -numbers[5];
                }
                numbers.to_vec()
            }
            Version::One => [&[MAGIC, 1], &numbers[..]].concat(),
        };
        let mut bytes: Vec<u8> = all.iter().flat_map(|value| value.to_le_bytes()).collect();
        if version == Version::One {
            bytes.push(self.shared_classifier.into());
            bytes.resize(V1_BYTES, 0);
        }
        bytes
    }
}

/// Whether a file begins as those of version 1 and later do.
pub(super) fn has_magic(start: &[u8]) -> bool {
    start.starts_with(&MAGIC.to_le_bytes())
}

/// The version and the shape of the file that begins with `start`, its first [`V1_BYTES`] or all it has.
pub(super) fn parse(start: &[u8]) -> Result<(Version, Header), Problem> {
    let (words, _) = start.as_chunks::<4>();
    let words: Vec<i32> = words.iter().map(|word| i32::from_le_bytes(*word)).collect();
    let wanted = |bytes: usize| {
        let found = start.len();
        Problem::Damaged(format!(
            "its header should have {bytes} bytes, and it has {found}"
        ))
    };
    let (version, numbers, shared) = match words[..] {
        [MAGIC, 1, ..] => {
            let numbers = words.get(2..9).filter(|_| start.len() == V1_BYTES);
            let numbers = numbers.ok_or_else(|| wanted(V1_BYTES))?;
            let shared = match start[SHARED_AT] {
                byte @ (0 | 1) => byte == 1,
                byte => {
                    return Err(Problem::Damaged(format!(
                        "its shared_classifier is {byte}, and not 0 or 1"
                    )));
                }
            };
            (Version::One, numbers, Some(shared))
        }
        [MAGIC, 2, ..] => {
            let what = "version 2 of llama2.c, with int8 tensors,".to_owned();
            return Err(Problem::Unsupported(what));
        }
        [MAGIC, version, ..] => {
            return Err(Problem::Unsupported(format!(
                "version {version} of llama2.c"
            )));
        }
        _ => {
            let numbers = words.get(..7).ok_or_else(|| wanted(V0_BYTES))?;
            (Version::Zero, numbers, None)
        }
    };
    let number = |index: usize| usize::try_from(numbers[index]).unwrap_or(0);
    // Of version 0 a negative size of the vocabulary says that there is a classifier.
    let vocab_size = match shared {
        Some(_) => number(5),
        None => usize::try_from(numbers[5].unsigned_abs()).unwrap_or(0),
    };
    let header = Header {
        dim: number(0),
        hidden_dim: number(1),
        n_layers: number(2),
        n_heads: number(3),
        n_kv_heads: number(4),
        vocab_size,
        max_seq_len: number(6),
        shared_classifier: shared.unwrap_or(numbers[5] > 0),
    };
    header.check().map_err(|problem| {
        Problem::Damaged(format!("its numbers are {numbers:?}, where {problem}"))
    })?;
    Ok((version, header))
}
