// Stores four neighbouring outputs of a product, with the epilogue that the pipeline's constant asks
// for. Where all four are within the matrix, compilers make them one access.
// Joined with matmul_epilogue.wgsl, matmul_store_word.wgsl.
alias Stored = f32;

override EPILOGUE: u32 = 0u;

fn epilogue() -> u32 {
    return EPILOGUE;
}

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    if (row >= params.m) {
        return;
    }
    if (EPILOGUE == GATE) {
        store_gated(row, col, sums);
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

// Two columns of a gate and the two of up that meet them (`line_of_col`).
fn store_gated(row: u32, col: u32, sums: vec4<f32>) {
    if (col >= params.n) {
        return;
    }
    let gate = row * params.output_stride + col / 2u;
    output[gate] = sums.x;
    output[gate + 1u] = sums.y;
    let up = gate + params.boundary;
    output[up] = sums.z;
    output[up + 1u] = sums.w;
    let hidden = silu(sums) * sums.zwzw;
    let at = row * params.second_stride + col / 2u;
    second[at] = hidden.x;
    second[at + 1u] = hidden.y;
}
