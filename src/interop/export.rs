//! Our parameters as tensors of files of other programs: the other way round of `model`.

use std::collections::BTreeMap;

use super::elements::{self, StoredType};
use super::names::Naming;
use super::{TensorInfo, rows};
use crate::config::ModelConfig;
use crate::weights::{HostTensor, Parameter, ParameterTable};

/// A tensor for a file of another program.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// As the file has it.
    pub name: String,
    /// How its elements are stored.
    pub stored: StoredType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// As they are stored.
    pub bytes: Vec<u8>,
    /// What was done with the parameters that it is made of.
    pub changes: Changes,
}

impl Exported {
    /// What a file says of it.
    pub fn info(&self) -> TensorInfo {
        TensorInfo {
            name: self.name.clone(),
            element_type: self.stored.element_type(),
            shape: self.shape.clone(),
        }
    }
}

/// What was done with a parameter on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rows of heads lie in another order.
    pub is_permuted: bool,
    /// The matrix is transposed.
    pub is_transposed: bool,
    /// It is joined with others.
    pub is_joined: bool,
}

/// The parameters of a model of `config`, as `naming` has them, stored as `stored_of` says for each name and
/// shape; `read` gives each.
///
/// # Errors
/// Those of `read`.
pub fn tensors<E>(
    config: &ModelConfig,
    naming: Naming,
    stored_of: impl Fn(&str, &[usize]) -> StoredType,
    read: impl Fn(&Parameter) -> Result<HostTensor, E>,
) -> Result<Vec<Exported>, E> {
    let table = ParameterTable::new(config, &[], usize::MAX);
    let mut order: Vec<String> = Vec::new();
    let mut parts: BTreeMap<String, (Vec<f32>, usize, bool, Changes)> = BTreeMap::new();
    for parameter in table.iter() {
        let is_vector = parameter.shape().len() == 1;
        let (own_rows, cols) = match is_vector {
            true => (parameter.cols, 1),
            false => (parameter.rows, parameter.cols),
        };
        let place = naming.place(config, &parameter.name, own_rows);
        let mut values = read(parameter)?.to_f32();
        if let Some(head_dim) = place.half_split {
            values = rows::halves_of_pairs(&values, cols, head_dim);
        }
        let changes = Changes {
            is_permuted: place.half_split.is_some(),
            is_transposed: place.is_transposed,
            is_joined: place.total_rows > own_rows,
        };
        if !parts.contains_key(&place.tensor) {
            order.push(place.tensor.clone());
        }
        let part = parts
            .entry(place.tensor)
            .or_insert((Vec::new(), cols, is_vector, changes));
        part.0.extend(values);
    }
    let tensor = |name: String| {
        let (mut values, cols, is_vector, changes) = parts.remove(&name)?;
        let mut shape = vec![values.len() / cols];
        if !is_vector {
            shape.push(cols);
        }
        if changes.is_transposed {
            values = rows::transposed(&values, cols);
            shape.reverse();
        }
        let stored = stored_of(&name, &shape);
        Some(Exported {
            bytes: elements::from_f32(stored, &values),
            name,
            stored,
            shape,
            changes,
        })
    };
    Ok(order.into_iter().filter_map(tensor).collect())
}
