// Rows word by word: what a lane loads and stores at once, and how to see its words.
alias Element = f32;
alias Columns = u32;
const WIDTH: u32 = 1u;

fn total(element: Element) -> f32 {
    return element;
}

fn largest_of(element: Element) -> f32 {
    return element;
}

fn columns_of(index: u32) -> Columns {
    return index;
}

fn word_of(element: Element, index: u32) -> f32 {
    return element;
}

fn element_of(quad: vec4<f32>) -> Element {
    return quad.x;
}

fn quad_of(element: Element) -> vec4<f32> {
    return vec4(element);
}
