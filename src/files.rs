//! How the program writes files: whole or not at all, or line by line to a log that only grows.
//!
//! No other module creates, opens or renames a file to write to it; `tests/writes.rs` looks for
//! such calls.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use atomic_write_file::AtomicWriteFile;

/// A file that takes its name when it is committed, in place of any file of that name; dropped
/// before that, or with its process killed, it leaves what was there.
///
/// A name that belongs to no regular file, such as `/dev/stdout` or a named pipe, is written to as
/// it is, since it must not be replaced.
#[derive(Debug)]
pub struct WholeFile {
    out: Out,
}

#[derive(Debug)]
enum Out {
    Replacing(AtomicWriteFile),
    Direct(File),
}

impl WholeFile {
    /// Starts a file at `path`, in a folder that exists. A link is followed.
    ///
    /// # Errors
    /// When no file can be written there.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let out = match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                Out::Direct(OpenOptions::new().write(true).open(path)?)
            }
            Ok(_) => Out::Replacing(AtomicWriteFile::open(fs::canonicalize(path)?)?),
            Err(_) => Out::Replacing(AtomicWriteFile::open(path)?),
        };
        Ok(Self { out })
    }

    fn file(&mut self) -> &mut File {
        match &mut self.out {
            Out::Replacing(file) => file.as_file_mut(),
            Out::Direct(file) => file,
        }
    }

    /// Brings what was written to the disk, so that only the renaming is left of
    /// [`WholeFile::commit`].
    ///
    /// # Errors
    /// When the disk says no.
    pub fn sync(&self) -> io::Result<()> {
        match &self.out {
            Out::Replacing(file) => file.sync_all(),
            Out::Direct(_) => Ok(()),
        }
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// When the disk says no; what was there before is whole then.
    pub fn commit(self) -> io::Result<()> {
        match self.out {
            Out::Replacing(file) => file.commit(),
            Out::Direct(mut file) => file.flush(),
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

impl Seek for WholeFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file().seek(to)
    }
}

/// Writes `bytes` as the file at `path`, whole or not at all.
///
/// # Errors
/// When the disk says no; what was there before is whole then.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    write_with(path, |out| out.write_all(bytes.as_ref()))
}

/// Writes the file at `path` by `write`, whole or not at all; gives what `write` gave.
///
/// # Errors
/// Those of `write`, or when the disk says no; what was there before is whole then.
pub fn write_with<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<WholeFile>) -> io::Result<T>,
) -> io::Result<T> {
    let mut out = BufWriter::new(WholeFile::begin(path)?);
    let written = write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.commit()?;
    Ok(written)
}

/// Opens the log at `path` to write behind what is there; it is created where it is missing. A
/// process that is killed can cut the last line short, so readers leave such a line out.
///
/// # Errors
/// When the file cannot be opened.
pub fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Creates a log of a name that nothing has yet.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where something has it, or when the disk says no.
pub fn create_new(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

/// Creates a folder, and those above it, where they are missing.
///
/// # Errors
/// When the disk says no.
pub fn create_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Opens the lock file at `path`, which is never read and stays empty; it is created where it is
/// missing. A lock on it ends with its process, however that ends.
///
/// # Errors
/// When the file cannot be opened.
pub fn lock_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_when_it_is_committed_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write(&path, "before").unwrap();
        let mut file = WholeFile::begin(&path).unwrap();
        file.write_all(b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"before", "it was dropped");
        let failed = write_with(&path, |out| {
            out.write_all(b"half")?;
            Err::<(), _>(io::Error::other("no more"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"before", "it failed");
        write(&path, "after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_devices_written_to_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        write(&target, "before").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, "after").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"after");
        // A link of ours, so that a mistake replaces it and not the device.
        let null = folder.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &null).unwrap();
        write(&null, "nothing").unwrap();
        assert!(fs::symlink_metadata(&null).unwrap().is_symlink());
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
