//! The folder of a run: one process writes to it at a time, and no run replaces another unasked.

use std::fs::{File, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::TrainError;
use crate::files;

/// What a run may do with a folder that holds another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim<'a> {
    /// Begins: no other run may be there.
    Begin,
    /// Goes on from this checkpoint: a run that is there has to be the checkpoint's own.
    GoOn(&'a Path),
    /// Takes the place of the run that is there, see [`Logdir::clear`].
    Replace,
}

/// A folder that this process alone writes to, until this value is dropped or the process ends,
/// however it ends. A folder that was made for it and stayed empty goes with it.
#[derive(Debug)]
pub struct Logdir {
    path: PathBuf,
    is_new: bool,
    is_replaced: bool,
    /// `None` on a file system without locks.
    _lock: Option<File>,
}

/// Where a run keeps its adapters as other programs have them.
pub(super) const ADAPTER_FOLDER: &str = "adapter";
/// Name of the file that is locked. It stays, empty: another process may hold its name open.
const LOCK: &str = "run.lock";

impl Logdir {
    /// Creates the folder where it is missing, and claims it.
    ///
    /// # Errors
    /// When another process trains into it, when it holds a run that `claim` does not allow for, or
    /// when the disk says no.
    pub fn open(path: &Path, claim: Claim<'_>) -> Result<Self, TrainError> {
        let unwritable = |source| TrainError::Unwritable {
            path: path.to_owned(),
            source,
        };
        let is_new = !path.exists();
        files::create_folder(path).map_err(unwritable)?;
        let lock = files::lock_file(&path.join(LOCK)).map_err(unwritable)?;
        let lock = match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock) => {
                return Err(TrainError::LogdirInUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => {
                tracing::warn!(
                    "'{}' cannot be locked ({error}): see to it that no other run writes there",
                    path.display()
                );
                None
            }
        };
        let logdir = Self {
            path: path.to_owned(),
            is_new,
            is_replaced: claim == Claim::Replace,
            _lock: lock,
        };
        match claim {
            Claim::GoOn(checkpoint) if logdir.holds(checkpoint) => {}
            Claim::Begin | Claim::GoOn(_) => logdir.expect_no_run()?,
            Claim::Replace => {}
        }
        Ok(logdir)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the checkpoints and events of a run that is replaced; the files that every run has
    /// are overwritten. To be called once nothing but the disk can stop the new run.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn clear(&self) -> Result<(), TrainError> {
        if !self.is_replaced {
            return Ok(());
        }
        self.remove_run().map_err(|source| TrainError::Unwritable {
            path: self.path.clone(),
            source,
        })
    }

    fn expect_no_run(&self) -> Result<(), TrainError> {
        let unreadable = |source| TrainError::Unwritable {
            path: self.path.clone(),
            source,
        };
        let has_checkpoints = !self.of_the_run().map_err(unreadable)?.is_empty();
        if has_checkpoints || self.has_iterations() {
            return Err(TrainError::LogdirTaken {
                latest: self.path.join("checkpoints").join("latest.safetensors"),
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    /// Whether an iteration of a run was ever written down here.
    fn has_iterations(&self) -> bool {
        let Ok(file) = File::open(self.path.join("metrics.jsonl")) else {
            return false;
        };
        let mut lines = BufReader::new(file).lines().map_while(Result::ok);
        lines.any(|line| line.contains("\"kind\":\"train\""))
    }

    fn holds(&self, checkpoint: &Path) -> bool {
        match (checkpoint.canonicalize(), self.path.canonicalize()) {
            (Ok(checkpoint), Ok(folder)) => checkpoint.starts_with(folder),
            _ => false,
        }
    }

    /// The checkpoints of the run that is here.
    fn of_the_run(&self) -> io::Result<Vec<PathBuf>> {
        let folder = self.path.join("checkpoints");
        named(&folder, |name| name.ends_with(".safetensors"))
    }

    fn remove_run(&self) -> io::Result<()> {
        let events = named(&self.path, |name| name.starts_with("events.out.tfevents."))?;
        let adapter = named(&self.path.join(ADAPTER_FOLDER), |name| {
            ["adapter_model.safetensors", "adapter_config.json"].contains(&name)
        })?;
        let own = self.of_the_run()?;
        for path in own.iter().chain(&events).chain(&adapter) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Drop for Logdir {
    fn drop(&mut self) {
        let holds_only_the_lock =
            || std::fs::read_dir(&self.path).is_ok_and(|entries| entries.count() == 1);
        if self.is_new && holds_only_the_lock() {
            // Nobody misses them, and whoever cannot remove them has said why already.
            let _ = std::fs::remove_file(self.path.join(LOCK));
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

/// The files of a folder whose names are wanted; none where the folder is missing.
fn named(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if is_wanted(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Logdir::open(folder.path(), Claim::Begin).unwrap();
        let second = Logdir::open(folder.path(), Claim::Begin);
        assert!(
            matches!(second, Err(TrainError::LogdirInUse { .. })),
            "{second:?}"
        );
        drop(first);
        Logdir::open(folder.path(), Claim::Begin).unwrap();
    }

    #[test]
    fn a_folder_that_was_made_for_nothing_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        drop(Logdir::open(&path, Claim::Begin).unwrap());
        assert!(!path.exists());
        let run = Logdir::open(&path, Claim::Begin).unwrap();
        files::write(&path.join("config.json"), "{}").unwrap();
        drop(run);
        assert!(path.join("config.json").exists());
    }

    #[test]
    fn a_run_is_gone_on_with_or_replaced_and_never_begun_over() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path().join("checkpoints");
        files::create_folder(&checkpoints).unwrap();
        Logdir::open(folder.path(), Claim::Begin).unwrap();
        let latest = checkpoints.join("latest.safetensors");
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        files::write(&latest, "").unwrap();
        for refused in [Claim::Begin, Claim::GoOn(elsewhere.path())] {
            let opened = Logdir::open(folder.path(), refused);
            assert!(
                matches!(opened, Err(TrainError::LogdirTaken { .. })),
                "{refused:?}: {opened:?}"
            );
        }
        Logdir::open(folder.path(), Claim::GoOn(&latest)).unwrap();
        let replacing = Logdir::open(folder.path(), Claim::Replace).unwrap();
        assert!(latest.exists(), "the new run may be refused yet");
        replacing.clear().unwrap();
        assert!(!latest.exists());
        drop(replacing);
        // A run that was killed before its first checkpoint.
        let line = "{\"kind\":\"train\",\"iteration\":0}\n";
        files::write(&folder.path().join("metrics.jsonl"), line).unwrap();
        let opened = Logdir::open(folder.path(), Claim::Begin);
        assert!(
            matches!(opened, Err(TrainError::LogdirTaken { .. })),
            "{opened:?}"
        );
    }
}
