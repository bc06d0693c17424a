//! What layers push to while a pass is built: the plan, the weights, and where gradients go.

use std::collections::{BTreeMap, HashMap};

use super::linear::{Linear, Matrix, Part};
use crate::config::Precision;
use crate::gpu::tensor::{ALIGNMENT_WORDS, COLUMNS_MULTIPLE, HALVES_MULTIPLE, StorageId};
use crate::gpu::{Elements, Plan, Tensor};
use crate::kernels::Gradient;
use crate::kernels::dequantize::dequantize_into;
use crate::kernels::half::{halve, widen_into};
use crate::kernels::matmul::{self, Epilogue, Form, Product, Variant};
use crate::kernels::sum::Sums;
use crate::weights::{MOST_UNPACKED, ParameterId};

/// One forward or forward-and-backward pass under construction.
pub struct Pass<'a> {
    /// The plan that dispatches go to.
    pub plan: &'a mut Plan,
    /// Gradients of parameters that are still in parts.
    pub(super) sums: Sums,
    weights: &'a [Vec<Tensor>],
    gradients: &'a [Vec<Tensor>],
    accumulate: bool,
    precision: Precision,
    /// Matrices as operands, by the first weight and part of each.
    halved: HashMap<MatrixKey, Tensor>,
    /// What computes products of a few rows, in passes whose rows must not depend on each other.
    few: Option<Variant>,
}

impl<'a> Pass<'a> {
    /// A pass over bound `weights`, in the order of the parameter table. `gradients` is empty
    /// where there is no backward pass; `accumulate` adds to what they hold.
    pub fn new(
        plan: &'a mut Plan,
        weights: &'a [Vec<Tensor>],
        gradients: &'a [Vec<Tensor>],
        accumulate: bool,
        precision: Precision,
    ) -> Self {
        Self {
            plan,
            sums: Sums::default(),
            weights,
            gradients,
            accumulate,
            precision,
            halved: HashMap::new(),
            few: None,
        }
    }

    /// Makes products from here on take `variant`, one for a few rows: what a row gives then depends neither
    /// on the number of rows nor on what the tuner has found.
    pub fn take_few_rows(&mut self, variant: Variant) {
        self.few = Some(variant);
    }

    /// `output = a b^T` for a matrix `b` of weights, by what is chosen for it.
    pub(super) fn product(&mut self, a: Tensor, b: Tensor, output: Tensor, epilogue: Epilogue) {
        let form = Form::Nt;
        match self.few {
            None => matmul::matmul(self.plan, form, a, b, output, epilogue),
            Some(variant) => {
                let product = Product {
                    form,
                    a,
                    b,
                    output,
                    epilogue,
                };
                matmul::matmul_by(self.plan, variant, product);
            }
        }
    }

    /// Makes products take `operand` for a matrix, which holds its values as they want them.
    pub fn set_operand(&mut self, key: MatrixKey, operand: Tensor) {
        self.halved.insert(key, operand);
    }

    /// The matrices of a layer as they lie in memory, with what tells each from others.
    ///
    /// # Panics
    /// If a weight has no values: a bug of the caller.
    pub fn matrices_of(&self, linear: &Linear) -> Vec<(MatrixKey, Tensor)> {
        let matrices = linear.matrices(self).into_iter();
        let words = |matrix: &Matrix| joined(matrix, self.weights).expect("a weight has values");
        matrices
            .map(|matrix| (key(&matrix), words(&matrix)))
            .collect()
    }

    /// Whether products take halves.
    pub fn is_mixed(&self) -> bool {
        self.precision == Precision::Mixed
    }

    /// What operands of products consist of.
    pub fn operands(&self) -> Elements {
        match self.precision {
            Precision::F32 => Elements::Words,
            Precision::Mixed => Elements::Halves,
        }
    }

