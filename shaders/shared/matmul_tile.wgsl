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

// Writes four rows by four columns of a product from (row, col) on.
fn store_tile(split: u32, row: u32, col: u32, sums: mat4x4<f32>) {
    store_quad(split, row, col, sums[0]);
    store_quad(split, row + 1u, col, sums[1]);
    store_quad(split, row + 2u, col, sums[2]);
    store_quad(split, row + 3u, col, sums[3]);
}

fn store_quad(split: u32, row: u32, col: u32, sums: vec4<f32>) {
    store(split, row, col, sums.x);
    store(split, row, col + 1u, sums.y);
    store(split, row, col + 2u, sums.z);
    store(split, row, col + 3u, sums.w);
}
