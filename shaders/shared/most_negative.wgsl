// The most negative finite f32: WGSL has no infinity literal.
const MOST_NEGATIVE: f32 = -3.4028234663852886e38;
