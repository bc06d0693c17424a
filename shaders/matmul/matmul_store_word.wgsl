// Stores outputs of a product word by word, for rows of any width.
// Joined with matmul_epilogue.wgsl.

// One output, which is within the matrix.
fn store_word(index: u32, sum: f32) {
    var result = sum;
    if (epilogue() == ACCUMULATE) {
        result += output[index];
    } else if (epilogue() == RESIDUAL) {
        result += aside[index];
    } else if (epilogue() == GATE_BACKWARD) {
        let gate = vec4(aside[index]);
        let up = index + params.boundary;
        output[up] = sum * silu(gate).x;
        result = sum * aside[up] * d_silu(gate).x;
    }
    output[index] = result;
}

// Those of four neighbours that are within the matrix.
fn store_up_to_end(index: u32, col: u32, values: vec4<f32>) {
    if (col < params.n) {
        store_word(index, values.x);
    }
    if (col + 1u < params.n) {
        store_word(index + 1u, values.y);
    }
    if (col + 2u < params.n) {
        store_word(index + 2u, values.z);
    }
    if (col + 3u < params.n) {
        store_word(index + 3u, values.w);
    }
}

// Four outputs of a row, turned if the epilogue says so. Columns past the last one give what no one
// stores, from entries of the table.
fn turned_if_asked(row: u32, col: u32, sums: vec4<f32>) -> vec4<f32> {
    if (epilogue() != ROTATE) {
        return sums;
    }
    let first = row % params.time * params.head_dim;
    let near = first + col % params.head_dim;
    let far = first + (col + 2u) % params.head_dim;
    let angles = vec4(aside[near], aside[near + 1u], aside[far], aside[far + 1u]);
    return select(sums, turned(sums, angles), vec4(col) + vec4(0u, 0u, 2u, 2u) < vec4(params.boundary));
}
