// Where the queries end that see a key: with its document, where documents do not see each other.
// The kernel's own file declares params and document_end.
override DOCUMENTS: bool = false;

fn end_query_of(sequence: u32, position: u32) -> u32 {
    if (!DOCUMENTS) {
        return params.time;
    }
    return min(document_end[sequence * params.time + min(position, params.time - 1u)], params.time);
}
