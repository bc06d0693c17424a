//! The zip archives that `torch.save` writes since torch 1.6: stored entries only, with or without the
//! fields of 64 bits. The layout is that of PKWARE's APPNOTE.TXT, 4.3.

use rustc_hash::FxHashMap;

use super::problem::Problem;
use crate::data::positional::PositionalFile;

/// Signatures of a local header, of the directory's entries, and of its two ends.
pub(crate) const LOCAL: u32 = 0x0403_4b50;
pub(crate) const ENTRY: u32 = 0x0201_4b50;
pub(crate) const END: u32 = 0x0605_4b50;
pub(crate) const END_64: u32 = 0x0606_4b50;
/// Signature of what tells where the end with 64 bits begins.
pub(crate) const LOCATOR_64: u32 = 0x0706_4b50;
/// Lengths of those, without what has no fixed length.
pub(crate) const LOCAL_LEN: usize = 30;
pub(crate) const ENTRY_LEN: usize = 46;
pub(crate) const END_LEN: usize = 22;
pub(crate) const END_64_LEN: usize = 56;
pub(crate) const LOCATOR_64_LEN: usize = 20;
/// Tag of the extra field with numbers of 64 bits.
pub(crate) const EXTRA_64: u16 = 1;
/// Longest comment after the end.
const MOST_COMMENT: usize = 0xffff;
/// Longest directory; each storage takes about a hundred bytes of it.
const MOST_DIRECTORY: u64 = 1 << 28;

/// Where a stored entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of its local header.
    header: u64,
    pub(crate) len: u64,
    /// Zero where torch was told to compute none.
    pub(crate) crc: u32,
    /// How it is compressed: zero where not at all.
    method: u16,
}

/// The directory of a zip archive.
#[derive(Debug)]
pub(crate) struct Archive {
    entries: FxHashMap<String, Entry>,
    /// What the names of all entries begin with, such as `archive/`.
    root: String,
    /// Where the directory begins, which the entries lie before.
    end: u64,
}

impl Archive {
    /// Reads the directory.
    pub(crate) fn read(file: &PositionalFile) -> Result<Self, Problem> {
        let (start, len) = directory(file)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        file.read_at(start, &mut bytes)?;
        let mut entries = FxHashMap::default();
        let mut root = None;
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let (name, entry, after) = directory_entry(rest)
                .ok_or_else(|| Problem::damaged("the directory of its zip archive is damaged"))?;
            rest = after;
            if root.is_none() {
                let slash = name.find('/').map_or(0, |at| at + 1);
                root = Some(name[..slash].to_owned());
            }
            if entries.contains_key(&name) {
                return Err(Problem::damaged(format!(
                    "its zip archive has two entries '{name}'"
                )));
            }
            entries.insert(name, entry);
        }
        Ok(Self {
            entries,
            root: root.unwrap_or_default(),
            end: start,
        })
    }

    /// The entry of a name below the root.
    pub(crate) fn find(&self, name: &str) -> Option<Entry> {
        self.entries.get(&format!("{}{name}", self.root)).copied()
    }

    /// Where the bytes of an entry begin. `name` is for the errors.
    pub(crate) fn data_start(
        &self,
        file: &PositionalFile,
        name: &str,
        entry: Entry,
    ) -> Result<u64, Problem> {
        if entry.method != 0 {
            return Err(Problem::unsupported(format!(
                "its entry '{name}' that is compressed (method {}), which torch.save never does,",
                entry.method
            )));
        }
        let outside = || Problem::damaged(format!("its entry '{name}' lies outside the file"));
        let after = entry.header.checked_add(LOCAL_LEN as u64);
        let after = after
            .filter(|after| *after <= self.end)
            .ok_or_else(outside)?;
        let mut header = [0; LOCAL_LEN];
        file.read_at(entry.header, &mut header)?;
        if u32_at(&header, 0) != Some(LOCAL) {
            return Err(Problem::damaged(format!(
                "its entry '{name}' has no header at byte {}",
                entry.header
            )));
        }
        let lens = [26, 28].map(|at| u64::from(u16_at(&header, at).unwrap_or(0)));
        let start = after + lens[0] + lens[1];
        let end = start.checked_add(entry.len);
        if end.is_none_or(|end| end > self.end) {
            return Err(outside());
        }
        Ok(start)
    }

    /// The bytes of an entry that has at most `most`.
    pub(crate) fn contents(
        &self,
        file: &PositionalFile,
        name: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, Problem> {
        let Some(entry) = self.find(name) else {
            return Ok(None);
        };
        let start = self.data_start(file, name, entry)?;
        if entry.len > most {
            return Err(Problem::unsupported(format!(
                "its entry '{name}' of {} bytes, more than {most},",
                entry.len
            )));
        }
        let mut bytes = vec![0; usize::try_from(entry.len).unwrap_or_default()];
        file.read_at(start, &mut bytes)?;
        if let Some(problem) = crc_problem(entry.crc, &bytes) {
            return Err(Problem::damaged(format!("its entry '{name}' {problem}")));
        }
        Ok(Some(bytes))
    }
}

