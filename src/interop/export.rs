//! Our parameters as tensors of files of other programs: the other way round of `model`.

use super::elements::{self, StoredType};
use super::names::{Naming, Place};
use super::{TensorInfo, rows};
use crate::config::ModelConfig;
use crate::weights::{HostTensor, Parameter, ParameterTable};

/// A tensor for a file of another program, made of parameters of ours when it is asked for.
#[derive(Clone, Debug)]
pub struct Exported {
    /// As the file has it.
    pub name: String,
    /// How its elements are stored.
    pub stored: StoredType,
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// What is done with the parameters that it is made of.
    pub changes: Changes,
    /// These, in the order of its rows.
    parts: Vec<(Parameter, Place)>,
}

/// What is done with a parameter on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Rows of heads lie in another order.
    pub is_permuted: bool,
    /// The matrix is transposed.
    pub is_transposed: bool,
    /// It is joined with others.
    pub is_joined: bool,
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

    /// Its elements as they are stored; `read` gives each parameter.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn bytes<E>(
        &self,
        read: impl Fn(&Parameter) -> Result<HostTensor, E>,
    ) -> Result<Vec<u8>, E> {
        let mut values = Vec::new();
        for (parameter, place) in &self.parts {
            let own = read(parameter)?.to_f32();
            match place.half_split {
                None => values.extend(own),
                Some(head_dim) => {
                    values.extend(rows::halves_of_pairs(&own, columns(parameter), head_dim));
                }
            }
        }
        if self.changes.is_transposed {
            values = rows::transposed(&values, columns(&self.parts[0].0));
        }
        Ok(elements::from_f32(self.stored, &values))
    }
}

/// Columns of a parameter whose elements are its rows if it is a vector.
fn columns(parameter: &Parameter) -> usize {
    match parameter.is_vector() {
        true => 1,
        false => parameter.cols,
    }
}

/// The tensors that the parameters of a model of `config` make, as `naming` has them, stored as `stored_of` says
/// for each name and shape.
pub fn tensors(
    config: &ModelConfig,
    naming: Naming,
    stored_of: impl Fn(&str, &[usize]) -> StoredType,
) -> Vec<Exported> {
    let mut all: Vec<Exported> = Vec::new();
    for parameter in ParameterTable::new(config, &[], usize::MAX).iter() {
        let place = naming.place(
            config,
            &parameter.name,
            parameter.len() / columns(parameter),
        );
        if let Some(joined) = all.iter_mut().find(|tensor| tensor.name == place.tensor) {
            joined.parts.push((parameter.clone(), place));
            continue;
        }
        let mut shape = vec![place.total_rows];
        if !parameter.is_vector() {
            shape.push(parameter.cols);
        }
        if place.is_transposed {
            shape.reverse();
        }
        all.push(Exported {
            name: place.tensor.clone(),
            stored: stored_of(&place.tensor, &shape),
            shape,
            changes: Changes {
                is_permuted: place.half_split.is_some(),
                is_transposed: place.is_transposed,
                is_joined: place.total_rows > place.rows.len(),
            },
            parts: vec![(parameter.clone(), place)],
        });
    }
    all
}
