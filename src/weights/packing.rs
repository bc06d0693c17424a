//! Between f32 in the host's memory and how a device stores parameters.

use half::f16;

use super::StorageType;
use crate::parallel;

/// Words of a matrix with rows of `cols` values, as the device has it.
pub(super) fn packed(storage: StorageType, values: &[f32], cols: usize) -> Vec<u32> {
    let rows: Vec<&[f32]> = values.chunks_exact(cols).collect();
    match storage {
        StorageType::F32 => values.iter().map(|value| value.to_bits()).collect(),
        StorageType::F16 => {
            let words = storage.words(1, cols);
            let pack = |row: &&[f32]| {
                let mut packed = vec![0; words];
                for (index, value) in row.iter().enumerate() {
                    let bits = u32::from(f16::from_f32(*value).to_bits());
                    packed[index / 2] |= bits << (16 * (index % 2));
                }
                packed
            };
            parallel::map(&rows, pack).concat()
        }
    }
}

/// The values of a matrix with rows of `cols`, from its words.
pub(super) fn unpacked(storage: StorageType, words: &[u32], cols: usize) -> Vec<f32> {
    match storage {
        StorageType::F32 => words.iter().map(|&word| f32::from_bits(word)).collect(),
        StorageType::F16 => {
            let rows: Vec<&[u32]> = words.chunks_exact(storage.words(1, cols)).collect();
            let unpack = |row: &&[u32]| -> Vec<f32> {
                let halves = row.iter().flat_map(|&word| [half(word), half(word >> 16)]);
                halves.take(cols).collect()
            };
            parallel::map(&rows, unpack).concat()
        }
    }
}

/// The value of the lower half of a word.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the upper half is another's"
)]
fn half(word: u32) -> f32 {
    f16::from_bits(word as u16).to_f32()
}

/// Whether a device that stores parameters so has a finite number for this one.
pub(super) fn holds(storage: StorageType, value: f32) -> bool {
    match storage {
        StorageType::F32 => true,
        StorageType::F16 => f16::from_f32(value).is_finite(),
    }
}
