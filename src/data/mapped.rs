//! A file mapped into memory for reading, so that it may be larger than memory.
//!
//! This is the only place of the data code that needs `unsafe`.
#![allow(
    unsafe_code,
    reason = "mapping a file cannot be expressed in safe Rust"
)]

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// The bytes of a file, read by the operating system where they are first touched.
///
/// The file must stay as it is while it is mapped: whoever shortens it makes a later read end
/// the process with a bus error, and whoever rewrites it in place changes the bytes seen here.
/// Replacing it by a rename, as every writer of this program does, is harmless.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
}

impl MappedFile {
    /// Maps the whole file at `path` for reading.
    ///
    /// # Errors
    ///
    /// The operating system's error where the file cannot be opened or mapped, for example
    /// because it is missing or a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the mapping is read-only and private to this value, which hands out shared
        // borrows only, so nothing in this process writes to it. The program never changes a
        // file in place: all its writers rename a finished file over the old one, which leaves
        // the mapped one whole. Other processes are asked to keep to that, as documented above.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map })
    }

    /// All bytes of the file, in order.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_shows_the_bytes_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        for content in [&b""[..], b"x", &[7; 10_007]] {
            let path = dir.path().join("file");
            std::fs::write(&path, content).unwrap();
            assert_eq!(MappedFile::open(&path).unwrap().bytes(), content);
        }
    }

    #[test]
    fn missing_files_and_directories_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(MappedFile::open(&dir.path().join("missing")).is_err());
        assert!(MappedFile::open(dir.path()).is_err());
    }
}
