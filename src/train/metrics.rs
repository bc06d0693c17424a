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
use crate::kernels::loss_scale::LossScale;

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
    /// L2 norm of the gradients before clipping; no number where they were not finite and the step was
    /// skipped.
    pub grad_norm: f32,
    /// In mixed precision, the state of the loss scale after the step.
    pub loss_scale: Option<LossScale>,
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
            let mut line = json!({
                "kind": "train",
                "iteration": record.iteration,
                "tokens": record.tokens,
                "loss": record.loss,
                "learning_rate": record.learning_rate,
                "grad_norm": record.grad_norm,
                "tokens_per_s": record.tokens_per_s,
                "elapsed_s": self.started.elapsed().as_secs_f64(),
            });
            if let Some(state) = record.loss_scale {
                line["loss_scale"] = state.scale.into();
                line["skipped_steps"] = state.skipped_steps.into();
                self.scalar("train/loss_scale", record.iteration, state.scale)?;
            }
            self.line(&line)?;
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
        let loss = format!("loss {:.4}", record.loss);
        let rate = format!("lr {:.2e}", record.learning_rate);
        let speed = format!("{:.0} tokens/s", record.tokens_per_s);
        if let Some(bar) = &self.bar {
            bar.set_position(record.iteration + 1);
            let done = format!("{}/{}", record.iteration + 1, bar.length().unwrap_or(0));
            let left = format!("{} left", short_time(bar.eta()));
            let columns = usize::from(console::Term::stderr().size().1);
            let (line, room) = fit(columns, &[done, loss, speed, left, rate]);
            bar.set_style(progress_style(room));
            bar.set_message(line);
        } else if self
            .last_line
            .is_none_or(|last| last.elapsed() >= LINE_EVERY)
        {
            self.last_line = Some(Instant::now());
            tracing::info!("iteration {}  {loss}  {rate}  {speed}", record.iteration);
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
    let bar = ProgressBar::with_draw_target(Some(max_iters), ProgressDrawTarget::stderr());
    bar.with_style(progress_style(80)).with_position(start)
}

/// Columns of the bar itself, at least and at most.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 10..=30;

/// A line of the message and, where a terminal of `columns` has room, a bar before it.
fn progress_style(bar_columns: usize) -> ProgressStyle {
    let template = if bar_columns >= *BAR_COLUMNS.start() {
        format!("{{bar:{}}} {{msg}}", bar_columns.min(*BAR_COLUMNS.end()))
    } else {
        "{msg}".to_owned()
    };
    ProgressStyle::with_template(&template).expect("the template is sound")
}

/// The figures of a progress line that fit `columns`, those that are missed most first, and the columns
/// that they leave for a bar.
fn fit(columns: usize, figures: &[String]) -> (String, usize) {
    let mut line = String::new();
    for figure in figures {
        let gap = if line.is_empty() { "" } else { "  " };
        if line.len() + gap.len() + figure.len() < columns {
            line = line + gap + figure;
        }
    }
    let left = columns.saturating_sub(line.len() + 2);
    (line, left)
}

/// A time in two units at most: `3 h 20 min`, `12 s`.
fn short_time(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s / 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_fits_the_terminal_and_drops_the_least_first() {
        let figures = [
            "123456/200000",
            "loss 10.1234",
            "123456 tokens/s",
            "123 h 59 min left",
            "lr 1.23e-4",
        ]
        .map(str::to_owned);
        for columns in [20, 40, 60, 80, 100, 132] {
            let (line, left) = fit(columns, &figures);
            let bar = match left {
                0..10 => 0,
                _ => left.min(30) + 1,
            };
            assert!(line.len() + bar < columns, "{columns}: {line}");
            assert!(line.starts_with("123456/200000"), "{line}");
        }
        let (wide, _) = fit(80, &figures);
        assert!(wide.ends_with("lr 1.23e-4"), "{wide}");
        let (narrow, _) = fit(60, &figures);
        assert!(
            narrow.contains("tokens/s") && !narrow.contains("left"),
            "{narrow}"
        );
    }

    #[test]
    fn times_have_two_units_at_most() {
        for (s, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (7260, "2 h 1 min"),
        ] {
            assert_eq!(short_time(Duration::from_secs(s)), shown);
        }
    }
}
