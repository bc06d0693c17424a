//! Generates several sequences at once: a pass over each prompt, and then one pass a token for all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::passes::{Passes, Row};
use super::plan::{DecodePlans, HeadAt, Prefill};
use super::request::{
    Event, Fault, Finish, NewToken, Overflow, Request, SequenceId, TokenLogprobs,
};
use super::{DecodeError, InferenceModel, check_sampling};
use crate::Error;
use crate::config::{ModelConfig, Positions};
use crate::gpu::{Choices, Device, DispatchTime, Question, Target};
use crate::kernels::sample::{MAX_VOCAB, NAN_ROW, NO_TOKEN};

/// A model on a device, and the sequences that it is generating.
pub struct Generator {
    model: InferenceModel,
    passes: Passes,
    sequences: Vec<Sequence>,
    free_slots: BTreeSet<u32>,
    next_id: u64,
}

/// A sequence under way.
struct Sequence {
    id: SequenceId,
    request: Request,
    /// The prompt and what was added.
    tokens: Vec<u32>,
    slot: u32,
    /// Positions that its slot has held, those included that later ones have replaced; zero before the
    /// prompt's pass.
    cached: usize,
}

impl Sequence {
    fn added(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }

    /// The tokens that its next one may see.
    fn window(&self, context_length: usize) -> &[u32] {
        &self.tokens[self.tokens.len().saturating_sub(context_length)..]
    }

    /// What it ends with before a pass, if it does.
    fn is_over(&self, context_length: usize) -> Option<Finish> {
        let is_full = self.tokens.len() > context_length;
        if self.added() >= self.request.max_new_tokens {
            Some(Finish::Length)
        } else if self.request.overflow == Overflow::Stop && is_full {
            Some(Finish::Context)
        } else {
            None
        }
    }

    /// Whether its window needs a pass of its own.
    fn needs_prefill(&self, context_length: usize) -> bool {
        let is_moved = self.tokens.len() > context_length;
        self.cached == 0 || self.request.overflow == Overflow::Exact && is_moved
    }

    fn row(&self, context_length: usize) -> Row<'_> {
        Row {
            token: self.tokens[self.tokens.len() - 1],
            slot: self.slot,
            position: self.cached,
            window: self.window(context_length),
            request: &self.request,
            index: self.added(),
        }
    }
}

/// What a pass has given a row.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) token: u32,
    pub(super) logprobs: Option<TokenLogprobs>,
}

impl Generator {
    /// Uploads the model, for up to `slots` sequences at once; fewer where their keys and values are more
    /// than the device can bind.
    ///
    /// # Errors
    /// When the model does not fit the device.
    pub fn new(device: Device, model: InferenceModel, slots: usize) -> Result<Self, Error> {
        let vocab_size = model.config.vocab_size;
        if vocab_size >= MAX_VOCAB {
            return Err(DecodeError::OutOfRange {
                name: "vocab_size",
                value: vocab_size.to_string(),
                rule: "below 1048576 for tokens to be drawn",
            }
            .into());
        }
        let plans = DecodePlans::new(&model.config, &model.table, slots, &device.target());
        let passes = Passes::new(device, &model, plans)?;
        let free_slots = (0..crate::gpu::dispatch::word(passes.slots())).collect();
        Ok(Self {
            model,
            passes,
            sequences: Vec::new(),
            free_slots,
            next_id: 0,
        })
    }

    /// What plans for prompts of `lengths` tokens ask of the tuner on adapters like `target`; longer ones
    /// than the context are cut to it.
    pub fn questions(
        &self,
        target: &Target,
        lengths: std::ops::RangeInclusive<usize>,
    ) -> BTreeSet<Question> {
        let plans = self.passes.plans();
        let planned: BTreeSet<usize> = lengths.map(|len| plans.planned_time(len)).collect();
        let prefills = planned
            .into_iter()
            .map(|time| plans.prefill(target.clone(), Prefill::of(time)).plan);
        prefills.flat_map(|plan| plan.questions().clone()).collect()
    }

    /// Makes plans from here on take `choices`.
    pub fn set_choices(&mut self, choices: Choices) {
        self.passes.set_choices(choices);
    }

    /// The device.
    pub fn device(&self) -> &Device {
        self.passes.device()
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.model.config
    }

    /// The model.
    pub fn model(&self) -> &InferenceModel {
        &self.model
    }

    /// Sequences that may be under way at once.
    pub fn slots(&self) -> usize {
        self.passes.slots()
    }

    /// Sequences that are under way.
    pub fn active(&self) -> usize {
        self.sequences.len()
    }

