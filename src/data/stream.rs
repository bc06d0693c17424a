//! Files through the tokenizer: chunks are read, worked on by all cores, and handed on in order,
//! while no more than a few chunks a core are in memory.

use std::ops::ControlFlow;

use rayon::prelude::*;

use super::input::{Chunk, InputStats, Inputs};
use super::tokenizer::train::Trainer;
use super::tokenizer::{CHUNK_LEN, Specials};
use crate::Error;

/// Chunks that a core works on between two rounds of reading.
const CHUNKS_A_THREAD: usize = 4;

/// Is told now and then how far reading has come, and says whether to go on.
pub type Watch<'w> = dyn FnMut(&InputStats) -> ControlFlow<()> + 'w;

/// Runs `work` on every chunk of the inputs, on all cores, and hands its results to `take` in
/// order; reading and taking happen while the next chunks are worked on.
///
/// # Errors
///
/// If a file cannot be read, `take` fails, or `watch` stops it.
pub fn for_each_chunk<T: Send>(
    inputs: &mut Inputs,
    specials: &Specials,
    watch: &mut Watch<'_>,
    work: impl Fn(&Chunk) -> T + Sync,
    mut take: impl FnMut(T) -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let batch_len = CHUNKS_A_THREAD * rayon::current_num_threads();
    let read = |inputs: &mut Inputs| -> Result<Vec<Chunk>, Error> {
        let mut batch = Vec::with_capacity(batch_len);
        while batch.len() < batch_len {
            match inputs.next_chunk(specials, CHUNK_LEN)? {
                Some(chunk) => batch.push(chunk),
                None => break,
            }
        }
        Ok(batch)
    };
    let mut batch = read(inputs)?;
    let mut results = Vec::new();
    while !batch.is_empty() {
        let finished = std::mem::take(&mut results);
        let (next, worked): (_, Vec<T>) = rayon::join(
            || {
                finished.into_iter().try_for_each(&mut take)?;
                read(inputs)
            },
            || batch.par_iter().map(&work).collect(),
        );
        results = worked;
        batch = next?;
        if watch(&inputs.stats()).is_break() {
            return Err(Error::Interrupted);
        }
    }
    results.into_iter().try_for_each(take)
}

/// Shows all text of the inputs to a trainer.
///
/// # Errors
///
/// If a file cannot be read, or `watch` stops it.
pub fn count(inputs: &mut Inputs, trainer: &Trainer, watch: &mut Watch<'_>) -> Result<(), Error> {
    for_each_chunk(
        inputs,
        trainer.specials(),
        watch,
        |chunk| {
            for (document, _) in chunk.documents() {
                trainer.add(document);
            }
        },
        |()| Ok(()),
    )
}
