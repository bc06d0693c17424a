//! What the server counts, as text for Prometheus.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::queue::Queue;

/// Steps that the present speed is of.
const RECENT: usize = 64;

/// Bounds of a histogram.
const BOUNDS: usize = 10;

/// Counters since the start.
#[derive(Default)]
pub(super) struct Metrics(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    /// By path and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    prompt_tokens: u64,
    generated_tokens: u64,
    cancelled: u64,
    first_token_s: Histogram,
    tokens_per_s: Histogram,
    request_s: Histogram,
    /// Tokens and seconds of the last steps.
    recent: VecDeque<(usize, f64)>,
}

/// Counts of values up to each bound.
#[derive(Default)]
struct Histogram {
    counts: [u64; BOUNDS],
    count: u64,
    sum: f64,
}

const SECONDS: [f64; BOUNDS] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0];
const SPEEDS: [f64; BOUNDS] = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4];

impl Histogram {
    fn add(&mut self, value: f64, bounds: &[f64; BOUNDS]) {
        for (count, bound) in self.counts.iter_mut().zip(bounds) {
            *count += u64::from(value <= *bound);
        }
        self.count += 1;
        self.sum += value;
    }
}

impl Metrics {
    /// An answer went out, or its beginning.
    pub(super) fn request(&self, path: &'static str, status: u16) {
        *self.lock().requests.entry((path, status)).or_default() += 1;
    }

    /// A request with prompts of so many tokens was taken on.
    pub(super) fn prompt(&self, tokens: usize) {
        self.lock().prompt_tokens += tokens as u64;
    }

    /// A completions request was answered to its end.
    pub(super) fn answered(&self, time: Duration) {
        self.lock().request_s.add(time.as_secs_f64(), &SECONDS);
    }

    /// Nobody waits for so many sequences any more.
    pub(super) fn cancelled(&self, sequences: usize) {
        self.lock().cancelled += sequences as u64;
    }

    /// A step gave so many tokens.
    pub(super) fn step(&self, tokens: usize, time: Duration) {
        let mut counts = self.lock();
        counts.generated_tokens += tokens as u64;
        counts.recent.push_back((tokens, time.as_secs_f64()));
        if counts.recent.len() > RECENT {
            counts.recent.pop_front();
        }
    }

    /// A sequence's first token came this long after its request.
    pub(super) fn first_token(&self, time: Duration) {
        self.lock().first_token_s.add(time.as_secs_f64(), &SECONDS);
    }

    /// A sequence has ended, this long after its first token.
    pub(super) fn sequence(&self, generated: usize, time: Duration) {
        if generated > 1 {
            let speed = (generated - 1) as f64 / time.as_secs_f64().max(1e-9);
            self.lock().tokens_per_s.add(speed, &SPEEDS);
        }
    }

    /// Tokens a second of all sequences together, over the last steps.
    pub(super) fn tokens_per_s(&self) -> Option<f64> {
        let counts = self.lock();
        let tokens: usize = counts.recent.iter().map(|(tokens, _)| tokens).sum();
        let seconds: f64 = counts.recent.iter().map(|(_, seconds)| seconds).sum();
        (tokens > 0).then(|| tokens as f64 / seconds)
    }

    /// Seconds after which a refused request may be sent again: a request's mean time.
    pub(super) fn retry_after_s(&self) -> u64 {
        const RANGE: (f64, f64) = (1.0, 60.0);
        let counts = self.lock();
        let mean = counts.request_s.sum / counts.request_s.count.max(1) as f64;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 1 to 60"
        )]
        let seconds = mean.ceil().clamp(RANGE.0, RANGE.1) as u64;
        seconds
    }

    /// Everything in Prometheus' text format.
    pub(super) fn text(&self, queue: &Queue) -> String {
        let (active, waiting) = queue.lengths();
        let speed = self.tokens_per_s().unwrap_or(0.0);
        let counts = self.lock();
        let mut text = Text::default();
        text.head("requests_total", "counter", "Answers by path and status.");
        for ((path, status), count) in &counts.requests {
            text.line(
                &format!("requests_total{{path=\"{path}\",status=\"{status}\"}}"),
                count,
            );
        }
        let help = "Tokens of prompts that were taken on.";
        text.value("prompt_tokens_total", "counter", help, counts.prompt_tokens);
        let help = "Tokens that were generated.";
        text.value(
            "generated_tokens_total",
            "counter",
            help,
            counts.generated_tokens,
        );
        let help = "Sequences whose client hung up.";
        text.value(
            "cancelled_sequences_total",
            "counter",
            help,
            counts.cancelled,
        );
        text.value(
            "queue_length",
            "gauge",
            "Sequences that wait for a slot.",
            waiting,
        );
        text.value(
            "active_sequences",
            "gauge",
            "Sequences being generated.",
            active,
        );
        text.value(
            "slots",
            "gauge",
            "Sequences that are generated at once.",
            queue.slots(),
        );
        let help = "Tokens a second of all sequences over the last steps.";
        text.value("throughput_tokens_per_second", "gauge", help, speed);
        let help = "From a request to its first token.";
        text.histogram(
            "time_to_first_token_seconds",
            help,
            &counts.first_token_s,
            &SECONDS,
        );
        let help = "Tokens a second of a sequence after its first.";
        text.histogram(
            "sequence_tokens_per_second",
            help,
            &counts.tokens_per_s,
            &SPEEDS,
        );
        let help = "From a completions request to the end of its answer.";
        text.histogram("request_seconds", help, &counts.request_s, &SECONDS);
        text.0
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!(
            "# HELP gpu_tlm_{name} {help}\n# TYPE gpu_tlm_{name} {kind}\n"
        ));
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        self.write(format_args!("gpu_tlm_{name} {value}\n"));
    }

    fn value(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, kind, help);
        self.line(name, value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram, bounds: &[f64; BOUNDS]) {
        self.head(name, "histogram", help);
        for (bound, count) in bounds.iter().zip(histogram.counts) {
            self.line(&format!("{name}_bucket{{le=\"{bound}\"}}"), count);
        }
        self.line(&format!("{name}_bucket{{le=\"+Inf\"}}"), histogram.count);
        self.line(&format!("{name}_sum"), histogram.sum);
        self.line(&format!("{name}_count"), histogram.count);
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(text)
            .expect("a string takes all that is written");
    }
}
