//! Rows of products with the epilogues of layers: heads that are turned, gates, and their gradients.

use super::matmul::{class_of, expect, kernel_of, takes_lines_alone};
use super::{Table, side_by_side};
use crate::check::Case;
use crate::gpu::{AdapterClass, Plan, Target};
use crate::kernels::family::unmet;
use crate::kernels::matmul::{self, Epilogue, Form, Product, TEXTURE_SIDE, Use, Variant};
use crate::kernels::rope::{self, RopeTable};
use crate::reference::rope::{self as rope_reference, RopeShape};
use crate::reference::{matmul as reference, swiglu};

pub(super) fn rows(table: &mut Table) {
    rotated_rows(table);
    gated_rows(table);
}

/// Rows, columns of a gate, and depth: around the tiles, of which a gate and its up take half each, and
/// widths that no lane can pair.
const GATED: [(usize, usize, usize); 9] = [
    (1, 4, 1),
    (1, 22, 36),
    (33, 6, 9),
    (31, 5, 6),
    (63, 64, 17),
    (65, 60, 15),
    (70, 72, 64),
    (130, 130, 20),
    (40, 24, 100),
];

/// The products that meet a gated unit: forward `x [w1; w3]^T`, and backward `d_y w2`.
fn gated_rows(table: &mut Table) {
    for variant in TAKE_EPILOGUES {
        for (rows, d_ff, depth) in GATED {
            // Halves of a gate and of its up begin at whole loads.
            if variant.is_of_halves() && d_ff % 8 != 0 {
                continue;
            }
            let class = class_of(variant);
            let kernel = kernel_of(variant, variant.operands(), rows, depth);
            let shape = format!("{rows}x{d_ff}x{depth}");
            table.add_for(class, kernel, format!("{shape} Nt gate"), move |case| {
                gate(case, variant, (rows, d_ff, depth));
            });
            table.last_cannot_run(unmet_by(variant, |plan| {
                let hidden = plan.scratch("hidden", rows, d_ff);
                let up_first = d_ff;
                let epilogue = Epilogue::Gate { hidden, up_first };
                (Form::Nt, [rows, 2 * d_ff, depth], epilogue)
            }));
            if takes_lines_alone(variant) {
                continue;
            }
            let backward = format!("{shape} Nn gate backward");
            table.add_for(class, kernel, backward, move |case| {
                gate_backward(case, variant, (rows, d_ff, depth));
            });
            table.last_cannot_run(unmet_by(variant, |plan| {
                let gate_up = plan.scratch("gate_up", rows, 2 * d_ff);
                let up_first = d_ff;
                let epilogue = Epilogue::GateBackward { gate_up, up_first };
                (Form::Nn, [rows, d_ff, depth], epilogue)
            }));
        }
    }
}

