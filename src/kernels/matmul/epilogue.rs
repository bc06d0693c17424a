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
    /// Rows are positions of sequences, columns heads: the rotary embedding of the first of them.
    Rotate {
        /// Angles of the positions of a sequence.
        table: RopeTable,
        /// Columns of a head.
        head_dim: usize,
        /// Columns that are turned; those behind them are stored as they are.
        cols: usize,
    },
    /// The product is a gate and, behind it, up of a gated unit, of equally many columns: the output, and
    /// beside it `hidden = silu(gate) * up`.
    Gate {
        /// `[m, n / 2]`, which is written.
        hidden: Tensor,
        /// Column where up begins: the middle.
        up_first: usize,
    },
    /// The product is the gradient of `silu(gate) * up`: the output becomes those of gate and up.
    GateBackward {
        /// Gate and, from a column on, up; lies like the output.
        gate_up: Tensor,
        /// Column where up begins.
        up_first: usize,
    },
}

/// The tensors that an epilogue binds beside the output.
pub(super) struct Bindings {
    pub(super) aside: Tensor,
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
            Self::Rotate {
                table, head_dim, ..
            } => (word(table.angles.rows), word(head_dim)),
            _ => (1, 1),
        }
    }

    /// The column at which something else begins: behind those that are turned, or with up.
    pub(super) fn boundary(self) -> u32 {
        match self {
            Self::Rotate { cols, .. } => word(cols),
            Self::Gate { up_first, .. } | Self::GateBackward { up_first, .. } => word(up_first),
            _ => 0,
        }
    }

    /// Elements from one row of what is written beside the output to the next.
    pub(super) fn second_stride(self) -> u32 {
        match self {
            Self::Gate { hidden, .. } => word(hidden.row_stride),
            _ => 0,
        }
    }

    /// Columns of the output of a product of `n`.
    pub fn output_cols(self, n: usize) -> usize {
        match self {
            Self::GateBackward { up_first, .. } => up_first + n,
            _ => n,
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

    /// Whether a quad of columns is never of two heads or of gate and up, and what it reads fits a texture.
    pub(super) fn fits_quads(self) -> bool {
        match self {
            Self::Rotate {
                table, head_dim, ..
            } => head_dim.is_multiple_of(4) && table.angles.rows <= TEXTURE_SIDE,
            Self::GateBackward { gate_up, up_first } => {
                up_first.is_multiple_of(4) && gate_up.cols <= 4 * TEXTURE_SIDE
            }
            _ => true,
        }
    }

    /// Its tensors, with `unused` for what it does not read.
    pub(super) fn bindings(self, plan: &mut Plan, unused: Tensor) -> Bindings {
        let mut unused_second = || plan.scratch("unused", 1, 4);
        let (aside, second) = match self {
            Self::Store | Self::Accumulate => (unused, unused_second()),
            Self::Residual(residual) => (residual, unused_second()),
            Self::Rotate { table, .. } => (table.angles, unused_second()),
            Self::Gate { hidden, .. } => (unused, hidden),
            Self::GateBackward { gate_up, .. } => (gate_up, unused_second()),
        };
        Bindings { aside, second }
    }

    /// It for some rows of the output.
    pub(super) fn rows(self, rows: &Range<usize>) -> Self {
        let part = |tensor: Tensor| tensor.slice_rows(rows.start, rows.len());
        match self {
            Self::Store | Self::Accumulate | Self::Rotate { .. } => self,
            Self::Residual(residual) => Self::Residual(part(residual)),
            Self::Gate { hidden, up_first } => Self::Gate {
                hidden: part(hidden),
                up_first,
            },
            Self::GateBackward { gate_up, up_first } => Self::GateBackward {
                gate_up: part(gate_up),
                up_first,
            },
        }
    }

    /// It for some columns of the output.
    ///
    /// # Panics
    /// For a gate's, whose columns are not alike: a bug of the caller.
    pub fn columns(self, first: usize, count: usize) -> Self {
        match self {
            Self::Store | Self::Accumulate => self,
            Self::Residual(residual) => Self::Residual(residual.columns(first, count)),
            Self::Rotate {
                table,
                head_dim,
                cols,
            } => {
                assert!(first.is_multiple_of(head_dim), "a head is cut in two");
                Self::Rotate {
                    table,
                    head_dim,
                    cols: cols.saturating_sub(first),
                }
            }
            Self::Gate { .. } | Self::GateBackward { .. } => panic!("{self:?} in columns"),
        }
    }

    /// Makes sure that what it reads lies like the output, but for halves beside words, which are read from
    /// copies, and that what it writes has the output's rows.
    pub(super) fn check(self, output: Tensor) {
        match self {
            Self::Store | Self::Accumulate | Self::Rotate { .. } => {}
            Self::Residual(read) | Self::GateBackward { gate_up: read, .. } => assert!(
                read.elements != output.elements
                    || (read.rows, read.cols, read.row_stride)
                        == (output.rows, output.cols, output.row_stride),
                "what an epilogue reads lies like the output: {read:?}"
            ),
            Self::Gate { hidden, up_first } => assert_eq!(
                (hidden.rows, hidden.cols, 2 * up_first),
                (output.rows, up_first, output.cols),
                "up follows its gate: {self:?}"
            ),
        }
    }
}
