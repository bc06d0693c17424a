// Eight chains of multiply-adds a lane and almost no memory: the rate of arithmetic.
// Joined with flat_workgroup.wgsl.
struct Params {
    len: u32,
    iterations: u32,
    factor: f32,
    term: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;         // [len]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;  // [len]

override WORKGROUP_SIZE: u32 = 64u;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.len) {
        return;
    }
    let factor = vec4(params.factor);
    let term = vec4(params.term);
    var x = vec4(input[index]) + vec4(0.0, 1.0, 2.0, 3.0);
    var y = x + vec4(4.0);
    for (var i = 0u; i < params.iterations; i++) {
        x = fma(x, factor, term);
        y = fma(y, factor, term);
        x = fma(x, factor, term);
        y = fma(y, factor, term);
        x = fma(x, factor, term);
        y = fma(y, factor, term);
        x = fma(x, factor, term);
        y = fma(y, factor, term);
        x = fma(x, factor, term);
        y = fma(y, factor, term);
        x = fma(x, factor, term);
        y = fma(y, factor, term);
        x = fma(x, factor, term);
        y = fma(y, factor, term);
        x = fma(x, factor, term);
        y = fma(y, factor, term);
    }
    output[index] = dot(x + y, vec4(1.0));
}
