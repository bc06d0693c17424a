//! Token embedding: gather forward, deterministic scatter-add backward.
//!
//! Many positions may hold one token, and float atomics would add them in an order that changes
//! from run to run. So the host sorts positions by token, cuts equal tokens into short segments,
//! and the device adds in two stages of fixed order.

use super::{FLAT_LANES, binding, by_width, halves, q8_0};
use crate::gpu::dispatch::{flat_workgroups, word};
use crate::gpu::kernel::{HALVES, PORTABLE, QUADS};
use crate::gpu::{Dispatch, Elements, Kernel, Plan, Role, Tensor};
use crate::{params, shader};

params!(ForwardParams {
    rows: u32,
    d_model: u32,
    first_token: u32,
    tokens: u32,
});
params!(ForwardF16Params {
    rows: u32,
    d_model: u32,
    first_token: u32,
    tokens: u32,
    quads: u32,
    quad_stride: u32,
});
params!(ForwardQ8_0Params {
    rows: u32,
    quads: u32,
    first_token: u32,
    tokens: u32,
});
params!(SegmentsParams {
    segments: u32,
    d_model: u32
});
params!(BackwardParams {
    vocab_size: u32,
    d_model: u32
});

/// Gathers rows of the embedding.
pub static FORWARD: Kernel = Kernel {
    name: "embedding_forward",
    variant: PORTABLE,
    source: shader!("embedding/embedding_forward.wgsl"),
    bindings: &[
        binding("tokens", Role::In),
        binding("weight", Role::In),
        binding("output", Role::Out),
    ],
    params: ForwardParams::LAYOUT,
    requires: &[],
};

/// [`FORWARD`] for rows of whole quads.
pub static FORWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..FORWARD
};

/// [`FORWARD`] of an embedding of halves.
pub static FORWARD_F16: Kernel = Kernel {
    variant: HALVES,
    source: shader!("embedding/embedding_forward.f16.wgsl"),
    bindings: &[
        binding("tokens", Role::In),
        halves("weight", Role::In),
        binding("output", Role::Out),
    ],
    params: ForwardF16Params::LAYOUT,
    ..FORWARD
};

/// [`FORWARD`] of an embedding of `q8_0`.
pub static FORWARD_Q8_0: Kernel = Kernel {
    variant: "q8_0",
    source: shader!("embedding/embedding_forward.q8_0.wgsl"),
    bindings: &[
        binding("tokens", Role::In),
        q8_0("weight", Role::In),
        binding("output", Role::Out),
    ],
    params: ForwardQ8_0Params::LAYOUT,
    ..FORWARD
};

