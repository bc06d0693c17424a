// Adds up the leading axes of up to six matrices of partial results, which go to places of one output:
// output[first + i] = sum over p of partials[p, i], in the order of p. One launch in place of six, each of
// which would wait for the one before.
// Joined with flat_workgroup.wgsl.
struct Params {
    // Quads of all matrices before the end of each.
    end0: u32,
    end1: u32,
    end2: u32,
    end3: u32,
    end4: u32,
    end5: u32,
    // Partial results of each.
    count0: u32,
    count1: u32,
    count2: u32,
    count3: u32,
    count4: u32,
    count5: u32,
    // Quad of the output where each begins.
    first0: u32,
    first1: u32,
    first2: u32,
    first3: u32,
    first4: u32,
    first5: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials0: array<vec4<f32>>;     // [count0, end0]
@group(0) @binding(2) var<storage, read> partials1: array<vec4<f32>>;     // [count1, end1 - end0]
@group(0) @binding(3) var<storage, read> partials2: array<vec4<f32>>;     // [count2, end2 - end1]
@group(0) @binding(4) var<storage, read> partials3: array<vec4<f32>>;     // [count3, end3 - end2]
@group(0) @binding(5) var<storage, read> partials4: array<vec4<f32>>;     // [count4, end4 - end3]
@group(0) @binding(6) var<storage, read> partials5: array<vec4<f32>>;     // [count5, end5 - end4]
@group(0) @binding(7) var<storage, read_write> output: array<vec4<f32>>;  // with gaps that stay as they are

override WORKGROUP_SIZE: u32 = 64u;
override ACCUMULATE: bool = false;

// What one lane adds up.
struct Sum {
    matrix: u32,
    count: u32,
    quads: u32,  // of a partial result
    quad: u32,   // the lane's own in each
    first: u32,
}

fn sum_of(index: u32) -> Sum {
    if (index < params.end0) {
        return Sum(0u, params.count0, params.end0, index, params.first0);
    }
    if (index < params.end1) {
        return Sum(1u, params.count1, params.end1 - params.end0, index - params.end0, params.first1);
    }
    if (index < params.end2) {
        return Sum(2u, params.count2, params.end2 - params.end1, index - params.end1, params.first2);
    }
    if (index < params.end3) {
        return Sum(3u, params.count3, params.end3 - params.end2, index - params.end2, params.first3);
    }
    if (index < params.end4) {
        return Sum(4u, params.count4, params.end4 - params.end3, index - params.end3, params.first4);
    }
    return Sum(5u, params.count5, params.end5 - params.end4, index - params.end4, params.first5);
}

fn partial(matrix: u32, at: u32) -> vec4<f32> {
    if (matrix == 0u) { return partials0[at]; }
    if (matrix == 1u) { return partials1[at]; }
    if (matrix == 2u) { return partials2[at]; }
    if (matrix == 3u) { return partials3[at]; }
    if (matrix == 4u) { return partials4[at]; }
    return partials5[at];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_workgroup(group, groups) * WORKGROUP_SIZE + lane;
    if (index >= params.end5) {
        return;
    }
    let own = sum_of(index);
    var sum = vec4<f32>();
    for (var p = 0u; p < own.count; p++) {
        sum += partial(own.matrix, p * own.quads + own.quad);
    }
    let at = own.first + own.quad;
    if (ACCUMULATE) {
        sum += output[at];
    }
    output[at] = sum;
}
