// How slices of 2-byte floats come from memory into a workgroup's, four neighbours at a time, by lanes that
// walk along memory, and from there into cooperative matrices. The kernel's own file declares TILE, DEPTH,
// LANES, the pitches and both tiles.
// Joined with cooperative_16.wgsl or cooperative_8.wgsl, matmul_epilogue.wgsl, matmul_store_f16.wgsl.
// Joined with matmul_tiled_slices.wgsl.
override SHARES: u32 = TILE * DEPTH / 4u / LANES;  // of a lane, of each operand: a power of two up to eight

// What a lane brings of a slice.
struct Quads {
    q0: vec4<f16>,
    q1: vec4<f16>,
    q2: vec4<f16>,
    q3: vec4<f16>,
    q4: vec4<f16>,
    q5: vec4<f16>,
    q6: vec4<f16>,
    q7: vec4<f16>,
}

// The first elements, and zeros, which add nothing to a product: what is in the gap behind a row counts
// for nothing.
fn first_of(quad: vec4<f16>, count: u32) -> vec4<f16> {
    return select(vec4<f16>(), quad, vec4(0u, 1u, 2u, 3u) < vec4(count));
}

fn quad_of_a(lane: u32, number: u32, row0: u32, k0: u32, k_end: u32) -> vec4<f16> {
    let share = share_of(lane + number * LANES, A_TRANSPOSED);
    let count = inside(share, row0, params.m, k0, k_end, A_TRANSPOSED);
    if (count == 0u) {
        return vec4<f16>();
    }
    return first_of(a[place_a(share, row0, k0) / 4u], count);
}

fn fetch_a(lane: u32, row0: u32, k0: u32, k_end: u32) -> Quads {
    var fetched = Quads();
    fetched.q0 = quad_of_a(lane, 0u, row0, k0, k_end);
    if (SHARES > 1u) {
        fetched.q1 = quad_of_a(lane, 1u, row0, k0, k_end);
    }
    if (SHARES > 2u) {
        fetched.q2 = quad_of_a(lane, 2u, row0, k0, k_end);
        fetched.q3 = quad_of_a(lane, 3u, row0, k0, k_end);
    }
    if (SHARES > 4u) {
        fetched.q4 = quad_of_a(lane, 4u, row0, k0, k_end);
        fetched.q5 = quad_of_a(lane, 5u, row0, k0, k_end);
        fetched.q6 = quad_of_a(lane, 6u, row0, k0, k_end);
        fetched.q7 = quad_of_a(lane, 7u, row0, k0, k_end);
    }
    return fetched;
}

fn keep_quad_of_a(lane: u32, number: u32, quad: vec4<f16>) {
    let share = share_of(lane + number * LANES, A_TRANSPOSED);
    let by_line = share.line * LINE_PITCH + share.step;
    let at = select(by_line, share.step * STEP_PITCH + share.line, A_TRANSPOSED);
    a_tile[at] = quad.x;
    a_tile[at + 1u] = quad.y;
    a_tile[at + 2u] = quad.z;
    a_tile[at + 3u] = quad.w;
}

fn keep_a(lane: u32, slice: Quads) {
    keep_quad_of_a(lane, 0u, slice.q0);
    if (SHARES > 1u) {
        keep_quad_of_a(lane, 1u, slice.q1);
    }
    if (SHARES > 2u) {
        keep_quad_of_a(lane, 2u, slice.q2);
        keep_quad_of_a(lane, 3u, slice.q3);
    }
    if (SHARES > 4u) {
        keep_quad_of_a(lane, 4u, slice.q4);
        keep_quad_of_a(lane, 5u, slice.q5);
        keep_quad_of_a(lane, 6u, slice.q6);
        keep_quad_of_a(lane, 7u, slice.q7);
    }
}

fn quad_of_b(lane: u32, number: u32, col0: u32, k0: u32, k_end: u32) -> vec4<f16> {
    let share = share_of(lane + number * LANES, !B_TRANSPOSED);
    let count = inside(share, col0, params.n, k0, k_end, !B_TRANSPOSED);
    if (count == 0u) {
        return vec4<f16>();
    }
    return first_of(b[place_b(share, col0, k0, EPILOGUE == GATE) / 4u], count);
}

fn fetch_b(lane: u32, col0: u32, k0: u32, k_end: u32) -> Quads {
    var fetched = Quads();
    fetched.q0 = quad_of_b(lane, 0u, col0, k0, k_end);
    if (SHARES > 1u) {
        fetched.q1 = quad_of_b(lane, 1u, col0, k0, k_end);
    }
    if (SHARES > 2u) {
        fetched.q2 = quad_of_b(lane, 2u, col0, k0, k_end);
        fetched.q3 = quad_of_b(lane, 3u, col0, k0, k_end);
    }
    if (SHARES > 4u) {
        fetched.q4 = quad_of_b(lane, 4u, col0, k0, k_end);
        fetched.q5 = quad_of_b(lane, 5u, col0, k0, k_end);
        fetched.q6 = quad_of_b(lane, 6u, col0, k0, k_end);
        fetched.q7 = quad_of_b(lane, 7u, col0, k0, k_end);
    }
    return fetched;
}

fn keep_quad_of_b(lane: u32, number: u32, quad: vec4<f16>) {
    let share = share_of(lane + number * LANES, !B_TRANSPOSED);
    let by_line = share.line * LINE_PITCH + share.step;
    let at = select(by_line, share.step * STEP_PITCH + share.line, !B_TRANSPOSED);
    b_tile[at] = quad.x;
    b_tile[at + 1u] = quad.y;
    b_tile[at + 2u] = quad.z;
    b_tile[at + 3u] = quad.w;
}

fn keep_b(lane: u32, slice: Quads) {
    keep_quad_of_b(lane, 0u, slice.q0);
    if (SHARES > 1u) {
        keep_quad_of_b(lane, 1u, slice.q1);
    }
    if (SHARES > 2u) {
        keep_quad_of_b(lane, 2u, slice.q2);
        keep_quad_of_b(lane, 3u, slice.q3);
    }
    if (SHARES > 4u) {
        keep_quad_of_b(lane, 4u, slice.q4);
        keep_quad_of_b(lane, 5u, slice.q5);
        keep_quad_of_b(lane, 6u, slice.q6);
        keep_quad_of_b(lane, 7u, slice.q7);
    }
}

// SIDE rows from `row` and SIDE steps from `step` of the slice.
fn matrix_a(row: u32, step: u32) -> OperandA {
    let by_line = row * LINE_PITCH + step;
    let by_step = step * STEP_PITCH + row;
    let line_pitch = LINE_PITCH;
    let step_pitch = STEP_PITCH;
    if (A_TRANSPOSED) {
        return coopLoad<OperandA>(&a_tile[by_step], step_pitch);
    }
    return coopLoadT<OperandA>(&a_tile[by_line], line_pitch);
}

// SIDE steps from `step` and SIDE columns from `col` of the slice.
fn matrix_b(col: u32, step: u32) -> OperandB {
    let by_line = col * LINE_PITCH + step;
    let by_step = step * STEP_PITCH + col;
    let line_pitch = LINE_PITCH;
    let step_pitch = STEP_PITCH;
    if (B_TRANSPOSED) {
        return coopLoad<OperandB>(&b_tile[by_line], line_pitch);
    }
    return coopLoadT<OperandB>(&b_tile[by_step], step_pitch);
}
