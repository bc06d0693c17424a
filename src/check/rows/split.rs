//! Rows of tensors that are cut because one binding cannot hold them: tiny ones under a limit that
//! is made up, and real ones past WebGPU's 128 MiB.

use super::Table;
use super::large::cheap;
use super::layers::swiglu_row;
use crate::check::{Case, Data};
use crate::config::{Architecture, ModelConfig, Precision};
use crate::gpu::{AdapterClass, Tensor};
use crate::kernels::embedding::{self, Segments};
use crate::kernels::matmul::{self, Epilogue, Form};
use crate::kernels::{softmax, swiglu};
use crate::model::Pass;
use crate::model::linear::Linear;
use crate::reference::{self, matmul::MatmulShape};
use crate::weights::ParameterTable;

pub(super) fn rows(table: &mut Table) {
    row_wise(table);
    products(table);
    for class in [AdapterClass::Gpu, AdapterClass::Software] {
        vocabulary_rows(table, class, &SMALL);
    }
    vocabulary_rows(table, AdapterClass::Software, &LARGE);
    // Past both what a dimension of workgroups and what a binding holds.
    table.add_for(
        AdapterClass::Software,
        &softmax::FORWARD,
        "100000x340",
        |case| {
            softmax_row(case, 100_000, 340);
        },
    );
    table.last_is_large();
}

fn softmax_row(case: &mut Case, rows: usize, cols: usize) {
    let input = cheap(case, rows, cols);
    let output = softmax::forward(&mut case.plan, input.tensor);
    case.expect(
        "output",
        output,
        reference::softmax::forward(&input.values, cols),
    );
}

/// Each shape takes several blocks of rows, of which the last is ragged.
fn row_wise(table: &mut Table) {
    const LIMIT_WORDS: usize = 1 << 10;
    let shape = format!("130x24 in bindings of {LIMIT_WORDS} words");
    table.add(&softmax::FORWARD, &shape, |case| {
        case.plan.set_max_binding_words(LIMIT_WORDS);
        softmax_row(case, 130, 24);
    });
    table.add(&softmax::BACKWARD, &shape, |case| {
        case.plan.set_max_binding_words(LIMIT_WORDS);
        let [output, d_output] = [(); 2].map(|()| case.random(130, 24, 1.0));
        let d_input = softmax::backward(&mut case.plan, output.tensor, d_output.tensor);
        let want = reference::softmax::backward(&output.values, &d_output.values, 24);
        case.expect("d_input", d_input, want);
    });
    table.add_once(&swiglu::BACKWARD_QUADS, &shape, |case| {
        case.plan.set_max_binding_words(LIMIT_WORDS);
        swiglu_row(case, 130, 24, 1.0);
    });
}

/// A product whose rows are cut: in blocks of the output, or in blocks that are added up.
fn products(table: &mut Table) {
    const ROWS: usize = 150;
    const LIMIT_WORDS: usize = 40 * 64;
    let kernels = [
        (AdapterClass::Gpu, &matmul::TILED),
        (AdapterClass::Software, &matmul::TEXTURE),
    ];
    for (class, kernel) in kernels {
        let shape = format!("{ROWS}x24x40 Nt residual in bindings of {LIMIT_WORDS} words");
        table.add_for(class, kernel, shape, |case| {
            case.plan.set_max_binding_words(LIMIT_WORDS);
            let [a, b] = [(ROWS, 40), (24, 40)].map(|(rows, cols)| case.random(rows, cols, 1.0));
            let residual = case.random(ROWS, 24, 1.0);
            let output = case.plan.scratch("output", ROWS, 24);
            let how = Epilogue::Residual(residual.tensor);
            matmul::matmul(&mut case.plan, Form::Nt, a.tensor, b.tensor, output, how);
            let shape = MatmulShape {
                m: ROWS,
                n: 24,
                k: 40,
            };
            let product = reference::matmul::nt(&a.values, &b.values, shape);
            case.expect("output", output, super::added(&residual.values, product));
        });
        let shape = format!("40x24x{ROWS} Tn in bindings of {LIMIT_WORDS} words");
        table.add_for(class, kernel, shape, |case| {
            case.plan.set_max_binding_words(LIMIT_WORDS);
            let [a, b] = [(ROWS, 40), (ROWS, 24)].map(|(rows, cols)| case.random(rows, cols, 1.0));
            let output = case.plan.scratch("output", 40, 24);
            let how = Epilogue::Store;
            matmul::matmul(&mut case.plan, Form::Tn, a.tensor, b.tensor, output, how);
            let shape = MatmulShape {
                m: 40,
                n: 24,
                k: ROWS,
            };
            case.expect(
                "output",
                output,
                reference::matmul::tn(&a.values, &b.values, shape),
            );
        });
    }
}

