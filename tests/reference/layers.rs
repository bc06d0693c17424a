//! The reference of layer normalisation, GELU, biases and heads' norms.

use gpu_tlm::reference::{bias, gelu, head_norm, layernorm};

use super::{ROUNDING, assert_close, assert_gradient, dot, scaled, values};

#[test]
fn layernorm_matches_its_formula() {
    // Of (1, 3) the mean is 2 and the variance 1; 1 + 3 has the root 2.
    let output = layernorm::forward(&[1.0, 3.0], &[1.0, 4.0], &[10.0, 20.0], 3.0);
    assert_close("output", &output, &[9.5, 22.0], ROUNDING);
    // A mean of a billion leaves the variance as it is.
    let far = layernorm::statistics(&[1e9 + 1.0, 1e9 + 3.0], 2, 3.0);
    assert_close("mean", &far.mean, &[1e9 + 2.0], ROUNDING);
    assert_close("inv_std", &far.inv_std, &[0.5], ROUNDING);
}

#[test]
fn layernorm_gradients_match_finite_differences() {
    for (rows, cols, size) in [(1, 1, 1.0), (3, 5, 1.0), (2, 17, 30.0), (2, 16, 0.1)] {
        let name = format!("[{rows}, {cols}] of size {size}");
        let eps = 1e-5;
        let input = scaled(&values(41, rows * cols), size);
        let (weight, bias) = (values(42, cols), values(43, cols));
        let d_output = values(44, rows * cols);
        let statistics = layernorm::statistics(&input, cols, eps);
        let d_input = layernorm::backward_input(&input, &weight, &statistics, &d_output);
        let (d_weight, d_bias) = layernorm::backward_weight(&input, &statistics, &d_output, cols);
        let loss = |input: &[f64], weight: &[f64], bias: &[f64]| {
            dot(&layernorm::forward(input, weight, bias, eps), &d_output)
        };
        assert_gradient(&format!("d_input {name}"), &input, &d_input, |input| {
            loss(input, &weight, &bias)
        });
        assert_gradient(&format!("d_weight {name}"), &weight, &d_weight, |weight| {
            loss(&input, weight, &bias)
        });
        assert_gradient(&format!("d_bias {name}"), &bias, &d_bias, |bias| {
            loss(&input, &weight, bias)
        });
    }
}

#[test]
fn gelu_matches_its_formula_and_finite_differences() {
    // As `torch.nn.functional.gelu(x, approximate="tanh")` has them in f64.
    let output = gelu::forward(&[0.0, 1.0, -1.0, 3.0, 1e4, -1e4]);
    let want = [
        0.0,
        0.8411919906082768,
        -0.15880800939172324,
        2.996362607918227,
        1e4,
        0.0,
    ];
    assert_close("forward", &output, &want, ROUNDING);
    let input = [&values(45, 7)[..], &[0.0, 30.0, -30.0, 3.0, -3.0]].concat();
    let d_output = values(46, input.len());
    let d_input = gelu::backward(&input, &d_output);
    assert_gradient("d_input", &input, &d_input, |input| {
        dot(&gelu::forward(input), &d_output)
    });
    let far = gelu::backward(&[-1e4, 1e4, -1e100, 1e100], &[1.0; 4]);
    assert_close("far from 0", &far, &[0.0, 1.0, 0.0, 1.0], ROUNDING);
}

#[test]
fn a_bias_is_added_by_position_and_its_gradient_is_their_sum() {
    let added = bias::forward(
        &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        &[10.0, 20.0, 30.0, 40.0],
        2,
    );
    assert_eq!(added, [11.0, 22.0, 33.0, 44.0, 15.0, 26.0]);
    for (rows, cols, period) in [(1, 1, 1), (5, 3, 1), (7, 2, 3), (2, 3, 4)] {
        let (input, row) = (values(47, rows * cols), values(48, period * cols));
        let d_output = values(49, rows * cols);
        let d_bias = bias::backward(&d_output, period, cols);
        let name = format!("[{rows}, {cols}], period {period}");
        assert_gradient(&name, &row, &d_bias, |row| {
            dot(&bias::forward(&input, row, cols), &d_output)
        });
    }
}

#[test]
fn norms_of_heads_match_their_formula_and_finite_differences() {
    // The mean squares of (3, 4) and (0, 1) are 12.5 and 0.5; with 3.5 their roots are 4 and 2.
    let (output, inv_rms) = head_norm::forward(&[3.0, 4.0, 0.0, 1.0], &[1.0, 2.0], 3.5);
    assert_close("inv_rms", &inv_rms, &[0.25, 0.5], ROUNDING);
    assert_close("output", &output, &[0.75, 2.0, 0.0, 1.0], ROUNDING);
    for (heads, head_dim, size) in [(1, 2, 1.0), (6, 5, 1.0), (4, 16, 30.0), (4, 16, 0.1)] {
        let name = format!("{heads} of {head_dim}, size {size}");
        let eps = 1e-5;
        let input = scaled(&values(50, heads * head_dim), size);
        let (gain, d_output) = (values(51, head_dim), values(52, heads * head_dim));
        let (_, inv_rms) = head_norm::forward(&input, &gain, eps);
        let (d_input, d_gain) = head_norm::backward(&input, &gain, &inv_rms, &d_output);
        assert_gradient(&format!("d_input {name}"), &input, &d_input, |input| {
            dot(&head_norm::forward(input, &gain, eps).0, &d_output)
        });
        assert_gradient(&format!("d_gain {name}"), &gain, &d_gain, |gain| {
            dot(&head_norm::forward(&input, gain, eps).0, &d_output)
        });
    }
}
