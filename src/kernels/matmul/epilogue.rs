//! What happens to a product on its way to memory.

use std::ops::Range;

use super::super::rope::RopeTable;
use super::TEXTURE_SIDE;
use crate::gpu::dispatch::word;
use crate::gpu::{Plan, Tensor};

/// What happens to the product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Epilogue {
    /// It replaces the output.
    Store,
    /// It is added to the output.
    Accumulate,
    /// The output is the sum of another tensor of its shape and the product.
    Residual(Tensor),
    /// Rows are positions of sequences, columns heads: the rotary embedding of the product.
    Rotate {
        /// Angles of the positions of a sequence.
        table: RopeTable,
        /// Columns of a head.
        head_dim: usize,
    },
    /// The product is `up` of a gated unit: the output, and beside it `hidden = silu(gate) * up`.
    Gate {
        /// Lies like the output.
        gate: Tensor,
        /// Lies like the output, and is written.
        hidden: Tensor,
    },
    /// The product is the gradient of `silu(gate) * up`: the output becomes that of the gate.
    GateBackward {
        /// Lies like the output.
        gate: Tensor,
        /// Lies like the output.
        up: Tensor,
        /// Lies like the output, and receives the gradient of `up`.
        d_up: Tensor,
    },
}

/// The tensors that an epilogue binds beside the output.
pub(super) struct Bindings {
    pub(super) aside: Tensor,
    pub(super) other: Tensor,
    pub(super) second: Tensor,
}

impl Epilogue {
    /// Its number in the shaders.
    pub(super) fn code(self) -> u32 {
        match self {
            Self::Store => 0,
            Self::Accumulate => 1,
            Self::Residual(_) => 2,
            Self::Rotate { .. } => 3,
            Self::Gate { .. } => 4,
            Self::GateBackward { .. } => 5,
        }
    }

    /// Rows of a sequence and columns of a head, or ones where nothing is rotated.
    pub(super) fn time_and_head_dim(self) -> (u32, u32) {
        match self {
            Self::Rotate { table, head_dim } => (word(table.angles.rows), word(head_dim)),
            _ => (1, 1),
        }
    }

    /// Rows that a block of the output begins at a multiple of.
    pub(super) fn row_step(self) -> usize {
        match self {
            Self::Rotate { table, .. } => table.angles.rows,
            _ => 1,
        }
    }

    /// Whether it can be applied to each of several parts of the sum.
    pub(super) fn is_linear_in_parts(self) -> bool {
        matches!(self, Self::Store | Self::Accumulate)
    }

    /// Whether parts of the product can be added to the output after it.
    pub(super) fn is_sum(self) -> bool {
        matches!(self, Self::Store | Self::Accumulate | Self::Residual(_))
    }

    /// Whether a quad of columns is never of two heads, and the angles fit a texture.
    pub(super) fn fits_quads(self) -> bool {
        match self {
            Self::Rotate { table, head_dim } => {
                head_dim.is_multiple_of(4) && table.angles.rows <= TEXTURE_SIDE
            }
            _ => true,
        }
    }

    /// Its tensors, with `unused` for what it does not read.
    pub(super) fn bindings(self, plan: &mut Plan, unused: Tensor) -> Bindings {
        let mut unused_second = || plan.scratch("unused", 1, 4);
        let (aside, other, second) = match self {
            Self::Store | Self::Accumulate => (unused, unused, unused_second()),
            Self::Residual(residual) => (residual, unused, unused_second()),
            Self::Rotate { table, .. } => (table.angles, unused, unused_second()),
            Self::Gate { gate, hidden } => (gate, unused, hidden),
            Self::GateBackward { gate, up, d_up } => (gate, up, d_up),
        };
        Bindings {
            aside,
            other,
            second,
        }
    }

    /// It for some rows of the output.
    pub(super) fn rows(self, rows: &Range<usize>) -> Self {
        self.map(|tensor| tensor.slice_rows(rows.start, rows.len()))
    }

    /// It for some columns of the output.
    ///
    /// # Panics
    /// For `Rotate`, whose columns are not alike: a bug of the caller.
    pub fn columns(self, first: usize, count: usize) -> Self {
        assert!(
            !matches!(self, Self::Rotate { .. }),
            "heads are not cut into parts"
        );
        self.map(|tensor| tensor.columns(first, count))
    }

    /// The tensors that lie like the output.
    fn map(self, part: impl Fn(Tensor) -> Tensor) -> Self {
        match self {
            Self::Store | Self::Accumulate | Self::Rotate { .. } => self,
            Self::Residual(residual) => Self::Residual(part(residual)),
            Self::Gate { gate, hidden } => Self::Gate {
                gate: part(gate),
                hidden: part(hidden),
            },
            Self::GateBackward { gate, up, d_up } => Self::GateBackward {
                gate: part(gate),
                up: part(up),
                d_up: part(d_up),
            },
        }
    }

    /// Makes sure that its tensors lie like the output, but for halves beside words, which are read from
    /// copies.
    pub(super) fn check(self, output: Tensor) {
        let tensors = match self {
            Self::Store | Self::Accumulate | Self::Rotate { .. } => [output; 3],
            Self::Residual(residual) => [residual; 3],
            Self::Gate { gate, hidden } => [gate, hidden, hidden],
            Self::GateBackward { gate, up, d_up } => [gate, up, d_up],
        };
        let alike = |tensor: &Tensor| tensor.elements == output.elements;
        for tensor in tensors.into_iter().filter(alike) {
            assert_eq!(
                (tensor.rows, tensor.cols, tensor.row_stride),
                (output.rows, output.cols, output.row_stride),
                "an epilogue's tensors lie like the output"
            );
        }
    }
}
