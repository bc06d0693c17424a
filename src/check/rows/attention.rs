//! Rows of attention: heads of every size, grouped and not, lengths around each tile edge.

use std::ops::Range;

use half::f16;

use super::{Table, side_by_side};
use crate::check::Case;
use crate::check::case::TOLERANCE;
use crate::gpu::dispatch::word;
use crate::gpu::tensor::HALVES_MULTIPLE;
use crate::gpu::{AdapterClass, Elements, Kernel, Plan, Tensor};
use crate::kernels::attention::{self, AttentionShape, Documents, Qkv, Saved, Variant};
use crate::kernels::rope::{self, RopeTable};
use crate::reference::attention as reference;
use crate::reference::rope::{self as rope_reference, RopeShape};

/// Base of the wavelengths where heads are rotated.
const THETA: f64 = 10_000.0;

/// `(batch, time, num_heads, num_kv_heads, head_dim)`.
const SHAPES: [(usize, usize, usize, usize, usize); 18] = [
    (1, 1, 1, 1, 16),
    (2, 3, 2, 2, 16),
    (1, 7, 3, 1, 10),
    (1, 8, 2, 1, 32),
    (2, 9, 4, 2, 32),
    (1, 63, 2, 2, 64),
    (1, 64, 2, 1, 64),
    (1, 65, 2, 2, 80),
    (1, 70, 2, 1, 128),
    (3, 17, 8, 4, 2),
    (2, 31, 1, 1, 16),
    (1, 33, 3, 1, 6),
    (2, 45, 4, 2, 24),
    (1, 97, 8, 4, 10),
    (1, 129, 4, 1, 64),
    (1, 128, 2, 1, 80),
    (1, 160, 2, 2, 32),
    (1, 260, 2, 1, 16),
];

pub(super) fn rows(table: &mut Table) {
    for (batch, time, num_heads, num_kv_heads, head_dim) in SHAPES {
        let shape = AttentionShape {
            batch,
            query_rows: time,
            key_rows: time,
            num_heads,
            num_kv_heads,
            head_dim,
        };
        // At scale 4 a few keys take all of the probability.
        for (scale, rotated) in [(1.0, true), (4.0, true), (1.0, false)] {
            // Layers always rotate, and whether they do is a pipeline of its own.
            if !rotated && head_dim != 16 {
                continue;
            }
            let rotation = if rotated { ", rotated" } else { "" };
            let label = format!(
                "batch {batch}, time {time}, heads {num_heads}/{num_kv_heads}, head_dim {head_dim}, scale {scale}{rotation}"
            );
            let inputs = Inputs {
                shape,
                scale,
                rotated,
                documents: false,
            };
            // Each variant runs with the workgroups of the class that it is meant for; those of the
            // storage one are the same for both. Drivers compile every head_dim anew.
            let whole_texels = head_dim % 4 == 0;
            let mut add = |class, kernels, variant| {
                let target = Target {
                    class,
                    kernels,
                    variant,
                };
                variant_rows(table, &target, &label, inputs);
            };
            add(AdapterClass::Gpu, &STORAGE, Variant::Storage);
            if num_kv_heads * head_dim % HALVES_MULTIPLE == 0 {
                add(AdapterClass::Gpu, &STORAGE_F16, Variant::StorageF16);
                add(AdapterClass::Gpu, &COOPERATIVE, Variant::Cooperative);
                let variant = Variant::Cooperative8x8;
                add(AdapterClass::Gpu, &COOPERATIVE_8X8, variant);
            }
            if whole_texels {
                add(AdapterClass::Software, &TEXTURE, Variant::Texture);
                let variant = Variant::TextureSubgroup;
                add(AdapterClass::Software, &TEXTURE_SUBGROUP, variant);
            }
        }
    }
    sequences_in_blocks(table);
    documents(table);
}

