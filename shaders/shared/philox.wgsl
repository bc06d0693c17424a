// Philox4x32-10 (Salmon et al. 2011): four random words, a pure function of counter and key.
fn multiply_high(x: u32, y: u32) -> u32 {
    let low = (x & 0xffffu) * (y & 0xffffu);
    let mid1 = (x >> 16u) * (y & 0xffffu) + (low >> 16u);
    let mid2 = (x & 0xffffu) * (y >> 16u) + (mid1 & 0xffffu);
    return (x >> 16u) * (y >> 16u) + (mid1 >> 16u) + (mid2 >> 16u);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        c = vec4(
            multiply_high(0xcd9e8d57u, c.z) ^ c.y ^ k.x,
            0xcd9e8d57u * c.z,
            multiply_high(0xd2511f53u, c.x) ^ c.w ^ k.y,
            0xd2511f53u * c.x,
        );
        k += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
