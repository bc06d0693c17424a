// One index for workgroups that the host folded into x and y.
fn flat_workgroup(id: vec3<u32>, count: vec3<u32>) -> u32 {
    return id.y * count.x + id.x;
}
