//! The file that keeps what was measured: one entry for each adapter, driver and program.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};

use super::{Known, MeasuredOn};
use crate::files;
use crate::kernels::ALL;

/// Names the folder of the file, instead of the platform's.
const FOLDER_VARIABLE: &str = "GPU_TLM_CACHE";
/// Entries that are kept: the last adapters, drivers and programs.
const ENTRIES: usize = 16;
/// The layout of the file.
const FORMAT: u32 = 1;

/// Where findings are kept.
#[derive(Clone, Debug)]
pub struct Cache {
    /// `None` where the platform names no folder for caches.
    path: Option<PathBuf>,
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct Contents {
    format: u32,
    entries: Vec<Entry>,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Entry {
    measured_on: MeasuredOn,
    #[serde(flatten)]
    known: Known,
}

/// Version of the program, and a hash of all shaders, any of which a timed op may run.
pub(super) fn program() -> String {
    let mut hash = Sha256::new();
    for kernel in ALL {
        hash.update(kernel.joined_source());
    }
    let hash = hash.finalize();
    let digits: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("gpu-tlm {}, shaders {digits}", env!("CARGO_PKG_VERSION"))
}

impl Cache {
    /// `tuning.json` in the folder that `GPU_TLM_CACHE` names, or else in `gpu-tlm` below the
    /// platform's folder for caches.
    pub fn locate() -> Self {
        let folder = match std::env::var_os(FOLDER_VARIABLE) {
            Some(folder) if !folder.is_empty() => Some(PathBuf::from(folder)),
            _ => etcetera::choose_base_strategy()
                .ok()
                .map(|base| base.cache_dir().join("gpu-tlm")),
        };
        Self::of(folder)
    }

    pub(super) fn of(folder: Option<PathBuf>) -> Self {
        Self {
            path: folder.map(|folder| folder.join("tuning.json")),
        }
    }

    /// Where findings go, for people.
    pub fn describe(&self) -> String {
        match &self.path {
            Some(path) if path.exists() => format!("kept in '{}'", path.display()),
            _ => "for this run alone".to_owned(),
        }
    }

    /// What was found on `measured_on`. A damaged file is as good as none, and a warning says so.
    pub fn load(&self, measured_on: &MeasuredOn) -> Known {
        let Some(path) = &self.path else {
            return Known::default();
        };
        let contents = read(path).unwrap_or_else(|reason| {
            tracing::warn!(
                "the tuning cache '{}' is damaged and will be written anew: {reason}",
                path.display()
            );
            Contents::default()
        });
        let mut entries = contents.entries.into_iter();
        let own = entries.find(|entry| entry.measured_on == *measured_on);
        own.map(|entry| entry.known).unwrap_or_default()
    }

    /// Adds `found` to the file, and gives back what it then holds of those classes, and of the adapter:
    /// where another process was first, its findings stay. A file that cannot be written costs a warning.
    pub fn store(&self, measured_on: &MeasuredOn, found: Known) -> Known {
        let Some(path) = &self.path else { return found };
        match merge(path, measured_on, &found) {
            Ok(kept) => kept,
            Err(error) => {
                warn_unwritable(path, &error);
                found
            }
        }
    }
}

fn warn_unwritable(path: &Path, error: &std::io::Error) {
    static SAID: AtomicBool = AtomicBool::new(false);
    let message = format!(
        "cannot write the tuning cache '{}', so each run measures anew: {error}; {FOLDER_VARIABLE} \
         names another folder",
        path.display()
    );
    if SAID.swap(true, Ordering::Relaxed) {
        tracing::debug!("{message}");
    } else {
        tracing::warn!("{message}");
    }
}

fn read(path: &Path) -> Result<Contents, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Contents::default());
        }
        Err(error) => return Err(error.to_string()),
    };
    let contents: Contents = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    if contents.format == FORMAT {
        Ok(contents)
    } else {
        Err(format!("its format is {}, not {FORMAT}", contents.format))
    }
}

