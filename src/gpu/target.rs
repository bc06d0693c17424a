//! What of an adapter shapes a plan, and how it cuts what is too large for one dispatch.

use std::ops::Range;

use super::tensor::{ALIGNMENT_WORDS, Tensor};
use super::{AdapterClass, Choices};

/// Operations of one dispatch at most: half a second on an adapter of 128 GFLOP/s, where drivers
/// reset a GPU that does not answer for two.
const MAX_DISPATCH_FLOPS: usize = 1 << 36;

/// What of the adapter shapes a plan.
#[derive(Clone, Debug)]
pub struct Target {
    /// Kernel variants and sizes.
    pub class: AdapterClass,
    /// Lanes of a subgroup, if kernels may rely on it.
    pub subgroup_size: Option<u32>,
    /// Largest range that one binding may cover, in words; operations on larger tensors are split.
    pub max_binding_words: usize,
    /// What was measured on the adapter, or asked for.
    pub choices: Choices,
}

impl Target {
    /// An adapter of `class` that binds no more than WebGPU guarantees, 128 MiB, and has no
    /// optional feature.
    pub fn portable(class: AdapterClass) -> Self {
        Self {
            class,
            subgroup_size: None,
            max_binding_words: (128 << 20) / 4,
            choices: Choices::default(),
        }
    }

    /// Blocks of the rows of `tensors`, as [`Plan::row_blocks_of`](super::Plan::row_blocks_of)
    /// gives them.
    pub(super) fn row_blocks(
        &self,
        tensors: &[Tensor],
        step: usize,
        flops_per_row: usize,
    ) -> Vec<Range<usize>> {
        let rows = tensors[0].rows;
        let strides = tensors.iter().map(|t| t.row_stride);
        // Powers of two, so that the largest is a multiple of all.
        let aligned = strides
            .clone()
            .map(|s| ALIGNMENT_WORDS >> s.trailing_zeros().min(6));
        let step = lcm(step, aligned.max().expect("a tensor"));
        let widest = strides.max().expect("a tensor").max(1);
        let fitting =
            (self.max_binding_words / widest).min(MAX_DISPATCH_FLOPS / flops_per_row.max(1));
        // A step that does not fit is refused by the name of the limit when the plan is compiled.
        let len = if fitting < rows {
            (fitting / step * step).max(step)
        } else {
            rows
        };
        (0..rows)
            .step_by(len)
            .map(|first| first..rows.min(first + len))
            .collect()
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

#[cfg(test)]
mod tests {
    use super::super::tensor::StorageId;
    use super::*;

    #[test]
    fn row_blocks_are_bindable_and_cover_every_row_once() {
        let mut target = Target::portable(AdapterClass::Gpu);
        for (limit, rows, cols, step) in [
            (64, 1, 64, 1),
            (64, 7, 64, 1),
            (1000, 130, 7, 1),
            (1000, 129, 10, 3),
            (4096, 1000, 1, 1),
            (1 << 20, 33, 5, 11),
        ] {
            target.max_binding_words = limit;
            let tensor = Tensor::dense(StorageId(0), rows, cols);
            let mut next = 0;
            for block in target.row_blocks(&[tensor], step, 0) {
                assert_eq!(block.start, next);
                assert_eq!(block.start * cols % ALIGNMENT_WORDS, 0, "{block:?}");
                assert_eq!(block.start % step, 0, "{block:?}");
                assert!(
                    block.len() * cols <= limit.max(64 * step * cols),
                    "{block:?}"
                );
                next = block.end;
            }
            assert_eq!(next, rows);
        }
    }

    #[test]
    fn an_operation_past_the_watchdogs_patience_is_split() {
        let target = Target::portable(AdapterClass::Gpu);
        let tensor = Tensor::dense(StorageId(0), 1000, 64);
        let blocks = target.row_blocks(&[tensor], 1, MAX_DISPATCH_FLOPS / 300);
        assert_eq!(blocks, [0..300, 300..600, 600..900, 900..1000]);
    }
}
