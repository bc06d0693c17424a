// Writes one output of a product, with the epilogue that the pipeline's constants ask for.
fn store(split: u32, row: u32, col: u32, value: f32) {
    if (row >= params.m || col >= params.n) {
        return;
    }
    let index = row * params.output_stride + col;
    if (ACCUMULATE) {
        output[index] += value;
    } else if (RESIDUAL) {
        output[index] = residual[index] + value;
    } else {
        output[split * params.m * params.n + index] = value;
    }
}
