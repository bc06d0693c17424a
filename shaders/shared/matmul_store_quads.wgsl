// Writes four neighbouring outputs of a product, as `params.epilogue` says: a number of the launch
// and no constant of the pipeline, since drivers that run shaders on the CPU take seconds to compile
// each product. Rows are whole quads: one access to a quad takes them half the time of four.
const ACCUMULATE: u32 = 1u;
const RESIDUAL: u32 = 2u;

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    if (col >= params.n) {
        return;
    }
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = ((split * params.m + row) * params.output_stride + col) / 4u;
    var sum = sums;
    if (params.epilogue == ACCUMULATE) {
        sum += output[index];
    } else if (params.epilogue == RESIDUAL) {
        sum += residual[index];
    }
    output[index] = sum;
}
