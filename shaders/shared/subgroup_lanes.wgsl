// Lanes of the subgroups that kernels by subgroups are written for.
const LANES: u32 = 8u;