/// A vocabulary whose embedding and language-model head take several bindings.
struct Vocabulary {
    vocab_size: usize,
    d_model: usize,
    max_binding_words: usize,
    large: bool,
}

/// Four parts, the last of them ragged.
const SMALL: Vocabulary = Vocabulary {
    vocab_size: 400,
    d_model: 24,
    max_binding_words: 128 * 24,
    large: false,
};

/// 391 MiB in four bindings of at most 128 MiB.
const LARGE: Vocabulary = Vocabulary {
    vocab_size: 200_000,
    d_model: 512,
    max_binding_words: (128 << 20) / 4,
    large: true,
};

fn vocabulary_rows(table: &mut Table, class: AdapterClass, v: &'static Vocabulary) {
    let shape = format!("vocab {}, d_model {}, in parts", v.vocab_size, v.d_model);
    let product = match class {
        AdapterClass::Gpu => &matmul::TILED,
        AdapterClass::Software => &matmul::TEXTURE,
    };
    let mut add = |kernel, name: &str, build: fn(&mut Case, &Vocabulary)| {
        table.add_for(class, kernel, format!("{shape}, {name}"), move |case| {
            build(case, v)
        });
        if v.large {
            table.last_is_large();
        }
    };
    add(
        &embedding::FORWARD_QUADS,
        "embedding and head",
        read_vocabulary,
    );
    add(
        &embedding::BACKWARD_QUADS,
        "d_embedding",
        embedding_gradient,
    );
    add(product, "d_head", head_gradient);
}

impl Vocabulary {
    /// A model of nothing but the vocabulary's two matrices.
    fn table(&self) -> ParameterTable {
        let config = ModelConfig {
            vocab_size: self.vocab_size,
            context_length: 1,
            d_model: self.d_model,
            num_layers: 0,
            num_heads: 1,
            num_kv_heads: 1,
            d_ff: 1,
            rope_theta: 1.0,
            norm_eps: 0.0,
            tie_embeddings: false,
            precision: Precision::F32,
            architecture: Architecture::default(),
        };
        ParameterTable::new(&config, &[], self.max_binding_words)
    }

    fn head(&self, table: &ParameterTable) -> Linear {
        Linear::of(table.id("lm_head.weight"))
    }

    /// Rows of each part of the matrices.
    fn part_rows(&self, table: &ParameterTable) -> Vec<usize> {
        let parameter = &table[table.id("lm_head.weight")];
        parameter.parts.iter().map(|part| part.rows).collect()
    }

    /// A token of each part, the first and the last of all, and one of them twice.
    fn tokens(&self, part_rows: &[usize]) -> Vec<u32> {
        let mut tokens = vec![0];
        let mut next = 0;
        for rows in part_rows {
            next += u32::try_from(*rows).expect("a token fits u32");
            tokens.push(next - 1);
        }
        tokens.push(next - 1);
        tokens
    }
}

/// One set of tensors for each parameter of the table, of which only the head's matters.
fn for_head(parts: Vec<Tensor>) -> [Vec<Tensor>; 3] {
    [Vec::new(), Vec::new(), parts]
}