fn merge(path: &Path, measured_on: &MeasuredOn, found: &Known) -> std::io::Result<Known> {
    if let Some(folder) = path.parent() {
        files::create_folder(folder)?;
    }
    // Held from reading to renaming, so that of two processes the second sees the first's findings.
    // A file system without locks may lose the findings of one of them, and no more.
    let lock = files::lock_file(&path.with_extension("lock"))?;
    let _ = lock.lock();
    let mut contents = read(path).unwrap_or_default();
    contents.format = FORMAT;
    let own = contents
        .entries
        .iter()
        .position(|entry| entry.measured_on == *measured_on);
    let mut entry = match own {
        Some(index) => contents.entries.remove(index),
        None => Entry {
            measured_on: measured_on.clone(),
            known: Known::default(),
        },
    };
    let known = &mut entry.known;
    known.chip = known.chip.or(found.chip);
    for (class, tuned) in &found.findings {
        let slot = known.findings.entry(class.clone());
        slot.or_insert_with(|| tuned.clone());
    }
    let mut kept = known.clone();
    let of_found = |class: &String, _: &mut _| found.findings.contains_key(class);
    kept.findings.retain(of_found);
    contents.entries.push(entry);
    let surplus = contents.entries.len().saturating_sub(ENTRIES);
    contents.entries.drain(..surplus);
    let text = serde_json::to_string_pretty(&contents)?;
    files::write(path, text + "\n")?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::super::{Candidate, Chip, Tuned};
    use super::*;
    use crate::gpu::Identity;

    fn on(driver: &str) -> MeasuredOn {
        MeasuredOn {
            device: Identity {
                adapter: "some adapter".to_owned(),
                ids: [1, 2],
                backend: "vulkan".to_owned(),
                driver: driver.to_owned(),
                mode: "gpu".to_owned(),
            },
            program: program(),
        }
    }

    fn found(class: &str, choice: &str) -> Known {
        let tuned = Tuned {
            choice: choice.to_owned(),
            candidates: vec![Candidate {
                name: choice.to_owned(),
                ms: 0.1 + 0.2,
            }],
            as_for: None,
        };
        Known {
            chip: None,
            findings: [(class.to_owned(), tuned)].into(),
        }
    }

    #[test]
    fn findings_are_read_back_for_the_same_driver_and_program_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(Some(folder.path().join("made").join("deep")));
        assert_eq!(cache.load(&on("1.0")), Known::default());
        let findings = found("matmul nt 1x1x1", "a");
        assert_eq!(cache.store(&on("1.0"), findings.clone()), findings);
        assert_eq!(cache.load(&on("1.0")), findings);
        assert_eq!(cache.load(&on("1.1")), Known::default());
        let other_program = MeasuredOn {
            program: "gpu-tlm 0.0.1, shaders 00".to_owned(),
            ..on("1.0")
        };
        assert_eq!(cache.load(&other_program), Known::default());
    }

    #[test]
    fn the_first_of_two_processes_decides() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(Some(folder.path().to_owned()));
        cache.store(&on("1.0"), found("matmul nt 1x1x1", "first"));
        let mut later = found("matmul nt 1x1x1", "second");
        later
            .findings
            .extend(found("matmul nn 1x1x1", "third").findings);
        let kept = cache.store(&on("1.0"), later);
        assert_eq!(kept.findings["matmul nt 1x1x1"].choice, "first");
        assert_eq!(kept.findings["matmul nn 1x1x1"].choice, "third");
        assert_eq!(cache.load(&on("1.0")), kept);
    }

    #[test]
    fn what_is_known_of_the_adapter_stays_as_it_was_first_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(Some(folder.path().to_owned()));
        let with = |units: Option<usize>| {
            let gflops = 0.1 + 0.2;
            Known {
                chip: Some(Chip { units, gflops }),
                ..Known::default()
            }
        };
        let first = with(Some(132));
        assert_eq!(cache.store(&on("1.0"), first.clone()), first);
        assert_eq!(cache.store(&on("1.0"), with(Some(131))), first);
        // A number that could not be told is not asked for again.
        cache.store(&on("1.1"), with(None));
        assert_eq!(cache.load(&on("1.1")), with(None));
        let findings = found("matmul nt 1x1x1", "a");
        let kept = cache.store(&on("1.0"), findings.clone());
        assert_eq!((kept.chip, kept.findings), (first.chip, findings.findings));
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(Some(folder.path().to_owned()));
        cache.store(&on("1.0"), found("matmul nt 1x1x1", "a"));
        let whole = std::fs::read_to_string(folder.path().join("tuning.json")).unwrap();
        let of_later = whole.replace("\"format\": 1", "\"format\": 7");
        assert_ne!(whole, of_later);
        for damaged in ["", "[]", &whole[..whole.len() / 2], &of_later] {
            std::fs::write(folder.path().join("tuning.json"), damaged).unwrap();
            assert_eq!(cache.load(&on("1.0")), Known::default(), "{damaged}");
            let findings = found("matmul nt 1x1x1", "a");
            cache.store(&on("1.0"), findings.clone());
            assert_eq!(cache.load(&on("1.0")), findings, "{damaged}");
        }
    }

    #[test]
    fn without_a_folder_that_can_be_written_findings_hold_for_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        // A folder below a file can be made by nobody, whatever their rights.
        for cache in [Cache::of(Some(file.join("folder"))), Cache::of(None)] {
            let findings = found("matmul nt 1x1x1", "a");
            assert_eq!(cache.store(&on("1.0"), findings.clone()), findings);
            assert_eq!(cache.load(&on("1.0")), Known::default());
            assert_eq!(cache.describe(), "for this run alone");
        }
    }

    #[test]
    fn only_the_last_entries_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::of(Some(folder.path().to_owned()));
        for driver in 0..=ENTRIES {
            cache.store(&on(&driver.to_string()), found("matmul nt 1x1x1", "a"));
        }
        assert_eq!(cache.load(&on("0")), Known::default());
        assert_ne!(cache.load(&on("1")), Known::default());
        assert_ne!(cache.load(&on(&ENTRIES.to_string())), Known::default());
    }
}
