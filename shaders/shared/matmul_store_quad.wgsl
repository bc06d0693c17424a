// Writes four neighbouring outputs of a product, with the epilogue that the pipeline's constants
// ask for. Where all four are within the matrix, compilers make them one access.
fn store_quad(split: u32, row: u32, col: u32, values: vec4<f32>) {
    if (row >= params.m || col >= params.n) {
        return;
    }
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = (split * params.m + row) * params.output_stride + col;
    if (col + 4u <= params.n) {
        var sums = values;
        if (ACCUMULATE) {
            sums += vec4(output[index], output[index + 1u], output[index + 2u], output[index + 3u]);
        } else if (RESIDUAL) {
            sums += vec4(residual[index], residual[index + 1u], residual[index + 2u], residual[index + 3u]);
        }
        output[index] = sums.x;
        output[index + 1u] = sums.y;
        output[index + 2u] = sums.z;
        output[index + 3u] = sums.w;
        return;
    }
    for (var i = 0u; col + i < params.n; i++) {
        var sum = values[i];
        if (ACCUMULATE) {
            sum += output[index + i];
        } else if (RESIDUAL) {
            sum += residual[index + i];
        }
        output[index + i] = sum;
    }
}
