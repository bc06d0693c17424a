//! The passes of decoding on a device: what goes in, one replay of a plan, and what comes out.

use std::collections::BTreeMap;
use std::iter::repeat_n;

use super::InferenceModel;
use super::generator::Drawn;
use super::plan::{DecodePlan, DecodePlans, HeadAt, Prefill, Step};
use super::request::{Request, TokenLogprobs};
use crate::Error;
use crate::config::ModelConfig;
use crate::gpu::dispatch::word;
use crate::gpu::recorder::Recorder;
use crate::gpu::{
    Buffers, Choices, Device, DispatchTime, Executable, PersistentId, Readback, SectionId, Tensor,
};
use crate::kernels::attention_cache::NO_SLOT;
use crate::kernels::logprobs::{MAX_TOP, NO_TOKEN, row_words};
use crate::kernels::sample::SETTINGS_WORDS;
use crate::model::positions::position_words;

/// The plans of a model, compiled as they come up, and its memory.
pub(super) struct Passes {
    device: Device,
    config: ModelConfig,
    plans: DecodePlans,
    buffers: Buffers,
    prefills: BTreeMap<Prefill, Compiled>,
    steps: BTreeMap<Step, Compiled>,
    attentions: BTreeMap<(usize, HeadAt), (Compiled, Tensor)>,
    readback: Readback,
}

struct Compiled {
    executable: Executable,
    section: SectionId,
}

/// One sequence's part of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Its newest token.
    pub(super) token: u32,
    pub(super) slot: u32,
    /// Position of that token.
    pub(super) position: usize,
    /// The tokens up to it: what a pass over a prompt takes, and what a repetition penalty is for.
    pub(super) window: &'a [u32],
    pub(super) request: &'a Request,
    /// Number of the new token, from zero on.
    pub(super) index: usize,
}

impl Row<'_> {
    fn settings(&self) -> [u32; SETTINGS_WORDS] {
        let Request {
            sampling,
            seed,
            sample,
            ..
        } = self.request;
        let counter = u64::from(*sample) << 32 | self.index as u64;
        sampling.words(self.window.len(), *seed, counter)
    }

    fn is_penalised(&self) -> bool {
        self.request.sampling.repetition_penalty != 1.0
    }
}

impl Passes {
    pub(super) fn new(
        device: Device,
        model: &InferenceModel,
        plans: DecodePlans,
    ) -> Result<Self, Error> {
        let config = model.config.clone();
        let memory = &plans.memory;
        let buffers = memory.memory.allocate(&device)?;
        model.upload(&device, &buffers, &memory.weights)?;
        let positions = position_words(&config, 0..config.context_length);
        buffers.write(&device, memory.io.positions, 0, &positions);
        let load = plans.load(device.target());
        if !load.plan.all_dispatches().is_empty() {
            let loaded = compile(&load, &device, &buffers)?;
            loaded.executable.run(&device, loaded.section)?;
            device.wait()?;
        }
        let readback = Readback::new(memory.slots);
        Ok(Self {
            device,
            config,
            plans,
            buffers,
            prefills: BTreeMap::new(),
            steps: BTreeMap::new(),
            attentions: BTreeMap::new(),
            readback,
        })
    }

