//! Kernels and plans as JSON, for a program that runs the same shaders through another WebGPU.

use serde_json::{Value, json};

use super::dispatch::{Bound, Dispatch};
use super::kernel::{Constant, Feature, Kernel, Role};
use super::plan::{Plan, StorageKind};

impl Kernel {
    /// The joined source, the size of `params`, and what each further binding is: `read` or
    /// `read_write` storage, or a texture that is read or written.
    pub fn to_json(&self) -> Value {
        let bindings: Vec<_> = self.bindings.iter().map(|b| binding_type(b.role)).collect();
        // What WGSL asks for and naga 30 does not know.
        let enable = if self.uses(Feature::Subgroups) {
            "enable subgroups;\n"
        } else {
            ""
        };
        json!({
            "label": self.label(),
            "source": enable.to_owned() + &self.joined_source(),
            "params_bytes": self.params.size,
            "bindings": bindings,
        })
    }
}

impl Dispatch {
    /// The values of the `override` constants, by name.
    pub fn constants_to_json(&self) -> Value {
        let pair = |c: &Constant| (c.name.to_owned(), c.value.into());
        Value::Object(self.constants.iter().map(pair).collect())
    }
}

impl Plan {
    /// The storages, scratch each with memory of its own, and all dispatches in order.
    ///
    /// # Panics
    /// If the plan binds a persistent buffer, whose contents it does not hold.
    pub fn to_json(&self) -> Value {
        let storage = |kind: &StorageKind| match kind {
            StorageKind::Persistent(_) | StorageKind::PersistentTexture { .. } => {
                panic!("only plans of scratch tensors can be exported")
            }
            StorageKind::Scratch { words } => json!({ "words": words }),
            StorageKind::Texture { width, height } => json!({ "width": width, "height": height }),
        };
        let storages: Vec<_> = self.storages.iter().map(|s| storage(&s.kind)).collect();
        let dispatches: Vec<_> = self.dispatches.iter().map(dispatch).collect();
        json!({ "storages": storages, "dispatches": dispatches })
    }
}

fn dispatch(dispatch: &Dispatch) -> Value {
    let bindings: Vec<_> = dispatch.bindings.iter().map(Bound::to_json).collect();
    json!({
        "kernel": dispatch.kernel.label(),
        "constants": dispatch.constants_to_json(),
        "params": dispatch.params,
        "bindings": bindings,
        "workgroups": dispatch.workgroups,
    })
}

impl Bound {
    /// The storage's index, and for a range of a buffer its first word, their number, and how many of a row and
    /// of its gap follow each other.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Tensor(tensor) => json!({
                "storage": tensor.storage.0,
                "offset": tensor.offset,
                "words": tensor.span(),
                "row_words": tensor.cols.div_ceil(tensor.elements.per_word()),
                "row_stride": tensor.row_words(),
            }),
            Self::Texture(texture) => json!({ "storage": texture.storage.0 }),
        }
    }
}

fn binding_type(role: Role) -> &'static str {
    match (role.is_texture(), role.is_written()) {
        (false, false) => "read",
        (false, true) => "read_write",
        (true, false) => "texture_read",
        (true, true) => "texture_write",
    }
}
