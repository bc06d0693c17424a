// `sums` of four rows by four columns (a vector is a row) plus the products of a quad of rows and
// a quad of columns.
fn add_outer(sums: mat4x4<f32>, rows: vec4<f32>, cols: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        fma(vec4(rows.x), cols, sums[0]),
        fma(vec4(rows.y), cols, sums[1]),
        fma(vec4(rows.z), cols, sums[2]),
        fma(vec4(rows.w), cols, sums[3]),
    );
}
