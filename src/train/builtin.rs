//! The run without data: makes the built-in corpus, its tokenizer and its token files, and knows
//! the entropy that no model can beat.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::TrainError;
use crate::Error;
use crate::data::corpus::{END_OF_STORY, StoryCorpus};
use crate::data::npy::TokenWriter;
use crate::data::tokenizer::train::{TrainOptions, train};
use crate::data::tokenizer::{Format, TokenRoles, Tokenizer};
use crate::files;

/// Entries of the tokenizer's vocabulary where the config does not say.
pub const DEFAULT_VOCAB_SIZE: usize = 512;
/// Bytes of training text; the stories behind it are for validation.
const TRAIN_BYTES: u64 = 4_000_000;
/// Stories of the validation set.
const VAL_STORIES: u64 = 200;

/// The files of the built-in corpus and what is known of it.
#[derive(Clone, Debug)]
pub struct BuiltinData {
    /// Token file to train on.
    pub train_path: PathBuf,
    /// Token file to evaluate on.
    pub val_path: PathBuf,
    /// Folder of the tokenizer.
    pub tokenizer: PathBuf,
    /// Exact mean of `-log p` of the validation stories, in nats a token.
    pub floor: f64,
}

/// Writes the corpus of `seed` and its tokenizer of `vocab_size` entries below `logdir`.
///
/// # Errors
/// When a file cannot be written or the vocabulary is too small.
pub fn prepare(logdir: &Path, seed: u64, vocab_size: usize) -> Result<BuiltinData, Error> {
    let corpus = StoryCorpus::new(seed);
    let folder = logdir.join("corpus");
    files::create_folder(&folder).map_err(unwritable(&folder))?;
    let train_range = corpus.range_for_bytes(0, TRAIN_BYTES);
    let n_train = train_range.end;
    let val_range = train_range.end..train_range.end + VAL_STORIES;
    let train_text = write_stories(&corpus, train_range, &folder.join("train.txt"))?;
    let val_text = write_stories(&corpus, val_range.clone(), &folder.join("val.txt"))?;
    let options = TrainOptions {
        vocab_size,
        special_tokens: vec![END_OF_STORY.to_owned()],
        ..TrainOptions::default()
    };
    let tokenizer = train(&[&train_text], &options)?;
    let tokenizer_dir = logdir.join("tokenizer");
    let roles = TokenRoles::of(&tokenizer);
    tokenizer.replace_with(Format::Gpt2, &tokenizer_dir, &roles)?;
    let (train_path, val_path) = (folder.join("train.npy"), folder.join("val.npy"));
    encode(&tokenizer, (&train_text, n_train), &train_path)?;
    let val_tokens = encode(&tokenizer, (&val_text, VAL_STORIES), &val_path)?;
    let floor = corpus.floor_nats(val_range) / val_tokens as f64;
    Ok(BuiltinData {
        train_path,
        val_path,
        tokenizer: tokenizer_dir,
        floor,
    })
}

fn write_stories(corpus: &StoryCorpus, range: Range<u64>, path: &Path) -> Result<String, Error> {
    let text = corpus.text(range);
    files::write(path, &text).map_err(unwritable(path))?;
    Ok(text)
}

fn encode(
    tokenizer: &Tokenizer,
    (text, n_stories): (&str, u64),
    path: &Path,
) -> Result<usize, Error> {
    let mut writer = TokenWriter::create(path, tokenizer.vocab_size())?;
    let mut tokens = 0;
    for block in tokenizer.encode_blocks(text) {
        tokens += block.len();
        writer.push(&block)?;
    }
    writer.finish_with(&tokenizer.hash(), n_stories)?;
    Ok(tokens)
}

fn unwritable(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Unwritable { path, source }
}
