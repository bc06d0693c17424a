// Stores four neighbouring outputs of a product, with the epilogue that the pipeline's constant asks
// for. Where all four are within the matrix, compilers make them one access.
// Joined with matmul_store_word.wgsl.
alias Stored = f32;

override EPILOGUE: u32 = 0u;

fn epilogue() -> u32 {
    return EPILOGUE;
}

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
    let values = turned_if_asked(row, col, sums);
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = (split * params.m + row) * params.output_stride + col;
    if (col + 4u <= params.n) {
        store_word(index, values.x);
        store_word(index + 1u, values.y);
        store_word(index + 2u, values.z);
        store_word(index + 3u, values.w);
        return;
    }
    store_up_to_end(index, col, values);
}
