//! Finds the adapters of this machine and chooses one.

use std::str::FromStr;

use super::limits::LIMITS;
use super::{GpuError, validation, wait};

/// A graphics API that wgpu can drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Vulkan: Linux, Windows, Android.
    Vulkan,
    /// Metal: macOS.
    Metal,
    /// Direct3D 12: Windows.
    Dx12,
    /// OpenGL ES 3.1: a last resort.
    Gl,
}

impl FromStr for Backend {
    type Err = GpuError;

    fn from_str(text: &str) -> Result<Self, GpuError> {
        match text {
            "vulkan" => Ok(Self::Vulkan),
            "metal" => Ok(Self::Metal),
            "dx12" => Ok(Self::Dx12),
            "gl" => Ok(Self::Gl),
            _ => Err(GpuError::UnknownBackend(text.to_owned())),
        }
    }
}

/// Which adapter to open.
#[derive(Clone, Debug, Default)]
pub struct AdapterRequest {
    /// Index in the list of `gpu-tlm devices`, or a part of the name in any case.
    pub name: Option<String>,
    /// The only backend to look at; by default the primary ones.
    pub backend: Option<Backend>,
}

/// What kind of machine runs the shaders; kernels choose their variant and sizes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdapterClass {
    /// A real GPU: many lanes, fast workgroup memory.
    Gpu,
    /// A driver that runs shaders on the CPU: storage loads and barriers are dear, textures cheap.
    Software,
}

impl AdapterClass {
    pub(super) fn of(info: &wgpu::AdapterInfo) -> Self {
        if info.device_type == wgpu::DeviceType::Cpu {
            Self::Software
        } else {
            Self::Gpu
        }
    }

    /// `gpu` or `software`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Software => "software",
        }
    }
}

/// One adapter as `gpu-tlm devices` shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterDescription {
    /// Place in the list, usable as `--adapter`.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// `discrete_gpu`, `integrated_gpu`, `virtual_gpu`, `cpu` or `other`.
    pub kind: String,
    /// Driver name and version.
    pub driver: String,
    /// Whether the driver runs shaders on the CPU.
    pub software: bool,
    /// Whether it would be taken.
    pub default: bool,
    /// Limits that decide which shapes run, in bytes or counts.
    pub limits: serde_json::Map<String, serde_json::Value>,
    /// Optional features that the adapter has and that are requested when it is opened.
    pub features_in_use: Vec<String>,
    /// Optional features that would be used if the adapter had them.
    pub features_absent: Vec<String>,
}

/// Lists every adapter of `request.backend`, best first, as `gpu-tlm devices` prints them.
///
/// # Errors
/// When there is none, or none by the name that is asked for.
pub fn describe_all(request: &AdapterRequest) -> Result<Vec<AdapterDescription>, GpuError> {
    let adapters = enumerate(request.backend)?;
    let chosen = choose(&adapters, request)?;
    Ok(adapters
        .iter()
        .enumerate()
        .map(|(index, a)| describe(index, a, chosen == index))
        .collect())
}

fn describe(index: usize, adapter: &wgpu::Adapter, default: bool) -> AdapterDescription {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let mut shown = serde_json::Map::new();
    let mut show = |name: &str, value: u64| {
        shown.insert(name.to_owned(), value.into());
    };
    for limit in LIMITS {
        show(limit.name, limit.of(&limits));
    }
    show("min_subgroup_size", info.subgroup_min_size.into());
    show("max_subgroup_size", info.subgroup_max_size.into());
    AdapterDescription {
        index,
        driver: driver_name(&info),
        backend: info.backend.to_string(),
        kind: kind_name(info.device_type).to_owned(),
        software: AdapterClass::of(&info) == AdapterClass::Software,
        name: info.name,
        default,
        limits: shown,
        features_in_use: feature_names(adapter.features() & OPTIONAL_FEATURES),
        features_absent: feature_names(OPTIONAL_FEATURES - adapter.features()),
    }
}

/// Features that are requested where the adapter has them; every op has a kernel that needs none.
pub(super) const OPTIONAL_FEATURES: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(MATRIX_FEATURES);

/// What shaders with cooperative matrices use.
pub(super) const MATRIX_FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

pub(super) fn feature_names(features: wgpu::Features) -> Vec<String> {
    features
        .iter_names()
        .map(|(name, _)| name.to_lowercase())
        .collect()
}

