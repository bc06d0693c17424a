//! What an import or an export did with each tensor.

use std::collections::BTreeMap;
use std::fmt;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The name of the format that was read or written.
    pub format: String,
    /// Parameters of the model, in elements.
    pub parameters: usize,
    /// Tensors of the file by the type of their elements.
    pub types: BTreeMap<String, usize>,
    /// Tensors whose rows were put in another order within each head.
    pub permuted: Vec<String>,
    /// Tensors that were transposed.
    pub transposed: Vec<String>,
    /// Tensors that hold several parameters.
    pub joined: Vec<String>,
    /// Tensors that were left out, since they are no weights or others stand for them.
    pub left: Vec<String>,
    /// Other things of note.
    pub notes: Vec<String>,
}

impl Report {
    /// Tensors in the file that were taken or written.
    pub fn tensors(&self) -> usize {
        self.types.values().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<String> = self
            .types
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        writeln!(
            f,
            "{}: {} parameters in {} tensors ({})",
            self.format,
            self.parameters,
            self.tensors(),
            types.join(", ")
        )?;
        for (what, names) in [
            ("permuted within each head", &self.permuted),
            ("transposed", &self.transposed),
            ("several parameters in one", &self.joined),
            ("left out", &self.left),
        ] {
            if let [first, ..] = &names[..] {
                let more = match names.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                writeln!(f, "{what}: {first}{more}")?;
            }
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
