// How a share of a slice is kept in a workgroup's memory word by word: rows of A are turned to columns
// and columns of B to rows on the way.
// Joined with matmul_tiled_slices.wgsl.
fn keep_a(first: u32, share: Share, quad: vec4<f32>) {
    let at = first + share.step * TILE + share.line;
    let gap = select(TILE, 1u, A_TRANSPOSED);
    a_tile[at] = quad.x;
    a_tile[at + gap] = quad.y;
    a_tile[at + 2u * gap] = quad.z;
    a_tile[at + 3u * gap] = quad.w;
}

fn keep_b(first: u32, share: Share, quad: vec4<f32>) {
    let at = first + share.step * TILE + share.line;
    let gap = select(1u, TILE, B_TRANSPOSED);
    b_tile[at] = quad.x;
    b_tile[at + gap] = quad.y;
    b_tile[at + 2u * gap] = quad.z;
    b_tile[at + 3u * gap] = quad.w;
}
