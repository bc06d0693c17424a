//! The globals that a pickle may name. Each is an entry of these tables and nothing else is looked up,
//! so that reading a file runs no code of its choosing.

use std::fmt;

use half::{bf16, f16};

use crate::interop::ElementType;
use crate::interop::torch::problem::Problem;

/// The types of elements that torch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    /// A type that is only carried along: torch's name and the width in bytes.
    Other(&'static str, usize),
}

impl Dtype {
    /// Torch's name, without `torch.`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F64 => "float64",
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I16 => "int16",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
            Self::Other(name, _) => name,
        }
    }

    /// Bytes of an element.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Other(_, width) => width,
        }
    }

    pub(crate) fn element_type(self) -> ElementType {
        match self {
            Self::F64 => ElementType::F64,
            Self::F32 => ElementType::F32,
            Self::F16 => ElementType::F16,
            Self::Bf16 => ElementType::Bf16,
            other => ElementType::Other(other.name()),
        }
    }

    /// The type of elements that are floats of one each.
    pub(crate) fn of_floats(element_type: ElementType) -> Option<Self> {
        let floats = [Self::F64, Self::F32, Self::F16, Self::Bf16];
        let mut floats = floats.into_iter();
        floats.find(|dtype| dtype.element_type() == element_type)
    }

    /// The integer that an element is, if it is one.
    pub(crate) fn int(self, bytes: &[u8]) -> Option<i64> {
        match self {
            Self::I64 => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
            Self::I32 => Some(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I16 => Some(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I8 => Some(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U8 => Some(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            _ => None,
        }
    }

    /// The float that an element is, if it is one.
    pub(crate) fn float(self, bytes: &[u8]) -> Option<f64> {
        match self {
            Self::F64 => Some(f64::from_le_bytes(bytes.try_into().ok()?)),
            Self::F32 => Some(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::F16 => Some(f16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::Bf16 => Some(bf16::from_le_bytes(bytes.try_into().ok()?).into()),
            _ => None,
        }
    }
}

/// What a name in a pickle stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildTensorV2,
    /// For types that have no class of storage.
    RebuildTensorV3,
    RebuildParameter,
    RebuildParameterWithState,
    /// A class of storages, by the type of its elements.
    Storage(Dtype),
    Dtype(Dtype),
    Size,
    Device,
    GetLayout,
    NumpyScalar,
    NumpyDtype,
    /// How protocol 2 writes bytes.
    CodecsEncode,
}

impl fmt::Display for Global {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Dtype(dtype) = self {
            return write!(f, "torch.{}", dtype.name());
        }
        match OTHERS.iter().find(|(_, _, global)| global == self) {
            Some((module, name, _)) => write!(f, "{module}.{name}"),
            None => write!(f, "a class of storages"),
        }
    }
}

/// Classes of storages in `torch`, `torch.cuda` and `torch.storage`. An untyped one counts bytes.
const STORAGES: [(&str, Dtype); 13] = [
    ("DoubleStorage", Dtype::F64),
    ("FloatStorage", Dtype::F32),
    ("HalfStorage", Dtype::F16),
    ("BFloat16Storage", Dtype::Bf16),
    ("LongStorage", Dtype::I64),
    ("IntStorage", Dtype::I32),
    ("ShortStorage", Dtype::I16),
    ("CharStorage", Dtype::I8),
    ("ByteStorage", Dtype::U8),
    ("BoolStorage", Dtype::Bool),
    ("ComplexFloatStorage", Dtype::Other("complex64", 8)),
    ("ComplexDoubleStorage", Dtype::Other("complex128", 16)),
    ("UntypedStorage", Dtype::U8),
];

/// The class of storages of a type.
pub(crate) fn storage_class(dtype: Dtype) -> Option<&'static str> {
    let mut classes = STORAGES.iter();
    classes.find(|class| class.1 == dtype).map(|class| class.0)
}

/// Constants of `torch`.
const DTYPES: [Dtype; 22] = [
    Dtype::F64,
    Dtype::F32,
    Dtype::F16,
    Dtype::Bf16,
    Dtype::I64,
    Dtype::I32,
    Dtype::I16,
    Dtype::I8,
    Dtype::U8,
    Dtype::Bool,
    Dtype::Other("uint16", 2),
    Dtype::Other("uint32", 4),
    Dtype::Other("uint64", 8),
    Dtype::Other("complex32", 4),
    Dtype::Other("complex64", 8),
    Dtype::Other("complex128", 16),
    Dtype::Other("float8_e4m3fn", 1),
    Dtype::Other("float8_e4m3fnuz", 1),
    Dtype::Other("float8_e5m2", 1),
    Dtype::Other("float8_e5m2fnuz", 1),
    Dtype::Other("float8_e8m0fnu", 1),
    Dtype::Other("float4_e2m1fn_x2", 1),
];

/// Longest name that an error repeats.
const MOST_NAME: usize = 1000;

/// All other globals.
const OTHERS: [(&str, &str, Global); 13] = [
    ("collections", "OrderedDict", Global::OrderedDict),
    ("torch._utils", "_rebuild_tensor", Global::RebuildTensor),
    (
        "torch._utils",
        "_rebuild_tensor_v2",
        Global::RebuildTensorV2,
    ),
    (
        "torch._utils",
        "_rebuild_tensor_v3",
        Global::RebuildTensorV3,
    ),
    (
        "torch._utils",
        "_rebuild_parameter",
        Global::RebuildParameter,
    ),
    (
        "torch._utils",
        "_rebuild_parameter_with_state",
        Global::RebuildParameterWithState,
    ),
    ("torch", "Size", Global::Size),
    ("torch", "device", Global::Device),
    ("torch.serialization", "_get_layout", Global::GetLayout),
    ("numpy.core.multiarray", "scalar", Global::NumpyScalar),
    // As numpy 2 has it.
    ("numpy._core.multiarray", "scalar", Global::NumpyScalar),
    ("numpy", "dtype", Global::NumpyDtype),
    ("_codecs", "encode", Global::CodecsEncode),
];

impl Global {
    /// The entry of a name.
    pub(crate) fn find(module: &str, name: &str) -> Result<Self, Problem> {
        let other = OTHERS
            .iter()
            .find(|entry| (entry.0, entry.1) == (module, name));
        if let Some((_, _, global)) = other {
            return Ok(*global);
        }
        if matches!(module, "torch" | "torch.cuda" | "torch.storage")
            && let Some((_, dtype)) = STORAGES.iter().find(|(class, _)| *class == name)
        {
            return Ok(Self::Storage(*dtype));
        }
        if module == "torch"
            && let Some(dtype) = DTYPES.iter().find(|dtype| dtype.name() == name)
        {
            return Ok(Self::Dtype(*dtype));
        }
        if module.len() + name.len() > MOST_NAME {
            return Err(Problem::damaged(format!(
                "its pickle names a global of more than {MOST_NAME} bytes"
            )));
        }
        Err(Problem::unsupported(format!(
            "its Python object '{module}.{name}', which is no part of a tensor,"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_tables_have_is_found() {
        let half = Global::find("torch", "HalfStorage").unwrap();
        assert_eq!(half, Global::Storage(Dtype::F16));
        let dtype = Global::find("torch", "bfloat16").unwrap();
        assert_eq!(dtype, Global::Dtype(Dtype::Bf16));
        for (module, name) in [
            ("os", "system"),
            ("builtins", "eval"),
            ("torch.storage", "_load_from_bytes"),
            ("torch", "load"),
            ("collections", "HalfStorage"),
            ("os", "OrderedDict"),
            ("torch.cuda", "float32"),
        ] {
            let Err(Problem::Unsupported(what)) = Global::find(module, name) else {
                panic!("{module}.{name} was found");
            };
            assert!(what.contains(&format!("'{module}.{name}'")), "{what}");
        }
    }
}
