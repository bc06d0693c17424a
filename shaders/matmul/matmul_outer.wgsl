// One step of k: the outer product of eight rows and eight columns, each in two quads. Written out, since
// not every compiler unrolls, and an array that is indexed at run time leaves the registers.
// `sums`: [column half, row half, row of four].
fn add_outer_8x8(
    sums: ptr<function, array<vec4<f32>, 16>>,
    a0: vec4<f32>,
    a1: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
) {
    (*sums)[0] = fma(vec4(a0.x), b0, (*sums)[0]);
    (*sums)[1] = fma(vec4(a0.y), b0, (*sums)[1]);
    (*sums)[2] = fma(vec4(a0.z), b0, (*sums)[2]);
    (*sums)[3] = fma(vec4(a0.w), b0, (*sums)[3]);
    (*sums)[4] = fma(vec4(a1.x), b0, (*sums)[4]);
    (*sums)[5] = fma(vec4(a1.y), b0, (*sums)[5]);
    (*sums)[6] = fma(vec4(a1.z), b0, (*sums)[6]);
    (*sums)[7] = fma(vec4(a1.w), b0, (*sums)[7]);
    (*sums)[8] = fma(vec4(a0.x), b1, (*sums)[8]);
    (*sums)[9] = fma(vec4(a0.y), b1, (*sums)[9]);
    (*sums)[10] = fma(vec4(a0.z), b1, (*sums)[10]);
    (*sums)[11] = fma(vec4(a0.w), b1, (*sums)[11]);
    (*sums)[12] = fma(vec4(a1.x), b1, (*sums)[12]);
    (*sums)[13] = fma(vec4(a1.y), b1, (*sums)[13]);
    (*sums)[14] = fma(vec4(a1.z), b1, (*sums)[14]);
    (*sums)[15] = fma(vec4(a1.w), b1, (*sums)[15]);
}
