// Matrices of 8 rows and columns, which a subgroup's lanes hold together.
const SIDE: u32 = 8u;

alias OperandA = coop_mat8x8<f16, A>;
alias OperandB = coop_mat8x8<f16, B>;
alias Sums = coop_mat8x8<f32, C>;
