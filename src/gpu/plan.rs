//! The plan: every dispatch of a step as plain data, in order, before any GPU object exists.

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use super::dispatch::{
    Bound, Dispatch, MAX_WORKGROUPS, check_aliases, check_elements, check_strides,
};
use super::kernel::{Kernel, Role};
use super::memory::{Memory, PersistentId};
use super::tensor::{Elements, HALVES_MULTIPLE, StorageId, Tensor, Texture, Window, align_words};
pub use super::texture::TEXTURE_SIDE;
use super::texture::texture_sides;
use super::{AdapterClass, Chosen, Question, Target};

/// Bytes between two `Params` in the shared uniform buffer: the largest
/// `min_uniform_buffer_offset_alignment` that WebGPU allows.
pub(super) const PARAMS_STRIDE: usize = 256;

/// What a storage of the plan is backed by.
#[derive(Clone, Debug)]
pub(super) enum StorageKind {
    /// A buffer of the shared [`Memory`].
    Persistent(PersistentId),
    /// A texture of it.
    PersistentTexture {
        id: PersistentId,
        width: u32,
        height: u32,
    },
    /// A buffer that only lives between its first and last use in a section.
    Scratch { words: usize },
    /// A texture that only lives between its first and last use in a section.
    Texture { width: u32, height: u32 },
}

#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub(super) label: String,
    pub(super) kind: StorageKind,
}

/// Names one section of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionId(pub(super) usize);

#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) dispatches: Range<usize>,
}

/// An ordered list of dispatches in sections, with the storages they bind.
///
/// A section is replayed whole. Scratch tensors live within one section, so sections may be
/// replayed in any order and any number of times.
#[derive(Clone, Debug)]
pub struct Plan {
    target: Target,
    pub(super) storages: Vec<Storage>,
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) sections: Vec<Section>,
    scope: String,
    /// Textures of this section that hold a window of a tensor as it is now.
    staged: Vec<(Window, Texture)>,
    /// What was asked of the target's choices.
    pub(super) questions: BTreeSet<Question>,
    /// What was taken.
    pub(super) chosen: BTreeSet<Chosen>,
    /// Whether scratch tensors may share memory.
    pub(super) reuse: bool,
}

