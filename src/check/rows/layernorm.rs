//! Rows of layer normalisation.

use super::layers::SHAPES;
use super::{Table, added};
use crate::check::{Case, Data};
use crate::gpu::{AdapterClass, Elements};
use crate::kernels::layernorm::{self, Gradients, Saved};
use crate::kernels::sum::Sums;
use crate::kernels::{Gradient, by_width};
use crate::reference;
use crate::reference::layernorm::Statistics;

const EPS: f64 = 1e-5;

/// What the elements of a row are.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// Normally distributed with this standard deviation. Tiny ones make the epsilon count.
    Scaled(f64),
    /// Around a mean of so many standard deviations: of 1000, f32 rounds off up to 3e-5 of one, and of a million
    /// a sum is off by some.
    FarFromZero(f64),
    /// The first a thousand times as large as the others are.
    LargeFirst,
    /// All of a row the same.
    Equal,
}

const VALUES: [Values; 7] = [
    Values::Scaled(1.0),
    Values::Scaled(1e-3),
    Values::Scaled(1e3),
    Values::FarFromZero(1e3),
    Values::FarFromZero(1e6),
    Values::LargeFirst,
    Values::Equal,
];

impl Values {
    fn draw(self, case: &mut Case, rows: usize, cols: usize) -> Data {
        let scale = match self {
            Self::Scaled(scale) => scale,
            _ => 1.0,
        };
        let drawn = case.random(rows, cols, scale);
        let first = |i: usize| i / cols * cols;
        // As f32 holds it.
        #[allow(clippy::cast_possible_truncation, reason = "inputs are f32")]
        let value = |(i, &drawn): (usize, &f64)| match self {
            Self::Scaled(_) => drawn,
            Self::FarFromZero(mean) => f64::from((drawn + mean) as f32),
            Self::LargeFirst if i == first(i) => 1e3,
            Self::LargeFirst => drawn,
            Self::Equal => f64::from((0.1 + (i / cols) as f64) as f32),
        };
        let values = drawn.values.iter().enumerate().map(value).collect();
        case.floats(rows, cols, values)
    }

    /// Whether what goes on from rows of so many columns is within what halves hold.
    fn suits_halves(self, cols: usize) -> bool {
        cols > 1 && matches!(self, Self::Scaled(1.0) | Self::FarFromZero(1e3))
    }
}

pub(super) fn rows(table: &mut Table) {
    let shapes = SHAPES.into_iter().chain([(3, 576), (5, 768)]);
    for (rows, cols) in shapes {
        for values in VALUES {
            let shape = format!("{rows}x{cols}, {values:?}");
            let elements: &[Elements] = if values.suits_halves(cols) {
                &[Elements::Words, Elements::Halves]
            } else {
                &[Elements::Words]
            };
            for &elements in elements {
                let kernel = by_width(cols, &layernorm::FORWARD, &layernorm::FORWARD_QUADS).0;
                table.add(kernel, format!("{shape}, {elements:?}"), move |case| {
                    forward(case, (rows, cols), values, elements);
                });
            }
            let kernels = [
                by_width(
                    cols,
                    &layernorm::BACKWARD_INPUT,
                    &layernorm::BACKWARD_INPUT_QUADS,
                ),
                by_width(
                    cols,
                    &layernorm::BACKWARD_WEIGHT,
                    &layernorm::BACKWARD_WEIGHT_QUADS,
                ),
            ];
            for accumulate in [false, true] {
                let shape = format!("{shape}, accumulate {accumulate}");
                table.add(kernels[1].0, &shape, move |case| {
                    backward_weight(case, (rows, cols), values, accumulate);
                });
                for &elements in elements {
                    let shape = format!("{shape}, {elements:?}");
                    table.add(kernels[0].0, shape, move |case| {
                        backward(case, (rows, cols), values, accumulate, elements);
                    });
                }
            }
        }
    }
    // More rows than a dimension of the grid has workgroups.
    let class = AdapterClass::Software;
    table.add_for(class, &layernorm::FORWARD, "65537x3", |case| {
        forward(case, (65_537, 3), Values::Scaled(1.0), Elements::Words);
    });
}

fn forward(case: &mut Case, (rows, cols): (usize, usize), values: Values, elements: Elements) {
    let input = values.draw(case, rows, cols);
    let weight = case.random(1, cols, 1.0);
    let bias = case.random(1, cols, 1.0);
    let [x, gain, added] = [input.tensor, weight.tensor, bias.tensor];
    let (output, saved) = layernorm::forward(&mut case.plan, x, gain, added, 1e-5, elements);
    let want = reference::layernorm::forward(&input.values, &weight.values, &bias.values, EPS);
    match elements {
        Elements::Words => case.expect("output", output, want),
        Elements::Halves => case.expect_halves("output", output, want),
    }
    let statistics = reference::layernorm::statistics(&input.values, cols, EPS);
    case.expect("mean", saved.statistics.columns(0, 1), statistics.mean);
    case.expect(
        "inv_std",
        saved.statistics.columns(2, 1),
        statistics.inv_std,
    );
}

