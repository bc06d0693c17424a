//! What of an adapter shapes a plan, and how it cuts what is too large for one dispatch.

use std::ops::Range;

use super::kernel::{Feature, Kernel, Requirement, Vendor};
use super::limits::LimitValues;
use super::tensor::{ALIGNMENT_WORDS, Tensor};
use super::{AdapterClass, Choices};

/// Operations of one dispatch at most: half a second on an adapter of 128 GFLOP/s, where drivers
/// reset a GPU that does not answer for two.
const MAX_DISPATCH_FLOPS: usize = 1 << 36;

/// [`Target::enough_workgroups`] where nothing was measured: two for each unit of a large GPU.
pub const ENOUGH_WORKGROUPS: usize = 128;

/// What of the adapter shapes a plan.
#[derive(Clone, Debug)]
pub struct Target {
    /// Kernel variants and sizes.
    pub class: AdapterClass,
    /// Lanes of a subgroup, if kernels may rely on it.
    pub subgroup_size: Option<u32>,
    /// Rows of the square cooperative matrices that kernels may use.
    pub matrix_sides: Vec<u32>,
    /// PCI's number of who made it; zero where nothing is known.
    pub vendor: u32,
    /// What it has of each limit.
    pub limits: LimitValues,
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
            matrix_sides: Vec::new(),
            vendor: 0,
            limits: LimitValues::floor(),
            max_binding_words: (128 << 20) / 4,
            choices: Choices::default(),
        }
    }

    /// Workgroups of 256 lanes from which on a GPU is busy: two for each that it computes at once, so that
    /// one computes while the other waits.
    pub fn enough_workgroups(&self) -> usize {
        let units = self.choices.units();
        units.map_or(ENOUGH_WORKGROUPS, |units| 2 * units)
    }

    /// Lanes of the largest subgroups that a driver may make of a workgroup with cooperative matrices of
    /// `side` rows: 64 on AMD, whose Mesa takes these, and where nothing is known; Metal's have 32. Where it
    /// makes smaller ones, a workgroup has more of them than were counted on.
    pub fn largest_subgroup_with_matrices(&self, side: u32) -> u32 {
        let may_be_amd = self.vendor == 0 || self.vendor == Vendor::Amd.pci_id();
        let unknown = if side == 16 && may_be_amd { 64 } else { 32 };
        self.subgroup_size.unwrap_or(unknown)
    }

    /// Why `kernel` cannot run on it, if it cannot: the first of its requirements that is not met.
    pub fn obstacle(&self, kernel: &Kernel) -> Option<String> {
        kernel.requires.iter().find_map(|r| self.unmet(*r))
    }

    fn unmet(&self, requirement: Requirement) -> Option<String> {
        match requirement {
            Requirement::Feature(Feature::Subgroups) if self.subgroup_size.is_none() => {
                Some("it needs subgroups, of which the device has none of one size".to_owned())
            }
            Requirement::Lanes(lanes) if self.subgroup_size != Some(lanes) => {
                let found = self
                    .subgroup_size
                    .map_or("none".to_owned(), |n| n.to_string());
                Some(format!(
                    "it needs subgroups of {lanes} lanes, and the device's have {found}"
                ))
            }
            Requirement::Matrices(side) if !self.matrix_sides.contains(&side) => Some(format!(
                "it needs cooperative matrices of {side}x{side} with f16 operands and f32 sums, which the \
                 device has not"
            )),
            Requirement::NotOn(vendor) if self.vendor == vendor.pci_id() => {
                Some(format!("it is not meant for GPUs of {vendor:?}"))
            }
            Requirement::Limit { name, at_least } if self.limits.get(name) < at_least => {
                let found = self.limits.get(name);
                Some(format!(
                    "it needs a {name} of {at_least}, and the device has {found}"
                ))
            }
            _ => None,
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
        let strides = tensors.iter().map(Tensor::row_words);
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
    fn every_requirement_of_a_kernel_has_to_be_met() {
        const LIMIT: &str = "max_compute_workgroup_storage_size_bytes";
        let with = |requires| Kernel {
            requires,
            ..crate::kernels::softmax::FORWARD
        };
        let both = with(&[
            Requirement::Feature(Feature::Subgroups),
            Requirement::Lanes(8),
        ]);
        let memory = with(&[Requirement::Limit {
            name: LIMIT,
            at_least: (16 << 10) + 1,
        }]);
        let mut target = Target::portable(AdapterClass::Gpu);
        assert_eq!(target.obstacle(&with(&[])), None);
        for (subgroup_size, words) in [
            (None, Some("of one size")),
            (Some(32), Some("8 lanes, and the device's have 32")),
            (Some(8), None),
        ] {
            target.subgroup_size = subgroup_size;
            let obstacle = target.obstacle(&both);
            assert_eq!(obstacle.is_some(), words.is_some(), "{obstacle:?}");
            let said = obstacle.unwrap_or_default();
            assert!(said.contains(words.unwrap_or_default()), "{said}");
        }
        let short = target.obstacle(&memory).unwrap();
        assert!(short.contains(LIMIT) && short.contains("16384"), "{short}");
        let matrices = with(&[Requirement::Matrices(16), Requirement::NotOn(Vendor::Amd)]);
        for (matrix_sides, vendor, words) in [
            (vec![], 0, Some("matrices of 16x16")),
            (vec![8], 0, Some("matrices of 16x16")),
            (vec![8, 16], Vendor::Amd.pci_id(), Some("GPUs of Amd")),
            (vec![8, 16], 0x10de, None),
        ] {
            (target.matrix_sides, target.vendor) = (matrix_sides, vendor);
            let obstacle = target.obstacle(&matrices);
            assert_eq!(obstacle.is_some(), words.is_some(), "{obstacle:?}");
            let said = obstacle.unwrap_or_default();
            assert!(said.contains(words.unwrap_or_default()), "{said}");
        }
        target.limits = LimitValues::of(&wgpu::Limits {
            max_compute_workgroup_storage_size: 32 << 10,
            ..wgpu::Limits::default()
        });
        assert_eq!(target.obstacle(&memory), None);
    }

    #[test]
    fn an_operation_past_the_watchdogs_patience_is_split() {
        let target = Target::portable(AdapterClass::Gpu);
        let tensor = Tensor::dense(StorageId(0), 1000, 64);
        let blocks = target.row_blocks(&[tensor], 1, MAX_DISPATCH_FLOPS / 300);
        assert_eq!(blocks, [0..300, 300..600, 600..900, 900..1000]);
    }

    /// With fewer lanes some part of a tile would belong to no subgroup.
    #[test]
    fn unknown_subgroups_with_matrices_are_the_largest_that_the_vendor_makes() {
        let (amd, nvidia) = (Vendor::Amd.pci_id(), 0x10de);
        for (subgroup_size, vendor, side, want) in [
            (None, amd, 16, 64),
            (None, 0, 16, 64),
            (None, nvidia, 16, 32),
            (None, 0, 8, 32),
            (Some(32), amd, 16, 32),
            (Some(8), 0, 8, 8),
        ] {
            let target = Target {
                subgroup_size,
                vendor,
                ..Target::portable(AdapterClass::Gpu)
            };
            assert_eq!(target.largest_subgroup_with_matrices(side), want);
        }
    }
}
