//! Work that is spread over the cores: the one place below training and decoding that needs threads.

use rayon::prelude::*;

/// `f` of each item, in their order.
pub fn map<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    items.par_iter().map(f).collect()
}

/// `f` of each number below `len`, in their order.
pub fn map_indices<R: Send>(len: usize, f: impl Fn(usize) -> R + Sync + Send) -> Vec<R> {
    (0..len).into_par_iter().map(f).collect()
}
