// Stores four neighbouring outputs of a product, for rows of whole quads: one access to a quad takes
// drivers that run shaders on the CPU half the time of four. They run both sides of a branch, so each
// epilogue is a pipeline of its own.
override EPILOGUE: u32 = 0u;

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    if (row >= params.m || col >= params.n) {
        return;
    }
    // Partial products have no gaps between rows, and a split of its own has output_stride n.
    let index = ((split * params.m + row) * params.output_stride + col) / 4u;
    let texel = vec2((col - params.first_col) / 4u, row - params.first_row);
    if (EPILOGUE == ACCUMULATE) {
        output[index] += sums;
    } else if (EPILOGUE == RESIDUAL) {
        output[index] = aside[index] + sums;
    } else if (EPILOGUE == ROTATE) {
        let at = vec2(col % params.head_dim / 4u, row % params.time);
        output[index] = turned(sums, textureLoad(aside_texels, at));
    } else if (EPILOGUE == GATE) {
        second[index] = silu(textureLoad(aside_texels, texel)) * sums;
        output[index] = sums;
    } else if (EPILOGUE == GATE_BACKWARD) {
        let gate = textureLoad(aside_texels, texel);
        second[index] = sums * silu(gate);
        output[index] = sums * textureLoad(other_texels, texel) * d_silu(gate);
    } else {
        output[index] = sums;
    }
}
