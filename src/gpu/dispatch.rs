//! One kernel launch as plain data.

use super::kernel::{Constant, Kernel};
use super::tensor::{StorageId, Tensor, Texture};

/// Largest number of workgroups in one dimension that WebGPU guarantees.
pub(super) const MAX_WORKGROUPS: u32 = 65_535;

/// One argument of a dispatch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// A storage buffer range.
    Tensor(Tensor),
    /// A texture.
    Texture(Texture),
}

impl Bound {
    pub(super) fn storage(&self) -> StorageId {
        match self {
            Self::Tensor(tensor) => tensor.storage,
            Self::Texture(texture) => texture.storage,
        }
    }
}

impl From<Tensor> for Bound {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<Texture> for Bound {
    fn from(texture: Texture) -> Self {
        Self::Texture(texture)
    }
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// Which kernel.
    pub kernel: &'static Kernel,
    /// Values of its `override` constants; the others keep the shader's defaults.
    pub constants: Vec<Constant>,
    /// Bytes of its `Params`.
    pub params: Vec<u8>,
    /// Arguments in the order of the kernel's bindings.
    pub bindings: Vec<Bound>,
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// Where in the model it belongs, for traces and error messages.
    pub label: String,
    /// Floating-point operations of the mathematics it computes.
    pub flops: u64,
    /// A copy by the driver that does the same and runs instead, where there is one.
    pub copy: Option<RowCopy>,
}

/// Rows of a buffer, binding 0 of a dispatch, that the driver copies to the texels of binding 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCopy {
    /// First word, counted from the tensor's start: with the tensor's offset a multiple of 4.
    pub first: usize,
    /// Words from one row to the next: a multiple of [`ALIGNMENT_WORDS`](super::tensor::ALIGNMENT_WORDS).
    pub row_stride: usize,
    /// Number of rows.
    pub rows: usize,
    /// Words of a row: a multiple of 4.
    pub cols: usize,
}

impl Dispatch {
    /// A launch of `kernel` in one workgroup, with the shader's default constants.
    pub fn new<const N: usize>(
        kernel: &'static Kernel,
        params: impl bytemuck::NoUninit,
        bindings: [Bound; N],
    ) -> Self {
        Self {
            kernel,
            constants: Vec::new(),
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: bindings.to_vec(),
            workgroups: [1, 1, 1],
            label: String::new(),
            flops: 0,
            copy: None,
        }
    }

    /// Sets an `override` constant.
    pub fn constant(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push(Constant { name, value });
        self
    }

    /// Lets the driver copy rows where the kernel would.
    pub fn by_copy(self, copy: RowCopy) -> Self {
        Self {
            copy: Some(copy),
            ..self
        }
    }

    /// Sets the number of workgroups.
    pub fn workgroups(self, workgroups: [u32; 3]) -> Self {
        Self { workgroups, ..self }
    }

    /// Operations plus bytes bound: a rough measure of how long it runs, whether arithmetic or
    /// memory holds it up.
    pub fn work(&self) -> u64 {
        let bytes = self.bindings.iter().map(|bound| match bound {
            Bound::Tensor(tensor) => tensor.size_bytes(),
            Bound::Texture(texture) => (texture.rows * texture.cols * 4) as u64,
        });
        self.flops + bytes.sum::<u64>()
    }

    /// Sets the floating-point operations of the mathematics.
    pub fn flops(self, flops: usize) -> Self {
        Self {
            flops: flops as u64,
            ..self
        }
    }
}

/// WebGPU refuses a buffer that one dispatch binds both read-only and writable, even on disjoint
/// ranges; two writable ranges of one buffer are allowed.
pub(super) fn check_aliases(dispatch: &Dispatch) {
    let roles = dispatch.kernel.bindings.iter().map(|b| b.role.is_written());
    let uses: Vec<_> = dispatch
        .bindings
        .iter()
        .map(Bound::storage)
        .zip(roles)
        .collect();
    for (storage, written) in &uses {
        let clash = uses
            .iter()
            .any(|(other, w)| other == storage && w != written);
        assert!(
            !clash,
            "{} binds storage {storage:?} read and read_write",
            dispatch.kernel.name
        );
    }
}

/// A kernel without strides among its `Params` would read the gaps of a view.
pub(super) fn check_strides(dispatch: &Dispatch) {
    let fields = dispatch.kernel.params.fields;
    let takes_views = fields.iter().any(|field| field.name.ends_with("stride"));
    for bound in &dispatch.bindings {
        if let Bound::Tensor(tensor) = bound {
            assert!(
                takes_views || tensor.is_dense(),
                "{} takes no view with gaps: {tensor:?}",
                dispatch.kernel.name
            );
        }
    }
}

/// A kernel would take the words of halves or of bytes for floats, and the other way round.
pub(super) fn check_elements(dispatch: &Dispatch) {
    for (binding, bound) in dispatch.kernel.bindings.iter().zip(&dispatch.bindings) {
        let Bound::Tensor(tensor) = bound else {
            continue;
        };
        let (kernel, name) = (dispatch.kernel.label(), binding.name);
        let of_tensor = (tensor.is_q8_0, tensor.elements);
        let wanted = (binding.is_q8_0, binding.elements.unwrap_or(tensor.elements));
        assert_eq!(of_tensor, wanted, "{name} of {kernel}: {tensor:?}");
    }
}

/// `value` as the `u32` that shaders count in.
///
/// # Panics
/// If it is over `u32::MAX`; `config` refuses such shapes first.
pub fn word(value: usize) -> u32 {
    u32::try_from(value).expect("sizes are checked to fit u32")
}

/// Workgroups for `count` items of which each workgroup takes `per_group`, folded into x and y
/// where x alone would pass the limit; shaders undo it with `flat_workgroup`.
pub fn flat_workgroups(count: usize, per_group: usize) -> [u32; 3] {
    let groups = word(count.div_ceil(per_group).max(1));
    let y = groups.div_ceil(MAX_WORKGROUPS);
    [groups.div_ceil(y), y, 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_workgroups_cover_every_item_within_the_limit() {
        for count in [1, 64, 65, 65_535 * 64, 65_535 * 64 + 1, 100_000_000] {
            let [x, y, z] = flat_workgroups(count, 64);
            assert!(x <= MAX_WORKGROUPS && y <= MAX_WORKGROUPS && z == 1);
            assert!(x as usize * y as usize * 64 >= count, "{count}: {x} x {y}");
        }
    }
}
