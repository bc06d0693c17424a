//! Between f32 in the host's memory and how a device stores parameters.

use half::f16;

use super::StorageType;
use crate::interop::blocks;
use crate::parallel;

/// Words of a matrix with rows of `cols` values, as the device has it.
pub(super) fn packed(storage: StorageType, values: &[f32], cols: usize) -> Vec<u32> {
    match storage {
        StorageType::F32 => values.iter().map(|value| value.to_bits()).collect(),
        StorageType::F16 => {
            let rows: Vec<&[f32]> = values.chunks_exact(cols).collect();
            let words = storage.words(1, cols);
            let pack = |row: &&[f32]| {
                let halves = row.iter().map(|value| f16::from_f32(*value).to_bits());
                let mut packed = in_words(halves);
                packed.resize(words, 0);
                packed
            };
            parallel::map(&rows, pack).concat()
        }
        StorageType::Q8_0 => {
            let (blocks, _) = values.as_chunks::<{ blocks::LEN }>();
            let blocks = parallel::map(blocks, |block| {
                let mut bytes = [0; blocks::Q8_0_BYTES];
                blocks::narrow_q8_0(block, &mut bytes);
                let [low, high, quants @ ..] = &mut bytes;
                if [*low, *high] == [0; 2] {
                    // Too small for a scale. Nor are they minus zero, which would be read as another value.
                    quants.fill(0);
                }
                bytes
            });
            let (scales, quants): (Vec<u16>, Vec<&[[u8; 4]]>) = blocks
                .iter()
                .map(|bytes| {
                    let [low, high, quants @ ..] = bytes;
                    (u16::from_le_bytes([*low, *high]), quants.as_chunks().0)
                })
                .unzip();
            let mut words: Vec<u32> = quants
                .into_iter()
                .flatten()
                .map(|four| u32::from_le_bytes(*four))
                .collect();
            words.extend(in_words(scales.into_iter()));
            words
        }
    }
}

/// The values of a matrix `[rows, cols]`, from its words.
pub(super) fn unpacked(storage: StorageType, words: &[u32], [rows, cols]: [usize; 2]) -> Vec<f32> {
    match storage {
        StorageType::F32 => words.iter().map(|&word| f32::from_bits(word)).collect(),
        StorageType::F16 => {
            let rows: Vec<&[u32]> = words.chunks_exact(storage.words(1, cols)).collect();
            let unpack = |row: &&[u32]| -> Vec<f32> {
                let halves = row.iter().flat_map(|&word| halves(word));
                halves.take(cols).collect()
            };
            parallel::map(&rows, unpack).concat()
        }
        StorageType::Q8_0 => {
            let (quants, scales) = words.split_at(rows * cols / 4);
            let scales = scales.iter().flat_map(|&word| halves(word));
            let blocks = quants.chunks_exact(blocks::LEN / 4).zip(scales);
            let values = |(quants, scale): (&[u32], f32)| {
                let mut values = [0.0; blocks::LEN];
                let bytes = quants.iter().flat_map(|word| word.to_le_bytes());
                for (value, byte) in values.iter_mut().zip(bytes) {
                    *value = f32::from(i8::from_le_bytes([byte])) * scale;
                }
                values
            };
            blocks.flat_map(values).collect()
        }
    }
}

/// Pairs of halves, the first of each in the lower half of a word.
fn in_words(halves: impl Iterator<Item = u16>) -> Vec<u32> {
    let halves: Vec<u16> = halves.collect();
    let word = |pair: &[u16]| {
        let second = pair.get(1).copied().unwrap_or(0);
        u32::from(pair[0]) | u32::from(second) << 16
    };
    halves.chunks(2).map(word).collect()
}

fn halves(word: u32) -> [f32; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [[a, b], [c, d]].map(|bytes| f16::from_le_bytes(bytes).to_f32())
}

/// Whether a device that stores parameters so has a finite number for this one.
pub(super) fn holds(storage: StorageType, value: f32) -> bool {
    match storage {
        StorageType::F32 => true,
        StorageType::F16 => f16::from_f32(value).is_finite(),
        // The scale of a block is that of its largest value.
        StorageType::Q8_0 => f16::from_f32(value / 127.0).is_finite(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all magnitudes that are stored, zeros of both signs, and a block of values too small for a scale.
    fn values(rows: usize, cols: usize) -> Vec<f32> {
        let value = |index: usize| {
            let sign = if index.is_multiple_of(3) { -1.0 } else { 1.0 };
            let exponent = i32::try_from(index / 32 % 24).unwrap() - 20;
            sign * (index * 37 % 101) as f32 / 50.0 * 2f32.powi(exponent)
        };
        let mut values: Vec<f32> = (0..rows * cols).map(value).collect();
        values[..32].fill(-1e-9);
        values[33] = -0.0;
        values
    }

    #[test]
    fn what_is_unpacked_is_packed_to_the_same_words_and_values() {
        for (storage, rows, cols) in [
            (StorageType::F32, 3, 5),
            (StorageType::F16, 1, 64),
            (StorageType::F16, 7, 13),
            (StorageType::F16, 50, 40),
            (StorageType::Q8_0, 1, 64),
            (StorageType::Q8_0, 3, 32),
            (StorageType::Q8_0, 37, 96),
        ] {
            let mut given = values(rows.max(20), cols);
            given.truncate(rows * cols);
            let words = packed(storage, &given, cols);
            assert_eq!(words.len(), storage.words(rows, cols), "{storage:?}");
            let read = unpacked(storage, &words, [rows, cols]);
            let again = packed(storage, &read, cols);
            let read_again = unpacked(storage, &again, [rows, cols]);
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            assert_eq!(bits(&read), bits(&read_again), "{storage:?}");
            assert_eq!(words, again, "{storage:?}");
            for (block, (given, read)) in given.chunks(32).zip(read.chunks(32)).enumerate() {
                let largest = given.iter().fold(0f32, |most, v| most.max(v.abs()));
                for (given, read) in given.iter().zip(read) {
                    // Half of the spacing: of halves, or of a block's bytes, whose scale is a half itself.
                    let within = match storage {
                        StorageType::F32 => 0.0,
                        StorageType::F16 => given.abs() / 2048.0 + 2f32.powi(-25),
                        StorageType::Q8_0 => largest / 127.0 * 0.57 + 127.0 * 2f32.powi(-25),
                    };
                    let error = (given - read).abs();
                    assert!(
                        error <= within,
                        "{storage:?} block {block}: {given} is {read}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_would_be_no_finite_number_does_not_fit() {
        for (storage, fitting, unfit) in [
            (StorageType::F16, 65_519.0, 65_520.0),
            (StorageType::F16, -65_519.0, f32::NEG_INFINITY),
            (StorageType::F16, 0.0, f32::NAN),
            (StorageType::Q8_0, 127.0 * 65_519.0, 127.0 * 65_520.0),
            (StorageType::Q8_0, -1e6, -1e7),
            (StorageType::Q8_0, 0.0, f32::NAN),
        ] {
            assert!(holds(storage, fitting), "{storage:?} {fitting}");
            assert!(!holds(storage, unfit), "{storage:?} {unfit}");
            let mut row = [0.0; 32];
            for (value, is_finite) in [(fitting, true), (unfit, false)] {
                row[31] = value;
                let read = unpacked(storage, &packed(storage, &row, 32), [1, 32]);
                assert_eq!(
                    read.iter().all(|v| v.is_finite()),
                    is_finite,
                    "{storage:?} {value}"
                );
            }
        }
    }
}
