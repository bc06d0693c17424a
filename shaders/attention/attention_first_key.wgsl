// The first key that a query sees: the first of its document, where documents do not see each other.
// The kernel's own file declares params and document_first.
override DOCUMENTS: bool = false;

fn first_key_of(sequence: u32, position: u32) -> u32 {
    if (!DOCUMENTS) {
        return 0u;
    }
    return document_first[sequence * params.time + min(position, params.time - 1u)];
}
