//! One family: a device that only compiles, and what its compiler says and makes of each shader.

use std::ffi::CStr;
use std::path::Path;

use ash::vk;
use serde_json::Value;

use crate::Failure;
use crate::hot_loop::HotLoop;

/// The driver's names of the figures, in the order in which they are printed.
const STATISTICS: [&str; 6] = [
    "VGPRs",
    "SGPRs",
    "Subgroups per SIMD",
    "Spilled VGPRs",
    "Spilled SGPRs",
    "Scratch size",
];
/// What stands for them where the family cannot run the shader.
pub(crate) const NO_FIGURES: &str = "-";
const ENTRY_POINT: &CStr = c"main";

/// Prints the driver's line, then one line a shader: its file, the driver's figures, then those of
/// the hot loop.
pub(crate) fn print_figures(shaders: &Path) -> Result<(), Failure> {
    let manifest = std::fs::read_to_string(shaders.join("manifest.json"))?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    let compiler = Compiler::new()?;
    println!("driver {}", compiler.driver);
    for entry in manifest["shaders"].as_array().ok_or("no shaders")? {
        let file = entry["file"].as_str().ok_or("a shader has no file")?;
        if !entry["matrices"].is_null() && !compiler.has_matrices {
            println!("{file} {NO_FIGURES}");
            continue;
        }
        let figures = compiler
            .compile(&shaders.join(file), entry)
            .map_err(|error| format!("{file}: {error}"))?;
        let figures: Vec<String> = figures.iter().map(u64::to_string).collect();
        println!("{file} {}", figures.join(" "));
    }
    Ok(())
}

struct Compiler {
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    driver: String,
    /// Whether the family has matrix units.
    has_matrices: bool,
    // The loader and the instance have to outlive the device.
    _instance: ash::Instance,
    _entry: ash::Entry,
}