    /// `tensor` as products take it: itself, or its halves.
    pub fn operand(&mut self, tensor: Tensor) -> Tensor {
        match self.precision {
            Precision::F32 => tensor,
            Precision::Mixed => halve(self.plan, tensor, None),
        }
    }

    /// A new tensor of `[rows, cols]` that products read.
    pub fn scratch_operand(&mut self, label: &str, rows: usize, cols: usize) -> Tensor {
        self.plan.scratch_of(self.operands(), label, rows, cols)
    }

    /// [`Pass::scratch_operand`] with rows that may have gaps between them.
    pub fn scratch_operand_rows(&mut self, label: &str, rows: usize, cols: usize) -> Tensor {
        match self.precision {
            Precision::F32 => self.plan.scratch_rows(label, rows, cols),
            Precision::Mixed => self.plan.scratch_halves(label, rows, cols),
        }
    }

    /// Two weights as one matrix, if one product can take them: they lie one behind the other, or are unpacked so.
    pub(super) fn join(&self, before: Tensor, next: Tensor) -> Option<Tensor> {
        if !self.is_packed(before) || !self.is_packed(next) {
            return before.followed_by(next);
        }
        let kind = |t: Tensor| (t.is_q8_0, t.elements, t.cols);
        let is_alike = kind(before) == kind(next);
        let next_starts = before.len() / self.operands().per_word();
        (is_alike && next_starts.is_multiple_of(ALIGNMENT_WORDS)).then(|| Tensor {
            rows: before.rows + next.rows,
            ..before
        })
    }

    /// Whether a weight is stored in less memory than products take, and is unpacked for each of them.
    fn is_packed(&self, weight: Tensor) -> bool {
        weight.is_q8_0 || weight.is_halves() && !self.is_mixed()
    }

    /// Whether a matrix of several weights can be bound as products take it, as can its columns of an output
    /// from `first` on.
    pub(super) fn can_bind_rows(&self, matrix: Tensor, first: usize) -> bool {
        let whole_quads = !self.is_mixed() || first.is_multiple_of(HALVES_MULTIPLE);
        let words = match self.is_packed(matrix) {
            true => matrix.len() / self.operands().per_word(),
            false => matrix.span(),
        };
        let is_small = !self.is_packed(matrix) || matrix.len() <= MOST_UNPACKED;
        whole_quads && is_small && words <= self.plan.target().max_binding_words
    }

    /// Makes the halves of matrices that lie in one buffer, and of what lies between them, by one launch.
    /// Those whose halves cannot be bound there or have gaps behind their rows are left to [`Pass::matrix`].
    pub(super) fn halve_matrices(&mut self, matrices: &[Matrix]) {
        let mut ranges: BTreeMap<StorageId, Vec<(&Matrix, Tensor)>> = BTreeMap::new();
        for matrix in matrices {
            let stored = self.stored(&matrix.parts[0]);
            if stored.is_halves() || stored.is_q8_0 {
                continue;
            }
            let words = joined(matrix, self.weights).expect("a weight has values");
            let can_be_bound = words.offset.is_multiple_of(COLUMNS_MULTIPLE);
            if can_be_bound && words.cols.is_multiple_of(HALVES_MULTIPLE) {
                let range = ranges.entry(words.storage).or_default();
                range.push((matrix, words));
            }
        }
        for (storage, range) in ranges {
            let first = range.iter().map(|(_, words)| words.offset).min();
            let end = range.iter().map(|(_, words)| words.offset + words.len());
            let (first, end) = (first.unwrap_or(0), end.max().unwrap_or(0));
            let words = Tensor {
                offset: first,
                ..Tensor::dense(storage, 1, end - first)
            };
            let halves = halve(self.plan, words, None);
            for (matrix, words) in range {
                let own = Tensor {
                    storage: halves.storage,
                    offset: (words.offset - first) / 2,
                    elements: Elements::Halves,
                    ..words
                };
                self.halved.insert(key(matrix), own);
            }
        }
    }

