// Writes four neighbouring outputs of a product, with the epilogue that the pipeline's constants
// ask for. Where all four are within the matrix, compilers make them one access.
fn store_quad(split: u32, row: u32, col: u32, values: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = (split * params.m + row) * params.output_stride + col;
    if (col + 4u <= params.n) {
        store_sum(index, values.x);
        store_sum(index + 1u, values.y);
        store_sum(index + 2u, values.z);
        store_sum(index + 3u, values.w);
        return;
    }
    if (col < params.n) {
        store_sum(index, values.x);
    }
    if (col + 1u < params.n) {
        store_sum(index + 1u, values.y);
    }
    if (col + 2u < params.n) {
        store_sum(index + 2u, values.z);
    }
}

fn store_sum(index: u32, value: f32) {
    var sum = value;
    if (ACCUMULATE) {
        sum += output[index];
    } else if (RESIDUAL) {
        sum += residual[index];
    }
    output[index] = sum;
}
