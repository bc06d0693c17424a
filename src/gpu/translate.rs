//! A kernel as a backend gets it: overrides resolved, then WGSL, SPIR-V, HLSL or MSL, with the
//! options of `trusted` shader modules in wgpu 30.
//!
//! Differences that remain, since wgpu decides them on the user's machine: it writes the SPIR-V
//! version, HLSL shader model and MSL version that the adapter offers (here `SPIRV_VERSION`,
//! `SHADER_MODEL` and `MSL_VERSION`).

use naga::back::{PipelineConstants, hlsl, msl, pipeline_constants, spv, wgsl};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ResourceBinding, ShaderStage};

use super::GpuError;
use super::kernel::{Constant, Feature, Kernel, Role};

/// What a Vulkan 1.3 device gets; older ones get 1.0 to 1.5.
const SPIRV_VERSION: (u8, u8) = (1, 6);
/// The lowest model that wgpu asks DirectX's compiler for.
const SHADER_MODEL: hlsl::ShaderModel = hlsl::ShaderModel::V6_0;
/// What macOS 12 gets; newer ones get up to 4.0.
const MSL_VERSION: (u8, u8) = (2, 4);
const ENTRY_POINT: &str = "main";
const UNCHECKED: BoundsCheckPolicies = BoundsCheckPolicies {
    index: BoundsCheckPolicy::Unchecked,
    buffer: BoundsCheckPolicy::Unchecked,
    image_load: BoundsCheckPolicy::Unchecked,
    binding_array: BoundsCheckPolicy::Unchecked,
};

/// A language that shaders are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ShaderFormat {
    /// As naga prints it, with the overrides' values.
    Wgsl,
    /// Vulkan.
    Spirv,
    /// Direct3D 12.
    Hlsl,
    /// Metal.
    Msl,
}

impl ShaderFormat {
    /// Ending of a file in this language.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Wgsl => "wgsl",
            Self::Spirv => "spv",
            Self::Hlsl => "hlsl",
            Self::Msl => "metal",
        }
    }
}

impl ShaderFormat {
    /// Why naga 30 cannot write `kernel` in this language, if it cannot: no adapter of the language's backend
    /// offers what the kernel requires.
    pub fn obstacle(self, kernel: &Kernel) -> Option<&'static str> {
        let side = kernel.matrix_side()?;
        match self {
            Self::Hlsl => Some("Direct3D has no cooperative matrices"),
            Self::Msl if side != 8 => Some("Metal's matrices are of 8x8"),
            _ => None,
        }
    }
}

/// A shader in some language, and what a host has to know to launch it.
#[derive(Clone, Debug)]
pub struct Translated {
    /// The file's content: text, or SPIR-V's words in little-endian order.
    pub code: Vec<u8>,
    /// Name of the entry point, which some languages cannot call `main`.
    pub entry_point: String,
    /// Lanes of a workgroup in x, y, z.
    pub workgroup_size: [u32; 3],
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Where each binding is in this language, `params` first: `group 0 binding 1`, `t0`, `buffer 1`.
    pub places: Vec<String>,
}

/// Writes `kernel` with `constants` in the language `format`.
///
/// # Errors
/// When naga cannot: a bug of ours or of naga's, with the source in the message.
pub fn translate(
    kernel: &Kernel,
    constants: &[Constant],
    format: ShaderFormat,
) -> Result<Translated, GpuError> {
    let failed = |message: String| GpuError::Shader {
        kernel: kernel.label(),
        message,
        source_text: kernel.numbered_source(),
    };
    let source = kernel.joined_source();
    let module = naga::front::wgsl::parse_str(&source)
        .map_err(|error| failed(error.emit_to_string(&source)))?;
    let mut capabilities = Capabilities::empty();
    capabilities |= Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let matrices = kernel.matrix_side().is_some();
    let subgroups = kernel.uses(Feature::Subgroups) || matrices;
    capabilities.set(Capabilities::SUBGROUP, subgroups);
    let for_matrices = Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
    capabilities.set(for_matrices, matrices);
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|error| failed(error.emit_to_string(&source)))?;
    let mut values = PipelineConstants::default();
    values.extend(
        constants
            .iter()
            .map(|c| (c.name.to_owned(), f64::from(c.value))),
    );
    let entry = Some((ShaderStage::Compute, ENTRY_POINT));
    let (module, info) = pipeline_constants::process_overrides(&module, &info, entry, &values)
        .map_err(|error| failed(error.to_string()))?;
    let places = places(kernel, format);
    let (code, entry_point) = match format {
        ShaderFormat::Wgsl => write_wgsl(&module, &info),
        ShaderFormat::Spirv => write_spirv(kernel, &module, &info),
        ShaderFormat::Hlsl => write_hlsl(kernel, &module, &info),
        ShaderFormat::Msl => write_msl(kernel, &module, &info),
    }
    .map_err(failed)?;
    Ok(Translated {
        code,
        entry_point,
        workgroup_size: module.entry_points[0].workgroup_size,
        workgroup_bytes: workgroup_bytes(&module),
        places: places.iter().map(|p| p.describe(format)).collect(),
    })
}

