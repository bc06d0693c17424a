//! Values of GGUF's metadata.

/// A value. The numbers of the types are GGUF's.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// Number 0.
    U8(u8),
    /// Number 1.
    I8(i8),
    /// Number 2.
    U16(u16),
    /// Number 3.
    I16(i16),
    /// Number 4.
    U32(u32),
    /// Number 5.
    I32(i32),
    /// Number 6.
    F32(f32),
    /// Number 7.
    Bool(bool),
    /// Number 8.
    Text(String),
    /// Number 10.
    U64(u64),
    /// Number 11.
    I64(i64),
    /// Number 12.
    F64(f64),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of numbers or bools, of one type.
    Numbers(Numbers),
    /// An array of arrays.
    Arrays(Vec<GgufValue>),
}

/// Numbers or bools of one type, as a file has them, so that many take no more room than there.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    pub(super) kind: u32,
    pub(super) bytes: Vec<u8>,
}

/// GGUF's number of texts.
pub(super) const TEXT: u32 = 8;
/// GGUF's number of arrays.
pub(super) const ARRAY: u32 = 9;
/// GGUF's number of bools.
pub(super) const BOOL: u32 = 7;

impl GgufValue {
    /// GGUF's number of its type.
    pub(super) fn kind(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => BOOL,
            Self::Text(_) => TEXT,
            Self::Texts(_) | Self::Numbers(_) | Self::Arrays(_) => ARRAY,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// The number or bool of type `kind` in `bytes`; none for a bool that is neither 0 nor 1, another type, or
    /// another number of bytes.
    pub(super) fn of_bytes(kind: u32, bytes: &[u8]) -> Option<Self> {
        Some(match kind {
            0 => Self::U8(u8::from_le_bytes(bytes.try_into().ok()?)),
            1 => Self::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            2 => Self::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            3 => Self::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            4 => Self::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            5 => Self::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            6 => Self::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            BOOL => match bytes {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                _ => return None,
            },
            10 => Self::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            11 => Self::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            12 => Self::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            _ => return None,
        })
    }

    /// A whole number of any type.
    pub(super) fn as_integer(&self) -> Option<i128> {
        match self {
            Self::U8(value) => Some((*value).into()),
            Self::I8(value) => Some((*value).into()),
            Self::U16(value) => Some((*value).into()),
            Self::I16(value) => Some((*value).into()),
            Self::U32(value) => Some((*value).into()),
            Self::I32(value) => Some((*value).into()),
            Self::U64(value) => Some((*value).into()),
            Self::I64(value) => Some((*value).into()),
            _ => None,
        }
    }

    /// A number of any type. An f32 is the shortest decimal number that rounds to it, so that 1e-5 stays 1e-5.
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::F32(value) => value.to_string().parse().ok(),
            Self::F64(value) => Some(*value),
            #[allow(
                clippy::cast_precision_loss,
                reason = "whoever asks for a float wants the nearest"
            )]
            _ => self.as_integer().map(|value| value as f64),
        }
    }

    /// What it is, for errors.
    pub(super) fn describe(&self) -> String {
        let array = |of: &str, len: usize| format!("an array of {len} {of}");
        match self {
            Self::Text(_) => "a text".to_owned(),
            Self::Texts(texts) => array("texts", texts.len()),
            Self::Numbers(numbers) => array(name_of(numbers.kind), numbers.len()),
            Self::Arrays(arrays) => array("arrays", arrays.len()),
            Self::Bool(value) => format!("the bool {value}"),
            Self::F32(value) => format!("the f32 {value}"),
            Self::F64(value) => format!("the f64 {value}"),
            _ => {
                let value = self.as_integer().unwrap_or_default();
                format!("the {} {value}", name_of(self.kind()))
            }
        }
    }
}

impl Numbers {
    /// Of whole numbers.
    pub fn of_i32(values: &[i32]) -> Self {
        Self {
            kind: 5,
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    /// Of floats.
    pub fn of_f32(values: &[f32]) -> Self {
        Self {
            kind: 6,
            bytes: values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        size_of(self.kind).map_or(0, |size| self.bytes.len() / size)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// One after the other.
    pub(super) fn iter(&self) -> impl Iterator<Item = GgufValue> {
        // A type of no size is never made.
        let size = size_of(self.kind).unwrap_or(1);
        let numbers = self.bytes.chunks_exact(size);
        numbers.filter_map(|bytes| GgufValue::of_bytes(self.kind, bytes))
    }
}

/// Bytes of a number or bool of type `kind`.
pub(super) fn size_of(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | BOOL => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The name of a type of numbers.
fn name_of(kind: u32) -> &'static str {
    match kind {
        0 => "u8",
        1 => "i8",
        2 => "u16",
        3 => "i16",
        4 => "u32",
        5 => "i32",
        6 => "f32",
        BOOL => "bool",
        10 => "u64",
        11 => "i64",
        _ => "f64",
    }
}
