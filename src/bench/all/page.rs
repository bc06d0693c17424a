//! A page of measurements as data: what its JSON file holds.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::markdown;
use crate::Error;
use crate::bench::{BenchError, Ceilings, RowReport};
use crate::config::Precision;
use crate::error::io;
use crate::files;

/// The layout of the JSON.
pub const FORMAT: u32 = 1;

/// Everything that was measured on one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of gpu-tlm.
    pub version: String,
    /// When it was measured, in UTC: `YYYY-MM-DD`.
    pub date: String,
    /// The adapter's name.
    pub adapter: String,
    /// Driver name and version.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// Whether it runs shaders on the CPU.
    pub software: bool,
    /// Bytes of its own memory, where the backend tells them.
    pub memory_bytes: Option<u64>,
    /// Operating system and architecture.
    pub system: String,
    /// Cores of the host.
    pub host_cores: Option<usize>,
    /// The time budget in minutes, where there was one.
    pub budget_minutes: Option<f64>,
    /// Seconds that all took.
    pub elapsed_s: Option<f64>,
    /// What a person has added: a power limit, what else ran on the machine.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Every kernel and whole steps against the f64 reference.
    pub check: Outcome<CheckFigures>,
    /// What the adapter reaches at best.
    pub ceilings: Outcome<Ceilings>,
    /// Training steps, by model and precision.
    pub training: Vec<Entry<TrainingFigures>>,
    /// Generation, by model and precision.
    pub generation: Vec<Entry<GenerationFigures>>,
    /// Matrix products, by shape and precision.
    pub products: Vec<Entry<ProductFigures>>,
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Outcome<T> {
    /// It ran.
    Measured(T),
    /// It did not run.
    Skipped {
        /// Why not.
        reason: String,
    },
    /// It broke off.
    Failed {
        /// With which error.
        error: String,
    },
}

impl<T> Outcome<T> {
    /// The figures, where there are some.
    pub fn figures(&self) -> Option<&T> {
        match self {
            Self::Measured(figures) => Some(figures),
            Self::Skipped { .. } | Self::Failed { .. } => None,
        }
    }
}

/// One of several parts of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry<T> {
    /// The model's letter, or the shape of a product.
    pub name: String,
    /// What was computed with.
    pub precision: Precision,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome<T>,
}

/// How many rows of the check were right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckFigures {
    /// Rows that were right.
    pub passed: usize,
    /// Rows that were wrong.
    pub failed: usize,
    /// Rows that the adapter cannot run.
    pub skipped_for_adapter: usize,
    /// Rows that no adapter can run.
    pub skipped_for_kernel: usize,
    /// Seconds that the check took.
    pub seconds: f64,
    /// What of the table did not run, and why.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// What was wrong, a sentence a row.
    #[serde(default)]
    pub failures: Vec<String>,
    /// The row of each kernel that is nearest to its tolerance.
    #[serde(default)]
    pub kernels: Vec<KernelCheck>,
}

/// The rows of one kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelCheck {
    /// `kernel.variant`.
    pub kernel: String,
    /// Rows that ran.
    pub rows: usize,
    /// Of them wrong.
    pub failed: usize,
    /// Error of the row that is nearest to its tolerance; `None` where nothing could be compared.
    pub worst: Option<f64>,
    /// That tolerance.
    pub tolerance: f64,
}

/// What training steps took; what an older page does not know is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingFigures {
    /// Tokens trained on in a second, at the median step.
    pub tokens_per_s: f64,
    /// Median time of a step, in milliseconds.
    pub ms_per_step: f64,
    /// Distance between the second fastest and the second slowest step, as a share of the median.
    pub spread: Option<f64>,
    /// Steps that were timed.
    pub steps: Option<usize>,
    /// Billions of floating-point operations a second, by [`step_flops`](crate::bench::train::step_flops).
    pub gflops: f64,
    /// The same as a share of the ceiling of multiply-adds.
    pub share_of_ceiling: Option<f64>,
    /// The same of a product of 1024x1024x1024 in the same run, in f32.
    pub matmul_gflops: Option<f64>,
    /// Time of the host as a share of the step.
    pub host_share: Option<f64>,
    /// Bytes that the device's allocator has given out.
    pub peak_device_bytes: Option<u64>,
    /// Bytes that the plan of the step has foreseen.
    pub planned_device_bytes: Option<u64>,
    /// Seconds from an open device to the metrics of the first step.
    pub first_step_s: Option<f64>,
}

/// How fast text was generated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationFigures {
    /// Tokens of the prompt.
    pub prompt_tokens: Option<usize>,
    /// Tokens that were added.
    pub new_tokens: usize,
    /// New tokens a second, once every kernel is compiled.
    pub tokens_per_s: f64,
}

/// A product by each kernel that the adapter's plans may take for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProductFigures {
    /// A row a kernel.
    pub kernels: Vec<RowReport>,
}

impl ProductFigures {
    /// The fastest of the kernels whose outputs were right.
    pub fn fastest(&self) -> Option<&RowReport> {
        let timed = self.kernels.iter().filter(|row| row.ms.is_some());
        timed.min_by(|a, b| {
            a.ms.unwrap_or_default()
                .total_cmp(&b.ms.unwrap_or_default())
        })
    }
}

impl Page {
    /// Reads the JSON of a page.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(path: &Path) -> Result<Self, BenchError> {
        let wrong = |reason: String| BenchError::NoPage {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
        let page: Self = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        if page.format != FORMAT {
            let found = page.format;
            return Err(wrong(format!("its format is {found}, and not {FORMAT}")));
        }
        Ok(page)
    }

