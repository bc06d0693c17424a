//! Rows of GELU.

use super::layers::SHAPES;
use super::{Table, random_view};
use crate::check::Case;
use crate::kernels::{by_width, gelu};
use crate::reference;

pub(super) fn rows(table: &mut Table) {
    let shapes = SHAPES.into_iter().chain([(3, 576), (5, 768)]);
    for (rows, cols) in shapes {
        // At scale 30 the tanh is at one of its ends for most, at 1e4 for all.
        for scale in [1.0, 1e-3, 30.0, 1e4] {
            for gap in [0, 4, 3] {
                let shape = format!("{rows}x{cols}, scale {scale}, gaps of {gap}");
                let columns = cols | (cols + gap);
                let kernels = [
                    by_width(columns, &gelu::FORWARD, &gelu::FORWARD_QUADS),
                    by_width(columns, &gelu::BACKWARD, &gelu::BACKWARD_QUADS),
                ];
                for (kernel, _) in kernels {
                    table.add_once(kernel, &shape, move |case| {
                        row(case, (rows, cols), scale, gap);
                    });
                }
            }
        }
    }
    let shape = "every quarter from -20 to 20 and far beyond";
    table.add_once(&gelu::FORWARD_QUADS, shape, edges);
    table.add_once(&gelu::BACKWARD_QUADS, shape, edges);
    const LIMIT_WORDS: usize = 1 << 10;
    let shape = format!("130x24 in bindings of {LIMIT_WORDS} words");
    for kernel in [&gelu::FORWARD_QUADS, &gelu::BACKWARD_QUADS] {
        table.add_once(kernel, &shape, |case| {
            case.plan.set_max_binding_words(LIMIT_WORDS);
            row(case, (130, 24), 1.0, 4);
        });
    }
}

/// Forward and backward, with gaps of so many columns between the rows of the input, and twice as many between those
/// of output and gradient.
fn row(case: &mut Case, (rows, cols): (usize, usize), scale: f64, gap: usize) {
    let input = random_view(case, (rows, cols), scale, gap);
    let d_output = random_view(case, (rows, cols), 1.0, 2 * gap);
    let output = case.plan.scratch("output", rows, cols + 2 * gap);
    let output = output.columns(0, cols);
    gelu::forward_into(&mut case.plan, input.tensor, output);
    let d_input = gelu::backward(&mut case.plan, input.tensor, d_output.tensor);
    let (x, d) = (&input.values, &d_output.values);
    case.expect("output", output, reference::gelu::forward(x));
    case.expect("d_input", d_input, reference::gelu::backward(x, d));
}

/// Where the unit bends and its ends, and numbers whose cube no f32 holds.
fn edges(case: &mut Case) {
    let near = (-80..=80).map(|quarter| f64::from(quarter) / 4.0);
    let far = [1e3, 1e4, 1e13, 1e20, 1e30].map(|x| [x, -x]).concat();
    let near: Vec<f64> = near.collect();
    // So that each part is measured by its own size.
    for part in [near, far] {
        let cols = part.len().next_multiple_of(4);
        let mut x = part;
        x.resize(cols, 0.0);
        // As f32 holds it.
        #[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
        let x: Vec<f64> = x.into_iter().map(|x| f64::from(x as f32)).collect();
        let input = case.floats(1, cols, x.clone()).tensor;
        let d = case.random(1, cols, 1.0);
        let output = case.plan.scratch("output", 1, cols);
        gelu::forward_into(&mut case.plan, input, output);
        let d_input = gelu::backward(&mut case.plan, input, d.tensor);
        case.expect("output", output, reference::gelu::forward(&x));
        case.expect("d_input", d_input, reference::gelu::backward(&x, &d.values));
    }
}
