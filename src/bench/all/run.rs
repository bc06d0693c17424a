//! Measures the parts of a page one after the other; none takes the others down with it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use chrono::Utc;

use super::budget::{Budget, Kind};
use super::page::{
    Entry, FORMAT, GenerationFigures, Outcome, Page, ProductFigures, TrainingFigures,
};
use super::parts::{self, CEILINGS_S, Part, Shape, Speed};
use crate::Error;
use crate::bench::train::{BATCH_SIZE, Model, run as run_steps};
use crate::bench::{BenchError, Ceilings, report};
use crate::check::step::train_config;
use crate::config::{ModelConfig, Precision};
use crate::decode::{Generator, InferenceModel, Request};
use crate::gpu::{AdapterClass, Device, GpuError};
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
    let mut run = Run::new(device, reopen, options, &parts);
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

pub(super) struct Run<'a> {
    page: Page,
    pub(super) device: Device,
    pub(super) reopen: &'a dyn Fn() -> Result<Device, GpuError>,
    /// Further devices that the check runs rows on, kept from one block of rows to the next.
    pub(super) spare: RefCell<Vec<Device>>,
    options: &'a Options<'a>,
    pub(super) budget: Budget,
    started: Instant,
}

/// A page on which nothing was measured yet.
fn empty_page(device: &Device, options: &Options<'_>, parts: &[Part]) -> Page {
    let mut page = Page {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: Utc::now().date_naive().to_string(),
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

impl<'a> Run<'a> {
    fn new(
        device: Device,
        reopen: &'a dyn Fn() -> Result<Device, GpuError>,
        options: &'a Options<'a>,
        parts: &[Part],
    ) -> Self {
        Self {
            page: empty_page(&device, options, parts),
            device,
            reopen,
            spare: RefCell::default(),
            options,
            budget: Budget::new(options.budget_s),
            started: Instant::now(),
        }
    }

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

    pub(super) fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    pub(super) fn is_stopped(&self) -> bool {
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
    pub(super) fn mend(&mut self) -> Result<(), GpuError> {
        if self.device.wait().is_err() {
            self.device = (self.reopen)()?;
        }
        Ok(())
    }

    fn ceilings(&mut self) -> Result<Ceilings, Error> {
        Ok(report::run(&self.device, &[], |_| ())?.ceilings)
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
        let plan = |target| StepPlan::new(model, &train, target).plan;
        let tuned = tuner::tune_plan(&self.device, &self.options.tuning, plan)?.device;
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
        let mut generator = Generator::new(self.device.clone(), weights, 1)?;
        let new_tokens = model.context_length - PROMPT;
        let lengths = PROMPT..=model.context_length - 1;
        // As the command does it, of which these are the figures.
        let options = tuner::Options {
            short_run: true,
            ..self.options.tuning.clone()
        };
        let tuned = tuner::tune(generator.device(), &options, |device| {
            Ok(generator.questions(&device.target(), lengths))
        })?;
        generator.set_choices(tuned.device.choices().clone());
        let request = |len: usize, max_new_tokens: usize| Request {
            prompt: vec![0; len],
            max_new_tokens,
            seed: SEED,
            ..Request::default()
        };
        // A token by each plan that comes up, so that none is compiled in between.
        let lengths = (0..usize::BITS).map(|bit| PROMPT << bit);
        for len in lengths.take_while(|&len| len < model.context_length) {
            generator.generate(request(len + 1, 1), |_| ())?;
        }
        generator.generate(request(PROMPT, 1), |_| ())?;
        let started = Instant::now();
        let (tokens, _) = generator.generate(request(PROMPT, new_tokens), |_| ())?;
        Ok(GenerationFigures {
            prompt_tokens: Some(PROMPT),
            new_tokens: tokens.len(),
            tokens_per_s: tokens.len() as f64 / started.elapsed().as_secs_f64(),
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

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::gpu::DeviceOptions;

    #[test]
    fn a_part_that_fails_is_told_and_the_next_one_runs() {
        let open = || Device::open(&DeviceOptions::default());
        let stop = AtomicBool::new(false);
        let options = Options {
            budget_s: 1000.0,
            tuning: tuner::Options::default(),
            stop: &stop,
        };
        let mut run = Run::new(open().unwrap(), &open, &options, &[]);
        let mut measure = |estimate_s, result: Result<u32, GpuError>| {
            run.measure(Kind::Training, estimate_s, |_| result.map_err(Error::from))
        };
        let lost = measure(1.0, Err(GpuError::Device("lost".to_owned())));
        assert!(matches!(lost, Outcome::Failed { error } if error.contains("lost")));
        assert_eq!(measure(1.0, Ok(3)), Outcome::Measured(3));
        let unsupported = GpuError::Unsupported {
            kernel: "matmul.row".to_owned(),
            reason: "it takes one row".to_owned(),
        };
        let reason = |outcome| match outcome {
            Outcome::Skipped { reason } => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason(measure(1.0, Err(unsupported))).contains("it takes one row"));
        assert!(reason(measure(1e5, Ok(3))).contains("left of the time budget"));
        stop.store(true, Ordering::Relaxed);
        assert!(reason(measure(1.0, Ok(3))).contains("stopped"));
    }

    #[test]
    fn a_page_without_a_single_part_run_has_an_entry_for_each_and_says_so() {
        let open = || Device::open(&DeviceOptions::default());
        let stop = AtomicBool::new(true);
        let options = Options {
            budget_s: 1000.0,
            tuning: tuner::Options::default(),
            stop: &stop,
        };
        let mut noted = 0;
        let page = run(open().unwrap(), &open, &options, &mut |_, _| {
            noted += 1;
            Ok(())
        });
        let page = page.unwrap();
        let date: NaiveDate = page.date.parse().unwrap();
        let age = Utc::now().date_naive() - date;
        assert!((0..=1).contains(&age.num_days()), "{date}");
        assert_eq!((noted, page.absent_count()), (0, parts::all().len()));
        assert!(page.verdict().is_ok());
        assert!(page.to_markdown().contains("stopped"));
    }
}
