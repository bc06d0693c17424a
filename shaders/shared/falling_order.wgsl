// Floats by their bits, as places in the order of falling values.
const NAN_ORDER: u32 = 0u;
const INFINITY_ORDER: u32 = 0x007fffffu;
const NEGATIVE_INFINITY: u32 = 0xff800000u;

// Orders as the float falls, with NaN first; -0 is 0. Infinities and NaN are told by their bits, since
// compilers may take floats for finite.
fn falling_order(bits: u32) -> u32 {
    let magnitude = bits & 0x7fffffffu;
    let order = select(bits ^ 0x7fffffffu, bits, bits > 0x80000000u);
    return select(select(order, 0x7fffffffu, magnitude == 0u), NAN_ORDER, magnitude > 0x7f800000u);
}

fn bits_of_order(order: u32) -> u32 {
    return select(order ^ 0x7fffffffu, order, order > 0x7fffffffu);
}
