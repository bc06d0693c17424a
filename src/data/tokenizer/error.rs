//! What can go wrong with a tokenizer, its files and the texts it is given.

use std::path::PathBuf;

use super::MIN_LEARNT;

/// Why a tokenizer could not be trained, read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file is missing or cannot be read.
    #[error("cannot read {}: {cause}; check that the file exists and may be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// A file cannot be written.
    #[error(
        "cannot write {}: {cause}; check that the directory may be written and has space",
        path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// A vocabulary is not a JSON object of token strings and ids.
    #[error(
        "{} is not a JSON object of token strings and ids: {cause}; restore the file or \
         train the tokenizer again",
        path.display()
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        cause: serde_json::Error,
    },
    /// An entry of a tokenizer's files contradicts another one.
    #[error("{}: {entry} {problem}; use the files of one and the same tokenizer", path.display())]
    Entry {
        /// The file of the first offending entry.
        path: PathBuf,
        /// The entry: a token string, or a merge with its line number.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A pickled file is damaged, or holds something else than it should.
    #[error(
        "{} is no pickled list of pairs of bytes: {problem}; write it with \
         pickle.dump(merges, file)",
        path.display()
    )]
    Pickle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no tokenizer where one should be.
    #[error(
        "{} does not hold {wanted}; a tokenizer is a folder with vocab.json and merges.txt or merges.pkl, \
         a tokenizer.json or a .tiktoken file",
        path.display()
    )]
    NotFound {
        /// The folder or file.
        path: PathBuf,
        /// What was wanted.
        wanted: &'static str,
    },
    /// A folder holds several tokenizers.
    #[error(
        "{} holds two tokenizers: {first} and {second} differ; keep one, or name its file",
        path.display()
    )]
    Ambiguous {
        /// The folder.
        path: PathBuf,
        /// The files of one.
        first: &'static str,
        /// The files of another.
        second: &'static str,
    },
    /// A tokenizer that is sound, and not one that this program has.
    #[error(
        "{} has {what}; only byte-level BPE with the pre-tokens of GPT-2, SmolLM, Llama 3 or Qwen2 \
         is supported",
        path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        what: String,
    },
    /// A file beside a tokenizer is no JSON.
    #[error("{} is no JSON that can be read: {cause}; restore the file", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        cause: serde_json::Error,
    },
    /// A format has no place for something of a tokenizer, and would be read back as another one.
    #[error("{format} cannot say that {what}; write a tokenizer.json")]
    Inexpressible {
        /// What the format is called.
        format: &'static str,
        /// What it cannot say.
        what: String,
    },
    /// A role is given to an id that is no token.
    #[error("{role} is id {id}, which stands for no token; choose another one, or none")]
    Role {
        /// The role, as `tokenizer_config.json` calls it.
        role: &'static str,
        /// The id.
        id: u32,
    },
    /// An id to decode is outside the vocabulary.
    #[error(
        "token {id} at position {position} is outside the vocabulary of {vocab_size} \
         tokens; decode with the tokenizer that encoded it"
    )]
    UnknownId {
        /// The id.
        id: u32,
        /// Its index among the ids to decode.
        position: u64,
        /// Number of tokens in the vocabulary.
        vocab_size: usize,
    },
    /// What should be an id is no number.
    #[error(
        "standard input has {text:?} at byte {offset}, expected token ids: numbers with spaces, \
         commas or line ends between"
    )]
    NoId {
        /// What is there.
        text: String,
        /// Where it starts, counted from 0.
        offset: u64,
    },
    /// A token that was asked for by its text is not in the vocabulary.
    #[error(
        "the tokenizer has no token {token:?}; `gpu-tlm tokenizer info` lists its special tokens"
    )]
    NoSuchToken {
        /// The token.
        token: String,
    },
    /// The vocabulary asked for cannot hold the bytes and special tokens, or its ids.
    #[error(
        "a vocabulary of {requested} tokens is not possible: ask for {least} \
         ({MIN_LEARNT} bytes and {} special tokens) to {}",
        least - MIN_LEARNT, u32::MAX
    )]
    VocabSize {
        /// Number of tokens asked for.
        requested: usize,
        /// The smallest possible number.
        least: usize,
    },
    /// More distinct pre-tokens than a training run has places for.
    #[error(
        "the text's {n_words} distinct pre-tokens have 4 GiB or more together, which is more than \
         training holds; use less text"
    )]
    TooManyWords {
        /// Number of distinct pre-tokens.
        n_words: usize,
    },
    /// Two outputs have one name.
    #[error("{} is to hold training and validation tokens; name two files", path.display())]
    SameOutput {
        /// The file.
        path: PathBuf,
    },
    /// Whoever watches training wanted no more of it.
    #[error("training was stopped; nothing was written")]
    Stopped,
    /// A special token cannot be told from the other tokens.
    #[error("special token {token:?} {problem}; choose another one, such as \"<|endoftext|>\"")]
    SpecialToken {
        /// The special token.
        token: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl TokenizerError {
    /// Whether the request itself was bad (exit code 2) rather than its run (exit code 1).
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::VocabSize { .. }
                | Self::SpecialToken { .. }
                | Self::NoSuchToken { .. }
                | Self::SameOutput { .. }
        )
    }

    /// The same error for ids that follow `n_before` others.
    pub(crate) fn shifted_by(mut self, n_before: u64) -> Self {
        if let Self::UnknownId { position, .. } = &mut self {
            *position += n_before;
        }
        self
    }
}
