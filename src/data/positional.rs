//! A file that is read at given places, by any number of threads at once, so that it may be larger than
//! memory. A file that others cut short meanwhile is an error where a memory map would end the process.

use std::fs::File;
use std::io;
use std::path::Path;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct PositionalFile {
    file: File,
    len: u64,
}

impl PositionalFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// The operating system's error where the file cannot be opened, or is a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let len = metadata.len();
        Ok(Self { file, len })
    }

    /// Length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it had no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first bytes: `len` of them, or all that there are.
    ///
    /// # Errors
    ///
    /// As those of [`PositionalFile::read_at`].
    pub fn start(&self, len: usize) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).map_or(len, |all| all.min(len));
        let mut bytes = vec![0; len];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` with those from byte `offset` on.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` where the file has become shorter since it was opened, and what the operating
    /// system says.
    #[cfg(unix)]
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    /// Fills `bytes` with those from byte `offset` on.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` where the file has become shorter since it was opened, and what the operating
    /// system says.
    #[cfg(windows)]
    pub fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.file, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    offset += n as u64;
                    bytes = &mut bytes[n..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_at_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let content: Vec<u8> = (0..10_007_u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = PositionalFile::open(&path).unwrap();
        assert_eq!(file.len(), 10_007);
        assert_eq!(file.start(100).unwrap(), content[..100]);
        assert_eq!(file.start(1 << 20).unwrap(), content);
        let mut bytes = [0; 77];
        file.read_at(9_930, &mut bytes).unwrap();
        assert_eq!(bytes, content[9_930..]);
        file.read_at(10_007, &mut []).unwrap();
    }

    #[test]
    fn what_was_cut_off_meanwhile_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 1000]).unwrap();
        let file = PositionalFile::open(&path).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(500)
            .unwrap();
        let mut bytes = [0; 100];
        file.read_at(400, &mut bytes).unwrap();
        let error = file.read_at(450, &mut bytes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn missing_files_and_directories_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(PositionalFile::open(&dir.path().join("missing")).is_err());
        assert!(PositionalFile::open(dir.path()).is_err());
    }
}
