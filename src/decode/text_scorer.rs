//! Log-probabilities of each token of sequences of any length, several windows in a pass.

use std::collections::VecDeque;
use std::ops::Range;

use super::scorer::{Loaded, ScorePlan};
use super::windows::windows;
use super::{DecodeError, InferenceModel};
use crate::Error;
use crate::gpu::{Device, Readback};
use crate::kernels::cross_entropy::IGNORED;
use crate::kernels::logprobs::{MAX_TOP, NO_TOKEN, row_words};

/// How sequences are scored.
#[derive(Clone, Copy, Debug)]
pub struct Scoring {
    /// Windows of a pass.
    pub batch_size: usize,
    /// Most tokens that a window reads, at most the model's context length.
    pub window: usize,
    /// Most tokens that each window of a long sequence scores after the first, see
    /// [`windows`](super::windows()).
    pub stride: usize,
    /// How many of the likeliest tokens are given in place of each token.
    pub top: usize,
}

impl Scoring {
    /// Checks the numbers against a model's context length.
    ///
    /// # Errors
    /// When one is out of range.
    pub fn check(&self, context_length: usize) -> Result<(), DecodeError> {
        let out_of_range = |name, value: usize, rule| {
            let value = value.to_string();
            Err(DecodeError::OutOfRange { name, value, rule })
        };
        const WITHIN_CONTEXT: &str = "at least 1 and at most the model's context length";
        if !(1..=context_length).contains(&self.window) {
            return out_of_range("window", self.window, WITHIN_CONTEXT);
        }
        if !(1..=self.window).contains(&self.stride) {
            let rule = match self.window == context_length {
                true => WITHIN_CONTEXT,
                false => "at least 1 and at most the window",
            };
            return out_of_range("stride", self.stride, rule);
        }
        if self.top > MAX_TOP {
            return out_of_range("top", self.top, "at most 20");
        }
        Ok(())
    }
}

/// Tokens to score.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// What comes before the first token, as the end-of-text token does; without it the first token has no
    /// log-probability.
    pub context: Option<u32>,
    /// The tokens.
    pub tokens: Vec<u32>,
}

/// What the model says of a sequence.
#[derive(Clone, Debug, Default)]
pub struct Logprobs {
    /// The log-probability in nats of each token but of a first one without context: in step with the last
    /// tokens.
    pub tokens: Vec<f32>,
    /// For each of these the likeliest tokens in its place, likeliest first, with their log-probabilities.
    pub top: Vec<Vec<(u32, f32)>>,
}

/// A model on a device that scores sequences.
pub struct TextScorer {
    loaded: Loaded,
    readback: Readback,
    scoring: Scoring,
    context_length: usize,
    vocab_size: usize,
}

