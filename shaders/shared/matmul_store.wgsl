// Writes one output of a product, as `params.epilogue` says: a number of the launch and no constant
// of the pipeline, since drivers that run shaders on the CPU take seconds to compile each product.
const ACCUMULATE: u32 = 1u;
const RESIDUAL: u32 = 2u;

fn store(split: u32, row: u32, col: u32, value: f32) {
    if (row >= params.m || col >= params.n) {
        return;
    }
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = (split * params.m + row) * params.output_stride + col;
    var sum = value;
    if (params.epilogue == ACCUMULATE) {
        sum += output[index];
    } else if (params.epilogue == RESIDUAL) {
        sum += residual[index];
    }
    output[index] = sum;
}

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    store(split, row, col, sums.x);
    store(split, row, col + 1u, sums.y);
    store(split, row, col + 2u, sums.z);
    store(split, row, col + 3u, sums.w);
}
