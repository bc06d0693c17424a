// Matrices of 16 rows and columns, which a subgroup's lanes hold together.
const SIDE: u32 = 16u;

alias OperandA = coop_mat16x16<f16, A>;
alias OperandB = coop_mat16x16<f16, B>;
alias Sums = coop_mat16x16<f32, C>;
