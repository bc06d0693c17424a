//! Measures the parts of a page one after the other; none takes the others down with it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::budget::{Budget, Kind};
use super::date;
use super::page::{
    CheckFigures, Entry, FORMAT, GenerationFigures, KernelCheck, Outcome, Page, ProductFigures,
    TrainingFigures,
};
use super::parts::{self, CEILINGS_S, CHECKED_STEPS_S, Part, Shape, Speed};
use crate::Error;
use crate::bench::train::{BATCH_SIZE, Model, run as run_steps};
use crate::bench::{BenchError, Ceilings, report};
use crate::check::step::train_config;
use crate::check::{self, SkippedBy};
use crate::config::{ModelConfig, Precision};
use crate::decode::{Generator, InferenceModel, Request};
use crate::gpu::{AdapterClass, Device, GpuError};
use crate::kernels::sample::Sampling;
use crate::train::step_plan::StepPlan;
use crate::tuner;

/// How a page is measured.
pub struct Options<'a> {
    /// Seconds after which no part begins, and no part begins that would take longer.
    pub budget_s: f64,
    /// How kernels are chosen.
    pub tuning: tuner::Options,
    /// Set from outside to end after the part that runs.
    pub stop: &'a AtomicBool,
}

/// Measures every part that fits the budget on `device`. `reopen` gives a fresh one after a part has lost
/// it. `note` gets the page after each part that was not left out, with a line on the part, so that what
/// was measured can be kept at once.
///
/// # Errors
/// Those of `note`; a part that fails is on the page.
pub fn run(
    device: Device,
    reopen: &dyn Fn() -> Result<Device, GpuError>,
    options: &Options<'_>,
    note: &mut dyn FnMut(&Page, &str) -> Result<(), Error>,
) -> Result<Page, Error> {
    let parts = parts::all();
    let mut run = Run {
        page: empty_page(&device, options, &parts),
        device,
        reopen,
        spare: RefCell::default(),
        options,
        budget: Budget::new(options.budget_s),
        started: Instant::now(),
    };
    for (index, &part) in parts.iter().enumerate() {
        let said = run.part(part);
        run.page.elapsed_s = Some(run.elapsed_s());
        let Some(said) = said else { continue };
        note(
            &run.page,
            &format!("{} of {}: {said}", index + 1, parts.len()),
        )?;
    }
    Ok(run.page)
}

struct Run<'a> {
    page: Page,
    device: Device,
    reopen: &'a dyn Fn() -> Result<Device, GpuError>,
    /// Further devices that the check runs rows on, kept from one block of rows to the next.
    spare: RefCell<Vec<Device>>,
    options: &'a Options<'a>,
    budget: Budget,
    started: Instant,
}

/// A page on which nothing was measured yet.
fn empty_page(device: &Device, options: &Options<'_>, parts: &[Part]) -> Page {
    let mut page = Page {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: date::today(),
        adapter: device.name().to_owned(),
        driver: device.driver(),
        backend: device.backend(),
        software: device.class() == AdapterClass::Software,
        memory_bytes: device.memory_bytes(),
        system: system(),
        host_cores: std::thread::available_parallelism().ok().map(usize::from),
        budget_minutes: Some(options.budget_s / 60.0),
        elapsed_s: None,
        notes: Vec::new(),
        check: not_reached(),
        ceilings: not_reached(),
        training: Vec::new(),
        generation: Vec::new(),
        products: Vec::new(),
    };
    for &part in parts {
        match part {
            Part::Ceilings | Part::Check => (),
            Part::Training(model, precision) => {
                page.training.push(entry(model.name(), precision));
            }
            Part::Generation(model, precision) => {
                page.generation.push(entry(model.name(), precision));
            }
            Part::Product(shape, precision) => {
                page.products.push(entry(&shape.name(), precision));
            }
        }
    }
    page
}

fn not_reached<T>() -> Outcome<T> {
    skipped("the run ended before it")
}

fn skipped<T>(reason: impl Into<String>) -> Outcome<T> {
    Outcome::Skipped {
        reason: reason.into(),
    }
}

fn entry<T>(name: &str, precision: Precision) -> Entry<T> {
    Entry {
        name: name.to_owned(),
        precision,
        outcome: not_reached(),
    }
}