/// Rows of documents that do not see each other, which begin at the edges of tiles, beside them and between.
fn documents(table: &mut Table) {
    for (batch, time, num_heads, num_kv_heads, head_dim) in [
        (1, 1, 1, 1, 16),
        (2, 70, 2, 1, 16),
        (1, 97, 2, 2, 64),
        (1, 70, 2, 1, 80),
        (1, 65, 2, 1, 128),
        (3, 260, 3, 1, 16),
    ] {
        let inputs = Inputs {
            shape: AttentionShape {
                batch,
                query_rows: time,
                key_rows: time,
                num_heads,
                num_kv_heads,
                head_dim,
            },
            scale: 1.0,
            rotated: true,
            documents: true,
        };
        let label = format!(
            "batch {batch}, time {time}, heads {num_heads}/{num_kv_heads}, head_dim {head_dim}, documents"
        );
        for (class, kernels, variant) in [
            (AdapterClass::Gpu, &STORAGE, Variant::Storage),
            (AdapterClass::Gpu, &STORAGE_F16, Variant::StorageF16),
            (AdapterClass::Software, &TEXTURE, Variant::Texture),
        ] {
            let target = Target {
                class,
                kernels,
                variant,
            };
            variant_rows(table, &target, &label, inputs);
        }
    }
}

/// Five sequences of 1408 words at most, of which a binding holds two.
fn sequences_in_blocks(table: &mut Table) {
    const LIMIT_WORDS: usize = 2900;
    let shape = AttentionShape {
        batch: 5,
        query_rows: 16,
        key_rows: 16,
        num_heads: 2,
        num_kv_heads: 1,
        head_dim: 16,
    };
    let label = format!("batch 5, time 16, heads 2/1, in bindings of {LIMIT_WORDS} words");
    let class = AdapterClass::Gpu;
    let inputs = Inputs {
        shape,
        scale: 1.0,
        rotated: false,
        documents: false,
    };
    // What the checks of a device with such bindings would refuse.
    let expect_fitting = |plan: &Plan| {
        let words = plan.largest_binding_words();
        assert!(words <= LIMIT_WORDS, "a binding of {words} words");
    };
    table.add_for(class, &attention::FORWARD, &label, move |case| {
        case.plan.set_max_binding_words(LIMIT_WORDS);
        forward(case, Variant::Storage, inputs);
        expect_fitting(&case.plan);
    });
    table.add_for(class, &attention::BACKWARD_KEY_VALUE, &label, move |case| {
        case.plan.set_max_binding_words(LIMIT_WORDS);
        backward(case, Variant::Storage, inputs);
        expect_fitting(&case.plan);
    });
}

/// The kernels of a variant: forward, then those of the backward pass.
type Kernels = [&'static Kernel; 3];

static STORAGE: Kernels = [
    &attention::FORWARD,
    &attention::BACKWARD_QUERY,
    &attention::BACKWARD_KEY_VALUE,
];
static STORAGE_F16: Kernels = [
    &attention::FORWARD_F16,
    &attention::BACKWARD_QUERY_F16,
    &attention::BACKWARD_KEY_VALUE_F16,
];
static COOPERATIVE: Kernels = [
    &attention::FORWARD_COOPERATIVE,
    &attention::BACKWARD_QUERY_COOPERATIVE,
    &attention::BACKWARD_KEY_VALUE_COOPERATIVE,
];
static COOPERATIVE_8X8: Kernels = [
    &attention::FORWARD_COOPERATIVE_8X8,
    &attention::BACKWARD_QUERY_COOPERATIVE_8X8,
    &attention::BACKWARD_KEY_VALUE_COOPERATIVE_8X8,
];
static TEXTURE: Kernels = [
    &attention::FORWARD_TEXTURE,
    &attention::BACKWARD_QUERY_TEXTURE,
    &attention::BACKWARD_KEY_VALUE_TEXTURE,
];
static TEXTURE_SUBGROUP: Kernels = [
    &attention::FORWARD_TEXTURE_SUBGROUP,
    &attention::BACKWARD_QUERY_TEXTURE_SUBGROUP,
    &attention::BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP,
];

struct Target {
    class: AdapterClass,
    kernels: &'static Kernels,
    variant: Variant,
}

/// What a row computes.
#[derive(Clone, Copy)]
struct Inputs {
    shape: AttentionShape,
    /// Of the queries.
    scale: f64,
    /// Whether the gradients are to be turned back.
    rotated: bool,
    /// Whether each sequence is cut into documents.
    documents: bool,
}

/// Lengths of documents, over and over.
const DOCUMENTS: [usize; 8] = [5, 27, 1, 31, 32, 1, 1, 63];

fn variant_rows(table: &mut Table, target: &Target, label: &str, inputs: Inputs) {
    let &Target {
        class,
        kernels: [forward_kernel, query_kernel, key_value_kernel],
        variant,
    } = target;
    // Forward it makes no difference.
    if inputs.rotated {
        table.add_for(class, forward_kernel, label, move |case| {
            forward(case, variant, inputs);
        });
    }
    for kernel in [query_kernel, key_value_kernel] {
        table.add_for(class, kernel, label, move |case| {
            backward(case, variant, inputs);
        });
    }
}

/// [`reference::backward`], or its magnitudes.
type Gradients = fn(
    &[f64],
    &[f64],
    &[f64],
    &[f64],
    &[f64],
    reference::AttentionShape,
) -> (Vec<f64>, Vec<f64>, Vec<f64>);

fn rows_of<'a>(values: &'a [f64], cols: usize, rows: &Range<usize>) -> &'a [f64] {
    &values[rows.start * cols..rows.end * cols]
}