/// Bytes of all workgroup variables, as WebGPU counts them: each rounded up to 16.
fn workgroup_bytes(module: &Module) -> u32 {
    let context = module.to_ctx();
    module
        .global_variables
        .iter()
        .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
        .map(|(_, variable)| {
            module.types[variable.ty]
                .inner
                .size(context)
                .next_multiple_of(16)
        })
        .sum()
}

/// Number of a binding among those of its kind, where the language numbers kinds apart.
#[derive(Clone, Copy)]
struct Place {
    kind: Kind,
    number: u32,
    written: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Uniform,
    Buffer,
    Texture,
}

impl Place {
    fn describe(&self, format: ShaderFormat) -> String {
        let number = self.number;
        match format {
            ShaderFormat::Wgsl | ShaderFormat::Spirv => format!("group 0 binding {number}"),
            ShaderFormat::Hlsl => format!("{}{number}", self.register()),
            ShaderFormat::Msl if self.kind == Kind::Texture => format!("texture {number}"),
            ShaderFormat::Msl => format!("buffer {number}"),
        }
    }

    /// Direct3D's class of register: a storage texture is unordered even where it is only read.
    fn register(&self) -> char {
        match self.kind {
            Kind::Uniform => 'b',
            Kind::Buffer if !self.written => 't',
            _ => 'u',
        }
    }
}

/// As wgpu's pipeline layouts number the bindings of one group, `params` first.
fn places(kernel: &Kernel, format: ShaderFormat) -> Vec<Place> {
    let bindings = kernel.bindings.iter().map(|binding| {
        let texture = Role::is_texture(binding.role);
        let kind = if texture { Kind::Texture } else { Kind::Buffer };
        (kind, binding.role.is_written())
    });
    let mut places: Vec<Place> = Vec::new();
    for (kind, written) in std::iter::once((Kind::Uniform, false)).chain(bindings) {
        let mut place = Place {
            kind,
            number: 0,
            written,
        };
        let shares_numbers = |other: &&Place| match format {
            ShaderFormat::Wgsl | ShaderFormat::Spirv => true,
            ShaderFormat::Hlsl => other.register() == place.register(),
            ShaderFormat::Msl => (other.kind == Kind::Texture) == (kind == Kind::Texture),
        };
        place.number = count(places.iter().filter(shares_numbers));
        places.push(place);
    }
    places
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    items.fold(0, |n, _| n + 1)
}

fn resource(binding: u32) -> ResourceBinding {
    ResourceBinding { group: 0, binding }
}

fn write_wgsl(module: &Module, info: &ModuleInfo) -> Result<(Vec<u8>, String), String> {
    let text = wgsl::write_string(module, info, wgsl::WriterFlags::empty())
        .map_err(|error| error.to_string())?;
    Ok((text.into_bytes(), ENTRY_POINT.to_owned()))
}

