// How slices of the operands come from memory into a workgroup's.

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

// Word at which the share of the slice from k0 begins.
fn place(share: Share, line0: u32, k0: u32, stride: u32, along_lines: bool) -> u32 {
    let line = line0 + share.line;
    let k = k0 + share.step;
    return select(line * stride + k, k * stride + line, along_lines);
}

// How many elements of a share lie within the matrix.
fn inside(share: Share, line0: u32, lines: u32, k0: u32, k_end: u32, along_lines: bool) -> u32 {
    let line = line0 + share.line;
    let k = k0 + share.step;
    let left = select(k_end - k, lines - line, along_lines);
    return select(0u, min(left, 4u), line < lines && k < k_end);
}