impl Inputs {
    /// The rows of each document: of each sequence, where there are no others.
    fn document_rows(self) -> Vec<Range<usize>> {
        let (batch, time) = (self.shape.batch, self.shape.query_rows);
        let mut lens = DOCUMENTS.iter().cycle();
        let mut rows = Vec::new();
        for sequence in 0..batch {
            let end = (sequence + 1) * time;
            let mut first = sequence * time;
            while first < end {
                let len = match self.documents {
                    true => *lens.next().unwrap_or(&time),
                    false => time,
                };
                let behind = end.min(first + len);
                rows.push(first..behind);
                first = behind;
            }
        }
        rows
    }

    fn documents(self, case: &mut Case) -> Option<Documents> {
        let time = self.shape.query_rows;
        let rows = self.document_rows();
        let mut words = |of: &dyn Fn(&Range<usize>) -> usize| {
            let words = rows
                .iter()
                .flat_map(|rows| vec![word(of(rows)); rows.len()]);
            let tensor = case.words(&words.collect::<Vec<u32>>());
            tensor.reshape(tensor.len(), 1)
        };
        self.documents.then(|| Documents {
            first: words(&|rows| rows.start % time),
            end: words(&|rows| (rows.end - 1) % time + 1),
        })
    }

    /// The shape of a document alone.
    fn reference_of(self, rows: &Range<usize>) -> reference::AttentionShape {
        let shape = self.shape;
        reference::AttentionShape {
            batch: 1,
            time: rows.len(),
            num_heads: shape.num_heads,
            num_kv_heads: shape.num_kv_heads,
            head_dim: shape.head_dim,
        }
    }

    /// What the reference makes of each document: outputs, and log-sum-exps by head.
    fn reference_forward(self, [q, k, v]: [&[f64]; 3]) -> (Vec<f64>, Vec<f64>) {
        let shape = self.shape;
        let (heads, time) = (shape.num_heads, shape.query_rows);
        let widths = self.widths();
        let mut output = Vec::new();
        let mut log_sum_exp = vec![0.0; shape.batch * heads * time];
        for rows in self.document_rows() {
            let [q, k, v] =
                [(q, 0), (k, 1), (v, 2)].map(|(values, i)| rows_of(values, widths[i], &rows));
            let (own, logs) = reference::forward(q, k, v, self.reference_of(&rows));
            output.extend(own);
            for (head, logs) in logs.chunks_exact(rows.len()).enumerate() {
                let first = (rows.start / time * heads + head) * time + rows.start % time;
                log_sum_exp[first..first + rows.len()].copy_from_slice(logs);
            }
        }
        (output, log_sum_exp)
    }

