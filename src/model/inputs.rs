//! What a pass reads besides weights: tokens, targets, and the tokens' positions sorted, packed
//! into one buffer.

use crate::gpu::Tensor;
use crate::gpu::tensor::align_words;
use crate::kernels::cross_entropy::IGNORED;
use crate::kernels::embedding::{SegmentTensors, Segments};

/// Sequences of one pass and their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens of a sequence.
    pub time: usize,
}

impl BatchShape {
    /// Tokens of the pass.
    pub fn rows(self) -> usize {
        self.batch * self.time
    }
}

/// Where each part of a pass's inputs lies, in words.
#[derive(Clone, Copy, Debug)]
pub struct InputLayout {
    rows: usize,
    vocab_size: usize,
    max_segments: usize,
}

/// The inputs of a pass, bound.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// `[rows]`.
    pub tokens: Tensor,
    /// `[rows]`.
    pub targets: Tensor,
    /// `[1]`, of f32: what the sum of losses is multiplied with.
    pub scale: Tensor,
    /// For the gradient of the embedding.
    pub segments: SegmentTensors,
}

impl InputLayout {
    /// The layout for batches of `shape`.
    pub fn new(shape: BatchShape, vocab_size: usize) -> Self {
        let rows = shape.rows();
        Self {
            rows,
            vocab_size,
            max_segments: Segments::max_count(rows, vocab_size),
        }
    }

    /// Tokens of a pass.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Lengths of the parts, in order: tokens, targets, order, segment starts, token segments, scale.
    fn lens(&self) -> [usize; 6] {
        [
            self.rows,
            self.rows,
            self.rows,
            self.max_segments + 1,
            self.vocab_size + 1,
            1,
        ]
    }

    /// Words of the whole buffer.
    pub fn words(&self) -> usize {
        self.lens().map(align_words).iter().sum()
    }

    /// The parts of a bound `buffer`.
    pub fn bind(&self, buffer: Tensor) -> Inputs {
        let mut first = 0;
        let [
            tokens,
            targets,
            order,
            segment_starts,
            token_segments,
            scale,
        ] = self.lens().map(|len| {
            let part = buffer.slice(first, len);
            first += align_words(len);
            part
        });
        Inputs {
            tokens,
            targets,
            scale,
            segments: SegmentTensors {
                order,
                segment_starts,
                token_segments,
            },
        }
    }

    /// One over the number of targets that count, for their mean; 0 where none does, so that loss and gradients are
    /// 0 and no NaN.
    #[allow(clippy::cast_possible_truncation, reason = "shaders compute in f32")]
    pub fn mean_scale(targets: &[u32]) -> f32 {
        match counted(targets) {
            0 => 0.0,
            count => (1.0 / count as f64) as f32,
        }
    }

    /// Packs `tokens` and `targets`, `[rows]` each, all below the vocabulary's size but for targets that are
    /// [`IGNORED`], and what the sum of losses is multiplied with.
    ///
    /// # Panics
    /// If a length is not `rows`: a bug of the caller.
    pub fn pack(&self, tokens: &[u32], targets: &[u32], scale: f32) -> Vec<u32> {
        assert_eq!((tokens.len(), targets.len()), (self.rows, self.rows));
        let sorted = Segments::sort(tokens, self.vocab_size);
        let mut words = Vec::with_capacity(self.words());
        for part in [
            tokens,
            targets,
            &sorted.order,
            &sorted.segment_starts,
            &sorted.token_segments,
            &[scale.to_bits()],
        ] {
            words.extend_from_slice(part);
            words.resize(align_words(words.len()), 0);
        }
        words
    }
}

/// Number of targets that count.
pub fn counted(targets: &[u32]) -> usize {
    targets.iter().filter(|&&target| target != IGNORED).count()
}