impl TextScorer {
    /// Uploads the model.
    ///
    /// # Errors
    /// When `scoring` is out of range, a tensor is missing or of another shape, or the model does not fit the
    /// device.
    pub fn new(device: Device, model: &InferenceModel, scoring: Scoring) -> Result<Self, Error> {
        let config = &model.config;
        scoring.check(config.context_length)?;
        let Scoring {
            batch_size, top, ..
        } = scoring;
        let plan = ScorePlan::logprobs(config, &model.table, batch_size, top, device.target());
        let words = batch_size * config.context_length * row_words(top);
        Ok(Self {
            loaded: Loaded::new(device, model, plan)?,
            readback: Readback::new(words),
            scoring,
            context_length: config.context_length,
            vocab_size: config.vocab_size,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.loaded.device
    }

    /// Scores `sequences`, each of which comes with whatever names it, and hands them on in order. A window
    /// gives the same numbers whatever shares its pass.
    ///
    /// # Errors
    /// Those of `sequences` and `take`; when a token is outside of the vocabulary, the model's logits have
    /// NaN, or the device fails.
    pub fn score<T, E: From<Error>>(
        &mut self,
        sequences: impl Iterator<Item = Result<(T, Sequence), E>>,
        mut take: impl FnMut(T, Sequence, Logprobs) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut queue = Queue {
            first: 0,
            open: VecDeque::new(),
            in_flight: VecDeque::new(),
        };
        let mut batch = Vec::with_capacity(self.scoring.batch_size);
        for sequence in sequences {
            let (name, sequence) = sequence?;
            self.check(&sequence).map_err(Error::from)?;
            let tokens: Vec<u32> = sequence.context.iter().copied().collect();
            let tokens = [tokens, sequence.tokens.clone()].concat();
            let number = queue.push(name, sequence, tokens.len().saturating_sub(1));
            for window in windows(tokens.len(), self.scoring.window, self.scoring.stride) {
                batch.push(Placed {
                    number,
                    skipped: window.scored.start - window.inputs.start - 1,
                    inputs: tokens[window.inputs].to_vec(),
                    targets: tokens[window.scored].to_vec(),
                });
                if batch.len() == self.scoring.batch_size {
                    self.submit(&mut queue, std::mem::take(&mut batch))?;
                }
            }
            queue.hand_on(&mut take)?;
        }
        if !batch.is_empty() {
            self.submit(&mut queue, batch)?;
        }
        while !queue.in_flight.is_empty() {
            self.collect(&mut queue)?;
        }
        queue.hand_on(&mut take)
    }

    fn check(&self, sequence: &Sequence) -> Result<(), DecodeError> {
        let vocab_size = self.vocab_size;
        let is_outside = |&token: &u32| token as usize >= vocab_size;
        let given = sequence.context.iter().chain(&sequence.tokens).copied();
        match given.enumerate().find(|(_, token)| is_outside(token)) {
            None => Ok(()),
            Some((position, token)) => Err(DecodeError::OutsideVocab {
                token,
                position: position - usize::from(sequence.context.is_some() && position > 0),
                vocab_size,
            }),
        }
    }

    /// Starts a pass over at most `batch_size` windows, and waits for the one before.
    fn submit<T>(&mut self, queue: &mut Queue<T>, batch: Vec<Placed>) -> Result<(), Error> {
        let Loaded {
            device,
            plan,
            buffers,
            executable,
        } = &self.loaded;
        let rows = plan.layout.rows();
        // What a shorter window leaves is read by no token before it, and scored by none.
        let (mut tokens, mut targets) = (vec![0; rows], vec![IGNORED; rows]);
        let mut places = Vec::with_capacity(batch.len());
        for (placed, first) in batch.iter().zip((0..).step_by(self.context_length)) {
            tokens[first..][..placed.inputs.len()].copy_from_slice(&placed.inputs);
            let rows = first + placed.skipped..first + placed.skipped + placed.targets.len();
            targets[rows.clone()].copy_from_slice(&placed.targets);
            places.push((placed.number, rows));
        }
        let packed = plan.layout.pack(&tokens, &targets, None, 1.0);
        buffers.write(device, plan.inputs, 0, &packed);
        executable.submit_and_read(
            device,
            &mut self.readback,
            (buffers, plan.result),
            |recorder| recorder.replay(plan.section),
        )?;
        queue.in_flight.push_back(places);
        if queue.in_flight.len() > 1 {
            self.collect(queue)?;
        }
        Ok(())
    }

    /// Waits for the oldest pass, and gives its results to their sequences.
    fn collect<T>(&mut self, queue: &mut Queue<T>) -> Result<(), Error> {
        let words: Option<Vec<u32>> = self.readback.take(&self.loaded.device)?;
        let (Some(words), Some(places)) = (words, queue.in_flight.pop_front()) else {
            return Ok(());
        };
        let top = self.scoring.top;
        for (number, rows) in places {
            let found = &mut queue.open[number - queue.first].found;
            for row in rows {
                let row = &words[row * row_words(top)..][..row_words(top)];
                let logprob = f32::from_bits(row[0]);
                if logprob.is_nan() {
                    return Err(DecodeError::NotANumber(found.tokens.len()).into());
                }
                found.tokens.push(logprob);
                let (ids, logprobs) = row[1..].split_at(top);
                let pairs = ids
                    .iter()
                    .zip(logprobs)
                    .filter(|(id, _)| **id != NO_TOKEN)
                    .map(|(&id, &bits)| (id, f32::from_bits(bits)));
                found.top.push(pairs.collect());
            }
        }
        Ok(())
    }
}

/// A window on its way to a pass.
struct Placed {
    /// Of its sequence.
    number: usize,
    /// Inputs before the first whose next token is scored.
    skipped: usize,
    inputs: Vec<u32>,
    targets: Vec<u32>,
}

/// A sequence of which not everything is known yet.
struct Open<T> {
    name: T,
    sequence: Sequence,
    expected: usize,
    found: Logprobs,
}

/// Sequences by number, and where the results of passes belong.
struct Queue<T> {
    /// Number of the first that is open.
    first: usize,
    open: VecDeque<Open<T>>,
    /// For each pass the sequences' numbers and the rows that are theirs.
    in_flight: VecDeque<Vec<(usize, Range<usize>)>>,
}

impl<T> Queue<T> {
    /// Gives a sequence its number.
    fn push(&mut self, name: T, sequence: Sequence, expected: usize) -> usize {
        self.open.push_back(Open {
            name,
            sequence,
            expected,
            found: Logprobs::default(),
        });
        self.first + self.open.len() - 1
    }

    /// Hands on those of which everything is known, in order.
    fn hand_on<E>(
        &mut self,
        take: &mut impl FnMut(T, Sequence, Logprobs) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(open) = self
            .open
            .pop_front_if(|open| open.found.tokens.len() == open.expected)
        {
            self.first += 1;
            take(open.name, open.sequence, open.found)?;
        }
        Ok(())
    }
}