/// Name and architecture of the operating system; on Linux with the distribution, where it says.
fn system() -> String {
    let (name, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let pretty = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    match pretty.map(|pretty| pretty.trim_matches('"')) {
        Some(pretty) => format!("{pretty}, {name} {architecture}"),
        None => format!("{name} {architecture}"),
    }
}

impl Run<'_> {
    /// Measures or skips a part, puts it on the page, and says what became of it where it began.
    fn part(&mut self, part: Part) -> Option<String> {
        match part {
            Part::Ceilings => {
                let outcome = self.measure(Kind::Ceilings, CEILINGS_S, Self::ceilings);
                let said = say("ceilings", None, &outcome, |c| {
                    format!(
                        "{:.0} GFLOP/s multiply-add, {:.0} GB/s copy",
                        c.fma_gflops, c.copy_gb_per_s
                    )
                });
                self.page.ceilings = outcome;
                said
            }
            Part::Check => {
                let outcome = match self.refused() {
                    Some(reason) => skipped(reason),
                    None => self.outcome(Self::check),
                };
                let said = say("check", None, &outcome, |c| {
                    format!("{} of {} passed", c.passed, c.passed + c.failed)
                });
                self.page.check = outcome;
                said
            }
            Part::Training(model, precision) => {
                let outcome = self.training(model, precision);
                let what = format!("training {}", model.name());
                let said = say(&what, Some(precision), &outcome, |f| tokens(f.tokens_per_s));
                put(&mut self.page.training, model.name(), precision, outcome);
                said
            }
            Part::Generation(model, precision) => {
                let config = parts::config(model, precision);
                let estimate_s = self.speed().generation_s(&config);
                let outcome =
                    self.measure(Kind::Generation, estimate_s, |run| run.generate(&config));
                let what = format!("generation {}", model.name());
                let said = say(&what, Some(precision), &outcome, |f| tokens(f.tokens_per_s));
                put(&mut self.page.generation, model.name(), precision, outcome);
                said
            }
            Part::Product(shape, precision) => {
                let outcome = self.product(&shape, precision);
                let name = shape.name();
                let what = format!("product {name}");
                let said = say(&what, Some(precision), &outcome, |figures| {
                    let gflops = figures.fastest().and_then(|row| row.gflops);
                    gflops.map_or("wrong outputs".to_owned(), |g| format!("{g:.0} GFLOP/s"))
                });
                put(&mut self.page.products, &name, precision, outcome);
                said
            }
        }
    }

    fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn is_stopped(&self) -> bool {
        self.options.stop.load(Ordering::Relaxed)
    }

    /// Why nothing more may begin.
    fn refused(&self) -> Option<String> {
        if self.is_stopped() {
            return Some("the run was stopped before it".to_owned());
        }
        self.budget.refusal(Kind::Ceilings, 0.0, self.elapsed_s())
    }

    fn speed(&self) -> Speed {
        let tunes = !self.options.tuning.off && self.options.tuning.forced.is_empty();
        Speed::new(self.device.class(), self.page.ceilings.figures(), tunes)
    }

    /// Runs a part where the budget has room for its estimate.
    fn measure<T>(
        &mut self,
        kind: Kind,
        estimate_s: f64,
        part: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Outcome<T> {
        let refusal = self.refused();
        let refusal = refusal.or_else(|| self.budget.refusal(kind, estimate_s, self.elapsed_s()));
        if let Some(reason) = refusal {
            return skipped(reason);
        }
        let began_s = self.elapsed_s();
        let outcome = self.outcome(part);
        if outcome.figures().is_some() {
            self.budget
                .note(kind, estimate_s, self.elapsed_s() - began_s);
        }
        outcome
    }

    /// Runs a part, whatever becomes of it. What the adapter cannot do is skipped and no failure.
    fn outcome<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T, Error>) -> Outcome<T> {
        let result = self.mend().map_err(Error::from).and_then(|()| part(self));
        match result {
            Ok(figures) => Outcome::Measured(figures),
            Err(error) => {
                let text = error.to_string();
                if is_unsupported(&error) {
                    skipped(text)
                } else {
                    Outcome::Failed { error: text }
                }
            }
        }
    }

    /// A device that was lost stays so: it is opened anew before the next part.
    fn mend(&mut self) -> Result<(), GpuError> {
        if self.device.wait().is_err() {
            self.device = (self.reopen)()?;
        }
        Ok(())
    }

    fn ceilings(&mut self) -> Result<Ceilings, Error> {
        Ok(report::run(&self.device, &[], |_| ())?.ceilings)
    }

    /// Checks the table row by row until it has used its share of the budget, and then whole steps.
    fn check(&mut self) -> Result<CheckFigures, Error> {
        /// What the check may take of the budget.
        const SHARE: f64 = 0.4;
        let (began_s, until_s) = (
            self.elapsed_s(),
            self.elapsed_s() + SHARE * self.budget.total_s(),
        );
        // On a software adapter a row takes a fraction of a second.
        let at_once = match self.device.class() {
            AdapterClass::Gpu => 256,
            AdapterClass::Software => 32,
        };
        let rows = by_turns(check::all_rows());
        let (mut found, mut ran, mut left_out) = (check::Report::default(), 0, Vec::new());
        let mut broken = None;
        for block in rows.chunks(at_once) {
            if self.is_stopped() || self.elapsed_s() >= until_s {
                break;
            }
            match self.check_block(block, false, &mut found) {
                Ok(()) => ran += block.len(),
                Err(error) if found.rows.is_empty() => return Err(error.into()),
                Err(error) => {
                    broken = Some(error.to_string());
                    break;
                }
            }
        }
        let why = |run: &Self| match (&broken, run.is_stopped()) {
            (Some(error), _) => error.clone(),
            (None, true) => "the run was stopped before them".to_owned(),
            (None, false) => format!("the check takes {:.0} % of the time budget", 100.0 * SHARE),
        };
        if ran < rows.len() {
            let left = rows.len() - ran;
            left_out.push(format!("{left} of {} rows: {}", rows.len(), why(self)));
        }
        if broken.is_some() || self.is_stopped() || self.elapsed_s() + CHECKED_STEPS_S > until_s {
            left_out.push(format!("whole training steps: {}", why(self)));
        } else if let Err(error) = self.check_block(&[], true, &mut found) {
            left_out.push(format!("whole training steps: {error}"));
        }
        Ok(check_figures(&found, left_out, self.elapsed_s() - began_s))
    }

    fn check_block(
        &mut self,
        rows: &[check::Row],
        with_step: bool,
        found: &mut check::Report,
    ) -> Result<(), GpuError> {
        self.mend()?;
        let taken = Cell::new(0);
        let reopen = || self.spare(taken.replace(taken.get() + 1));
        let block = check::run(&self.device, rows, with_step, reopen, || ())?;
        found.rows.extend(block.rows);
        found.skipped.extend(block.skipped);
        Ok(())
    }

    /// The spare device of this index, which must not be beyond the next one; one that was lost is opened
    /// anew.
    fn spare(&self, index: usize) -> Result<Device, GpuError> {
        let mut spare = self.spare.borrow_mut();
        if let Some(known) = spare.get(index)
            && known.wait().is_ok()
        {
            return Ok(known.clone());
        }
        let opened = (self.reopen)()?;
        spare.truncate(index);
        spare.push(opened.clone());
        Ok(opened)
    }

    fn training(&mut self, model: Model, precision: Precision) -> Outcome<TrainingFigures> {
        let config = parts::config(model, precision);
        let needed_bytes = parts::training_bytes(&config, self.device.target());
        if let Some(reason) = parts::too_large(needed_bytes, self.device.memory_bytes()) {
            return skipped(reason);
        }
        let estimate_s = self.speed().training_s(&config);
        self.measure(Kind::Training, estimate_s, |run| run.train(&config))
    }

    fn train(&mut self, model: &ModelConfig) -> Result<TrainingFigures, Error> {
        let train = train_config(BATCH_SIZE, BATCH_SIZE);
        let plan = StepPlan::new(model, &train, self.device.target()).plan;
        let tuned = tuner::tune_plan(&self.device, &self.options.tuning, &plan)?.device;
        let report = run_steps(&tuned, model, BATCH_SIZE)?;
        let ceilings = self.page.ceilings.figures();
        Ok(TrainingFigures {
            tokens_per_s: report.tokens_per_s,
            ms_per_step: report.ms_per_step,
            spread: Some(report.spread),
            steps: Some(report.steps),
            gflops: report.gflops,
            share_of_ceiling: ceilings.map(|ceilings| report.gflops / ceilings.fma_gflops),
            matmul_gflops: Some(report.matmul_gflops),
            host_share: Some(report.host_share),
            peak_device_bytes: report.peak_device_bytes,
            planned_device_bytes: Some(report.planned_device_bytes),
            first_step_s: Some(report.first_step_s),
        })
    }

    fn generate(&mut self, model: &ModelConfig) -> Result<GenerationFigures, Error> {
        const PROMPT: usize = 16;
        const SEED: u64 = 1;
        let weights = InferenceModel::initial(model, SEED, self.device.target().max_binding_words);
        let sampling = Sampling {
            temperature: 1.0,
            top_k: None,
            top_p: None,
        };
        let mut generator = Generator::new(self.device.clone(), weights, sampling)?;
        let new_tokens = model.context_length - PROMPT;
        let questions = generator.questions(PROMPT..=model.context_length - 1);
        let tuned = tuner::tune(generator.device(), &self.options.tuning, &questions)?;
        generator.set_choices(tuned.device.choices().clone());
        let request = |len: usize, max_new_tokens: usize| Request {
            prompt: vec![0; len],
            max_new_tokens,
            seed: SEED,
            sample: 0,
            end: None,
        };
        // A token by each plan that comes up, so that none is compiled in between.
        let lengths = (0..usize::BITS).map(|bit| PROMPT << bit);
        for len in lengths.take_while(|&len| len < model.context_length) {
            generator.generate(&request(len + 1, 1), |_| ())?;
        }
        generator.generate(&request(PROMPT, 1), |_| ())?;
        let generated = generator.generate(&request(PROMPT, new_tokens), |_| ())?;
        Ok(GenerationFigures {
            prompt_tokens: Some(PROMPT),
            new_tokens: generated.tokens.len(),
            tokens_per_s: generated.tokens_per_s,
        })
    }

    fn product(&mut self, shape: &Shape, precision: Precision) -> Outcome<ProductFigures> {
        let class = self.device.class();
        if shape.for_gpus_alone && class == AdapterClass::Software {
            return skipped("too much for an adapter that runs shaders on the CPU");
        }
        let rows = shape.rows(&self.device.target(), precision);
        if rows.is_empty() {
            return skipped("no kernel for adapters like this one takes such operands");
        }
        let estimate_s = self.speed().product_s(shape, rows.len());
        self.measure(Kind::Products, estimate_s, |run| {
            let ceilings = run.page.ceilings.figures();
            let timed = rows
                .iter()
                .map(|row| report::run_row(&run.device, row, ceilings));
            let kernels = timed.collect::<Result<Vec<_>, BenchError>>()?;
            Ok(ProductFigures { kernels })
        })
    }
}