fn gate(case: &mut Case, variant: Variant, (rows, d_ff, depth): (usize, usize, usize)) {
    let operands = variant.operands();
    let a = case.random_of(operands, rows, depth, 1.0);
    let b = case.random_of(operands, 2 * d_ff, depth, 1.0);
    let output = case.plan.scratch_of(operands, "output", rows, 2 * d_ff);
    let hidden = case.plan.scratch_of(operands, "hidden", rows, d_ff);
    let product = Product {
        form: Form::Nt,
        a: a.tensor,
        b: b.tensor,
        output,
        epilogue: Epilogue::Gate {
            hidden,
            up_first: d_ff,
        },
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    let (w1, w3) = b.values.split_at(d_ff * depth);
    let shape = reference::MatmulShape {
        m: rows,
        n: d_ff,
        k: depth,
    };
    let [gate, up] = [w1, w3].map(|weight| reference::nt(&a.values, weight, shape));
    expect(case, "hidden", hidden, swiglu::forward(&gate, &up));
    let both = side_by_side(rows, &[&gate, &up]);
    expect(case, "gate and up", output, both);
}

fn gate_backward(case: &mut Case, variant: Variant, (rows, d_ff, depth): (usize, usize, usize)) {
    let operands = variant.operands();
    let a = case.random_of(operands, rows, depth, 1.0);
    let b = case.random_of(operands, depth, d_ff, 1.0);
    let gate_up = case.random_of(operands, rows, 2 * d_ff, 1.0);
    let output = case.plan.scratch_of(operands, "output", rows, 2 * d_ff);
    let product = Product {
        form: Form::Nn,
        a: a.tensor,
        b: b.tensor,
        output,
        epilogue: Epilogue::GateBackward {
            gate_up: gate_up.tensor,
            up_first: d_ff,
        },
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    let shape = reference::MatmulShape {
        m: rows,
        n: d_ff,
        k: depth,
    };
    let d_hidden = reference::nn(&a.values, &b.values, shape);
    let columns = |first: usize| -> Vec<f64> {
        let halves = gate_up.values.chunks(d_ff).skip(first);
        halves.step_by(2).flatten().copied().collect()
    };
    let (d_gate, d_up) = swiglu::backward(&columns(0), &columns(1), &d_hidden);
    let want = side_by_side(rows, &[&d_gate, &d_up]);
    expect(case, "gradients", output, want);
}

/// What a variant needs of a product and does not get.
fn unmet_by(
    variant: Variant,
    product: impl FnOnce(&mut Plan) -> (Form, [usize; 3], Epilogue),
) -> Option<&'static str> {
    let mut plan = Plan::new(Target::portable(AdapterClass::Software));
    let (form, sizes, epilogue) = product(&mut plan);
    let used = Use {
        form,
        sizes,
        operands: variant.operands(),
        in_quads: epilogue.output_cols(sizes[1]).is_multiple_of(4),
        epilogue,
    };
    unmet(&used, variant.into())
}

/// The variants that turn heads and meet gates.
const TAKE_EPILOGUES: [Variant; 14] = [
    Variant::Tiled,
    Variant::TiledQuads,
    Variant::TiledSmall,
    Variant::TiledF16,
    Variant::TiledQuadsF16,
    Variant::Cooperative,
    Variant::CooperativeSmall,
    Variant::Cooperative8x8,
    Variant::CooperativeSmall8x8,
    Variant::Texture { side: TEXTURE_SIDE },
    Variant::TextureSubgroup { side: TEXTURE_SIDE },
    Variant::Few,
    Variant::FewF16,
    Variant::FewTexture,
];

/// Products of heads of even widths, whole quads or not, over sequences that end within a tile.
fn rotated_rows(table: &mut Table) {
    for variant in TAKE_EPILOGUES {
        for (batch, time, num_heads, head_dim) in
            [(1, 1, 1, 2), (2, 5, 3, 6), (3, 33, 2, 8), (2, 7, 9, 16)]
        {
            let shape = format!("batch {batch}, time {time}, heads {num_heads}x{head_dim} rotated");
            let kernel = kernel_of(variant, variant.operands(), batch * time, 20);
            table.add_for(class_of(variant), kernel, shape, move |case| {
                let shape = RopeShape {
                    time,
                    num_heads,
                    head_dim,
                    theta: 100.0,
                };
                rotated(case, variant, batch, shape);
            });
            table.last_cannot_run(unmet_by(variant, |plan| {
                let table = RopeTable {
                    angles: plan.scratch("angles", time, head_dim),
                };
                let cols = num_heads * head_dim;
                let epilogue = Epilogue::Rotate {
                    table,
                    head_dim,
                    cols,
                };
                (Form::Nt, [batch * time, cols + head_dim, 20], epilogue)
            }));
        }
    }
}

/// The heads of `shape`, and behind them one that stays as it is.
fn rotated(case: &mut Case, variant: Variant, batch: usize, shape: RopeShape) {
    let RopeShape {
        time,
        num_heads,
        head_dim,
        theta,
    } = shape;
    let (rows, cols) = (batch * time, num_heads * head_dim);
    let operands = variant.operands();
    let a = case.random_of(operands, rows, 20, 1.0);
    let b = case.random_of(operands, cols + head_dim, 20, 1.0);
    let output = case
        .plan
        .scratch_of(operands, "output", rows, cols + head_dim);
    let angles = rope::angles(time, head_dim, theta);
    let angles = angles.into_iter().map(f64::from).collect();
    let table = RopeTable {
        angles: case.floats(time, head_dim, angles).tensor,
    };
    let product = Product {
        form: Form::Nt,
        a: a.tensor,
        b: b.tensor,
        output,
        epilogue: Epilogue::Rotate {
            table,
            head_dim,
            cols,
        },
    };
    matmul::matmul_by(&mut case.plan, variant, product);
    let (turned, other) = b.values.split_at(cols * 20);
    let product = |weight: &[f64], n| {
        let sizes = reference::MatmulShape { m: rows, n, k: 20 };
        reference::nt(&a.values, weight, sizes)
    };
    let turned = rope_reference::forward(&product(turned, cols), shape);
    let want = side_by_side(rows, &[&turned, &product(other, head_dim)]);
    expect(case, "output", output, want);
}