    /// A matrix as products take it. Halves of words are made once a pass; what is packed is unpacked at each
    /// use, so that no two of such matrices need be there at once.
    pub(super) fn matrix(&mut self, matrix: &Matrix) -> Tensor {
        if self.is_packed(self.stored(&matrix.parts[0])) {
            return self.unpacked(matrix);
        }
        let stored = joined(matrix, self.weights).expect("a weight has values");
        match (self.precision, stored.elements) {
            (Precision::F32, _) => stored,
            (Precision::Mixed, Elements::Words) => {
                let halved = self.halved.entry(key(matrix));
                *halved.or_insert_with(|| halve(self.plan, stored, None))
            }
            (Precision::Mixed, _) => {
                // A texture that an earlier product made of it would live until here.
                self.plan.forget_staged_of(stored);
                stored
            }
        }
    }

    fn unpacked(&mut self, matrix: &Matrix) -> Tensor {
        let parts: Vec<Tensor> = matrix.parts.iter().map(|part| self.stored(part)).collect();
        let output = self.scratch_operand("unpacked", matrix.rows, parts[0].cols);
        let mut first = 0;
        for part in parts {
            let own = output.slice_rows(first, part.rows);
            match part.is_q8_0 {
                true => dequantize_into(self.plan, part, own),
                false => widen_into(self.plan, part, own),
            }
            first += part.rows;
        }
        output
    }

    /// A part of a weight as it lies in memory.
    fn stored(&self, part: &Part) -> Tensor {
        self.weights[part.weight.index()][part.number]
    }

    /// Where the gradient of a matrix goes; nowhere for one that stays as it is.
    ///
    /// # Panics
    /// In a pass without gradients.
    pub(super) fn gradient_of(&self, matrix: &Matrix) -> Option<Tensor> {
        joined(matrix, self.gradients)
    }

    /// The values of a parameter, some rows in each part.
    pub fn weight(&self, id: ParameterId) -> &'a [Tensor] {
        &self.weights[id.index()]
    }

    /// The values of a gain or a bias: one row, which is never cut into parts.
    pub fn vector(&self, id: ParameterId) -> Tensor {
        self.weight(id)[0]
    }

    /// Where the gradient of a gain or a bias goes; nowhere for one that stays as it is.
    ///
    /// # Panics
    /// In a pass without gradients.
    pub fn vector_gradient(&self, id: ParameterId) -> Option<Gradient> {
        let tensor = *self.gradient(id).first()?;
        Some(Gradient {
            tensor,
            accumulate: self.accumulates(),
        })
    }

    /// Where the gradient of a parameter goes, in parts of the same rows; nowhere for one that stays as
    /// it is.
    ///
    /// # Panics
    /// In a pass without gradients.
    pub fn gradient(&self, id: ParameterId) -> &'a [Tensor] {
        &self.gradients[id.index()]
    }

    /// Whether a gradient's first contribution is added to what is there, as in every micro-batch
    /// of a step but the first.
    pub fn accumulates(&self) -> bool {
        self.accumulate
    }
}

/// What tells a matrix of weights from others.
pub type MatrixKey = (usize, usize);

fn key(matrix: &Matrix) -> MatrixKey {
    let Part { weight, number, .. } = matrix.parts[0];
    (weight.index(), number)
}

/// The tensor of all parts of a matrix, of which `of` has some rows in each part.
fn joined(matrix: &Matrix, of: &[Vec<Tensor>]) -> Option<Tensor> {
    let part = |part: &Part| of[part.weight.index()].get(part.number).copied();
    let mut parts = matrix.parts.iter().map(part);
    let first = parts.next().expect("a matrix has a part")?;
    Some(parts.fold(first, |whole, next| {
        let next = next.expect("weights side by side are all trained or none");
        whole
            .followed_by(next)
            .expect("gradients lie as weights do")
    }))
}
