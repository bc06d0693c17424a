//! Writes zip archives as `torch.save` does: stored entries, each at a multiple of 64 bytes, so that
//! `torch.load` can map them to memory.

use std::io::{self, Write};

use super::archive::{END, END_64, END_64_LEN, ENTRY, EXTRA_64, LOCAL, LOCAL_LEN, LOCATOR_64, crc};

/// What the bytes of entries are aligned to.
const ALIGNMENT: u64 = 64;
/// Tag of the extra field that pads, which is torch's.
const EXTRA_PADDING: u16 = 0x4246;
/// Versions of the format that are needed without and with numbers of 64 bits.
const VERSION: u16 = 20;
const VERSION_64: u16 = 45;
/// The first of January 1980, so that equal contents are equal files.
const DATE: u16 = 0x21;

/// A zip archive that is being written.
pub(crate) struct ArchiveWriter<W> {
    out: W,
    at: u64,
    directory: Vec<u8>,
    entries: u64,
    /// Largest number that is written with 32 bits, short of the one that stands for 64.
    most_narrow: u64,
}

impl<W: Write> ArchiveWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            at: 0,
            directory: Vec::new(),
            entries: 0,
            most_narrow: u64::from(u32::MAX) - 1,
        }
    }

    /// The number as 32 bits, or what says that the extra field has it.
    fn narrow(&self, number: u64) -> u32 {
        let fits = number <= self.most_narrow;
        u32::try_from(number)
            .ok()
            .filter(|_| fits)
            .unwrap_or(u32::MAX)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Adds an entry.
    pub(crate) fn entry(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (start, len) = (self.at, bytes.len() as u64);
        let is_wide = len > self.most_narrow;
        let name_len = u16::try_from(name.len()).map_err(io::Error::other)?;
        let mut extra = Vec::new();
        if is_wide {
            extra_64(&mut extra, &[len, len])?;
        }
        // The padding's own tag and length come before it.
        let unpadded = start + (LOCAL_LEN + name.len() + extra.len() + 4) as u64;
        let padding = unpadded.next_multiple_of(ALIGNMENT) - unpadded;
        extra.extend(EXTRA_PADDING.to_le_bytes());
        extra.extend(
            u16::try_from(padding)
                .map_err(io::Error::other)?
                .to_le_bytes(),
        );
        extra.resize(
            extra.len() + usize::try_from(padding).unwrap_or_default(),
            0,
        );
        let version = if is_wide { VERSION_64 } else { VERSION };
        let mut common = Vec::new();
        common.extend(version.to_le_bytes());
        // No flags, no compression, midnight.
        common.extend([0; 6]);
        common.extend(DATE.to_le_bytes());
        common.extend(crc(bytes).to_le_bytes());
        common.extend([self.narrow(len).to_le_bytes(); 2].concat());
        common.extend(name_len.to_le_bytes());
        let mut header = LOCAL.to_le_bytes().to_vec();
        header.extend(&common);
        header.extend(
            u16::try_from(extra.len())
                .map_err(io::Error::other)?
                .to_le_bytes(),
        );
        header.extend(name.as_bytes());
        header.extend(&extra);
        self.write(&header)?;
        self.write(bytes)?;
        self.list(name, &common, start, len)
    }

    /// Adds an entry to the directory.
    fn list(&mut self, name: &str, common: &[u8], start: u64, len: u64) -> io::Result<()> {
        let wide: Vec<u64> = [len, len, start]
            .into_iter()
            .filter(|number| *number > self.most_narrow)
            .collect();
        let mut extra = Vec::new();
        if !wide.is_empty() {
            extra_64(&mut extra, &wide)?;
        }
        let extra_len = u16::try_from(extra.len()).map_err(io::Error::other)?;
        let start = self.narrow(start);
        let directory = &mut self.directory;
        directory.extend(ENTRY.to_le_bytes());
        directory.extend(VERSION_64.to_le_bytes());
        directory.extend(common);
        directory.extend(extra_len.to_le_bytes());
        // No comment, the first disk, no attributes.
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
        directory.extend(extra);
        self.entries += 1;
        Ok(())
    }

    /// Writes the directory and its end.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let directory = std::mem::take(&mut self.directory);
        let (start, len, entries) = (self.at, directory.len() as u64, self.entries);
        self.write(&directory)?;
        let end_64 = self.at;
        let mut end = Vec::new();
        let narrow_entries = u16::try_from(entries).ok().filter(|n| *n != u16::MAX);
        if narrow_entries.is_none() || start > self.most_narrow || len > self.most_narrow {
            end.extend(END_64.to_le_bytes());
            // What follows this number, which does not count itself.
            end.extend((END_64_LEN as u64 - 12).to_le_bytes());
            end.extend([VERSION_64.to_le_bytes(); 2].concat());
            end.extend([0; 8]);
            end.extend(
                [entries, entries, len, start]
                    .map(u64::to_le_bytes)
                    .concat(),
            );
            end.extend(LOCATOR_64.to_le_bytes());
            end.extend([0; 4]);
            end.extend(end_64.to_le_bytes());
            end.extend(1_u32.to_le_bytes());
        }
        end.extend(END.to_le_bytes());
        end.extend([0; 4]);
        end.extend([narrow_entries.unwrap_or(u16::MAX).to_le_bytes(); 2].concat());
        end.extend(self.narrow(len).to_le_bytes());
        end.extend(self.narrow(start).to_le_bytes());
        end.extend([0; 2]);
        self.write(&end)
    }
}

/// Adds an extra field with numbers of 64 bits.
fn extra_64(extra: &mut Vec<u8>, numbers: &[u64]) -> io::Result<()> {
    let len = u16::try_from(8 * numbers.len()).map_err(io::Error::other)?;
    extra.extend(EXTRA_64.to_le_bytes());
    extra.extend(len.to_le_bytes());
    extra.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::positional::PositionalFile;
    use crate::files;
    use crate::interop::torch::archive::Archive;

    /// Writes an archive and looks at what is read of it. All numbers above `most_narrow` have 64 bits.
    fn written_is_read(most_narrow: u64) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let entries: Vec<(String, Vec<u8>)> = [0, 1, 63, 64, 65, 1000]
            .map(|len| (format!("data/{len}"), vec![7; len]))
            .to_vec();
        files::write_with(&path, |out| {
            let mut writer = ArchiveWriter::new(out);
            writer.most_narrow = most_narrow;
            for (name, bytes) in &entries {
                writer.entry(&format!("archive/{name}"), bytes)?;
            }
            writer.finish()
        })
        .unwrap();
        let file = PositionalFile::open(&path).unwrap();
        let archive = Archive::read(&file).unwrap();
        for (name, bytes) in entries {
            let found = archive.contents(&file, &name, 1000).unwrap();
            assert_eq!(found.as_ref(), Some(&bytes), "{name}");
            let entry = archive.find(&name).unwrap();
            assert_eq!(entry.crc, crc(&bytes));
            assert_eq!(
                archive.data_start(&file, &name, entry).unwrap() % ALIGNMENT,
                0
            );
        }
        assert_eq!(archive.contents(&file, "data/2", 1000).unwrap(), None);
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn what_is_written_is_read_also_with_numbers_of_64_bits() {
        let has_end_64 = |bytes: &[u8]| {
            let end = END_64.to_le_bytes();
            bytes.windows(4).any(|window| window == end)
        };
        assert!(!has_end_64(&written_is_read(u64::from(u32::MAX) - 1)));
        for most_narrow in [0, 64, 999, 1000] {
            assert!(has_end_64(&written_is_read(most_narrow)), "{most_narrow}");
        }
    }
}
