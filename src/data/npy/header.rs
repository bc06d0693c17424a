//! The header of a `.npy` file: magic string, version, length, and a Python dictionary.

use std::path::Path;

use super::NpyError;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Length of the headers written here: enough for any number of tokens, and a multiple of 64 as
/// the format wants it.
pub(super) const WRITTEN_LEN: usize = 128;

/// How a token id is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// Unsigned 16-bit integers, `<u2`.
    U16,
    /// Unsigned 32-bit integers, `<u4`.
    U32,
}

impl Dtype {
    /// The smallest type for the ids of a vocabulary: 16 bits up to 65,536 tokens.
    pub fn for_vocab(vocab_size: usize) -> Self {
        if vocab_size > 65_536 {
            Self::U32
        } else {
            Self::U16
        }
    }

    /// Bytes an id.
    pub fn size(self) -> usize {
        match self {
            Self::U16 => 2,
            Self::U32 => 4,
        }
    }

    /// NumPy's name, with the byte order.
    pub fn name(self) -> &'static str {
        match self {
            Self::U16 => "<u2",
            Self::U32 => "<u4",
        }
    }
}

/// What a header says.
pub(super) struct Header {
    /// Where the array starts, in bytes.
    pub(super) data_start: usize,
    /// Number of elements.
    pub(super) len: usize,
    pub(super) dtype: Dtype,
}

/// Bytes that the longest header that is read may have; numpy's own are 128.
pub(super) const MOST_LEN: usize = 1 << 20;

/// Reads the header at the start of a file, of whose `file_len` bytes these are the first
/// [`MOST_LEN`], or all.
pub(super) fn parse(path: &Path, bytes: &[u8], file_len: u64) -> Result<Header, NpyError> {
    if !bytes.starts_with(MAGIC) {
        let start = &bytes[..bytes.len().min(MAGIC.len())];
        let found = start.escape_ascii().to_string();
        return Err(NpyError::NotNpy {
            path: path.to_owned(),
            found,
        });
    }
    let (dict_start, dict_len) = match bytes[MAGIC.len()..] {
        [1, 0, a, b, ..] => (10, usize::from(u16::from_le_bytes([a, b]))),
        [2, 0, a, b, c, d, ..] => {
            let len = u32::from_le_bytes([a, b, c, d]);
            (12, usize::try_from(len).unwrap_or(usize::MAX))
        }
        [1 | 2, 0, ..] | [] | [_] => return Err(cut_short(path, file_len, 12)),
        [major, minor, ..] => {
            let found = format!("{major}.{minor}");
            return Err(NpyError::Version {
                path: path.to_owned(),
                found,
            });
        }
    };
    let data_start = dict_len.saturating_add(dict_start);
    let Some(dict) = bytes.get(dict_start..data_start) else {
        if data_start as u64 <= file_len {
            return Err(NpyError::Header {
                path: path.to_owned(),
                expected: "one of at most a mebibyte",
                found: format!("{data_start} bytes"),
            });
        }
        return Err(cut_short(path, file_len, data_start as u64));
    };
    let dict = dict.escape_ascii().to_string().replace("\\'", "'");
    let (dtype, len) = parse_dict(path, &dict)?;
    Ok(Header {
        data_start,
        len,
        dtype,
    })
}

/// The header of [`WRITTEN_LEN`] bytes, version 1.0, for `len` ids.
pub(super) fn format(dtype: Dtype, len: usize) -> Vec<u8> {
    let dict = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({len},), }}",
        dtype.name()
    );
    let dict_len = WRITTEN_LEN - 10;
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&[1, 0]);
    header.extend_from_slice(&u16::try_from(dict_len).expect("118 fits").to_le_bytes());
    // The last byte of the padding is a newline, as the format wants it.
    header.extend_from_slice(format!("{dict:<width$}\n", width = dict_len - 1).as_bytes());
    header
}

fn cut_short(path: &Path, found: u64, expected: u64) -> NpyError {
    NpyError::CutShort {
        path: path.to_owned(),
        expected,
        found,
    }
}

/// Type and length from a dictionary such as
/// `{'descr': '<u2', 'fortran_order': False, 'shape': (12,), }`.
fn parse_dict(path: &Path, dict: &str) -> Result<(Dtype, usize), NpyError> {
    let damaged = |expected| NpyError::Header {
        path: path.to_owned(),
        expected,
        found: dict.trim_end_matches(['\\', 'n', ' ']).to_owned(),
    };
    let descr = value(dict, "'descr':").ok_or_else(|| damaged("a 'descr'"))?;
    let dtype = match descr {
        "'<u2'" => Dtype::U16,
        "'<u4'" => Dtype::U32,
        _ => {
            return Err(NpyError::Dtype {
                path: path.to_owned(),
                found: descr.to_owned(),
            });
        }
    };
    let is_fortran = match value(dict, "'fortran_order':") {
        Some("False") => false,
        Some("True") => true,
        _ => return Err(damaged("a 'fortran_order' of True or False")),
    };
    let shape = value(dict, "'shape':").ok_or_else(|| damaged("a 'shape'"))?;
    let sizes: Option<Vec<usize>> = shape
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|inner| {
            let sizes = inner
                .split(',')
                .map(str::trim)
                .filter(|size| !size.is_empty());
            sizes.map(|size| size.parse().ok()).collect()
        });
    match sizes.as_deref() {
        Some(&[len]) => Ok((dtype, len)),
        Some(_) => Err(NpyError::Rank {
            path: path.to_owned(),
            found: shape.to_owned(),
            is_fortran,
        }),
        None => Err(damaged("a 'shape' of whole numbers")),
    }
}

/// The text of the value after `key`: up to the comma or brace that ends it, which inside of
/// quotes and brackets do not count.
fn value<'d>(dict: &'d str, key: &str) -> Option<&'d str> {
    let start = dict.find(key)? + key.len();
    let rest = dict[start..].trim_start();
    let mut depth = 0;
    let mut is_quoted = false;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'\'' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b',' | b'}' if depth == 0 => return Some(rest[..at].trim_end()),
            _ => {}
        }
    }
    None
}
