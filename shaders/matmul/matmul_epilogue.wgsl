// What a kernel does with the sums of a product, as a number that `epilogue()` returns.
// Joined with sigmoid.wgsl.
const ACCUMULATE: u32 = 1u;     // output += sums
const RESIDUAL: u32 = 2u;       // output = aside + sums
const ROTATE: u32 = 3u;         // output = sums, pairs before the boundary turned by the angles of their
                                // row's position: aside holds cosine and sine of each pair, [time, head_dim]
const GATE: u32 = 4u;           // output = sums, a gate and up from the boundary on, second = silu(gate) * up
const GATE_BACKWARD: u32 = 5u;  // sums are the gradient of silu(gate) * up for a gate and up as they lie in
                                // aside: output = those of both, which lie alike

fn turned(pairs: vec4<f32>, angles: vec4<f32>) -> vec4<f32> {
    let swapped = vec4(-pairs.y, pairs.x, -pairs.w, pairs.z);
    return fma(pairs, angles.xxzz, swapped * angles.yyww);
}

fn silu(x: vec4<f32>) -> vec4<f32> {
    return x * sigmoid(x);
}

fn d_silu(x: vec4<f32>) -> vec4<f32> {
    let s = sigmoid(x);
    return s * (1.0 + x * (1.0 - s));
}