impl Compiler {
    fn new() -> Result<Self, Failure> {
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let instance_info = vk::InstanceCreateInfo::default().application_info(&application);
        let queues = [vk::DeviceQueueCreateInfo::default()
            .queue_family_index(0)
            .queue_priorities(&[1.0])];
        let statistics_of = ash::khr::pipeline_executable_properties::NAME;
        let matrices = ash::khr::cooperative_matrix::NAME;
        let mut statistics = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        // SAFETY: the loader is the system's; each call gets structures that live through it and
        // handles that the calls before it made. RADV has queue family 0 and the extension, or
        // the calls fail.
        unsafe {
            let entry = ash::Entry::load()?;
            let instance = entry.create_instance(&instance_info, None)?;
            let adapters = instance.enumerate_physical_devices()?;
            let adapter = *adapters.first().ok_or("RADV made no device")?;
            let mut vulkan12 = vk::PhysicalDeviceVulkan12Properties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut vulkan12);
            instance.get_physical_device_properties2(adapter, &mut properties);
            let text = |name: &CStr| name.to_string_lossy().into_owned();
            let driver = format!(
                "{} {}",
                text(vulkan12.driver_name_as_c_str()?),
                text(vulkan12.driver_info_as_c_str()?)
            );
            let offered = instance.enumerate_device_extension_properties(adapter)?;
            let offers = |e: &vk::ExtensionProperties| e.extension_name_as_c_str() == Ok(matrices);
            let offers_matrices = offered.iter().any(offers);
            // This Mesa compiles them for RDNA4 too, though it does not offer them there yet.
            let family = std::env::var("RADV_FORCE_FAMILY").unwrap_or_default();
            let has_matrices = offers_matrices || family == "gfx1201";
            let both = [statistics_of.as_ptr(), matrices.as_ptr()];
            let device_info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&both[..if offers_matrices { 2 } else { 1 }])
                .push_next(&mut statistics);
            let device = instance.create_device(adapter, &device_info, None)?;
            let executables =
                ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self {
                device,
                executables,
                driver,
                has_matrices,
                _instance: instance,
                _entry: entry,
            })
        }
    }

    fn compile(&self, file: &Path, shader: &Value) -> Result<Vec<u64>, Failure> {
        let bytes = std::fs::read(file)?;
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let bindings = descriptor_bindings(shader)?;
        let layout_info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        let module_info = vk::ShaderModuleCreateInfo::default().code(&words);
        // SAFETY: the device is alive and has the extension on; the shader is one that spirv-val
        // accepts, with the manifest's bindings; structures live through the calls.
        let (statistics, assembly) = unsafe {
            let sets = [self
                .device
                .create_descriptor_set_layout(&layout_info, None)?];
            let layout = self.device.create_pipeline_layout(
                &vk::PipelineLayoutCreateInfo::default().set_layouts(&sets),
                None,
            )?;
            let module = self.device.create_shader_module(&module_info, None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(ENTRY_POINT);
            let info = vk::ComputePipelineCreateInfo::default()
                .stage(stage)
                .layout(layout)
                .flags(
                    vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                        | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR,
                );
            let pipelines = self
                .device
                .create_compute_pipelines(vk::PipelineCache::null(), &[info], None)
                .map_err(|(_, error)| error)?;
            let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipelines[0]);
            let statistics = self.executables.get_pipeline_executable_statistics(&info)?;
            (statistics, self.assembly(&info)?)
        };
        let hot = HotLoop::find(&assembly);
        let counted = [hot.multiply_adds, hot.workgroup, hot.others];
        let told = STATISTICS.iter().map(|wanted| {
            let found = statistics.iter().find(|statistic| {
                statistic
                    .name_as_c_str()
                    .is_ok_and(|n| n.to_str() == Ok(wanted))
            });
            let found = found.ok_or_else(|| format!("the driver does not tell '{wanted}'"))?;
            // SAFETY: every statistic here is a count, which RADV gives as an unsigned integer.
            Ok(unsafe { found.value.u64 })
        });
        told.chain(counted.map(Ok)).collect()
    }

    /// The text of what the compiler calls the assembly.
    ///
    /// # Safety
    /// `info` must name a pipeline made with `CAPTURE_INTERNAL_REPRESENTATIONS_KHR`.
    unsafe fn assembly(&self, info: &vk::PipelineExecutableInfoKHR<'_>) -> Result<String, Failure> {
        // SAFETY: the caller's. The first call gives sizes; before the second each representation
        // points to as many bytes, which live through it.
        unsafe {
            let mut parts = self
                .executables
                .get_pipeline_executable_internal_representations(info)?;
            let mut texts: Vec<Vec<u8>> = parts.iter().map(|p| vec![0; p.data_size]).collect();
            for (part, text) in parts.iter_mut().zip(&mut texts) {
                part.p_data = text.as_mut_ptr().cast();
            }
            let mut count = u32::try_from(parts.len())?;
            (self
                .executables
                .fp()
                .get_pipeline_executable_internal_representations_khr)(
                self.device.handle(),
                info,
                &raw mut count,
                parts.as_mut_ptr(),
            )
            .result()?;
            let is_assembly = |part: &vk::PipelineExecutableInternalRepresentationKHR<'_>| {
                part.name_as_c_str() == Ok(c"Assembly")
            };
            let found = parts.iter().position(is_assembly);
            let text = &texts[found.ok_or("the driver gives no assembly")?];
            Ok(String::from_utf8_lossy(text).into_owned())
        }
    }
}

fn descriptor_bindings(
    shader: &Value,
) -> Result<Vec<vk::DescriptorSetLayoutBinding<'static>>, Failure> {
    let bindings = shader["bindings"].as_array().ok_or("no bindings")?;
    let layouts = bindings.iter().zip(0..).map(|(binding, number)| {
        let kind = match binding["role"].as_str().unwrap_or_default() {
            "Uniform" => vk::DescriptorType::UNIFORM_BUFFER,
            "Texture" | "TextureOut" => vk::DescriptorType::STORAGE_IMAGE,
            _ => vk::DescriptorType::STORAGE_BUFFER,
        };
        vk::DescriptorSetLayoutBinding::default()
            .binding(number)
            .descriptor_type(kind)
            .descriptor_count(1)
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
    });
    Ok(layouts.collect())
}