/// First stage of the scatter-add: one partial sum a segment.
pub static BACKWARD_SEGMENTS: Kernel = Kernel {
    name: "embedding_backward_segments",
    variant: PORTABLE,
    source: shader!("embedding/embedding_backward_segments.wgsl"),
    bindings: &[
        binding("d_output", Role::In),
        binding("order", Role::In),
        binding("segment_starts", Role::In),
        binding("partials", Role::Out),
    ],
    params: SegmentsParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD_SEGMENTS`] for rows of whole quads.
pub static BACKWARD_SEGMENTS_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD_SEGMENTS
};

/// Second stage of the scatter-add: one sum a token.
pub static BACKWARD: Kernel = Kernel {
    name: "embedding_backward",
    variant: PORTABLE,
    source: shader!("embedding/embedding_backward.wgsl"),
    bindings: &[
        binding("partials", Role::In),
        binding("token_segments", Role::In),
        binding("d_weight", Role::OutOrAccumulate),
    ],
    params: BackwardParams::LAYOUT,
    requires: &[],
};

/// [`BACKWARD`] for rows of whole quads.
pub static BACKWARD_QUADS: Kernel = Kernel {
    variant: QUADS,
    ..BACKWARD
};

/// Gathers `output[row] = weight[tokens[row]]`, `[rows, d_model]` of f32; `weight` may lie in parts of
/// some rows each, and be of f16 or `q8_0`.
///
/// `tokens` is a vector of ids below the rows of `weight`, which the data layer has checked.
pub fn forward(plan: &mut Plan, weight: &[Tensor], tokens: Tensor) -> Tensor {
    let output = plan.scratch("embedded", tokens.len(), weight[0].cols);
    let mut first_token = 0;
    // Each token is in one part, so together the launches write every row.
    for &part in weight {
        let dispatch = match part.elements {
            _ if part.is_q8_0 => forward_q8_0(part, tokens, output, first_token),
            Elements::Words => forward_words(part, tokens, output, first_token),
            Elements::Halves => forward_halves(part, tokens, output, first_token),
        };
        plan.push(dispatch);
        first_token += part.rows;
    }
    output
}

fn forward_words(part: Tensor, tokens: Tensor, output: Tensor, first_token: usize) -> Dispatch {
    let (kernel, width) = by_width(output.cols, &FORWARD, &FORWARD_QUADS);
    let params = ForwardParams {
        rows: word(output.rows),
        d_model: word(output.cols / width),
        first_token: word(first_token),
        tokens: word(part.rows),
    };
    Dispatch::new(kernel, params, [tokens.into(), part.into(), output.into()])
        .workgroups(flat_workgroups(output.len() / width, FLAT_LANES))
}

fn forward_halves(part: Tensor, tokens: Tensor, output: Tensor, first_token: usize) -> Dispatch {
    let quads = output.cols.div_ceil(4);
    let params = ForwardF16Params {
        rows: word(output.rows),
        d_model: word(output.cols),
        first_token: word(first_token),
        tokens: word(part.rows),
        quads: word(quads),
        quad_stride: word(part.row_stride / 4),
    };
    let bindings = [tokens.into(), part.into(), output.into()];
    Dispatch::new(&FORWARD_F16, params, bindings)
        .workgroups(flat_workgroups(output.rows * quads, FLAT_LANES))
}

fn forward_q8_0(part: Tensor, tokens: Tensor, output: Tensor, first_token: usize) -> Dispatch {
    let quads = output.cols / 4;
    let params = ForwardQ8_0Params {
        rows: word(output.rows),
        quads: word(quads),
        first_token: word(first_token),
        tokens: word(part.rows),
    };
    let bindings = [tokens.into(), part.into(), output.into()];
    Dispatch::new(&FORWARD_Q8_0, params, bindings)
        .workgroups(flat_workgroups(output.rows * quads, FLAT_LANES))
}

/// Where the positions of each token are, as [`Segments::sort`] lays them out on the device.
#[derive(Clone, Copy, Debug)]
pub struct SegmentTensors {
    /// Positions sorted by token, `[rows]`.
    pub order: Tensor,
    /// First entry of `order` of each segment, `[max_segments + 1]`.
    pub segment_starts: Tensor,
    /// First segment of each token, `[vocab_size + 1]`.
    pub token_segments: Tensor,
}

/// Adds `d_output` `[rows, d_model]` into the rows of `d_weight` that the tokens name; overwrites
/// `d_weight` unless `accumulate`. It may lie in parts of some rows each, all but the last of a
/// multiple of 64.
pub fn backward(
    plan: &mut Plan,
    d_output: Tensor,
    segments: &SegmentTensors,
    d_weight: &[Tensor],
    accumulate: bool,
) {
    let d_model = d_output.cols;
    let count = segments.segment_starts.len() - 1;
    let partials = plan.scratch("segment_sums", count, d_model);
    let (kernel, width) = by_width(d_model, &BACKWARD_SEGMENTS, &BACKWARD_SEGMENTS_QUADS);
    let params = SegmentsParams {
        segments: word(count),
        d_model: word(d_model / width),
    };
    let bindings = [
        d_output.into(),
        segments.order.into(),
        segments.segment_starts.into(),
        partials.into(),
    ];
    plan.push(
        Dispatch::new(kernel, params, bindings)
            .workgroups(flat_workgroups(partials.len() / width, FLAT_LANES))
            .flops(d_output.len()),
    );
    let (kernel, width) = by_width(d_model, &BACKWARD, &BACKWARD_QUADS);
    let mut first_token = 0;
    for &part in d_weight {
        let params = BackwardParams {
            vocab_size: word(part.rows),
            d_model: word(d_model / width),
        };
        let own_segments = segments.token_segments.slice(first_token, part.rows + 1);
        let bindings = [partials.into(), own_segments.into(), part.into()];
        plan.push(
            Dispatch::new(kernel, params, bindings)
                .constant("ACCUMULATE", accumulate.into())
                .workgroups(flat_workgroups(part.len() / width, FLAT_LANES))
                .flops(partials.len() / d_weight.len()),
        );
        first_token += part.rows;
    }
}

/// Most positions that one lane adds up in the first stage.
const SEGMENT_LEN: usize = 32;

/// Positions of a batch grouped by token, in segments of at most 32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// Positions sorted by token, then by position, `[rows]`.
    pub order: Vec<u32>,
    /// `[max_segments + 1]`; segments past the last one are empty.
    pub segment_starts: Vec<u32>,
    /// `[vocab_size + 1]`.
    pub token_segments: Vec<u32>,
}

impl Segments {
    /// Upper bound of the number of segments of `rows` tokens.
    pub fn max_count(rows: usize, vocab_size: usize) -> usize {
        rows.min(vocab_size) + rows / SEGMENT_LEN
    }

    /// Groups `tokens` by counting sort; every token must be below `vocab_size`.
    pub fn sort(tokens: &[u32], vocab_size: usize) -> Self {
        let mut next = vec![0u32; vocab_size + 1];
        for &token in tokens {
            next[token as usize + 1] += 1;
        }
        let max_count = Self::max_count(tokens.len(), vocab_size);
        let mut segment_starts = Vec::with_capacity(max_count + 1);
        let mut token_segments = Vec::with_capacity(vocab_size + 1);
        for token in 0..vocab_size {
            token_segments.push(word(segment_starts.len()));
            let (first, last) = (next[token], next[token] + next[token + 1]);
            segment_starts.extend((first..last).step_by(SEGMENT_LEN));
            next[token + 1] = last;
        }
        token_segments.push(word(segment_starts.len()));
        segment_starts.resize(max_count + 1, word(tokens.len()));
        let mut order = vec![0; tokens.len()];
        for (position, &token) in tokens.iter().enumerate() {
            let slot = &mut next[token as usize];
            order[*slot as usize] = word(position);
            *slot += 1;
        }
        Self {
            order,
            segment_starts,
            token_segments,
        }
    }
}