fn is_unsupported(error: &Error) -> bool {
    match error {
        Error::Gpu(error) | Error::Bench(BenchError::Gpu(error)) => error.is_unsupported(),
        _ => false,
    }
}

/// The first row of each kernel, then the second of each, and so on, large ones last: a check that is cut
/// short has then seen every kernel.
fn by_turns(rows: Vec<check::Row>) -> Vec<check::Row> {
    let mut turns = HashMap::new();
    let mut with_turn: Vec<(usize, check::Row)> = rows
        .into_iter()
        .map(|row| {
            let turn = turns.entry(row.kernel.label()).or_insert(0);
            *turn += 1;
            (*turn, row)
        })
        .collect();
    with_turn.sort_by_key(|(turn, row)| (row.is_large(), *turn));
    with_turn.into_iter().map(|(_, row)| row).collect()
}

fn check_figures(found: &check::Report, left_out: Vec<String>, seconds: f64) -> CheckFigures {
    let skipped = |by| found.skipped.iter().filter(|row| row.by == by).count();
    let failures = found.failures().map(|row| {
        let failure = row.failure.as_deref().unwrap_or_default();
        format!(
            "{}.{} {} ({}): {failure}",
            row.kernel, row.variant, row.shape, row.class
        )
    });
    let kernels = found.by_kernel().into_iter().filter_map(|rows| {
        let nearest = rows
            .iter()
            .max_by(|a, b| a.nearness().total_cmp(&b.nearness()))?;
        Some(KernelCheck {
            kernel: format!("{}.{}", nearest.kernel, nearest.variant),
            rows: rows.len(),
            failed: rows.iter().filter(|row| !row.ok).count(),
            worst: nearest.worst,
            tolerance: nearest.tolerance,
        })
    });
    CheckFigures {
        passed: found.passed(),
        failed: found.failures().count(),
        skipped_for_adapter: skipped(SkippedBy::Adapter),
        skipped_for_kernel: skipped(SkippedBy::Shape),
        seconds,
        left_out,
        failures: failures.collect(),
        kernels: kernels.collect(),
    }
}

fn put<T>(entries: &mut [Entry<T>], name: &str, precision: Precision, outcome: Outcome<T>) {
    let same = |entry: &&mut Entry<T>| (entry.name.as_str(), entry.precision) == (name, precision);
    if let Some(entry) = entries.iter_mut().find(same) {
        entry.outcome = outcome;
    }
}

fn tokens(per_s: f64) -> String {
    format!("{per_s:.0} tokens/s")
}

/// A line on a part that began.
fn say<T>(
    what: &str,
    precision: Option<Precision>,
    outcome: &Outcome<T>,
    figures: impl Fn(&T) -> String,
) -> Option<String> {
    let precision = precision.map_or(String::new(), |p| format!(", {}", p.name()));
    let became = match outcome {
        Outcome::Measured(measured) => figures(measured),
        Outcome::Skipped { reason } => {
            tracing::debug!("{what}{precision}: left out: {reason}");
            return None;
        }
        Outcome::Failed { error } => format!("failed: {error}"),
    };
    Some(format!("{what}{precision}: {became}"))
}
