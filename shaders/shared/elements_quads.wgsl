// Rows by four words at a time, where they are whole quads: a driver that runs shaders on the CPU
// takes little more than half the time for them.
alias Element = vec4<f32>;
alias Columns = vec4<u32>;
const WIDTH: u32 = 4u;

fn total(element: Element) -> f32 {
    return (element.x + element.y) + (element.z + element.w);
}

fn largest_of(element: Element) -> f32 {
    return max(max(element.x, element.y), max(element.z, element.w));
}

fn columns_of(index: u32) -> Columns {
    return vec4(index * 4u) + vec4(0u, 1u, 2u, 3u);
}

fn word_of(element: Element, index: u32) -> f32 {
    return element[index];
}

fn element_of(quad: vec4<f32>) -> Element {
    return quad;
}

fn quad_of(element: Element) -> vec4<f32> {
    return element;
}