fn write_spirv(
    kernel: &Kernel,
    module: &Module,
    info: &ModuleInfo,
) -> Result<(Vec<u8>, String), String> {
    let binding_map = places(kernel, ShaderFormat::Spirv)
        .iter()
        .map(|place| {
            let info = spv::BindingInfo {
                descriptor_set: 0,
                binding: place.number,
                binding_array_size: None,
            };
            (resource(place.number), info)
        })
        .collect();
    let options = spv::Options {
        lang_version: SPIRV_VERSION,
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        fake_missing_bindings: false,
        binding_map,
        capabilities: Some(spirv_capabilities(kernel).into_iter().collect()),
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ray_query_initialization_tracking: false,
        mesh_shader_primitive_indices_clamp: false,
        emit_int_div_checks: false,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions {
        shader_stage: ShaderStage::Compute,
        entry_point: ENTRY_POINT.to_owned(),
    };
    let words = spv::write_vec(module, info, &options, Some(&pipeline))
        .map_err(|error| error.to_string())?;
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Ok((bytes, ENTRY_POINT.to_owned()))
}

/// What every Vulkan device has and what the kernel says that it needs, so that one that needs
/// more is an error here.
fn spirv_capabilities(kernel: &Kernel) -> Vec<spv::Capability> {
    use spv::Capability;
    let mut capabilities = vec![
        Capability::Shader,
        Capability::ImageQuery,
        Capability::StorageImageExtendedFormats,
    ];
    if kernel.uses(Feature::Subgroups) {
        capabilities.extend([
            Capability::GroupNonUniform,
            Capability::GroupNonUniformArithmetic,
            Capability::GroupNonUniformShuffle,
        ]);
    }
    if kernel.matrix_side().is_some() {
        capabilities.extend([
            Capability::CooperativeMatrixKHR,
            Capability::Float16,
            Capability::GroupNonUniform,
            Capability::VulkanMemoryModel,
        ]);
    }
    capabilities
}

fn write_hlsl(
    kernel: &Kernel,
    module: &Module,
    info: &ModuleInfo,
) -> Result<(Vec<u8>, String), String> {
    let target = |register| hlsl::BindTarget {
        space: 0,
        register,
        ..hlsl::BindTarget::default()
    };
    let places = places(kernel, ShaderFormat::Hlsl);
    let binding_map = places
        .iter()
        .zip(0..)
        .map(|(place, binding)| (resource(binding), target(place.number)))
        .collect();
    let options = hlsl::Options {
        shader_model: SHADER_MODEL,
        binding_map,
        fake_missing_bindings: false,
        // The number of workgroups, behind the only uniform.
        special_constants_binding: Some(target(1)),
        zero_initialize_workgroup_memory: false,
        restrict_indexing: false,
        force_loop_bounding: false,
        mesh_shader_primitive_indices_clamp: false,
        ray_query_initialization_tracking: false,
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, ENTRY_POINT.to_owned())),
    };
    let mut text = String::new();
    let mut written = hlsl::Writer::new(&mut text, &options, &pipeline)
        .write(module, info, None)
        .map_err(|error| error.to_string())?;
    let entry_point = only(&mut written.entry_point_names)?;
    Ok((text.into_bytes(), entry_point))
}

fn write_msl(
    kernel: &Kernel,
    module: &Module,
    info: &ModuleInfo,
) -> Result<(Vec<u8>, String), String> {
    let places = places(kernel, ShaderFormat::Msl);
    let slot = |number| u8::try_from(number).map_err(|_| "over 255 bindings".to_owned());
    let mut resources = msl::BindingMap::default();
    for (place, binding) in places.iter().zip(0..) {
        let number = Some(slot(place.number)?);
        let texture = place.kind == Kind::Texture;
        let target = msl::BindTarget {
            buffer: number.filter(|_| !texture),
            texture: number.filter(|_| texture),
            mutable: place.written,
            ..msl::BindTarget::default()
        };
        resources.insert(resource(binding), target);
    }
    let buffers = count(places.iter().filter(|place| place.kind != Kind::Texture));
    let entry = msl::EntryPointResources {
        resources,
        immediates_buffer: None,
        // The sizes of run-time arrays, behind all buffers.
        sizes_buffer: Some(slot(buffers)?),
    };
    let options = msl::Options {
        lang_version: MSL_VERSION,
        per_entry_point_map: [(ENTRY_POINT.to_owned(), entry)].into_iter().collect(),
        fake_missing_bindings: false,
        bounds_check_policies: UNCHECKED,
        zero_initialize_workgroup_memory: false,
        force_loop_bounding: false,
        mesh_shader_primitive_indices_clamp: false,
        emit_int_div_checks: false,
        ray_query_initialization_tracking: false,
        ..msl::Options::default()
    };
    let pipeline = msl::PipelineOptions {
        entry_point: Some((ShaderStage::Compute, ENTRY_POINT.to_owned())),
        vertex_pulling_transform: true,
        ..msl::PipelineOptions::default()
    };
    let (text, mut written) =
        msl::write_string(module, info, &options, &pipeline).map_err(|error| error.to_string())?;
    let entry_point = only(&mut written.entry_point_names)?;
    Ok((text.into_bytes(), entry_point))
}

/// The one entry point's name.
fn only<E: ToString>(names: &mut Vec<Result<String, E>>) -> Result<String, String> {
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => name.map_err(|error| error.to_string()),
        _ => Err("a kernel has one entry point".to_owned()),
    }
}
