//! What the probes of an adapter's ceilings compute.

/// For each element of `input` the sum of eight chains `x <- factor x + term` that start at the
/// element plus 0 to 7 and run for `steps` steps.
pub fn fma(input: &[f64], (factor, term): (f64, f64), steps: usize) -> Vec<f64> {
    let mut output = Vec::with_capacity(input.len());
    for start in input {
        let mut sum = 0.0;
        for chain in 0..8 {
            let mut x = start + f64::from(chain);
            for _ in 0..steps {
                x = factor * x + term;
            }
            sum += x;
        }
        output.push(sum);
    }
    output
}

/// The sums of `lanes` lanes in workgroups of 64: iteration i of lane l reads elements
/// `(l + i) mod 128 + 128 j` of `input`, j from 0 to 7.
///
/// # Panics
/// Where `input` does not have 1024 elements.
pub fn workgroup(input: &[f64], lanes: usize, iterations: usize) -> Vec<f64> {
    super::assert_len("input", input, 1024);
    let mut output = Vec::with_capacity(lanes);
    for lane in 0..lanes {
        let mut sum = 0.0;
        for iteration in 0..iterations {
            for part in 0..8 {
                sum += input[(lane % 64 + iteration) % 128 + 128 * part];
            }
        }
        output.push(sum);
    }
    output
}
