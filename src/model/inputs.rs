//! What a pass reads besides weights: tokens, targets, and the tokens' positions sorted, packed
//! into one buffer.

use crate::gpu::Tensor;
use crate::gpu::dispatch::word;
use crate::gpu::tensor::align_words;
use crate::kernels::attention::Documents;
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
    shape: BatchShape,
    vocab_size: usize,
    has_documents: bool,
    /// Vectors of positions whose numbers begin anew with each document.
    positions: Option<usize>,
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
    /// What keeps documents of a row apart.
    pub documents: Option<Documents>,
    /// The number of each position in its document, `[rows]`, and what the gradient of vectors of positions takes.
    pub positions: Option<(Tensor, SegmentTensors)>,
}

impl InputLayout {
    /// The layout for batches of `shape`.
    pub fn new(shape: BatchShape, vocab_size: usize) -> Self {
        Self {
            shape,
            vocab_size,
            has_documents: false,
            positions: None,
        }
    }

    /// The same with documents that share a row and do not see each other. `positions` is the number of vectors of
    /// positions, if the model has some.
    pub fn with_documents(self, positions: Option<usize>) -> Self {
        Self {
            has_documents: true,
            positions,
            ..self
        }
    }

    /// Tokens of a pass.
    pub fn rows(&self) -> usize {
        self.shape.rows()
    }

    /// Lengths of order, segment starts and token segments, for ids below `count`.
    fn segment_lens(&self, count: usize) -> [usize; 3] {
        let rows = self.rows();
        [rows, Segments::max_count(rows, count) + 1, count + 1]
    }

    /// Lengths of the parts, in order: tokens, targets, scale, and segments of tokens; first and end of documents;
    /// numbers of positions and their segments.
    fn lens(&self) -> Vec<usize> {
        let rows = self.rows();
        let mut lens = vec![rows, rows, 1];
        lens.extend(self.segment_lens(self.vocab_size));
        if self.has_documents {
            lens.extend([rows, rows]);
        }
        if let Some(count) = self.positions {
            lens.push(rows);
            lens.extend(self.segment_lens(count));
        }
        lens
    }

    /// Words of the whole buffer.
    pub fn words(&self) -> usize {
        self.lens().into_iter().map(align_words).sum()
    }

    /// The parts of a bound `buffer`.
    ///
    /// # Panics
    /// If the buffer is too short: a bug of the caller.
    pub fn bind(&self, buffer: Tensor) -> Inputs {
        let mut first = 0;
        let mut parts = self.lens().into_iter().map(|len| {
            let part = buffer.slice(first, len);
            first += align_words(len);
            part
        });
        let mut next = || parts.next().expect("a part for each length");
        let [tokens, targets, scale] = std::array::from_fn(|_| next());
        let segments = |next: &mut dyn FnMut() -> Tensor| SegmentTensors {
            order: next(),
            segment_starts: next(),
            token_segments: next(),
        };
        Inputs {
            tokens,
            targets,
            scale,
            segments: segments(&mut next),
            documents: self.has_documents.then(|| Documents {
                first: next().reshape(self.rows(), 1),
                end: next().reshape(self.rows(), 1),
            }),
            positions: (self.positions.is_some()).then(|| (next(), segments(&mut next))),
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
    /// [`IGNORED`]; what the sum of losses is multiplied with; and for each position the one of its row where its
    /// document begins, `[rows]`, if that is told. Without it each row is one document.
    ///
    /// # Panics
    /// If a length is not `rows`: a bug of the caller.
    pub fn pack(
        &self,
        tokens: &[u32],
        targets: &[u32],
        documents: Option<&[u32]>,
        scale: f32,
    ) -> Vec<u32> {
        let rows = self.rows();
        assert_eq!((tokens.len(), targets.len()), (rows, rows));
        let mut words = Vec::with_capacity(self.words());
        let mut push = |part: &[u32]| {
            words.extend_from_slice(part);
            words.resize(align_words(words.len()), 0);
        };
        push(tokens);
        push(targets);
        push(&[scale.to_bits()]);
        let push_sorted = |ids: &[u32], count: usize, push: &mut dyn FnMut(&[u32])| {
            let sorted = Segments::sort(ids, count);
            push(&sorted.order);
            push(&sorted.segment_starts);
            push(&sorted.token_segments);
        };
        push_sorted(tokens, self.vocab_size, &mut push);
        if self.has_documents {
            let one_a_row = vec![0; rows];
            let firsts = documents.unwrap_or(&one_a_row);
            assert_eq!(firsts.len(), rows);
            push(firsts);
            push(&document_ends(firsts, self.shape.time));
            if let Some(count) = self.positions {
                let places = (0..rows).map(|row| word(row % self.shape.time));
                let numbers: Vec<u32> = places
                    .zip(firsts)
                    .map(|(place, first)| place - first)
                    .collect();
                push(&numbers);
                push_sorted(&numbers, count, &mut push);
            }
        }
        words
    }
}

/// The position behind each position's document, in rows of `time`.
fn document_ends(firsts: &[u32], time: usize) -> Vec<u32> {
    let mut ends = vec![0; firsts.len()];
    for (place, row) in (0..firsts.len()).map(|i| (i % time, i)).rev() {
        let is_last = place + 1 == time || firsts[row + 1] != firsts[row];
        ends[row] = if is_last {
            word(place + 1)
        } else {
            ends[row + 1]
        };
    }
    ends
}

/// Number of targets that count.
pub fn counted(targets: &[u32]) -> usize {
    targets.iter().filter(|&&target| target != IGNORED).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_end_where_others_begin_or_the_row_does() {
        assert_eq!(
            document_ends(&[0, 0, 2, 3, 0, 0, 0, 0], 4),
            [2, 2, 3, 4, 4, 4, 4, 4]
        );
    }
}
