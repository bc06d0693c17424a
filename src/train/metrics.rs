//! What a run says of itself: `metrics.jsonl`, TensorBoard events, the loss curve as a picture,
//! and a progress bar on a terminal or plain lines elsewhere.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::TrainError;
use super::loss_plot::{self, Curve, Floor, LossPlot};
use super::tensorboard::EventWriter;
use crate::files;

/// One finished iteration.
#[derive(Clone, Copy, Debug)]
pub struct TrainRecord {
    /// Counted from 0; the loss is that of the parameters before its update.
    pub iteration: u64,
    /// Tokens seen, this iteration's included.
    pub tokens: u64,
    /// Mean loss in nats.
    pub loss: f32,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// L2 norm of the gradients before clipping.
    pub grad_norm: f32,
    /// Tokens a second, over the last few iterations.
    pub tokens_per_s: f64,
}

/// Where a run writes and shows its figures.
pub struct Metrics {
    path: PathBuf,
    file: File,
    events: EventWriter,
    plot_path: PathBuf,
    plot: LossPlot,
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Option<Instant>,
    floor: Option<f64>,
}

/// Time between plain lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Metrics {
    /// Opens the files in `logdir`. A run that goes on from iteration `start` keeps the lines
    /// before it and drops those of iterations that it will do again.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn open(
        logdir: &Path,
        start: u64,
        max_iters: u64,
        floor: Option<f64>,
    ) -> Result<Self, TrainError> {
        let path = logdir.join("metrics.jsonl");
        let unwritable = |source| TrainError::Unwritable {
            path: path.clone(),
            source,
        };
        let kept = if start > 0 {
            earlier_lines(&path, start).map_err(unwritable)?
        } else {
            Vec::new()
        };
        let mut plot = LossPlot {
            title: logdir.display().to_string(),
            train: Curve {
                name: "training".to_owned(),
                points: Vec::new(),
            },
            validation: Curve {
                name: "validation".to_owned(),
                points: Vec::new(),
            },
            floor: floor.map(|loss| Floor {
                label: "entropy floor".to_owned(),
                loss,
            }),
        };
        for line in &kept {
            plot_line(&mut plot, line);
        }
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        files::write(&path, text).map_err(unwritable)?;
        let file = files::append(&path).map_err(unwritable)?;
        let events = EventWriter::open(logdir).map_err(|source| TrainError::Unwritable {
            path: logdir.to_owned(),
            source,
        })?;
        let bar = std::io::stderr()
            .is_terminal()
            .then(|| progress_bar(start, max_iters));
        Ok(Self {
            plot_path: logdir.join("loss.svg"),
            path,
            file,
            events,
            plot,
            bar,
            started: Instant::now(),
            last_line: None,
            floor,
        })
    }

    /// Writes the line that says what runs.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn run(
        &mut self,
        mut description: serde_json::Map<String, Value>,
    ) -> Result<(), TrainError> {
        description.shift_insert(0, "kind".to_owned(), "run".into());
        self.line(&Value::Object(description))
    }

    /// Reports a finished iteration; it goes to the files where `logged`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn train(&mut self, record: &TrainRecord, logged: bool) -> Result<(), TrainError> {
        if logged {
            self.line(&json!({
                "kind": "train",
                "iteration": record.iteration,
                "tokens": record.tokens,
                "loss": record.loss,
                "learning_rate": record.learning_rate,
                "grad_norm": record.grad_norm,
                "tokens_per_s": record.tokens_per_s,
                "elapsed_s": self.started.elapsed().as_secs_f64(),
            }))?;
            self.scalar("train/loss", record.iteration, record.loss)?;
            #[allow(clippy::cast_possible_truncation, reason = "event files hold f32")]
            self.scalar(
                "train/learning_rate",
                record.iteration,
                record.learning_rate as f32,
            )?;
            self.scalar("train/grad_norm", record.iteration, record.grad_norm)?;
            self.plot
                .train
                .points
                .push((record.iteration as f64, f64::from(record.loss)));
        }
        self.show(record);
        Ok(())
    }

    fn show(&mut self, record: &TrainRecord) {
        let figures = format!(
            "loss {:.4}  lr {:.2e}  {:.0} tokens/s",
            record.loss, record.learning_rate, record.tokens_per_s
        );
        if let Some(bar) = &self.bar {
            bar.set_position(record.iteration + 1);
            bar.set_message(figures);
        } else if self
            .last_line
            .is_none_or(|last| last.elapsed() >= LINE_EVERY)
        {
            self.last_line = Some(Instant::now());
            tracing::info!("iteration {}  {figures}", record.iteration);
        }
    }

    /// Reports an evaluation of the parameters after `iteration` updates.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn eval(&mut self, iteration: u64, val_loss: f64) -> Result<(), TrainError> {
        self.line(&json!({
            "kind": "eval",
            "iteration": iteration,
            "val_loss": val_loss,
            "val_perplexity": val_loss.exp(),
        }))?;
        #[allow(clippy::cast_possible_truncation, reason = "event files hold f32")]
        self.scalar("val/loss", iteration, val_loss as f32)?;
        self.plot
            .validation
            .points
            .push((iteration as f64, val_loss));
        let floor = self
            .floor
            .map_or(String::new(), |f| format!(" (entropy floor {f:.4})"));
        self.say(&format!(
            "iteration {iteration}  validation loss {val_loss:.4}{floor}  perplexity {:.3}",
            val_loss.exp()
        ));
        self.draw()
    }

    /// Says something to the person who watches, above the progress bar.
    pub fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tracing::info!("{message}")),
            None => tracing::info!("{message}"),
        }
    }

    /// Brings the files up to date and takes the progress bar away.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn finish(&mut self) -> Result<(), TrainError> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.draw()
    }

    fn draw(&mut self) -> Result<(), TrainError> {
        let events = self.events.flush();
        events.map_err(|source| TrainError::Unwritable {
            path: self.path.clone(),
            source,
        })?;
        loss_plot::write(&self.plot_path, &self.plot).map_err(|source| TrainError::Unwritable {
            path: self.plot_path.clone(),
            source,
        })
    }

    fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<(), TrainError> {
        let written = self.events.scalar(tag, step, value);
        written.map_err(|source| TrainError::Unwritable {
            path: self.path.clone(),
            source,
        })
    }

    fn line(&mut self, value: &Value) -> Result<(), TrainError> {
        let written = writeln!(self.file, "{value}");
        written.map_err(|source| TrainError::Unwritable {
            path: self.path.clone(),
            source,
        })
    }
}

/// Lines of an earlier run up to iteration `start`. A line that a crash cut short is dropped.
fn earlier_lines(path: &Path, start: u64) -> std::io::Result<Vec<Value>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut kept = Vec::new();
    for line in BufReader::new(file).lines() {
        let Ok(value) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        let iteration = value["iteration"].as_u64();
        let earlier = match value["kind"].as_str() {
            Some("train") => iteration.is_some_and(|i| i < start),
            Some("eval") => iteration.is_some_and(|i| i <= start),
            _ => true,
        };
        if earlier {
            kept.push(value);
        }
    }
    Ok(kept)
}

fn plot_line(plot: &mut LossPlot, line: &Value) {
    let point = |key: &str| Some((line["iteration"].as_f64()?, line[key].as_f64()?));
    match line["kind"].as_str() {
        Some("train") => plot.train.points.extend(point("loss")),
        Some("eval") => plot.validation.points.extend(point("val_loss")),
        _ => {}
    }
}

fn progress_bar(start: u64, max_iters: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left")
        .expect("the template is sound");
    let bar = ProgressBar::with_draw_target(Some(max_iters), ProgressDrawTarget::stderr());
    bar.with_style(style).with_position(start)
}
