//! Where the time of a training step goes: a trace for Chrome's or Perfetto's viewer, and the
//! dearest kernels.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::TrainError;
use crate::files;
use crate::gpu::DispatchTime;

/// What the host did around the profiled step.
#[derive(Clone, Debug)]
pub struct HostSpan {
    name: &'static str,
    start_us: f64,
    duration_us: f64,
}

/// Collects host spans up to one step, and then that step's dispatches.
#[derive(Debug)]
pub struct Profiler {
    path: PathBuf,
    /// The iteration whose dispatches are timed.
    iteration: u64,
    began: Instant,
    spans: Vec<HostSpan>,
}

impl Profiler {
    /// A profile of `iteration`, to be written to `path`.
    pub fn new(path: PathBuf, iteration: u64) -> Self {
        Self {
            path,
            iteration,
            began: Instant::now(),
            spans: Vec::new(),
        }
    }

    /// Whether the dispatches of `iteration` are to be timed.
    pub fn is_due(&self, iteration: u64) -> bool {
        self.iteration == iteration
    }

    /// Notes that the host did `name` from `start` until now.
    pub fn span(&mut self, name: &'static str, start: Instant) {
        self.spans.push(HostSpan {
            name,
            start_us: (start - self.began).as_secs_f64() * 1e6,
            duration_us: start.elapsed().as_secs_f64() * 1e6,
        });
    }

    /// Writes the trace; `start` is when the step was submitted. Returns the table of the dearest
    /// kernels.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(self, start: Instant, dispatches: &[DispatchTime]) -> Result<String, TrainError> {
        let origin_us = (start - self.began).as_secs_f64() * 1e6;
        let trace = trace(&self.spans, dispatches, origin_us);
        write(&self.path, &trace)?;
        Ok(dearest(dispatches, SHOWN))
    }
}

fn write(path: &Path, trace: &Value) -> Result<(), TrainError> {
    files::write(path, trace.to_string()).map_err(|source| TrainError::Unwritable {
        path: path.to_owned(),
        source,
    })
}

const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// The trace event format of Chrome: complete events with times in microseconds.
fn trace(spans: &[HostSpan], dispatches: &[DispatchTime], origin_us: f64) -> Value {
    let name = |tid: u32, name: &str| {
        json!({
            "name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": { "name": name },
        })
    };
    let host = spans.iter().map(|span| {
        json!({
            "name": span.name, "ph": "X", "pid": 1, "tid": HOST,
            "ts": span.start_us, "dur": span.duration_us,
        })
    });
    let device = dispatches.iter().map(|time| {
        json!({
            "name": time.label, "ph": "X", "pid": 1, "tid": DEVICE,
            "ts": origin_us + time.start_us, "dur": time.duration_us,
            "args": {
                "workgroups": time.workgroups,
                "flops": time.flops,
                "gflops": gflops(time.flops, time.duration_us),
            },
        })
    });
    let names = [name(HOST, "host"), name(DEVICE, "device")];
    let events: Vec<Value> = names.into_iter().chain(host).chain(device).collect();
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

fn gflops(flops: u64, duration_us: f64) -> f64 {
    if duration_us > 0.0 {
        flops as f64 / duration_us / 1e3
    } else {
        0.0
    }
}

/// Kernels that a profiled run prints.
const SHOWN: usize = 10;

/// The `shown` kernels that took most of the device's time: a line each.
pub fn dearest(dispatches: &[DispatchTime], shown: usize) -> String {
    #[derive(Default)]
    struct Sum {
        count: usize,
        us: f64,
        flops: u64,
    }
    let mut kernels: BTreeMap<&str, Sum> = BTreeMap::new();
    for time in dispatches {
        let kernel = time.label.rsplit('/').next().unwrap_or(&time.label);
        let sum = kernels.entry(kernel).or_default();
        sum.count += 1;
        sum.us += time.duration_us;
        sum.flops += time.flops;
    }
    let total_us: f64 = kernels.values().map(|sum| sum.us).sum();
    let mut kernels: Vec<_> = kernels.into_iter().collect();
    kernels.sort_by(|a, b| b.1.us.total_cmp(&a.1.us));
    let mut text = format!(
        "{:<38} {:>10} {:>10} {:>6} {:>9}\n",
        "kernel", "dispatches", "ms", "share", "GFLOP/s"
    );
    for (kernel, sum) in kernels.iter().take(shown) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{kernel:<38} {:>10} {:>10.3} {:>5.1}% {:>9.2}",
            sum.count,
            sum.us / 1e3,
            100.0 * sum.us / total_us.max(f64::MIN_POSITIVE),
            gflops(sum.flops, sum.us),
        );
    }
    let end_us = dispatches.iter().map(|d| d.start_us + d.duration_us);
    let _ = write!(
        text,
        "{:<38} {:>10} {:>10.3} of {:.3} from the first's start to the last's end",
        "all kernels",
        dispatches.len(),
        total_us / 1e3,
        end_us.fold(0.0, f64::max) / 1e3,
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(label: &str, start_us: f64, duration_us: f64) -> DispatchTime {
        DispatchTime {
            label: label.to_owned(),
            workgroups: [1, 2, 3],
            flops: 5000,
            start_us,
            duration_us,
        }
    }

    #[test]
    fn the_dearest_kernel_comes_first_with_all_its_dispatches() {
        let times = [
            time("layers.0.ffn/matmul.tiled", 0.0, 30.0),
            time("layers.0.ffn/swiglu_forward", 30.0, 50.0),
            time("layers.1.ffn/matmul.tiled", 80.0, 70.0),
        ];
        let text = dearest(&times, SHOWN);
        let mut lines = text.lines().skip(1);
        let first: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(first, ["matmul.tiled", "2", "0.100", "66.7%", "0.10"]);
        assert!(lines.next().unwrap().starts_with("swiglu_forward"));
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn a_trace_has_host_and_device_on_one_clock() {
        let span = HostSpan {
            name: "submit",
            start_us: 5.0,
            duration_us: 2.0,
        };
        let trace = trace(&[span], &[time("a/b", 3.0, 4.0)], 10.0);
        let events = trace["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 4);
        assert_eq!(
            (&events[2]["ts"], &events[2]["tid"]),
            (&5.0.into(), &HOST.into())
        );
        assert_eq!(
            (&events[3]["ts"], &events[3]["dur"]),
            (&13.0.into(), &4.0.into())
        );
        assert_eq!(events[3]["args"]["gflops"], 1.25);
    }
}
