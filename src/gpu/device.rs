//! An opened adapter: limits, pipelines made once, submissions, and the errors they raise.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::adapter::{self, AdapterClass, AdapterRequest};
use super::kernel::{Constant, Kernel};
use super::limits::LimitValues;
use super::{Choices, GpuError, Target, limits, threads, trusted, wait};

/// How much of the adapter to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LimitSet {
    /// Everything the adapter offers, and the optional features we know how to use.
    #[default]
    Adapter,
    /// Exactly WebGPU's default limits and no feature: what every WebGPU adapter has.
    PortableFloor,
}

/// Options for [`Device::open`].
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// Which adapter.
    pub request: AdapterRequest,
    /// Which limits and features.
    pub limits: LimitSet,
    /// Keep wgpu's bounds checks and loop guards in the shaders.
    pub checked: bool,
    /// Pretend the adapter is of this class, to run its kernel variants elsewhere.
    pub class: Option<AdapterClass>,
    /// Work of one submission, instead of what the measured speed allows.
    pub work_per_submission: Option<u64>,
}

/// An opened device with its queue and its pipelines; a clone is another handle to the same one.
#[derive(Clone)]
pub struct Device {
    pub(super) raw: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: wgpu::AdapterInfo,
    limits: wgpu::Limits,
    matrix_sides: Vec<u32>,
    class: AdapterClass,
    pub(super) checked: bool,
    pub(super) choices: Choices,
    pipelines: Arc<Mutex<HashMap<PipelineKey, Arc<wgpu::ComputePipeline>>>>,
    failure: Arc<Mutex<Option<String>>>,
    work_per_submission: Arc<AtomicU64>,
    submitting_ns: Arc<AtomicU64>,
    /// Whether the measured speed decides the length of a submission.
    watched: bool,
}

/// Drivers reset a GPU that seems to hang (Windows after 2 s), so one submission runs for about
/// this long at the measured speed.
const SUBMISSION_S: f64 = 0.25;
/// Work of one submission before any speed is known: short on the slowest GPU.
const FIRST_SUBMISSION: u64 = 1 << 30;

type PipelineKey = (&'static str, &'static str, Vec<Constant>);

impl Device {
    /// Opens the adapter that `options` name; a software adapter is taken only if there is no
    /// other or it was asked for, and a warning says so.
    ///
    /// # Errors
    /// When no adapter fits or the driver gives no device.
    pub fn open(options: &DeviceOptions) -> Result<Self, GpuError> {
        let adapter = adapter::find(&options.request)?;
        let info = adapter.get_info();
        let class = options.class.unwrap_or(AdapterClass::of(&info));
        let (limits, features) = match options.limits {
            LimitSet::Adapter => (
                adapter.limits(),
                adapter.features() & adapter::OPTIONAL_FEATURES,
            ),
            LimitSet::PortableFloor => (wgpu::Limits::default(), wgpu::Features::empty()),
        };
        check_floor(&info.name, &adapter.limits())?;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gpu-tlm"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: trusted::cooperative_matrices(features),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let request = || wait::for_answer(adapter.request_device(&descriptor));
        let (raw, queue) =
            threads::pin_those_of_llvmpipe(request).map_err(|e| GpuError::NoDevice {
                adapter: info.name.clone(),
                reason: e.to_string(),
            })?;
        let failure = Arc::new(Mutex::new(None));
        watch_failures(&raw, &failure);
        if AdapterClass::of(&info) == AdapterClass::Software {
            tracing::warn!(
                "using the software adapter '{}': shaders run on the CPU",
                info.name
            );
        } else {
            tracing::info!(
                "using {} ({}, {})",
                info.name,
                info.backend,
                adapter::driver_name(&info)
            );
        }
        let matrix_sides = matrix_sides(&adapter, features);
        let pipelines = Arc::default();
        let real = AdapterClass::of(&info) == AdapterClass::Gpu;
        let work = if real { FIRST_SUBMISSION } else { u64::MAX };
        let work = options.work_per_submission.unwrap_or(work);
        let work_per_submission = Arc::new(AtomicU64::new(work));
        let watched = real && options.work_per_submission.is_none();
        Ok(Self {
            raw,
            queue,
            info,
            limits,
            matrix_sides,
            class,
            checked: options.checked,
            choices: Choices::default(),
            pipelines,
            failure,
            work_per_submission,
            submitting_ns: Arc::default(),
            watched,
        })
    }

    /// The adapter's name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Driver name and version.
    pub fn driver(&self) -> String {
        adapter::driver_name(&self.info)
    }

    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub fn backend(&self) -> String {
        self.info.backend.to_string()
    }

    /// The class that decides kernel variants.
    pub fn class(&self) -> AdapterClass {
        self.class
    }

