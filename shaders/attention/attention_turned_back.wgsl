// Gradients of heads that were rotated are those of the heads before, turned back.
override ROTATED: bool = false;

// Four elements of a head's gradient, whose angles begin at word `first`. The last quad of a head may be half
// a one, whose other half nobody stores.
fn turned_back(quad: vec4<f32>, first: u32, is_whole: bool) -> vec4<f32> {
    if (!ROTATED) {
        return quad;
    }
    let near = first / 2u;
    let far = select(near, near + 1u, is_whole);
    let turns = vec4(angles[near], angles[far]);
    return fma(quad, turns.xxzz, vec4(quad.y, -quad.x, quad.w, -quad.z) * turns.yyww);
}
