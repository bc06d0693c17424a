// Stores four neighbouring outputs of a product of 2-byte floats, with the epilogue that the pipeline's
// constant asks for: as words, or as 2-byte floats where other products read them.
// Joined with half_bits.wgsl, matmul_epilogue.wgsl, unpacked_halves.wgsl.
alias Stored = u32;

override EPILOGUE: u32 = 0u;
// Whether the output, and what an epilogue reads and writes beside it, are 2-byte floats: all but the
// angles of a rotation. The output is no sum then.
override OUTPUT_HALVES: bool = false;

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    if (row >= params.m || col >= params.n) {
        return;
    }
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = (split * params.m + row) * params.output_stride + col;
    if (EPILOGUE == GATE) {
        store_gated(row, col, sums);
    } else if (OUTPUT_HALVES) {
        store_halves(row, col, index / 4u * 2u, sums);
    } else if (col + 4u <= params.n) {
        store_word(index, sums.x);
        store_word(index + 1u, sums.y);
        store_word(index + 2u, sums.z);
        store_word(index + 3u, sums.w);
    } else {
        for (var i = 0u; i < params.n - col; i++) {
            store_word(index + i, sums[i]);
        }
    }
}

fn store_word(index: u32, sum: f32) {
    var result = sum;
    if (EPILOGUE == ACCUMULATE) {
        result += bitcast<f32>(output[index]);
    } else if (EPILOGUE == RESIDUAL) {
        result += bitcast<f32>(aside[index]);
    }
    output[index] = bitcast<u32>(result);
}

// A quad at word `at`; columns past the last one fill the gap behind the row.
fn store_halves(row: u32, col: u32, at: u32, sums: vec4<f32>) {
    var result = sums;
    if (EPILOGUE == ROTATE) {
        let turns = vec4(col) + vec4(0u, 0u, 2u, 2u) < vec4(params.boundary);
        result = select(sums, turned(sums, angles_of(row, col)), turns);
    } else if (EPILOGUE == GATE_BACKWARD) {
        let gate = aside_quad(at);
        let up = at + params.boundary / 2u;
        keep_quad(up, col, sums * silu(gate));
        result = sums * aside_quad(up) * d_silu(gate);
    }
    keep_quad(at, col, result);
}

fn keep_quad(at: u32, col: u32, values: vec4<f32>) {
    let halves = packed_halves(within_row(col, values));
    output[at] = halves.x;
    output[at + 1u] = halves.y;
}

// Two columns of a gate and the two of up that meet them (`line_of_col`), which are halves in any case.
fn store_gated(row: u32, col: u32, sums: vec4<f32>) {
    let gate = (row * params.output_stride + col / 2u) / 2u;
    let halves = packed_halves(sums);
    output[gate] = halves.x;
    output[gate + params.boundary / 2u] = halves.y;
    let hidden = packed_halves(silu(sums) * sums.zwzw);
    second[(row * params.second_stride + col / 2u) / 2u] = hidden.x;
}

fn within_row(col: u32, values: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), values, vec4(col) + vec4(0u, 1u, 2u, 3u) < vec4(params.n));
}

fn aside_quad(at: u32) -> vec4<f32> {
    return unpacked_halves(vec2(aside[at], aside[at + 1u]));
}

// Cosine and sine of two pairs of a row's position. Columns past the last one give what no one stores,
// from entries of the table.
fn angles_of(row: u32, col: u32) -> vec4<f32> {
    let first = row % params.time * params.head_dim;
    let near = first + col % params.head_dim;
    let far = first + (col + 2u) % params.head_dim;
    return bitcast<vec4<f32>>(vec4(aside[near], aside[near + 1u], aside[far], aside[far + 1u]));
}