    /// The same device under another class, to run that class's kernel variants on it.
    pub fn with_class(&self, class: AdapterClass) -> Self {
        Self {
            class,
            ..self.clone()
        }
    }

    /// Names of the optional features that it was opened with, and of those it was not.
    pub fn optional_features(&self) -> [Vec<String>; 2] {
        let all = adapter::OPTIONAL_FEATURES;
        let opened = self.raw.features() & all;
        [opened, all - opened].map(adapter::feature_names)
    }

    /// Whether it tells by a clock of its own how long something took.
    pub fn has_clock(&self) -> bool {
        let features = self.raw.features();
        features.contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// The same device, as if one binding covered at most `words` 4-byte words, to check that
    /// larger tensors are split rightly.
    pub fn with_max_binding_words(&self, words: usize) -> Self {
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: words as u64 * 4,
            ..self.limits.clone()
        };
        Self {
            limits,
            ..self.clone()
        }
    }

    /// What of it shapes a plan.
    pub fn target(&self) -> Target {
        let bytes = self
            .limits
            .max_storage_buffer_binding_size
            .min(self.limits.max_buffer_size);
        Target {
            class: self.class,
            subgroup_size: self.subgroup_size(),
            matrix_sides: self.matrix_sides.clone(),
            vendor: self.info.vendor,
            limits: LimitValues::of(&self.limits),
            max_binding_words: usize::try_from(bytes / 4).unwrap_or(usize::MAX),
            choices: self.choices.clone(),
        }
    }

    /// Bytes that the device's allocator has given out and not taken back; `None` where the backend
    /// does not say.
    pub fn allocated_bytes(&self) -> Option<u64> {
        let report = self.raw.generate_allocator_report();
        report.map(|report| report.total_allocated_bytes)
    }

    /// Lanes of a subgroup, where subgroup operations are there and all subgroups have one size.
    pub fn subgroup_size(&self) -> Option<u32> {
        let (smallest, largest) = (self.info.subgroup_min_size, self.info.subgroup_max_size);
        let usable = self.raw.features().contains(wgpu::Features::SUBGROUP);
        (usable && smallest == largest).then_some(smallest)
    }

    /// Makes sure that the device has what each of `kernels` needs.
    ///
    /// # Errors
    /// Names what is missing.
    pub(super) fn check_requirements<'a>(
        &self,
        mut kernels: impl Iterator<Item = &'a Kernel>,
    ) -> Result<(), GpuError> {
        let target = self.target();
        let missing = kernels.find_map(|k| Some((k.label(), target.obstacle(k)?)));
        match missing {
            None => Ok(()),
            Some((kernel, obstacle)) => Err(GpuError::Unsupported {
                kernel,
                reason: format!("{obstacle} ('{}')", self.info.name),
            }),
        }
    }

    pub(super) fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// Work of one submission: without bound on a software adapter, which no watchdog guards.
    pub(super) fn work_per_submission(&self) -> u64 {
        self.work_per_submission.load(Ordering::Relaxed)
    }

    /// Notes that `work` operations and bytes took `seconds`, so that later submissions are as
    /// long as the driver's watchdog allows.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive number that saturates"
    )]
    pub fn note_speed(&self, work: u64, seconds: f64) {
        let measured = work as f64 / seconds * SUBMISSION_S;
        if self.watched && measured.is_finite() {
            self.work_per_submission
                .store(measured.max(1.0) as u64, Ordering::Relaxed);
        }
    }

    /// Hands commands to the driver.
    pub(super) fn submit(&self, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        let start = Instant::now();
        let submission = self.queue.submit([commands]);
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.submitting_ns.fetch_add(ns, Ordering::Relaxed);
        submission
    }

    /// Seconds that the driver has taken to accept the plans' commands: little on a GPU, and all of
    /// their run time on a software adapter that runs them at once.
    pub fn submitting_s(&self) -> f64 {
        self.submitting_ns.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// The first failure that the device reported outside of a call, if any.
    ///
    /// # Errors
    /// That failure.
    pub(super) fn check(&self) -> Result<(), GpuError> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(message) => Err(GpuError::Device(message.clone())),
            None => Ok(()),
        }
    }

    /// Waits until everything submitted so far is done.
    ///
    /// # Errors
    /// When the device was lost or reported an error.
    pub fn wait(&self) -> Result<(), GpuError> {
        wait::for_all(self)
    }

    /// The pipeline of `kernel` with `constants`, compiled at the first call.
    ///
    /// # Errors
    /// When the shader does not compile.
    pub(super) fn pipeline(
        &self,
        kernel: &'static Kernel,
        constants: &[Constant],
    ) -> Result<Arc<wgpu::ComputePipeline>, GpuError> {
        let key = (kernel.name, kernel.variant, constants.to_vec());
        let lock = || {
            self.pipelines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(found) = lock().get(&key) {
            return Ok(found.clone());
        }
        // Compiled outside of the lock, so that several threads compile several kernels.
        let pipeline = Arc::new(self.compile(kernel, constants)?);
        Ok(lock().entry(key).or_insert(pipeline).clone())
    }

    fn compile(
        &self,
        kernel: &'static Kernel,
        constants: &[Constant],
    ) -> Result<wgpu::ComputePipeline, GpuError> {
        let label = kernel.label();
        tracing::debug!("compiling {label} {constants:?}");
        let scope = self.raw.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = self.raw.push_error_scope(wgpu::ErrorFilter::Internal);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(kernel.joined_source().into()),
        };
        let module = if self.checked {
            self.raw.create_shader_module(descriptor)
        } else {
            trusted::create_unchecked(&self.raw, descriptor)
        };
        let group_layout = self
            .raw
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(&label),
                entries: &layout_entries(kernel),
            });
        let layout = self
            .raw
            .create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(&label),
                bind_group_layouts: &[Some(&group_layout)],
                ..Default::default()
            });
        let values: Vec<_> = constants
            .iter()
            .map(|c| (c.name, f64::from(c.value)))
            .collect();
        let pipeline = self
            .raw
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &values,
                    // Every kernel writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            });
        let errors = [
            wait::for_answer(internal.pop()),
            wait::for_answer(scope.pop()),
        ];
        match errors.into_iter().flatten().next() {
            None => Ok(pipeline),
            Some(error) => Err(GpuError::Shader {
                kernel: label,
                message: error.to_string(),
                source_text: kernel.numbered_source(),
            }),
        }
    }
}