impl Plan {
    /// An empty plan for adapters like `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            storages: Vec::new(),
            dispatches: Vec::new(),
            sections: Vec::new(),
            scope: String::new(),
            staged: Vec::new(),
            questions: BTreeSet::new(),
            chosen: BTreeSet::new(),
            reuse: true,
        }
    }

    /// Gives every scratch tensor memory of its own, so that a check can fill and read them all.
    pub fn isolate_scratch(&mut self) {
        self.reuse = false;
    }

    /// The class of adapter that kernels are chosen for.
    pub fn class(&self) -> AdapterClass {
        self.target.class
    }

    /// Splits what is pushed from here on as for an adapter of this binding limit.
    pub fn set_max_binding_words(&mut self, words: usize) {
        self.target.max_binding_words = words;
    }

    /// Words of the largest tensor that a dispatch binds.
    pub fn largest_binding_words(&self) -> usize {
        let bindings = self.dispatches.iter().flat_map(|d| &d.bindings);
        let words = bindings.filter_map(|bound| match bound {
            Bound::Tensor(tensor) => Some(tensor.span()),
            _ => None,
        });
        words.max().unwrap_or(0)
    }

    /// Blocks of the rows of `tensors`, which have equally many, such that each block of each
    /// tensor can be bound alone. A block begins at a multiple of `step` rows and of what the
    /// binding alignment asks for.
    ///
    /// # Panics
    /// If there is no tensor or no row: a bug of the caller.
    pub fn row_blocks(&self, tensors: &[Tensor], step: usize) -> Vec<Range<usize>> {
        self.row_blocks_of(tensors, step, 0)
    }

    /// [`Plan::row_blocks`] for an operation of `flops_per_row`, of which no block asks for more
    /// than a driver's watchdog allows one dispatch.
    ///
    /// # Panics
    /// If there is no tensor or no row: a bug of the caller.
    pub fn row_blocks_of(
        &self,
        tensors: &[Tensor],
        step: usize,
        flops_per_row: usize,
    ) -> Vec<Range<usize>> {
        self.target.row_blocks(tensors, step, flops_per_row)
    }

    /// What of the adapter shapes the plan.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Starts a section; the dispatches pushed from here on belong to it.
    pub fn section(&mut self) -> SectionId {
        let here = self.dispatches.len();
        self.staged.clear();
        self.sections.push(Section {
            dispatches: here..here,
        });
        SectionId(self.sections.len() - 1)
    }

    /// Names the part of the model that the next dispatches and tensors belong to.
    pub fn set_scope(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    /// A new scratch tensor of `[rows, cols]`; what is in it before the first write is undefined.
    pub fn scratch(&mut self, label: &str, rows: usize, cols: usize) -> Tensor {
        let words = align_words((rows * cols).max(1));
        let storage = self.add(label, StorageKind::Scratch { words });
        Tensor::dense(storage, rows, cols)
    }

    /// A new scratch tensor of `[rows, cols]` with gaps between rows, such that kernels read whole quads, or
    /// where they read copies, a driver can make them.
    pub fn scratch_rows(&mut self, label: &str, rows: usize, cols: usize) -> Tensor {
        match self.target.class {
            AdapterClass::Gpu => self.scratch(label, rows, cols.next_multiple_of(4)),
            AdapterClass::Software => self.scratch(label, rows, align_words(cols)),
        }
        .columns(0, cols)
    }

    /// A new scratch tensor of `[rows, cols]` halves.
    pub fn scratch_halves(&mut self, label: &str, rows: usize, cols: usize) -> Tensor {
        let row_words = cols.next_multiple_of(HALVES_MULTIPLE) / 2;
        let words = align_words((rows * row_words).max(1));
        Tensor::halves(self.add(label, StorageKind::Scratch { words }), rows, cols)
    }

    /// A new scratch tensor of `[rows, cols]` that consists of `elements`.
    pub fn scratch_of(
        &mut self,
        elements: Elements,
        label: &str,
        rows: usize,
        cols: usize,
    ) -> Tensor {
        match elements {
            Elements::Words => self.scratch(label, rows, cols),
            Elements::Halves => self.scratch_halves(label, rows, cols),
        }
    }

    /// A new scratch tensor that lies as another one does.
    pub fn scratch_like(&mut self, label: &str, other: Tensor) -> Tensor {
        if other.is_halves() {
            return self.scratch_halves(label, other.rows, other.cols);
        }
        self.scratch(label, other.rows, other.row_stride)
            .columns(0, other.cols)
    }

    /// A new scratch texture for a matrix of `[rows, cols]`.
    ///
    /// # Panics
    /// If a side is over `u32`.
    pub fn scratch_texture(&mut self, label: &str, rows: usize, cols: usize) -> Texture {
        let (width, height) = texture_sides(rows, cols);
        let kind = StorageKind::Texture { width, height };
        Texture {
            storage: self.add(label, kind),
            rows,
            cols,
        }
    }

    /// The texture that holds a copy of `window`: one that was made in this section, if no dispatch has
    /// written to the window's storage since.
    pub fn staged(&self, window: &Window) -> Option<Texture> {
        let known = self.staged.iter().find(|(known, _)| known == window);
        known.map(|(_, texture)| *texture)
    }

    /// Says that `texture` holds a copy of `window`.
    pub fn remember_staged(&mut self, window: Window, texture: Texture) {
        self.staged.push((window, texture));
    }

    /// Makes later dispatches copy windows anew, so that no copy lives from here on.
    pub fn forget_staged(&mut self) {
        self.staged.clear();
    }

    /// [`Plan::forget_staged`] for the windows of one tensor.
    pub fn forget_staged_of(&mut self, tensor: Tensor) {
        self.staged.retain(|(window, _)| window.tensor != tensor);
    }

    /// All of a persistent buffer, as a vector.
    pub fn persistent(&mut self, memory: &Memory, id: PersistentId) -> Tensor {
        let storage = self.known(memory, id, StorageKind::Persistent(id));
        Tensor::dense(storage, 1, memory.words(id))
    }

    /// A persistent texture.
    ///
    /// # Panics
    /// If it is a buffer, or a side is over `u32`: a bug of the caller.
    pub fn persistent_texture(&mut self, memory: &Memory, id: PersistentId) -> Texture {
        let (rows, cols) = memory.texture_matrix(id);
        let (width, height) = texture_sides(rows, cols);
        let kind = StorageKind::PersistentTexture { id, width, height };
        Texture {
            storage: self.known(memory, id, kind),
            rows,
            cols,
        }
    }

    /// The storage of something persistent, added where it is new.
    fn known(&mut self, memory: &Memory, id: PersistentId, kind: StorageKind) -> StorageId {
        let is_it = |storage: &Storage| match storage.kind {
            StorageKind::Persistent(other) | StorageKind::PersistentTexture { id: other, .. } => {
                other == id
            }
            StorageKind::Scratch { .. } | StorageKind::Texture { .. } => false,
        };
        if let Some(index) = self.storages.iter().position(is_it) {
            return storage_id(index);
        }
        let label = memory.label(id).to_owned();
        self.storages.push(Storage { label, kind });
        storage_id(self.storages.len() - 1)
    }

    fn add(&mut self, label: &str, kind: StorageKind) -> StorageId {
        let label = if self.scope.is_empty() {
            label.to_owned()
        } else {
            format!("{}.{label}", self.scope)
        };
        self.storages.push(Storage { label, kind });
        storage_id(self.storages.len() - 1)
    }

    /// Adds a launch to the current section.
    ///
    /// # Panics
    /// If there is no section, the arguments do not fit the kernel's table, or one storage is
    /// both read and written: each is a bug of ours.
    pub fn push(&mut self, mut dispatch: Dispatch) {
        let kernel = dispatch.kernel;
        assert_eq!(
            dispatch.bindings.len(),
            kernel.bindings.len(),
            "bindings of {}",
            kernel.name
        );
        assert_eq!(
            dispatch.params.len(),
            kernel.params.size,
            "params of {}",
            kernel.name
        );
        assert!(
            dispatch
                .workgroups
                .iter()
                .all(|&n| (1..=MAX_WORKGROUPS).contains(&n)),
            "workgroups of {}: {:?}",
            kernel.name,
            dispatch.workgroups
        );
        check_aliases(&dispatch);
        check_strides(&dispatch);
        check_elements(&dispatch);
        for (binding, bound) in kernel.bindings.iter().zip(&dispatch.bindings) {
            if binding.role.is_written() {
                self.staged
                    .retain(|(window, _)| window.tensor.storage != bound.storage());
            }
        }
        dispatch.label = format!("{}/{}", self.scope, kernel.label());
        self.dispatches.push(dispatch);
        let section = self
            .sections
            .last_mut()
            .expect("a section is started before dispatches");
        section.dispatches.end = self.dispatches.len();
    }

    /// What the dispatches of `kernel` in a section write.
    pub fn outputs(&self, section: SectionId, kernel: &'static Kernel) -> Vec<Bound> {
        let own = self.dispatches_of(section, kernel);
        own.flat_map(|d| kernel.bindings.iter().zip(&d.bindings))
            .filter(|(binding, _)| binding.role.is_written() && binding.role != Role::OutOrUnused)
            .map(|(_, bound)| *bound)
            .collect()
    }

    /// Bytes of the tensors that the dispatches of `kernel` in a section bind: what they must at
    /// least bring from or to memory, but for tensors that are both read and written.
    pub fn bound_bytes(&self, section: SectionId, kernel: &'static Kernel) -> u64 {
        self.dispatches_of(section, kernel)
            .flat_map(|d| &d.bindings)
            .map(|bound| match bound {
                Bound::Tensor(tensor) => tensor.size_bytes(),
                Bound::Texture(texture) => texture.rows as u64 * texture.cols as u64 * 4,
            })
            .sum()
    }

    /// Bytes of scratch memory that the plan takes, after sharing.
    pub fn scratch_bytes(&self) -> u64 {
        super::lifetimes::layout(self).total_bytes()
    }

    /// Bytes of the buffer that holds every dispatch's `Params`, equal ones once.
    pub fn params_bytes(&self) -> u64 {
        let distinct: HashSet<&[u8]> = self.dispatches.iter().map(|d| &*d.params).collect();
        let stride = |params: &[u8]| params.len().next_multiple_of(PARAMS_STRIDE) as u64;
        distinct.into_iter().map(stride).sum()
    }

    /// Bytes of device memory by part: each buffer of `memory`, what the dispatches share, and copies of
    /// `upload_words` on their way between host and device.
    pub fn device_bytes(&self, memory: &Memory, upload_words: usize) -> Vec<(String, u64)> {
        let parts = memory.parts().map(|(l, bytes)| (l.to_owned(), bytes));
        parts
            .chain([
                ("scratch".to_owned(), self.scratch_bytes()),
                ("params".to_owned(), self.params_bytes()),
                ("uploads".to_owned(), upload_words as u64 * 4),
            ])
            .collect()
    }

    /// The dispatches of all sections.
    pub fn all_dispatches(&self) -> &[Dispatch] {
        &self.dispatches
    }

    /// The dispatches of one section.
    pub fn dispatches(&self, section: SectionId) -> &[Dispatch] {
        &self.dispatches[self.sections[section.0].dispatches.clone()]
    }

    /// The dispatches of one kernel in a section.
    pub fn dispatches_of(
        &self,
        section: SectionId,
        kernel: &'static Kernel,
    ) -> impl Iterator<Item = &Dispatch> {
        let all = self.dispatches(section).iter();
        all.filter(move |d| std::ptr::eq(d.kernel, kernel))
    }

    /// Makes sure that a section computes what `kernels` are called by these alone: each of them is
    /// dispatched, and no other kernel of any of their names.
    ///
    /// # Errors
    /// Names what is missing, or what was dispatched instead.
    pub fn dispatches_only(
        &self,
        section: SectionId,
        kernels: &[&'static Kernel],
    ) -> Result<(), String> {
        let is = |d: &Dispatch, k: &&'static Kernel| std::ptr::eq(d.kernel, *k);
        for dispatch in self.dispatches(section) {
            let same_op = kernels.iter().any(|k| k.name == dispatch.kernel.name);
            if same_op && !kernels.iter().any(|k| is(dispatch, k)) {
                let wanted: Vec<String> = kernels.iter().map(|k| k.label()).collect();
                return Err(format!(
                    "{} was dispatched, not {}",
                    dispatch.kernel.label(),
                    wanted.join(" or ")
                ));
            }
        }
        let missing = kernels
            .iter()
            .find(|k| !self.dispatches(section).iter().any(|d| is(d, k)));
        match missing {
            None => Ok(()),
            Some(kernel) => Err(format!("{} was not dispatched", kernel.label())),
        }
    }

    /// Floating-point operations of one replay of a section.
    pub fn flops(&self, section: SectionId) -> u64 {
        self.dispatches(section).iter().map(|d| d.flops).sum()
    }
}

fn storage_id(index: usize) -> StorageId {
    StorageId(u32::try_from(index).expect("fewer than 2^32 storages"))
}