    pub(super) fn plans(&self) -> &DecodePlans {
        &self.plans
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn slots(&self) -> usize {
        self.plans.memory.slots
    }

    pub(super) fn set_choices(&mut self, choices: Choices) {
        self.device = self.device.with_choices(choices);
        self.prefills.clear();
    }

    /// A pass over a row's window, whose keys and values its slot then holds: what was drawn, and the
    /// log-probabilities of all tokens of the window but the first if they are wanted.
    pub(super) fn prefill(
        &mut self,
        row: Row<'_>,
        prompt_logprobs: bool,
    ) -> Result<(Drawn, Option<Vec<TokenLogprobs>>), Error> {
        let io = self.plans.memory.io;
        let window = row.window;
        let prefill = Prefill {
            time: self.plans.planned_time(window.len()),
            logprobs: row.request.logprobs.is_some(),
            prompt_logprobs,
        };
        self.write(io.prompt, window);
        self.write(io.last, &[word(window.len() - 1)]);
        self.write(io.place, &[row.slot, 0]);
        self.write(io.settings, &row.settings());
        if prompt_logprobs {
            self.write(io.targets, &window[1..]);
        }
        if !self.prefills.contains_key(&prefill) {
            let plan = self.plans.prefill(self.device.target(), prefill);
            let compiled = compile(&plan, &self.device, &self.buffers)?;
            self.prefills.insert(prefill, compiled);
        }
        let chosen = replay(
            &self.prefills[&prefill],
            (&self.device, &self.buffers),
            (&mut self.readback, io.chosen),
        )?;
        let top = row.request.logprobs;
        let logprobs = match top {
            Some(_) => self.read_logprobs(io.logprobs, 1, top)?.pop(),
            None => None,
        };
        let of_prompt = match prompt_logprobs {
            true => Some(self.read_logprobs(io.prompt_logprobs, window.len() - 1, top)?),
            false => None,
        };
        let drawn = Drawn {
            token: chosen[0],
            logprobs,
        };
        Ok((drawn, of_prompt))
    }

    /// A pass over the newest tokens of all rows.
    pub(super) fn step(&mut self, rows: &[Row<'_>]) -> Result<Vec<Drawn>, Error> {
        let step = Step {
            rows: self.plans.planned_rows(rows.len()),
            logprobs: rows.iter().any(|row| row.request.logprobs.is_some()),
        };
        self.write_rows(rows, step.rows);
        self.compile_step(step)?;
        let io = self.plans.memory.io;
        let chosen = replay(
            &self.steps[&step],
            (&self.device, &self.buffers),
            (&mut self.readback, io.chosen),
        )?;
        let logprobs = match step.logprobs {
            true => self.read_logprobs(io.logprobs, rows.len(), Some(MAX_TOP))?,
            false => Vec::new(),
        };
        let mut logprobs = logprobs.into_iter();
        let drawn = rows.iter().zip(chosen).map(|(row, token)| {
            let all = logprobs.next();
            let logprobs = row.request.logprobs.and_then(|top| {
                let mut own = all?;
                own.top.truncate(top);
                Some(own)
            });
            Drawn { token, logprobs }
        });
        Ok(drawn.collect())
    }

    /// The weights that each of `window` gives to each by one head, `[window, window]`.
    pub(super) fn attention(&mut self, window: &[u32], at: HeadAt) -> Result<Vec<f32>, Error> {
        self.write(self.plans.memory.io.prompt, window);
        let time = self.plans.planned_time(window.len());
        let key = (time, at);
        if !self.attentions.contains_key(&key) {
            let (plan, output) = self.plans.attention(self.device.target(), time, at);
            let compiled = compile(&plan, &self.device, &self.buffers)?;
            // Heads come up one after the other, as somebody looks at them.
            self.attentions.clear();
            self.attentions.insert(key, (compiled, output));
        }
        let (compiled, output) = &self.attentions[&key];
        compiled.executable.run(&self.device, compiled.section)?;
        // Nothing of the pass comes after them and could take their memory.
        let all: Vec<f32> = compiled.executable.read_scratch(&self.device, *output)?;
        let rows = all.chunks(time).take(window.len());
        Ok(rows.flat_map(|row| &row[..window.len()]).copied().collect())
    }

    /// The device time of each dispatch of a step over `rows`; what it draws is not read.
    pub(super) fn profile_step(&mut self, rows: &[Row<'_>]) -> Result<Vec<DispatchTime>, Error> {
        let step = Step::of(self.plans.planned_rows(rows.len()));
        self.write_rows(rows, step.rows);
        self.compile_step(step)?;
        let compiled = &self.steps[&step];
        let record = |recorder: &mut Recorder<'_>| recorder.replay(compiled.section);
        let times = compiled.executable.submit_profiled(&self.device, record);
        Ok(times?)
    }

    fn compile_step(&mut self, step: Step) -> Result<(), Error> {
        if !self.steps.contains_key(&step) {
            let plan = self.plans.step(self.device.target(), step);
            let compiled = compile(&plan, &self.device, &self.buffers)?;
            self.steps.insert(step, compiled);
        }
        Ok(())
    }

    /// The logits `[vocab]` of the last pass's first row.
    pub(super) fn read_logits(&self) -> Result<Vec<f32>, Error> {
        let (logits, vocab_size) = (self.plans.memory.io.logits, self.config.vocab_size);
        Ok(self.buffers.read(&self.device, logits, 0, vocab_size)?)
    }

    /// Writes what a step reads of `rows`, and fills them up to `planned` with rows of no sequence.
    fn write_rows(&self, rows: &[Row<'_>], planned: usize) {
        let io = self.plans.memory.io;
        let mut tokens: Vec<u32> = rows.iter().map(|row| row.token).collect();
        tokens.resize(planned, 0);
        let place = |row: &Row<'_>| [row.slot, word(row.position)];
        let mut places: Vec<[u32; 2]> = rows.iter().map(place).collect();
        places.resize(planned, [NO_SLOT, 0]);
        let mut settings: Vec<[u32; SETTINGS_WORDS]> = rows.iter().map(Row::settings).collect();
        settings.resize(planned, Request::default().sampling.words(0, 0, 0));
        let positions = rows.iter().map(|row| row.position);
        let positions = positions.chain(repeat_n(0, planned - rows.len()));
        let positions = position_words(&self.config, positions);
        self.write(io.tokens, &tokens);
        self.write(io.places, places.as_flattened());
        self.write(io.settings, settings.as_flattened());
        self.write(io.row_positions, &positions);
        for (number, row) in rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.is_penalised())
        {
            let first = number * self.config.context_length;
            self.buffers
                .write(&self.device, io.context, first, row.window);
        }
    }

    fn write<T: bytemuck::NoUninit>(&self, id: PersistentId, data: &[T]) {
        self.buffers.write(&self.device, id, 0, data);
    }

    /// Log-probabilities of `rows` rows, with the `top` likeliest tokens of each.
    fn read_logprobs(
        &self,
        id: PersistentId,
        rows: usize,
        top: Option<usize>,
    ) -> Result<Vec<TokenLogprobs>, Error> {
        let words = row_words(MAX_TOP);
        let all: Vec<u32> = self.buffers.read(&self.device, id, 0, rows * words)?;
        let row = |row: &[u32]| {
            let (own, likeliest) = row.split_at(1);
            let (ids, logprobs) = likeliest.split_at(MAX_TOP);
            let logprobs = logprobs.iter().map(|&bits| f32::from_bits(bits));
            let top = ids.iter().copied().zip(logprobs).take(top.unwrap_or(0));
            TokenLogprobs {
                logprob: f32::from_bits(own[0]),
                top: top.filter(|&(id, _)| id != NO_TOKEN).collect(),
            }
        };
        Ok(all.chunks_exact(words).map(row).collect())
    }
}

fn compile(plan: &DecodePlan, device: &Device, buffers: &Buffers) -> Result<Compiled, Error> {
    Ok(Compiled {
        executable: Executable::compile(&plan.plan, device, buffers)?,
        section: plan.section,
    })
}

/// Replays a plan, and gives the words of `source` after it.
fn replay(
    compiled: &Compiled,
    (device, buffers): (&Device, &Buffers),
    (readback, source): (&mut Readback, PersistentId),
) -> Result<Vec<u32>, Error> {
    let record = |recorder: &mut Recorder<'_>| recorder.replay(compiled.section);
    compiled
        .executable
        .submit_and_read(device, readback, (buffers, source), record)?;
    let taken = readback.take(device)?;
    Ok(taken.expect("a result was asked for"))
}
