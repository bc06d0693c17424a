// Where column `col` lies in B: if it is for a gate's epilogue, two columns of the gate and the two of up that
// meet them make a quad.
fn line_of_col(col: u32, is_gate: bool) -> u32 {
    if (!is_gate) {
        return col;
    }
    return col / 4u * 2u + (col & 1u) + select(0u, params.boundary, (col & 2u) != 0u);
}