    /// Gradients of each document by `gradients`.
    fn reference_backward(
        self,
        [q, k, v]: [&[f64]; 3],
        [output, d_output]: [&[f64]; 2],
        gradients: Gradients,
    ) -> [Vec<f64>; 3] {
        let [query, key, value] = self.widths();
        let mut all = [const { Vec::new() }; 3];
        for rows in self.document_rows() {
            let of = |values, cols| rows_of(values, cols, &rows);
            let (q, k, v) = (of(q, query), of(k, key), of(v, value));
            let (output, d_output) = (of(output, query), of(d_output, query));
            let own = gradients(q, k, v, output, d_output, self.reference_of(&rows));
            for (all, own) in all.iter_mut().zip([own.0, own.1, own.2]) {
                all.extend(own);
            }
        }
        all
    }

    /// Columns of queries, keys and values.
    fn widths(self) -> [usize; 3] {
        let shape = self.shape;
        [shape.num_heads, shape.num_kv_heads, shape.num_kv_heads].map(|n| n * shape.head_dim)
    }

    /// Queries, keys and values on the device, with gaps between them where heads share keys, and beside it.
    fn make(self, case: &mut Case, operands: Elements) -> (Qkv, [Vec<f64>; 3]) {
        let shape = self.shape;
        let rows = shape.batch * shape.query_rows;
        let widths = self.widths();
        let is_grouped = shape.num_heads > shape.num_kv_heads;
        let gap = if is_grouped { HALVES_MULTIPLE } else { 0 };
        let scales = [self.scale, 1.0, 1.0];
        let mut draw = |i: usize| case.random_of(operands, rows, widths[i], scales[i]).values;
        let parts = [draw(0), draw(1), draw(2)];
        let [query, key, value] = &parts;
        let nothing = vec![f64::NAN; rows * gap];
        let values = side_by_side(rows, &[query, &nothing, key, &nothing, value, &nothing]);
        let key_first = widths[0] + gap;
        let value_first = key_first + widths[1] + gap;
        let cols = value_first + widths[2] + gap;
        let qkv = match operands {
            Elements::Words => case.floats(rows, cols, values),
            Elements::Halves => {
                let halves: Vec<f16> = values.into_iter().map(f16::from_f64).collect();
                case.halves(rows, cols, &halves)
            }
        };
        let qkv = Qkv {
            tensor: qkv.tensor,
            key_first,
            value_first,
        };
        (qkv, parts)
    }

    fn rotation(self, case: &mut Case) -> Option<RopeTable> {
        let (time, head_dim) = (self.shape.key_rows, self.shape.head_dim);
        self.rotated.then(|| {
            let angles = rope::angles(time, head_dim, THETA);
            let angles = angles.into_iter().map(f64::from).collect();
            RopeTable {
                angles: case.floats(time, head_dim, angles).tensor,
            }
        })
    }

    /// The gradient `d` of rotated heads as it should leave the device.
    fn turned_back(self, d: Vec<f64>, num_heads: usize) -> Vec<f64> {
        if !self.rotated {
            return d;
        }
        let shape = RopeShape {
            time: self.shape.key_rows,
            num_heads,
            head_dim: self.shape.head_dim,
            theta: THETA,
        };
        rope_reference::backward(&d, shape)
    }

    /// The magnitudes after a turn, whose sine and cosine are no more than one.
    fn mixed(self, mut magnitudes: Vec<f64>) -> Vec<f64> {
        if self.rotated {
            for pair in magnitudes.chunks_exact_mut(2) {
                pair.fill(pair[0] + pair[1]);
            }
        }
        magnitudes
    }
}

/// What a variant reads and writes.
fn operands(variant: Variant) -> Elements {
    if variant.is_of_halves() {
        Elements::Halves
    } else {
        Elements::Words
    }
}

/// Half of the spacing of halves as a part of them: what rounding to the nearest changes at most.
const HALF_SPACING: f64 = 1.0 / 2048.0;