/// The embedding's rows of some tokens, logits, and the gradient of the head's input.
fn read_vocabulary(case: &mut Case, v: &Vocabulary) {
    let table = v.table();
    let part_rows = v.part_rows(&table);
    let parts: Vec<Data> = part_rows
        .iter()
        .map(|&rows| cheap(case, rows, v.d_model))
        .collect();
    let tensors: Vec<Tensor> = parts.iter().map(|part| part.tensor).collect();
    let tokens = v.tokens(&part_rows);
    let tokens_tensor = case.words(&tokens);
    let embedded = embedding::forward(&mut case.plan, &tensors, tokens_tensor);
    let row = |token: usize| -> &[f64] {
        let mut first = 0;
        let part = parts.iter().find(|part| {
            first += part.tensor.rows;
            token < first
        });
        let part = part.expect("a token of the vocabulary");
        let at = (token + part.tensor.rows - first) * v.d_model;
        &part.values[at..at + v.d_model]
    };
    let want = tokens
        .iter()
        .flat_map(|&token| row(token as usize).to_vec());
    case.expect_within("embedded", embedded, want.collect(), 0.0);

    let hidden = case.random(3, v.d_model, 1.0);
    let d_logits = case.random(3, v.vocab_size, 1.0);
    let d_hidden = case.plan.scratch("d_hidden", 3, v.d_model);
    let weights = for_head(tensors);
    let head = v.head(&table);
    let mut pass = Pass::new(&mut case.plan, &weights, &[], false, Precision::F32);
    let logits = head.forward_words(&mut pass, hidden.tensor);
    head.backward_input(&mut pass, d_logits.tensor, d_hidden);
    let mut want_logits = vec![0.0; 3 * v.vocab_size];
    let mut want_d_hidden = vec![0.0; 3 * v.d_model];
    let mut first = 0;
    for part in &parts {
        let rows = part.tensor.rows;
        let shape = MatmulShape {
            m: 3,
            n: rows,
            k: v.d_model,
        };
        let columns = reference::matmul::nt(&hidden.values, &part.values, shape);
        let mut d_columns = Vec::with_capacity(3 * rows);
        for r in 0..3 {
            let own = r * v.vocab_size + first..r * v.vocab_size + first + rows;
            want_logits[own.clone()].copy_from_slice(&columns[r * rows..(r + 1) * rows]);
            d_columns.extend_from_slice(&d_logits.values[own]);
        }
        let shape = MatmulShape {
            m: 3,
            n: v.d_model,
            k: rows,
        };
        let share = reference::matmul::nn(&d_columns, &part.values, shape);
        want_d_hidden = super::added(&want_d_hidden, share);
        first += rows;
    }
    case.expect("logits", logits, want_logits);
    // A sum of 200,000 terms of either sign is small beside them.
    case.expect_within("d_hidden", d_hidden, want_d_hidden, 3e-5);
}

fn embedding_gradient(case: &mut Case, v: &Vocabulary) {
    let part_rows = v.part_rows(&v.table());
    let tokens = v.tokens(&part_rows);
    let d_output = case.random(tokens.len(), v.d_model, 1.0);
    let sorted = Segments::sort(&tokens, v.vocab_size);
    let segments = embedding::SegmentTensors {
        order: case.words(&sorted.order),
        segment_starts: case.words(&sorted.segment_starts),
        token_segments: case.words(&sorted.token_segments),
    };
    let d_parts = empty_parts(case, &part_rows, v.d_model);
    embedding::backward(&mut case.plan, d_output.tensor, &segments, &d_parts, false);
    let want = reference::embedding::backward(&d_output.values, &tokens, v.vocab_size, v.d_model);
    expect_parts(case, &d_parts, want);
}

fn head_gradient(case: &mut Case, v: &Vocabulary) {
    let table = v.table();
    let hidden = case.random(3, v.d_model, 1.0);
    let d_logits = case.random(3, v.vocab_size, 1.0);
    let d_parts = empty_parts(case, &v.part_rows(&table), v.d_model);
    let gradients = for_head(d_parts.clone());
    // Nothing reads the weights, whose parts say how the gradient is cut.
    let weights = gradients.clone();
    let mut pass = Pass::new(&mut case.plan, &weights, &gradients, false, Precision::F32);
    v.head(&table)
        .backward_weight(&mut pass, hidden.tensor, d_logits.tensor, false);
    let shape = MatmulShape {
        m: v.vocab_size,
        n: v.d_model,
        k: 3,
    };
    let want = reference::matmul::tn(&d_logits.values, &hidden.values, shape);
    expect_parts(case, &d_parts, want);
}

fn empty_parts(case: &mut Case, part_rows: &[usize], cols: usize) -> Vec<Tensor> {
    let part = |&rows: &usize| case.plan.scratch("d_part", rows, cols);
    part_rows.iter().map(part).collect()
}

fn expect_parts(case: &mut Case, parts: &[Tensor], want: Vec<f64>) {
    let mut rest = want.as_slice();
    for part in parts {
        let (now, later) = rest.split_at(part.len());
        case.expect("part of d_weight", *part, now.to_vec());
        rest = later;
    }
}
