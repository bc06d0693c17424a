// Stores four neighbouring outputs of a product. The epilogue is a number of the launch and no constant
// of the pipeline, since drivers that run shaders on the CPU take seconds to compile each product.
// Joined with matmul_store_word.wgsl.
fn epilogue() -> u32 {
    return params.epilogue;
}

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
    let values = turned_if_asked(row, col, sums);
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = (split * params.m + row) * params.output_stride + col;
    store_up_to_end(index, col, values);
}
