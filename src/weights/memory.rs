//! The persistent buffers that the flat buffers of a table of parameters become.

use super::ParameterTable;
use crate::gpu::{Memory, PersistentId};

/// The persistent buffers of one copy of the table: one for each flat buffer, or none where the copy
/// leaves out parameters that stay as they are.
#[derive(Clone, Debug)]
pub struct FlatIds(Vec<Option<PersistentId>>);

impl FlatIds {
    pub(super) fn new(ids: Vec<Option<PersistentId>>) -> Self {
        Self(ids)
    }

    /// One a flat buffer, none where there is none.
    pub(super) fn all(&self) -> impl Iterator<Item = Option<PersistentId>> {
        self.0.iter().copied()
    }

    /// That of the flat buffer `buffer`.
    ///
    /// # Panics
    /// If there is none: a bug of the caller.
    pub fn of(&self, buffer: usize) -> PersistentId {
        self.0[buffer].expect("a buffer of trained parameters")
    }

    /// Those that there are.
    pub fn iter(&self) -> impl Iterator<Item = PersistentId> {
        self.0.iter().flatten().copied()
    }
}

/// The persistent buffers of a model in training.
#[derive(Clone, Debug)]
pub struct ParameterMemory {
    /// Values.
    pub parameters: FlatIds,
    /// Gradients of what is trained; the words between tensors stay zero.
    pub gradients: FlatIds,
    /// First moments of what is trained.
    pub moment1: FlatIds,
    /// Second moments of what is trained.
    pub moment2: FlatIds,
}

impl ParameterMemory {
    /// Declares all four.
    pub fn declare(table: &ParameterTable, memory: &mut Memory) -> Self {
        Self {
            parameters: table.declare(memory, "parameters"),
            gradients: table.declare_trained(memory, "gradients"),
            moment1: table.declare_trained(memory, "moment1"),
            moment2: table.declare_trained(memory, "moment2"),
        }
    }
}