    /// Takes a request on, which [`Generator::step`] goes on with; its prompt and sampling are checked.
    ///
    /// # Errors
    /// When the prompt is empty or has an unknown token, or a parameter is out of range.
    ///
    /// # Panics
    /// If all slots are taken: a bug of the caller.
    pub fn add(&mut self, request: Request) -> Result<SequenceId, DecodeError> {
        self.check(&request)?;
        let slot = self.free_slots.pop_first().expect("a slot is free");
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let tokens = request.prompt.clone();
        self.sequences.push(Sequence {
            id,
            request,
            tokens,
            slot,
            cached: 0,
        });
        Ok(id)
    }

    /// Whether [`Generator::add`] would take a request.
    ///
    /// # Errors
    /// When it would not.
    pub fn check(&self, request: &Request) -> Result<(), DecodeError> {
        check_sampling(&request.sampling)?;
        check_logprobs(request.logprobs)?;
        let has_vectors = self.config().architecture.positions == Positions::Learned;
        if request.overflow == Overflow::Rolling && has_vectors {
            return Err(DecodeError::CannotRoll);
        }
        self.check_tokens(&request.prompt)?;
        if request.prompt_logprobs {
            self.check_length(request.prompt.len())?;
        }
        Ok(())
    }

    /// Gives a sequence up; its slot is free.
    pub fn cancel(&mut self, id: SequenceId) {
        if let Some(index) = self.sequences.iter().position(|s| s.id == id) {
            let sequence = self.sequences.remove(index);
            self.free_slots.insert(sequence.slot);
        }
    }