/// Driver name and version in one string.
pub(super) fn driver_name(info: &wgpu::AdapterInfo) -> String {
    format!("{} {}", info.driver, info.driver_info)
        .trim()
        .to_owned()
}

fn kind_name(kind: wgpu::DeviceType) -> &'static str {
    match kind {
        wgpu::DeviceType::DiscreteGpu => "discrete_gpu",
        wgpu::DeviceType::IntegratedGpu => "integrated_gpu",
        wgpu::DeviceType::VirtualGpu => "virtual_gpu",
        wgpu::DeviceType::Cpu => "cpu",
        wgpu::DeviceType::Other => "other",
    }
}

/// Finds the adapter that `request` means.
///
/// # Errors
/// When there is none, or none by that index or name.
pub(super) fn find(request: &AdapterRequest) -> Result<wgpu::Adapter, GpuError> {
    let mut adapters = enumerate(request.backend)?;
    let chosen = choose(&adapters, request)?;
    Ok(adapters.swap_remove(chosen))
}

fn enumerate(backend: Option<Backend>) -> Result<Vec<wgpu::Adapter>, GpuError> {
    let backends = match backend {
        None => wgpu::Backends::PRIMARY,
        Some(Backend::Vulkan) => wgpu::Backends::VULKAN,
        Some(Backend::Metal) => wgpu::Backends::METAL,
        Some(Backend::Dx12) => wgpu::Backends::DX12,
        Some(Backend::Gl) => wgpu::Backends::GL,
    };
    let descriptor = wgpu::InstanceDescriptor {
        backends,
        // The default differs from build to build: debug builds load the validation layers where
        // they are installed, and nobody hears them.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = match validation::instance(backend)? {
        Some(instance) => instance,
        None => wgpu::Instance::new(descriptor),
    };
    let mut adapters = wait::for_answer(instance.enumerate_adapters(backends));
    // A stable order: real GPUs first, and within a kind as the driver lists them.
    adapters.sort_by_key(|adapter| preference(adapter.get_info().device_type));
    Ok(adapters)
}

/// Lower is better; software adapters come last, so that they are taken only when alone.
fn preference(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn choose(adapters: &[wgpu::Adapter], request: &AdapterRequest) -> Result<usize, GpuError> {
    if adapters.is_empty() {
        let backends = request
            .backend
            .map_or("vulkan, metal or dx12".to_owned(), |b| {
                format!("{b:?}").to_lowercase()
            });
        return Err(GpuError::NoAdapter { backends });
    }
    let names: Vec<String> = adapters.iter().map(|a| a.get_info().name).collect();
    choose_by_name(&names, request.name.as_deref())
}

fn choose_by_name(names: &[String], wanted: Option<&str>) -> Result<usize, GpuError> {
    let Some(wanted) = wanted else { return Ok(0) };
    let found = match wanted.parse::<usize>() {
        Ok(index) => Some(index).filter(|&i| i < names.len()),
        Err(_) => names
            .iter()
            .position(|n| n.to_lowercase().contains(&wanted.to_lowercase())),
    };
    found.ok_or_else(|| GpuError::NoSuchAdapter {
        wanted: wanted.to_owned(),
        found: names
            .iter()
            .enumerate()
            .map(|(i, n)| format!("{i}: {n}"))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_is_found_by_index_and_by_part_of_its_name() {
        let names = vec!["Radeon RX 7800 XT".to_owned(), "llvmpipe".to_owned()];
        assert_eq!(choose_by_name(&names, None).unwrap(), 0);
        assert_eq!(choose_by_name(&names, Some("1")).unwrap(), 1);
        assert_eq!(choose_by_name(&names, Some("LLVM")).unwrap(), 1);
        for missing in ["2", "geforce"] {
            let message = choose_by_name(&names, Some(missing))
                .unwrap_err()
                .to_string();
            assert!(
                message.contains(missing) && message.contains("1: llvmpipe"),
                "{message}"
            );
        }
    }

    #[test]
    fn software_adapters_come_last() {
        for kind in [
            wgpu::DeviceType::DiscreteGpu,
            wgpu::DeviceType::IntegratedGpu,
            wgpu::DeviceType::VirtualGpu,
            wgpu::DeviceType::Other,
        ] {
            assert!(preference(kind) < preference(wgpu::DeviceType::Cpu));
        }
    }
}
