// Products of quads of k, with lines of B that lie in a texture `b`, a texel four steps of k.
// Joined with matmul_epilogue.wgsl, matmul_line_of_col.wgsl, matmul_store_quad.wgsl.
fn add_quad(sums: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
    var result = fma(vec4(x.x), vec4(w[0].x, w[1].x, w[2].x, w[3].x), sums);
    result = fma(vec4(x.y), vec4(w[0].y, w[1].y, w[2].y, w[3].y), result);
    result = fma(vec4(x.z), vec4(w[0].z, w[1].z, w[2].z, w[3].z), result);
    return fma(vec4(x.w), vec4(w[0].w, w[1].w, w[2].w, w[3].w), result);
}

// The lines of four columns in B's texture.
fn lines_of(col: u32) -> vec4<u32> {
    let cols = vec4(col) + vec4(0u, 1u, 2u, 3u);
    if (EPILOGUE != GATE) {
        return cols - vec4(params.first_col);
    }
    let within = min(cols, vec4(params.n - 1u));
    return vec4(
        line_of_col(within.x, true),
        line_of_col(within.y, true),
        line_of_col(within.z, true),
        line_of_col(within.w, true),
    );
}

fn weights_at(texel: u32, lines: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(
        textureLoad(b, vec2(texel, lines.x)),
        textureLoad(b, vec2(texel, lines.y)),
        textureLoad(b, vec2(texel, lines.z)),
        textureLoad(b, vec2(texel, lines.w)),
    );
}