    /// Writes the page into `folder`, which is created where it is missing: as Markdown and as JSON,
    /// in this order of the paths. Each file replaces one of its name once it is complete.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2], Error> {
        files::create_folder(folder).map_err(io("create", folder))?;
        let paths = ["md", "json"].map(|end| folder.join(format!("{}.{end}", self.slug())));
        for (path, text) in paths.iter().zip([self.to_markdown(), self.to_json()]) {
            files::write(path, text).map_err(io("write", path))?;
        }
        Ok(paths)
    }

    /// The JSON file.
    pub fn to_json(&self) -> String {
        format!("{:#}\n", serde_json::json!(self))
    }

    /// The page for people.
    pub fn to_markdown(&self) -> String {
        markdown::render(self)
    }

    /// Name of the files without their ends: the adapter's name in lower case, with a hyphen in place of
    /// whatever is no letter and no digit.
    pub fn slug(&self) -> String {
        let name = self.adapter.to_lowercase();
        let words = name.split(|c: char| !c.is_ascii_alphanumeric());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        match words[..] {
            [] => "adapter".to_owned(),
            _ => words.join("-"),
        }
    }

    /// The result of the whole; what was skipped is no failure.
    ///
    /// # Errors
    /// When a part failed, a check was wrong, or a product gave wrong outputs.
    pub fn verdict(&self) -> Result<(), BenchError> {
        let mut failures = Vec::new();
        if let Some(check) = self.check.figures().filter(|check| check.failed > 0) {
            let ran = check.passed + check.failed;
            failures.push(format!("{} of {ran} checks failed", check.failed));
        }
        let wrong = |entry: &Entry<ProductFigures>| {
            let kernels = entry
                .outcome
                .figures()
                .map(|figures| figures.kernels.iter());
            kernels.is_some_and(|mut rows| rows.any(|row| row.failure.is_some()))
        };
        let wrong = self.products.iter().filter(|entry| wrong(entry)).count();
        if wrong > 0 {
            failures.push(format!("{wrong} products gave wrong outputs"));
        }
        let failed = self.absent().iter().filter(|absent| absent.failed).count();
        if failed > 0 {
            failures.push(format!("{failed} parts failed"));
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(BenchError::Parts(failures.join(", ")))
        }
    }

    /// Number of parts that were left out or failed, those of the check included.
    pub fn absent_count(&self) -> usize {
        self.absent().len()
    }

    /// What was not measured, in the order of the page.
    pub(super) fn absent(&self) -> Vec<Absent<'_>> {
        let mut absent = Vec::new();
        add_absent(&mut absent, "check", ("all", None), &self.check);
        for left_out in self.check.figures().iter().flat_map(|c| &c.left_out) {
            absent.push(Absent {
                part: "check",
                name: "part of it",
                precision: None,
                reason: left_out,
                failed: false,
            });
        }
        add_absent(&mut absent, "ceilings", ("all", None), &self.ceilings);
        add_entries(&mut absent, "training", &self.training);
        add_entries(&mut absent, "generation", &self.generation);
        add_entries(&mut absent, "product", &self.products);
        absent
    }
}

/// A part without figures.
pub(super) struct Absent<'a> {
    pub(super) part: &'static str,
    pub(super) name: &'a str,
    pub(super) precision: Option<Precision>,
    pub(super) reason: &'a str,
    pub(super) failed: bool,
}

fn add_entries<'a, T>(absent: &mut Vec<Absent<'a>>, part: &'static str, entries: &'a [Entry<T>]) {
    for entry in entries {
        let name = (entry.name.as_str(), Some(entry.precision));
        add_absent(absent, part, name, &entry.outcome);
    }
}

fn add_absent<'a, T>(
    absent: &mut Vec<Absent<'a>>,
    part: &'static str,
    (name, precision): (&'a str, Option<Precision>),
    outcome: &'a Outcome<T>,
) {
    let (reason, failed) = match outcome {
        Outcome::Measured(_) => return,
        Outcome::Skipped { reason } => (reason, false),
        Outcome::Failed { error } => (error, true),
    };
    absent.push(Absent {
        part,
        name,
        precision,
        reason,
        failed,
    });
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_page_is_read_from_its_json_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let paths = example::page().write(&folder.path().join("new")).unwrap();
        let names = paths
            .clone()
            .map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(names, ["example-gpu-9000.md", "example-gpu-9000.json"]);
        assert_eq!(Page::load(&paths[1]).unwrap(), example::page());
        for (broken, said) in [
            (r#"{"format": 1}"#.to_owned(), "missing field"),
            (
                example::page()
                    .to_json()
                    .replacen("\"format\": 1", "\"format\": 7", 1),
                "format is 7",
            ),
            (
                example::page().to_json().replacen("driver", "drivel", 1),
                "drivel",
            ),
        ] {
            crate::files::write(&paths[1], broken).unwrap();
            let error = Page::load(&paths[1]).unwrap_err();
            assert!(
                error.is_usage() && error.to_string().contains(said),
                "{error}"
            );
        }
    }

    #[test]
    fn a_page_is_sound_unless_something_failed_or_was_wrong() {
        let message = example::page().verdict().unwrap_err().to_string();
        for part in [
            "1 of 24 checks failed",
            "2 products gave wrong outputs",
            "1 parts failed",
        ] {
            assert!(message.contains(part), "{message}");
        }
        let mut page = example::page();
        page.check = example::no_time();
        for product in &mut page.products {
            product.outcome = example::no_time();
        }
        page.training[3].outcome = example::no_time();
        assert!(page.verdict().is_ok());
    }
}
