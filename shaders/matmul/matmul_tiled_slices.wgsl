// How slices of the operands come from memory into a workgroup's. The kernel's own file declares TILE and
// DEPTH, and how the operands lie.
// Joined with matmul_line_of_col.wgsl.

// A lane's share of a slice: four elements that are neighbours in memory.
struct Share {
    line: u32,  // row of A or column of B, counted from the tile's first
    step: u32,  // of k, counted from the slice's first
}

// `along_lines`: whether neighbours in memory differ in their line and not in their k. Lanes walk
// along memory.
fn share_of(lane: u32, along_lines: bool) -> Share {
    if (along_lines) {
        return Share(lane % (TILE / 4u) * 4u, lane / (TILE / 4u));
    }
    return Share(lane / (DEPTH / 4u), lane % (DEPTH / 4u) * 4u);
}

// Element at which the share of the slice from k0 begins.
fn place_a(share: Share, row0: u32, k0: u32) -> u32 {
    let row = row0 + share.line;
    let k = k0 + share.step;
    return select(row * params.a_stride + k, k * params.a_stride + row, A_TRANSPOSED);
}

fn place_b(share: Share, col0: u32, k0: u32, is_gate: bool) -> u32 {
    let col = line_of_col(col0 + share.line, is_gate);
    let k = k0 + share.step;
    return select(k * params.b_stride + col, col * params.b_stride + k, B_TRANSPOSED);
}

// How many elements of a share lie within the matrix.
fn inside(share: Share, line0: u32, lines: u32, k0: u32, k_end: u32, along_lines: bool) -> u32 {
    let line = line0 + share.line;
    let k = k0 + share.step;
    let left = select(k_end - k, lines - line, along_lines);
    return select(0u, min(left, 4u), line < lines && k < k_end);
}