/// What is wrong with bytes that should have the checksum `noted`.
pub(crate) fn crc_problem(noted: u32, bytes: &[u8]) -> Option<String> {
    let found = crc(bytes);
    (noted != 0 && noted != found).then(|| {
        format!("has the checksum {found:#010x}, and not {noted:#010x} as when it was written")
    })
}

/// The checksum of zip archives.
pub(crate) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Start and length of the directory.
fn directory(file: &PositionalFile) -> Result<(u64, u64), Problem> {
    let tail_len = file.len().min((END_LEN + MOST_COMMENT) as u64);
    let mut tail = vec![0; usize::try_from(tail_len).unwrap_or_default()];
    let tail_start = file.len() - tail_len;
    file.read_at(tail_start, &mut tail)?;
    let is_end = |at: &usize| {
        let comment = u16_at(&tail, at + 20).map(usize::from);
        u32_at(&tail, *at) == Some(END)
            && comment.is_some_and(|comment| at + END_LEN + comment == tail.len())
    };
    let last = tail.len().checked_sub(END_LEN);
    let at = last.and_then(|last| (0..=last).rev().find(is_end));
    let at = at.ok_or_else(|| {
        Problem::damaged("its zip archive has no end; the file was probably cut short")
    })?;
    let end_start = tail_start + at as u64;
    let numbers = (u32_at(&tail, at + 16), u32_at(&tail, at + 12));
    let (Some(start), Some(len)) = numbers else {
        return Err(Problem::damaged("its zip archive has no end"));
    };
    let (mut start, mut len) = (u64::from(start), u64::from(len));
    if let Some(wide) = directory_64(file, end_start)? {
        (start, len) = wide;
    }
    let end = start.checked_add(len);
    if end.is_none_or(|end| end > end_start) || len > MOST_DIRECTORY {
        return Err(Problem::damaged(format!(
            "the directory of its zip archive would have {len} bytes at byte {start} of {}",
            file.len()
        )));
    }
    Ok((start, len))
}

/// Start and length of the directory by the end with 64 bits, where there is one before the other end.
fn directory_64(file: &PositionalFile, end_start: u64) -> Result<Option<(u64, u64)>, Problem> {
    let mut locator = [0; LOCATOR_64_LEN];
    let Some(at) = end_start.checked_sub(LOCATOR_64_LEN as u64) else {
        return Ok(None);
    };
    file.read_at(at, &mut locator)?;
    if u32_at(&locator, 0) != Some(LOCATOR_64) {
        return Ok(None);
    }
    let damaged = || Problem::damaged("its zip archive has a damaged end of 64 bits");
    let start = u64_at(&locator, 8).ok_or_else(damaged)?;
    if start
        .checked_add(END_64_LEN as u64)
        .is_none_or(|end| end > at)
    {
        return Err(damaged());
    }
    let mut end = [0; END_64_LEN];
    file.read_at(start, &mut end)?;
    match (u32_at(&end, 0), u64_at(&end, 48), u64_at(&end, 40)) {
        (Some(END_64), Some(start), Some(len)) => Ok(Some((start, len))),
        _ => Err(damaged()),
    }
}

/// The first entry of the rest of a directory, and the rest after it.
fn directory_entry(bytes: &[u8]) -> Option<(String, Entry, &[u8])> {
    if u32_at(bytes, 0)? != ENTRY {
        return None;
    }
    let lens = [28, 30, 32].map(|at| u16_at(bytes, at).map(usize::from));
    let [Some(name_len), Some(extra_len), Some(comment_len)] = lens else {
        return None;
    };
    let name = bytes.get(ENTRY_LEN..ENTRY_LEN + name_len)?;
    let extra_start = ENTRY_LEN + name_len;
    let extra = bytes.get(extra_start..extra_start + extra_len)?;
    let after = bytes.get(extra_start + extra_len + comment_len..)?;
    let narrow = [24, 20, 42].map(|at| u32_at(bytes, at));
    let [Some(len), Some(stored_len), Some(header)] = narrow else {
        return None;
    };
    let mut wide = extra_64(extra);
    let mut widened = |number: u32| match number {
        u32::MAX => {
            let (number, rest) = wide.split_first_chunk::<8>()?;
            wide = rest;
            Some(u64::from_le_bytes(*number))
        }
        _ => Some(number.into()),
    };
    // In the order in which the extra field has them.
    let (len, stored_len) = (widened(len)?, widened(stored_len)?);
    let entry = Entry {
        header: widened(header)?,
        len,
        crc: u32_at(bytes, 16)?,
        method: u16_at(bytes, 10)?,
    };
    let encrypted = u16_at(bytes, 8)? & 1 == 1;
    if encrypted || (entry.method == 0 && stored_len != len) {
        return None;
    }
    Some((String::from_utf8(name.to_vec()).ok()?, entry, after))
}

/// The numbers of 64 bits among the extra fields of an entry.
fn extra_64(mut extra: &[u8]) -> &[u8] {
    while let (Some(tag), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let Some(field) = extra.get(4..4 + usize::from(len)) else {
            break;
        };
        if tag == EXTRA_64 {
            return field;
        }
        extra = &extra[4 + usize::from(len)..];
    }
    &[]
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}