/// Expects `want` within `tolerance`, before it is rounded if the tensor is of halves. Where weights are rounded
/// too, by [`HALF_SPACING`] of each at most, a sum of terms of these magnitudes is off by that part of them.
fn expect(
    case: &mut Case,
    name: &'static str,
    tensor: Tensor,
    (want, magnitudes): (Vec<f64>, Option<Vec<f64>>),
    tolerance: f64,
) {
    let rounding = if tensor.is_halves() {
        HALF_SPACING
    } else {
        0.0
    };
    let slack = magnitudes.unwrap_or_default();
    let slack = slack.into_iter().map(|m| m * HALF_SPACING).collect();
    case.expect_with_slack(name, tensor, (want, slack), tolerance + rounding);
}

fn forward(case: &mut Case, variant: Variant, inputs: Inputs) {
    let (qkv, [q, k, v]) = inputs.make(case, operands(variant));
    let shape = inputs.shape;
    let documents = inputs.documents(case);
    let (output, log_sum_exp) =
        attention::forward_by(&mut case.plan, variant, qkv, shape, documents);
    let want = inputs.reference_forward([&q, &k, &v]);
    let magnitudes = variant.rounds_weights().then(|| {
        let v: Vec<f64> = v.iter().map(|v| v.abs()).collect();
        inputs.reference_forward([&q, &k, &v]).0
    });
    expect(case, "output", output, (want.0, magnitudes), TOLERANCE);
    case.expect("log_sum_exp", log_sum_exp, want.1);
}

fn backward(case: &mut Case, variant: Variant, inputs: Inputs) {
    let elements = operands(variant);
    let (qkv, [q, k, v]) = inputs.make(case, elements);
    let shape = inputs.shape;
    let (rows, cols) = (
        shape.batch * shape.query_rows,
        shape.num_heads * shape.head_dim,
    );
    let d_output = case.random_of(elements, rows, cols, 1.0);
    let rotation = inputs.rotation(case);
    let (attended, log_sum_exp) = inputs.reference_forward([&q, &k, &v]);
    // What the forward pass keeps, given so that its own rounding is none of the backward pass.
    let output = match elements {
        Elements::Words => case.floats(rows, cols, attended),
        Elements::Halves => {
            let halves: Vec<f16> = attended.into_iter().map(f16::from_f64).collect();
            case.halves(rows, cols, &halves)
        }
    };
    let statistics = shape.batch * shape.num_heads;
    let saved = Saved {
        qkv,
        rotation,
        output: output.tensor,
        log_sum_exp: case
            .floats(statistics, shape.query_rows, log_sum_exp)
            .tensor,
        documents: inputs.documents(case),
    };
    let gradients = attention::backward_by(&mut case.plan, variant, saved, d_output.tensor, shape);
    let (output, d_output) = (output.values, d_output.values);
    let by = |gradients: Gradients| {
        inputs.reference_backward([&q, &k, &v], [&output, &d_output], gradients)
    };
    let [d_query, d_key, d_value] = by(reference::backward);
    let d_query = inputs.turned_back(d_query, shape.num_heads);
    let d_key = inputs.turned_back(d_key, shape.num_kv_heads);
    let [of_query, of_key, of_value] = if variant.rounds_weights() {
        let [query, key, value] = by(reference::backward_magnitudes);
        [
            Some(inputs.mixed(query)),
            Some(inputs.mixed(key)),
            Some(value),
        ]
    } else {
        [None, None, None]
    };
    // At scale 4 scores reach 60, whose rounding to 4e-6 the exponential turns into a relative
    // error, while most of the gradient cancels.
    let tolerance = if inputs.scale > 1.0 { 5e-5 } else { TOLERANCE };
    // A row that sees one key has no gradient for its query, where the shader subtracts two equal
    // products; what remains is their rounding, so one position is held to that.
    let [query_cols, key_cols, value_cols] = inputs.widths();
    let columns = |first, count| gradients.tensor.columns(first, count);
    if shape.key_rows > 1 {
        let queries = columns(0, query_cols);
        expect(case, "d_query", queries, (d_query, of_query), tolerance);
        let keys = columns(gradients.key_first, key_cols);
        expect(case, "d_key", keys, (d_key, of_key), tolerance);
    }
    let values = columns(gradients.value_first, value_cols);
    expect(case, "d_value", values, (d_value, of_value), tolerance);
}
