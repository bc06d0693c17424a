//! Which tensor is where: the order of tensors in each version.

use super::ELEMENT_BYTES;
use super::header::{Header, Version};

/// What lies in a file at one place.
#[derive(Debug)]
pub(super) enum Slot {
    /// A parameter of the model, outermost dimension first.
    Tensor { name: String, shape: Vec<usize> },
    /// Cosines, or else sines, of the rotary embedding, `[max_seq_len, head_size / 2]`: nobody reads them.
    Angles { are_sines: bool, shape: [usize; 2] },
}

impl Slot {
    pub(super) fn elements(&self) -> u64 {
        let shape = match self {
            Self::Tensor { shape, .. } => &shape[..],
            Self::Angles { shape, .. } => &shape[..],
        };
        // Of two sides below 2^31, so that bytes have no more than 64 bits either.
        shape.iter().map(|side| *side as u64).product()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.elements() * ELEMENT_BYTES
    }

    fn name(&self) -> &str {
        match self {
            Self::Tensor { name, .. } => name,
            Self::Angles {
                are_sines: false, ..
            } => "freq_cis_real",
            Self::Angles {
                are_sines: true, ..
            } => "freq_cis_imag",
        }
    }
}

/// A parameter that each layer has.
#[derive(Clone, Copy)]
enum Part {
    Ln1,
    Query,
    Key,
    Value,
    Output,
    Ln2,
    W1,
    W2,
    W3,
}

impl Part {
    fn slot(self, header: &Header, layer: usize) -> Slot {
        let (dim, hidden, kv_dim) = (header.dim, header.hidden_dim, header.kv_dim());
        let (name, shape) = match self {
            Self::Ln1 => ("ln1", vec![dim]),
            Self::Query => ("attn.q_proj", vec![dim, dim]),
            Self::Key => ("attn.k_proj", vec![kv_dim, dim]),
            Self::Value => ("attn.v_proj", vec![kv_dim, dim]),
            Self::Output => ("attn.output_proj", vec![dim, dim]),
            Self::Ln2 => ("ln2", vec![dim]),
            Self::W1 => ("ffn.w1", vec![hidden, dim]),
            Self::W2 => ("ffn.w2", vec![dim, hidden]),
            Self::W3 => ("ffn.w3", vec![hidden, dim]),
        };
        tensor(&format!("layers.{layer}.{name}.weight"), shape)
    }
}

/// Everything that lies behind the header, in its order.
pub(super) fn slots(header: &Header, version: Version) -> Vec<Slot> {
    use Part::{Key, Ln1, Ln2, Output, Query, Value, W1, W2, W3};
    let layers = |parts: &[Part]| -> Vec<Slot> {
        let of_part = |part: &Part| {
            let part = *part;
            (0..header.n_layers).map(move |layer| part.slot(header, layer))
        };
        parts.iter().flat_map(of_part).collect()
    };
    let vocabulary = vec![header.vocab_size, header.dim];
    let embeddings = tensor("token_embeddings.weight", vocabulary.clone());
    let norm = tensor("ln_final.weight", vec![header.dim]);
    let mut slots = Vec::new();
    match version {
        Version::Zero => {
            slots.push(embeddings);
            slots.extend(layers(&[Ln1, Query, Key, Value, Output, Ln2, W1, W2, W3]));
            slots.push(norm);
            let shape = [header.max_seq_len, header.head_size() / 2];
            slots.extend([false, true].map(|are_sines| Slot::Angles { are_sines, shape }));
        }
        Version::One => {
            slots.extend(layers(&[Ln1, Ln2]));
            slots.extend([norm, embeddings]);
            slots.extend(layers(&[Query, Key, Value, Output, W1, W2, W3]));
        }
    }
    if !header.shared_classifier {
        slots.push(tensor("lm_head.weight", vocabulary));
    }
    slots
}

fn tensor(name: &str, shape: Vec<usize>) -> Slot {
    Slot::Tensor {
        name: name.to_owned(),
        shape,
    }
}

/// Bytes of a whole file.
pub(super) fn file_len(header: &Header, version: Version) -> u64 {
    let slots = slots(header, version);
    let bytes = slots.iter().map(Slot::bytes);
    bytes.fold(version.header_bytes(), u64::saturating_add)
}

/// Whether a file of `len` bytes has everything and nothing else.
///
/// # Errors
/// How long it should be, how long it is, and where it is cut.
pub(super) fn check_len(header: &Header, version: Version, len: u64) -> Result<(), String> {
    let whole = file_len(header, version);
    if len == whole {
        return Ok(());
    }
    let wanted = format!("with its header it should have {whole} bytes, and it has {len}");
    let mut end = version.header_bytes();
    let cut = slots(header, version).into_iter().find(|slot| {
        end = end.saturating_add(slot.bytes());
        end > len
    });
    Err(match cut {
        Some(slot) => format!("{wanted}: it ends within tensor '{}'", slot.name()),
        None => format!("{wanted}: some follow the last tensor"),
    })
}
