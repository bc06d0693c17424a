//! Draws one token after the other, each from a forward pass over the window so far.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::plan::DecodePlans;
use super::{DecodeError, InferenceModel};
use crate::Error;
use crate::gpu::{Buffers, Choices, Device, Executable, Plan, Question, SectionId, Target};
use crate::kernels::sample::{NAN_ROW, NO_TOKEN, Sampling};
use crate::model::Transformer;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// Tokens to go on from.
    pub prompt: Vec<u32>,
    /// Most tokens to add.
    pub max_new_tokens: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Which of several samples with one seed this is.
    pub sample: u32,
    /// The token that ends a text, if any; it is not part of the result.
    pub end: Option<u32>,
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// New tokens a second.
    pub tokens_per_s: f64,
}

/// A model with its plans, one for each length of window that has come up.
pub struct Generator {
    device: Device,
    model: InferenceModel,
    sampling: Sampling,
    common: DecodePlans,
    buffers: Buffers,
    plans: BTreeMap<usize, (Executable, SectionId)>,
}

impl Generator {
    /// Uploads the model; `sampling` is checked.
    ///
    /// # Errors
    /// When a parameter of the sampling is out of range, or the model does not fit the device.
    pub fn new(device: Device, model: InferenceModel, sampling: Sampling) -> Result<Self, Error> {
        check_sampling(&sampling)?;
        let config = &model.config;
        let common = DecodePlans::new(config, &model.table);
        let buffers = common.memory.allocate(&device)?;
        model.upload(&device, &buffers, &common.weights)?;
        let angles = Transformer::rope_angles(config, config.context_length);
        buffers.write(&device, common.io.angles, 0, &angles);
        Ok(Self {
            device,
            model,
            sampling,
            common,
            buffers,
            plans: BTreeMap::new(),
        })
    }

    /// What plans for windows of `lengths` tokens ask of the tuner on adapters like `target`; longer ones
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

    /// Generates from `request`, calling `on_token` with each new token. A window longer than the
    /// context keeps its last `context_length` tokens.
    ///
    /// # Errors
    /// When the prompt is empty or holds an unknown token, or the device fails.
    pub fn generate(
        &mut self,
        request: &Request,
        mut on_token: impl FnMut(u32),
    ) -> Result<Generated, Error> {
        self.check_prompt(&request.prompt)?;
        let context_length = self.model.config.context_length;
        let mut text = request.prompt.clone();
        let started = Instant::now();
        for index in 0..request.max_new_tokens {
            let window = &text[text.len().saturating_sub(context_length)..];
            let token = self.next_token(window, request, index)?;
            if Some(token) == request.end {
                break;
            }
            on_token(token);
            text.push(token);
        }
        let tokens = text.split_off(request.prompt.len());
        let tokens_per_s = tokens.len() as f64 / started.elapsed().as_secs_f64();
        Ok(Generated {
            tokens,
            tokens_per_s,
        })
    }

    /// Logits `[vocab]` of the token that follows `window`.
    ///
    /// # Errors
    /// When the window is empty or longer than the context, or the device fails.
    pub fn logits(&mut self, window: &[u32]) -> Result<Vec<f32>, Error> {
        self.check_prompt(window)?;
        self.forward(window, 0, 0)?;
        Ok(self.buffers.read(
            &self.device,
            self.common.io.logits,
            0,
            self.model.config.vocab_size,
        )?)
    }

    fn check_prompt(&self, prompt: &[u32]) -> Result<(), DecodeError> {
        let vocab_size = self.model.config.vocab_size;
        if prompt.is_empty() {
            return Err(DecodeError::EmptyPrompt);
        }
        match prompt
            .iter()
            .position(|&token| token as usize >= vocab_size)
        {
            None => Ok(()),
            Some(position) => Err(DecodeError::OutsideVocab {
                token: prompt[position],
                position,
                vocab_size,
            }),
        }
    }

    fn build(&self, time: usize) -> (Plan, SectionId) {
        self.common.build(self.device.target(), time)
    }

    fn next_token(
        &mut self,
        window: &[u32],
        request: &Request,
        index: usize,
    ) -> Result<u32, Error> {
        let counter = u64::from(request.sample) << 32 | index as u64;
        self.forward(window, request.seed, counter)?;
        let chosen: Vec<u32> = self
            .buffers
            .read(&self.device, self.common.io.chosen, 0, 1)?;
        match chosen[0] {
            NAN_ROW => Err(DecodeError::NotANumber(index).into()),
            NO_TOKEN => Err(DecodeError::NoToken(index).into()),
            token => Ok(token),
        }
    }

    fn forward(&mut self, window: &[u32], seed: u64, counter: u64) -> Result<(), Error> {
        let context_length = self.model.config.context_length;
        if window.len() > context_length {
            return Err(DecodeError::TooLong {
                tokens: window.len(),
                context_length,
            }
            .into());
        }
        let time = self.common.planned_time(window.len());
        self.buffers
            .write(&self.device, self.common.io.tokens, 0, window);
        let last = crate::gpu::dispatch::word(window.len() - 1);
        self.buffers
            .write(&self.device, self.common.io.last, 0, &[last]);
        let settings = self.sampling.words(window.len(), seed, counter);
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

fn check_sampling(sampling: &Sampling) -> Result<(), DecodeError> {
    let out_of_range =
        |name, value: String, rule| Err(DecodeError::OutOfRange { name, value, rule });
    let temperature = sampling.temperature;
    if !(temperature.is_finite() && temperature >= 0.0) {
        return out_of_range(
            "temperature",
            temperature.to_string(),
            "a number of at least 0",
        );
    }
    if sampling.top_k == Some(0) {
        return out_of_range("top-k", "0".to_owned(), "at least 1");
    }
    if let Some(p) = sampling.top_p.filter(|&p| !(p > 0.0 && p <= 1.0)) {
        return out_of_range("top-p", p.to_string(), "over 0 and at most 1");
    }
    if let Some(p) = sampling.min_p.filter(|p| !(0.0..=1.0).contains(p)) {
        return out_of_range("min-p", p.to_string(), "at least 0 and at most 1");
    }
    let penalty = sampling.repetition_penalty;
    if !(penalty.is_finite() && penalty > 0.0) {
        return out_of_range("repetition-penalty", penalty.to_string(), "a number over 0");
    }
    Ok(())
}
