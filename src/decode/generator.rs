//! Generates several sequences at once.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::DecodePlans;
use super::request::{Event, Fault, Finish, NewToken, Overflow, Request, SequenceId};
use super::{DecodeError, InferenceModel, check_sampling};
use crate::Error;
use crate::config::ModelConfig;
use crate::gpu::{Buffers, Choices, Device, Executable, Plan, Question, SectionId, Target};
use crate::kernels::sample::{NAN_ROW, NO_TOKEN};
use crate::model::Transformer;

/// A model on a device, and the sequences that it is generating.
pub struct Generator {
    device: Device,
    model: InferenceModel,
    common: DecodePlans,
    buffers: Buffers,
    plans: BTreeMap<usize, (Executable, SectionId)>,
    sequences: Vec<Sequence>,
    next_id: u64,
    slots: usize,
}

/// A sequence under way.
struct Sequence {
    id: SequenceId,
    request: Request,
    /// The prompt and what was added.
    tokens: Vec<u32>,
}

impl Sequence {
    fn added(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }
}

impl Generator {
    /// Uploads the model, for up to `slots` sequences at once.
    ///
    /// # Errors
    /// When the model does not fit the device.
    pub fn new(device: Device, model: InferenceModel, slots: usize) -> Result<Self, Error> {
        let config = &model.config;
        let common = DecodePlans::new(config, &model.table);
        let buffers = common.memory.allocate(&device)?;
        model.upload(&device, &buffers, &common.weights)?;
        let angles = Transformer::rope_angles(config, config.context_length);
        buffers.write(&device, common.io.angles, 0, &angles);
        Ok(Self {
            device,
            model,
            common,
            buffers,
            plans: BTreeMap::new(),
            sequences: Vec::new(),
            next_id: 0,
            slots,
        })
    }

    /// What plans for prompts of `lengths` tokens ask of the tuner on adapters like `target`; longer ones
    /// than the context are cut to it.
    pub fn questions(
        &self,
        target: &Target,
        lengths: std::ops::RangeInclusive<usize>,
    ) -> BTreeSet<Question> {
        let planned: BTreeSet<usize> = lengths.map(|len| self.common.planned_time(len)).collect();
        let plans = planned
            .into_iter()
            .map(|time| self.common.build(target.clone(), time).0);
        plans.flat_map(|plan| plan.questions().clone()).collect()
    }

    /// Makes plans from here on take `choices`.
    pub fn set_choices(&mut self, choices: Choices) {
        self.device = self.device.with_choices(choices);
        self.plans.clear();
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
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
        self.slots
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
        assert!(
            self.active() < self.slots,
            "all {} slots are taken",
            self.slots
        );
        self.check(&request)?;
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let tokens = request.prompt.clone();
        self.sequences.push(Sequence {
            id,
            request,
            tokens,
        });
        Ok(id)
    }

    /// Whether [`Generator::add`] would take a request.
    ///
    /// # Errors
    /// When it would not.
    pub fn check(&self, request: &Request) -> Result<(), DecodeError> {
        check_sampling(&request.sampling)?;
        self.check_tokens(&request.prompt)
    }

    /// Gives a sequence up; its slot is free.
    pub fn cancel(&mut self, id: SequenceId) {
        self.sequences.retain(|sequence| sequence.id != id);
    }

    /// A new token for each sequence under way, in the order in which they were added. A sequence that
    /// has ended is gone.
    ///
    /// # Errors
    /// When the device fails.
    pub fn step(&mut self) -> Result<Vec<(SequenceId, Event)>, Error> {
        let mut events = Vec::new();
        for mut sequence in std::mem::take(&mut self.sequences) {
            match self.advance(&mut sequence)? {
                Event::Token(token) => {
                    events.push((sequence.id, Event::Token(token)));
                    if sequence.added() < sequence.request.max_new_tokens {
                        self.sequences.push(sequence);
                    } else {
                        events.push((sequence.id, Event::Finished(Finish::Length)));
                    }
                }
                last => events.push((sequence.id, last)),
            }
        }
        Ok(events)
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
    pub fn logits(&mut self, window: &[u32]) -> Result<Vec<f32>, Error> {
        self.check_tokens(window)?;
        let context_length = self.config().context_length;
        if window.len() > context_length {
            return Err(DecodeError::TooLong {
                tokens: window.len(),
                context_length,
            }
            .into());
        }
        self.forward(window, &Request::default(), 0)?;
        let vocab_size = self.config().vocab_size;
        Ok(self
            .buffers
            .read(&self.device, self.common.io.logits, 0, vocab_size)?)
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

    fn build(&self, time: usize) -> (Plan, SectionId) {
        self.common.build(self.device.target(), time)
    }

    fn advance(&mut self, sequence: &mut Sequence) -> Result<Event, Error> {
        let context_length = self.config().context_length;
        let Sequence {
            request, tokens, ..
        } = sequence;
        let index = tokens.len() - request.prompt.len();
        if request.max_new_tokens == 0 {
            return Ok(Event::Finished(Finish::Length));
        }
        if request.overflow == Overflow::Stop && tokens.len() > context_length {
            return Ok(Event::Finished(Finish::Context));
        }
        let window = &tokens[tokens.len().saturating_sub(context_length)..];
        self.forward(window, request, index)?;
        let chosen: Vec<u32> = self
            .buffers
            .read(&self.device, self.common.io.chosen, 0, 1)?;
        Ok(match chosen[0] {
            NAN_ROW => Event::Failed(Fault::NotANumber(index)),
            NO_TOKEN => Event::Failed(Fault::NoToken(index)),
            token if Some(token) == request.end => Event::Finished(Finish::End),
            id => {
                tokens.push(id);
                Event::Token(NewToken { id, logprobs: None })
            }
        })
    }

    fn forward(&mut self, window: &[u32], request: &Request, index: usize) -> Result<(), Error> {
        let time = self.common.planned_time(window.len());
        self.buffers
            .write(&self.device, self.common.io.tokens, 0, window);
        let last = crate::gpu::dispatch::word(window.len() - 1);
        self.buffers
            .write(&self.device, self.common.io.last, 0, &[last]);
        let counter = u64::from(request.sample) << 32 | index as u64;
        let settings = request.sampling.words(window.len(), request.seed, counter);
        self.buffers
            .write(&self.device, self.common.io.settings, 0, &settings);
        if !self.plans.contains_key(&time) {
            let (plan, section) = self.build(time);
            let executable = Executable::compile(&plan, &self.device, &self.buffers)?;
            self.plans.insert(time, (executable, section));
        }
        let (executable, section) = &self.plans[&time];
        Ok(executable.run(&self.device, *section)?)
    }
}
