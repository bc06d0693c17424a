//! The loop that generates: sequences join while others run, and leave when they end or nobody waits for
//! them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::metrics::Metrics;
use super::queue::{Job, Look, Queue};
use crate::Error;
use crate::decode::{DecodeError, Event, Generator, HeadAt, Request, SequenceId};
use crate::gpu::GpuError;

/// What the loop needs of a generator; a test has another.
pub(super) trait Decoder {
    /// Names a sequence.
    type Id: Copy + Ord;
    /// Takes a request on.
    fn add(&mut self, request: Request) -> Result<Self::Id, DecodeError>;
    /// Gives a sequence up.
    fn cancel(&mut self, id: Self::Id);
    /// What happens next.
    fn step(&mut self) -> Result<Vec<(Self::Id, Event)>, Error>;
    /// The weights of a head, `[window, window]`; sequences go on after it.
    fn attention(&mut self, window: &[u32], at: HeadAt) -> Result<Vec<f32>, Error>;
}

impl Decoder for Generator {
    type Id = SequenceId;

    fn add(&mut self, request: Request) -> Result<SequenceId, DecodeError> {
        Self::add(self, request)
    }

    fn cancel(&mut self, id: SequenceId) {
        Self::cancel(self, id);
    }

    fn step(&mut self) -> Result<Vec<(SequenceId, Event)>, Error> {
        Self::step(self)
    }

    fn attention(&mut self, window: &[u32], at: HeadAt) -> Result<Vec<f32>, Error> {
        Self::attention(self, window, at)
    }
}

/// A sequence under way.
struct Running {
    job: Job,
    first: Option<Instant>,
    generated: usize,
    /// Whether the decoder has ended it.
    gone: bool,
    /// Whether there is nothing more to tell.
    done: bool,
}

/// Generates what comes by the queue until it is closed and empty.
///
/// # Errors
/// When the device fails; whoever waits for a sequence then finds its channel closed.
pub(super) fn run(
    decoder: &mut impl Decoder,
    queue: &Queue,
    metrics: &Metrics,
) -> Result<(), Error> {
    let mut running = BTreeMap::new();
    while let Some(taken) = queue.take(running.len()) {
        metrics.cancelled(taken.given_up);
        for job in taken.jobs {
            start(decoder, job, &mut running);
        }
        running.retain(|&id, sequence| {
            let is_wanted = !sequence.job.pieces.is_closed();
            if !is_wanted {
                decoder.cancel(id);
                metrics.cancelled(1);
            }
            is_wanted
        });
        if let Some(look) = taken.look {
            answer(decoder, look)?;
        }
        if running.is_empty() {
            continue;
        }
        let started = Instant::now();
        let events = decoder.step()?;
        let tokens = events
            .iter()
            .filter(|(_, event)| matches!(event, Event::Token(_)));
        metrics.step(tokens.count(), started.elapsed());
        for (id, event) in events {
            if let Some(sequence) = running.get_mut(&id) {
                sequence.take(event, metrics);
            }
        }
        running.retain(|&id, sequence| {
            if sequence.done && !sequence.gone {
                decoder.cancel(id);
            }
            !sequence.done
        });
    }
    Ok(())
}

fn start<D: Decoder>(decoder: &mut D, mut job: Job, running: &mut BTreeMap<D::Id, Running>) {
    match decoder.add(std::mem::take(&mut job.request)) {
        Ok(id) => {
            let sequence = Running {
                job,
                first: None,
                generated: 0,
                gone: false,
                done: false,
            };
            running.insert(id, sequence);
        }
        Err(error) => drop(job.pieces.send(Err(error.to_string()))),
    }
}

/// Answers a look. What does not fit the device is its own fault; a device that fails is everybody's.
fn answer(decoder: &mut impl Decoder, look: Look) -> Result<(), Error> {
    let weights = match decoder.attention(&look.tokens, look.at) {
        Ok(weights) => Ok(weights),
        Err(
            error @ (Error::Decode(_)
            | Error::Gpu(
                GpuError::OverLimit { .. }
                | GpuError::OutOfMemory { .. }
                | GpuError::Unsupported { .. },
            )),
        ) => Err(error.to_string()),
        Err(error) => return Err(error),
    };
    // Whoever asked may have left.
    drop(look.answer.send(weights));
    Ok(())
}

impl Running {
    fn take(&mut self, event: Event, metrics: &Metrics) {
        self.gone |= matches!(event, Event::Finished(_) | Event::Failed(_));
        if self.done {
            return;
        }
        if matches!(event, Event::Token(_)) {
            self.generated += 1;
            if self.first.is_none() {
                self.first = Some(Instant::now());
                metrics.first_token(self.job.submitted.elapsed());
            }
        }
        let piece = self.job.choice.take(event);
        self.done = piece.is_err() || self.job.choice.is_ended();
        if let (true, Some(first)) = (self.done, self.first) {
            metrics.sequence(self.generated, first.elapsed());
        }
        // Whoever does not listen any more is found out before the next step.
        drop(self.job.pieces.send(piece));
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
