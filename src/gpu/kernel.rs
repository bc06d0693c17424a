//! A kernel as data: its source, its bindings in order, and the layout of its `Params` uniform.

use super::tensor::Elements;
use crate::wgsl::Source;

/// What a kernel does with a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Read only.
    In,
    /// Every element is written and none is read.
    Out,
    /// A result is added to what is there.
    Accumulate,
    /// Read and then replaced.
    InOut,
    /// Written or added to, as a constant of the pipeline says.
    OutOrAccumulate,
    /// Written if the launch asks for it; else bound to some words of no meaning.
    OutOrUnused,
    /// An `rgba32float` texture that is read, as a storage texture.
    Texture,
    /// An `rgba32float` texture that is written.
    TextureOut,
}

impl Role {
    /// Whether the shader declares the binding `read_write`.
    pub fn is_written(self) -> bool {
        !matches!(self, Self::In | Self::Texture)
    }

    /// Whether the binding is a texture.
    pub fn is_texture(self) -> bool {
        matches!(self, Self::Texture | Self::TextureOut)
    }
}

/// A storage binding; its number is its place in the table plus one (0 is `params`).
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Name of the variable in the shader.
    pub name: &'static str,
    /// What the kernel does with it.
    pub role: Role,
    /// What a tensor has to consist of, unless a constant of the pipeline says so or nothing reads it.
    pub elements: Option<Elements>,
    /// Whether that is blocks of `q8_0`; see [`Tensor`](super::Tensor).
    pub is_q8_0: bool,
}

/// A field of a `Params` struct; every field is one 4-byte scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in Rust and WGSL.
    pub name: &'static str,
    /// Byte offset.
    pub offset: usize,
    /// `u32` or `f32`.
    pub scalar: &'static str,
}

/// Layout of a `Params` uniform, taken from the Rust struct by [`params!`](crate::params).
#[derive(Clone, Copy, Debug)]
pub struct ParamsLayout {
    /// Size in bytes.
    pub size: usize,
    /// The fields in order.
    pub fields: &'static [Field],
}

/// Value of one `override` constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Constant {
    /// Name in the shader.
    pub name: &'static str,
    /// Its value; `bool` constants take 0 or 1.
    pub value: u32,
}

/// What a kernel may need of a device beyond WebGPU's default limits; it needs all of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// An optional feature.
    Feature(Feature),
    /// Subgroups of exactly so many lanes.
    Lanes(u32),
    /// Cooperative matrices of so many rows and columns, products of f16 added up in f32, and what their
    /// shaders use beside them: f16 and the numbers of subgroups.
    Matrices(u32),
    /// Any vendor's but this one's.
    NotOn(Vendor),
    /// A limit of [`LIMITS`](super::limits::LIMITS) above its floor.
    Limit {
        /// Its name there.
        name: &'static str,
        /// The least that the kernel runs with.
        at_least: u64,
    },
}

/// Who makes GPUs for which some kernel is not meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// AMD.
    Amd,
}

impl Vendor {
    /// Its number in PCI's list.
    pub fn pci_id(self) -> u32 {
        match self {
            Self::Amd => 0x1002,
        }
    }
}

/// An optional feature of WebGPU that kernels know how to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Subgroup operations.
    Subgroups,
}

/// A compute shader with one entry point `main`.
#[derive(Debug)]
pub struct Kernel {
    /// `<op>_<pass>`, the same in the shader's file name, the reference, the tests and the benches.
    pub name: &'static str,
    /// Which of several kernels with one meaning this is.
    pub variant: &'static str,
    /// Its own file, which names those that it is joined with.
    pub source: Source,
    /// Storage bindings, from binding 1 on.
    pub bindings: &'static [Binding],
    /// The uniform at binding 0.
    pub params: ParamsLayout,
    /// What the device has to offer, all of it; nothing for a portable kernel.
    pub requires: &'static [Requirement],
}

impl Kernel {
    /// `name.variant`, or the name alone for the portable variant.
    pub fn label(&self) -> String {
        if self.variant == PORTABLE {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.name, self.variant)
        }
    }

    /// Rows of the cooperative matrices that its shader uses, if it does.
    pub fn matrix_side(&self) -> Option<u32> {
        self.requires.iter().find_map(|r| match r {
            Requirement::Matrices(side) => Some(*side),
            _ => None,
        })
    }

    /// Whether its shader uses `feature`.
    pub fn uses(&self, feature: Feature) -> bool {
        self.requires.contains(&Requirement::Feature(feature))
    }

    /// Whether `name` means this kernel: its label, or the name that all its variants share.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.label() == name
    }

    /// The files that it is joined with.
    pub fn helpers(&self) -> Vec<&'static Source> {
        self.source.helpers(self.takes_second_helper())
    }

    /// Which of two helpers that are named as alternatives it is joined with: the one for quads, for halves,
    /// or for the smaller matrices.
    fn takes_second_helper(&self) -> bool {
        let ends = |end| self.variant.ends_with(end);
        self.variant == QUADS || ends(HALVES) || ends(MATRICES_OF_8)
    }

    /// The source with its helpers behind it, so that line numbers of the kernel's own file hold.
    pub fn joined_source(&self) -> String {
        let mut text = self.source.text.to_owned();
        for helper in self.helpers() {
            text.push_str("\n// ---- shaders/");
            text.push_str(helper.file);
            text.push('\n');
            text.push_str(helper.text);
        }
        text
    }

    /// The joined source with file names and line numbers, for an error message.
    pub fn numbered_source(&self) -> String {
        let mut text = format!("// ---- shaders/{}\n", self.source.file);
        for (index, line) in self.joined_source().lines().enumerate() {
            text.push_str(&format!("{:4} {line}\n", index + 1));
        }
        text
    }
}

/// Variant name of a kernel that runs within WebGPU's default limits and is the only one of its op.
pub const PORTABLE: &str = "portable";
/// Variant name of a kernel for rows of whole quads, which takes four words at once.
pub const QUADS: &str = "quads";
/// How the variant name of a kernel ends that reads its operands as halves.
pub const HALVES: &str = "f16";
/// How the variant name of a kernel ends that takes matrices of 8 rows and columns, where others have 16.
pub const MATRICES_OF_8: &str = "8x8";

/// Declares a `Params` struct together with its [`ParamsLayout`].
#[macro_export]
macro_rules! params {
    ($(#[$meta:meta])* $name:ident { $($field:ident: $scalar:ident),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        struct $name { $($field: $scalar),* }

        impl $name {
            const LAYOUT: $crate::gpu::ParamsLayout = $crate::gpu::ParamsLayout {
                size: size_of::<Self>(),
                fields: &[$($crate::gpu::kernel::Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!($name, $field),
                    scalar: stringify!($scalar),
                }),*],
            };
        }
    };
}