fn layout_entries(kernel: &Kernel) -> Vec<wgpu::BindGroupLayoutEntry> {
    let uniform = wgpu::BindingType::Buffer {
        ty: wgpu::BufferBindingType::Uniform,
        has_dynamic_offset: false,
        min_binding_size: wgpu::BufferSize::new(kernel.params.size as u64),
    };
    let bindings = kernel.bindings.iter().map(|binding| match binding.role {
        // Not sampled: with 8x8 outputs a lane, a product of 512x512x512 then takes lavapipe twice
        // as long (17.4 against 7.5 ms).
        role if role.is_texture() => wgpu::BindingType::StorageTexture {
            access: if role.is_written() {
                wgpu::StorageTextureAccess::WriteOnly
            } else {
                wgpu::StorageTextureAccess::ReadOnly
            },
            format: wgpu::TextureFormat::Rgba32Float,
            view_dimension: wgpu::TextureViewDimension::D2,
        },
        role => wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage {
                read_only: !role.is_written(),
            },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
    });
    std::iter::once(uniform)
        .chain(bindings)
        .zip(0..)
        .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty,
            count: None,
        })
        .collect()
}

/// Rows of the square matrices that a device of `features` multiplies, f16 operands with f32 sums; none
/// where it lacks what shaders use beside them.
fn matrix_sides(adapter: &wgpu::Adapter, features: wgpu::Features) -> Vec<u32> {
    use wgpu::CooperativeScalarType::{F16, F32};
    if !features.contains(adapter::MATRIX_FEATURES) {
        return Vec::new();
    }
    let all = adapter.cooperative_matrix_properties().into_iter();
    let usable = all.filter(|p| {
        let is_square = p.m_size == p.n_size && p.n_size == p.k_size;
        is_square && (p.ab_type, p.cr_type) == (F16, F32) && !p.saturating_accumulation
    });
    usable.map(|p| p.m_size).collect()
}

/// An adapter below WebGPU's defaults (some OpenGL ones) is refused.
fn check_floor(adapter: &str, limits: &wgpu::Limits) -> Result<(), GpuError> {
    match limits::below_floor(limits) {
        None => Ok(()),
        Some(what) => Err(GpuError::MissingFeature {
            adapter: adapter.to_owned(),
            what,
        }),
    }
}

fn watch_failures(device: &wgpu::Device, failure: &Arc<Mutex<Option<String>>>) {
    let keep_first = |slot: &Mutex<Option<String>>, message: String| {
        slot.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(message);
    };
    let slot = failure.clone();
    device.on_uncaptured_error(Arc::new(move |error| keep_first(&slot, error.to_string())));
    let slot = failure.clone();
    device.set_device_lost_callback(move |reason, message| {
        // Dropping the device at the end of a run is reported here too.
        if reason != wgpu::DeviceLostReason::Destroyed {
            keep_first(&slot, format!("device lost: {message}"));
        }
    });
}