    /// A new token for each sequence under way, in the order in which they were added. A sequence that
    /// has ended is gone.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(&mut self) -> Result<Vec<(SequenceId, Event)>, Error> {
        let context_length = self.config().context_length;
        let mut drawn: BTreeMap<SequenceId, Drawn> = BTreeMap::new();
        let mut events = Vec::new();
        let mut stepping = Vec::new();
        for sequence in &mut self.sequences {
            let wants_prompt = sequence.request.prompt_logprobs && sequence.cached == 0;
            if sequence.is_over(context_length).is_some() && !wants_prompt {
                continue;
            }
            if !sequence.needs_prefill(context_length) {
                stepping.push(sequence.id);
                continue;
            }
            let (row, of_prompt) = self
                .passes
                .prefill(sequence.row(context_length), wants_prompt)?;
            sequence.cached = sequence.window(context_length).len();
            if let Some(logprobs) = of_prompt {
                events.push((sequence.id, Event::Prompt(logprobs)));
            }
            drawn.insert(sequence.id, row);
        }
        let is_stepping = |sequence: &&mut Sequence| stepping.contains(&sequence.id);
        let mut rows: Vec<&mut Sequence> = self.sequences.iter_mut().filter(is_stepping).collect();
        if !rows.is_empty() {
            let inputs: Vec<Row<'_>> = rows.iter().map(|s| s.row(context_length)).collect();
            let outputs = self.passes.step(&inputs)?;
            for (sequence, row) in rows.iter_mut().zip(outputs) {
                sequence.cached += 1;
                drawn.insert(sequence.id, row);
            }
        }
        let mut going_on = Vec::new();
        for mut sequence in std::mem::take(&mut self.sequences) {
            let mut last = sequence.is_over(context_length).map(Event::Finished);
            if let (None, Some(row)) = (&last, drawn.remove(&sequence.id)) {
                match taken(&mut sequence, row) {
                    Event::Token(token) => {
                        events.push((sequence.id, Event::Token(token)));
                        last = sequence.is_over(context_length).map(Event::Finished);
                    }
                    end => last = Some(end),
                }
            }
            match last {
                Some(last) => {
                    events.push((sequence.id, last));
                    self.free_slots.insert(sequence.slot);
                }
                None => going_on.push(sequence),
            }
        }
        self.sequences = going_on;
        Ok(events)
    }

    /// The device time of each dispatch of one more step over all sequences, which stay as they are.
    ///
    /// # Errors
    /// When the device fails or has no clock.
    pub fn profile_step(&mut self) -> Result<Vec<DispatchTime>, Error> {
        let context_length = self.config().context_length;
        let rows: Vec<Row<'_>> = self
            .sequences
            .iter()
            .map(|sequence| sequence.row(context_length))
            .collect();
        self.passes.profile_step(&rows)
    }

    /// Generates from one request, calling `on_event` with what happens; no other sequence may be under way.
    ///
    /// # Errors
    /// When the request is wrong, the logits are, or the device fails.
    ///
    /// # Panics
    /// If another sequence is under way: a bug of the caller.
    pub fn generate(
        &mut self,
        request: Request,
        mut on_event: impl FnMut(&Event),
    ) -> Result<(Vec<u32>, Finish), Error> {
        assert_eq!(self.active(), 0, "another sequence is under way");
        self.add(request)?;
        let mut tokens = Vec::new();
        loop {
            for (_, event) in self.step()? {
                on_event(&event);
                match event {
                    Event::Prompt(_) => {}
                    Event::Token(token) => tokens.push(token.id),
                    Event::Finished(finish) => return Ok((tokens, finish)),
                    Event::Failed(fault) => return Err(DecodeError::from(fault).into()),
                }
            }
        }
    }

    /// Logits `[vocab]` of the token that follows `window`, by a pass over all of it.
    ///
    /// # Errors
    /// When the window is empty or longer than the context, or the device fails.
    ///
    /// # Panics
    /// If a sequence is under way: a bug of the caller.
    pub fn logits(&mut self, window: &[u32]) -> Result<Vec<f32>, Error> {
        assert_eq!(self.active(), 0, "a sequence is under way");
        self.check_tokens(window)?;
        self.check_length(window.len())?;
        let request = Request::default();
        self.passes.prefill(first_row(window, &request), false)?;
        self.passes.read_logits()
    }

    /// Logits `[vocab]` of the token that follows the first `from` tokens of `window`, and of those that
    /// follow each longer part of it, by a pass over the first and one a token after that: what
    /// generation computes.
    ///
    /// # Errors
    /// When `from` is none, the window is longer than the context, or the device fails.
    ///
    /// # Panics
    /// If a sequence is under way: a bug of the caller.
    pub fn cached_logits(&mut self, window: &[u32], from: usize) -> Result<Vec<Vec<f32>>, Error> {
        let mut all = vec![self.logits(&window[..from])?];
        self.check_tokens(window)?;
        self.check_length(window.len())?;
        let request = Request::default();
        for end in from + 1..=window.len() {
            self.passes.step(&[Row {
                position: end - 1,
                ..first_row(&window[..end], &request)
            }])?;
            all.push(self.passes.read_logits()?);
        }
        Ok(all)
    }

    /// The weights that the tokens of `window` give to each other by one head, `[window, window]`: zeros above
    /// the diagonal. Sequences under way may go on after it.
    ///
    /// # Errors
    /// When the window is empty, longer than the context or has an unknown token, there is no such head, or
    /// the device fails.
    pub fn attention(&mut self, window: &[u32], at: HeadAt) -> Result<Vec<f32>, Error> {
        self.check_tokens(window)?;
        self.check_length(window.len())?;
        let config = self.config();
        if at.layer >= config.num_layers || at.head >= config.num_heads {
            return Err(DecodeError::NoSuchHead {
                layer: at.layer,
                head: at.head,
                num_layers: config.num_layers,
                num_heads: config.num_heads,
            }
            .into());
        }
        self.passes.attention(window, at)
    }

    fn check_length(&self, tokens: usize) -> Result<(), DecodeError> {
        let context_length = self.config().context_length;
        if tokens > context_length {
            return Err(DecodeError::TooLong {
                tokens,
                context_length,
            });
        }
        Ok(())
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), DecodeError> {
        let vocab_size = self.config().vocab_size;
        if tokens.is_empty() {
            return Err(DecodeError::EmptyPrompt);
        }
        match tokens.iter().position(|&t| t as usize >= vocab_size) {
            None => Ok(()),
            Some(position) => Err(DecodeError::OutsideVocab {
                token: tokens[position],
                position,
                vocab_size,
            }),
        }
    }
}

/// A row of the first slot for the token after `window`.
fn first_row<'a>(window: &'a [u32], request: &'a Request) -> Row<'a> {
    Row {
        token: window[window.len() - 1],
        slot: 0,
        position: 0,
        window,
        request,
        index: 0,
    }
}

/// What a sequence makes of what was drawn for it.
fn taken(sequence: &mut Sequence, drawn: Drawn) -> Event {
    let index = sequence.added();
    match drawn.token {
        NAN_ROW => Event::Failed(Fault::NotANumber(index)),
        NO_TOKEN => Event::Failed(Fault::NoToken(index)),
        token if sequence.request.end.contains(&token) => Event::Finished(Finish::End),
        id => {
            sequence.tokens.push(id);
            let logprobs = drawn.logprobs;
            Event::Token(NewToken { id, logprobs })
        }
    }
}

fn check_logprobs(logprobs: Option<usize>) -> Result<(), DecodeError> {
    match logprobs {
        Some(n) if n > super::MAX_LOGPROBS => Err(DecodeError::OutOfRange {
            name: "logprobs",
            value: n.to_string(),
            rule: "at most 20",
        }),
        _ => Ok(()),
    }
}
