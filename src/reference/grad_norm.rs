//! The global norm of all gradients, and the factor that clips them to a maximum norm.

/// The L2 norm of `gradients`, of all parameters together.
pub fn norm(gradients: &[f64]) -> f64 {
    let mut squares = 0.0;
    for gradient in gradients {
        squares += gradient * gradient;
    }
    squares.sqrt()
}

/// What every gradient is multiplied with: `max_norm / (norm + 1e-6)` where `norm > max_norm`, else 1.
///
/// The constant keeps the clipped norm below `max_norm`, as in `torch.nn.utils.clip_grad_norm_`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if norm > max_norm {
        max_norm / (norm + 1e-6)
    } else {
        1.0
    }
}