/// What the forward pass keeps of `input`.
fn saved(case: &mut Case, input: &Data) -> (Saved, Statistics) {
    let (rows, cols) = (input.tensor.rows, input.tensor.cols);
    let statistics = reference::layernorm::statistics(&input.values, cols, EPS);
    #[allow(clippy::cast_possible_truncation, reason = "as the kernel keeps it")]
    let rounded = |mean: f64| f64::from(mean as f32);
    let pairs = statistics.mean.iter().zip(&statistics.inv_std);
    let kept = pairs.flat_map(|(&mean, &inv_std)| [rounded(mean), mean - rounded(mean), inv_std]);
    let kept = case.floats(rows, 3, kept.collect());
    let saved = Saved {
        input: input.tensor,
        statistics: kept.tensor,
    };
    (saved, statistics)
}

/// Every gradient, and the input's as halves too.
fn backward(
    case: &mut Case,
    (rows, cols): (usize, usize),
    values: Values,
    accumulate: bool,
    elements: Elements,
) {
    let input = values.draw(case, rows, cols);
    let (saved, statistics) = saved(case, &input);
    let weight = case.random(1, cols, 1.0);
    let d_output = case.random(rows, cols, 1.0);
    let d_input = case.random(rows, cols, 1.0);
    let [d_weight, d_bias] = [(); 2].map(|()| case.random(1, cols, 1.0));
    let into = |data: &Data| Gradient {
        tensor: data.tensor,
        accumulate,
    };
    let halves = match elements {
        Elements::Words => None,
        Elements::Halves => Some(case.plan.scratch_halves("halves", rows, cols)),
    };
    let gradients = Gradients {
        d_output: d_output.tensor,
        d_input: into(&d_input),
        d_weight: Some(into(&d_weight)),
        d_bias: Some(into(&d_bias)),
        halves,
    };
    let mut sums = Sums::default();
    layernorm::backward(&mut case.plan, saved, weight.tensor, gradients, &mut sums);
    sums.flush(&mut case.plan);
    let (x, d) = (&input.values, &d_output.values);
    let mut want = reference::layernorm::backward_input(x, &weight.values, &statistics, d);
    let wanted = reference::layernorm::backward_weight(x, &statistics, d, cols);
    let mut wanted = [wanted.0, wanted.1];
    if accumulate {
        want = added(&d_input.values, want);
        let [d_gain, d_added] = wanted;
        wanted = [
            added(&d_weight.values, d_gain),
            added(&d_bias.values, d_added),
        ];
    }
    if let Some(halves) = halves {
        case.expect_halves("halves", halves, want.clone());
    }
    // One column leaves the difference of two equal numbers: what remains is their rounding.
    let slack = if cols == 1 {
        let gradients = d.iter().zip(&statistics.inv_std);
        let rounded = gradients.map(|(d, inv_std)| 1e-6 * (d * weight.values[0] * inv_std).abs());
        rounded.collect()
    } else {
        Vec::new()
    };
    case.expect_with_slack("d_input", d_input.tensor, (want, slack), 1e-5);
    let [d_gain, d_added] = wanted;
    case.expect("d_weight", d_weight.tensor, d_gain);
    case.expect("d_bias", d_bias.tensor, d_added);
}

/// The gradients of gain and bias, and those of one of them alone.
fn backward_weight(
    case: &mut Case,
    (rows, cols): (usize, usize),
    values: Values,
    accumulate: bool,
) {
    let input = values.draw(case, rows, cols);
    let (saved, statistics) = saved(case, &input);
    let d_output = case.random(rows, cols, 1.0);
    let want =
        reference::layernorm::backward_weight(&input.values, &statistics, &d_output.values, cols);
    let mut sums = Sums::default();
    for wanted in [[true, false], [false, true]] {
        let old = case.random(1, cols, 1.0);
        let into = Gradient {
            tensor: old.tensor,
            accumulate,
        };
        let gradients = wanted.map(|wanted| wanted.then_some(into));
        let plan = &mut case.plan;
        layernorm::backward_weight(plan, saved, d_output.tensor, gradients, &mut sums);
        let (name, mut want) = if wanted[0] {
            ("d_weight", want.0.clone())
        } else {
            ("d_bias", want.1.clone())
        };
        if accumulate {
            want = added(&old.values, want);
        }
        case.expect(name, old.tensor, want);
    }
    sums.flush(&mut case.plan);
}
