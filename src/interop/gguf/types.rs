//! The types of elements, by ggml's numbers (`enum ggml_type` in `ggml.h`).

use crate::interop::{ElementType, TensorInfo};

/// Types that are read or passed over as they are: number, name, type, elements and bytes of a block.
const READ: [(u32, &str, ElementType, usize, usize); 13] = [
    (0, "F32", ElementType::F32, 1, 4),
    (1, "F16", ElementType::F16, 1, 2),
    (2, "Q4_0", ElementType::Q4_0, 32, 18),
    (3, "Q4_1", ElementType::Q4_1, 32, 20),
    (8, "Q8_0", ElementType::Q8_0, 32, 34),
    (12, "Q4_K", ElementType::Q4K, 256, 144),
    (14, "Q6_K", ElementType::Q6K, 256, 210),
    (24, "I8", ElementType::Other("I8"), 1, 1),
    (25, "I16", ElementType::Other("I16"), 1, 2),
    (26, "I32", ElementType::Other("I32"), 1, 4),
    (27, "I64", ElementType::Other("I64"), 1, 8),
    (28, "F64", ElementType::F64, 1, 8),
    (30, "BF16", ElementType::Bf16, 1, 2),
];

/// Types that are not read; some of them are gone from ggml.
const NAMES: [(u32, &str); 29] = [
    (4, "Q4_2"),
    (5, "Q4_3"),
    (6, "Q5_0"),
    (7, "Q5_1"),
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (13, "Q5_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (29, "IQ1_M"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

/// The type of `number`.
///
/// # Errors
/// The name of one that is not read.
pub(super) fn of_number(number: u32) -> Result<ElementType, String> {
    if let Some((_, _, element_type, ..)) = READ.iter().find(|(own, ..)| *own == number) {
        return Ok(*element_type);
    }
    Err(match NAMES.iter().find(|(own, _)| *own == number) {
        Some((_, name)) => format!("type {name}"),
        None => format!("type number {number}"),
    })
}

/// The number of `element_type`, if GGUF has it.
pub(super) fn number_of(element_type: ElementType) -> Option<u32> {
    let found = READ.iter().find(|(_, _, own, ..)| *own == element_type);
    found.map(|(number, ..)| *number)
}

/// Bytes of a tensor.
///
/// # Errors
/// What is wrong with its shape, as a verb and its object.
pub(super) fn bytes_of(info: &TensorInfo) -> Result<u64, String> {
    let shape = &info.shape;
    let found = READ
        .iter()
        .find(|(_, _, own, ..)| *own == info.element_type);
    let Some((_, name, _, elements, bytes)) = found else {
        return Err(format!(
            "has type {:?}, which GGUF has not",
            info.element_type
        ));
    };
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(*elements) {
        return Err(format!(
            "has rows of {row} elements, which are no whole blocks of {elements}, as {name} has them"
        ));
    }
    let len = shape.iter().try_fold(1_u64, |product, side| {
        product.checked_mul(u64::try_from(*side).ok()?)
    });
    len.and_then(|len| (len / *elements as u64).checked_mul(*bytes as u64))
        .ok_or_else(|| format!("has the shape {shape:?}, which is too large for any file"))
}
