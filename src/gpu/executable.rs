//! A plan with its memory, pipelines and bind groups made: what is replayed every step.

use std::collections::HashMap;

use super::dispatch::{Bound, Dispatch, RowCopy, word};
use super::memory::{Buffers, PersistentId, create_buffer};
use super::plan::{PARAMS_STRIDE, Plan, SectionId, Storage, StorageKind};
use super::profile::{DispatchTime, Profile};
use super::recorder::Recorder;
use super::step::{Action, Step};
use super::texture::DeviceTexture;
use super::{Device, GpuError, Kernel, Readback};
use crate::parallel;

/// A compiled plan.
pub struct Executable {
    pub(super) steps: Vec<Step>,
    pub(super) sections: Vec<std::ops::Range<usize>>,
    pub(super) scratch: Scratch,
    /// For each storage of the plan its scratch buffer or texture, if it has one.
    pub(super) slots: Vec<Option<usize>>,
}

/// What stands behind a storage of the plan once allocated.
enum Backing<'a> {
    Buffer(&'a wgpu::Buffer),
    Texture(&'a DeviceTexture),
    /// Declared but never bound.
    None,
}

impl Executable {
    /// Allocates the plan's scratch memory, compiles its pipelines in parallel, and makes its
    /// bind groups.
    ///
    /// # Errors
    /// When memory, a limit or a shader compiler says no.
    pub fn compile(plan: &Plan, device: &Device, buffers: &Buffers) -> Result<Self, GpuError> {
        check_limits(plan, device)?;
        device.check_requirements(plan.dispatches.iter().map(|d| d.kernel))?;
        let layout = super::lifetimes::layout(plan);
        let scratch = allocate_scratch(device, &layout)?;
        let backings: Vec<_> = plan
            .storages
            .iter()
            .zip(&layout.slots)
            .map(|(storage, slot)| match (&storage.kind, slot) {
                (StorageKind::Persistent(id), _) => Backing::Buffer(buffers.get(*id)),
                (StorageKind::PersistentTexture { id, .. }, _) => {
                    Backing::Texture(buffers.texture(*id))
                }
                (StorageKind::Scratch { .. }, Some(slot)) => {
                    Backing::Buffer(&scratch.buffers[*slot])
                }
                (StorageKind::Texture { .. }, Some(slot)) => {
                    Backing::Texture(&scratch.textures[*slot])
                }
                (_, None) => Backing::None,
            })
            .collect();
        let params = ParamsBuffer::new(device, &plan.dispatches)?;
        let pipelines = parallel::map(&plan.dispatches, |dispatch| match dispatch.copy {
            Some(_) => Ok(None),
            None => device
                .pipeline(dispatch.kernel, &dispatch.constants)
                .map(Some),
        });
        let pipelines: Result<Vec<_>, _> = pipelines.into_iter().collect();
        let steps = pipelines?
            .into_iter()
            .zip(&plan.dispatches)
            .map(|(pipeline, dispatch)| Step {
                action: match (dispatch.copy, pipeline) {
                    (Some(copy), _) => copy_action(dispatch, copy, &backings),
                    (None, Some(pipeline)) => Action::Kernel {
                        bind_group: bind(device, dispatch, &pipeline, &backings, &params),
                        pipeline,
                    },
                    (None, None) => unreachable!("a dispatch is a copy or has a pipeline"),
                },
                kernel: dispatch.kernel,
                label: dispatch.label.clone(),
                flops: dispatch.flops,
                workgroups: dispatch.workgroups,
                work: dispatch.work(),
            })
            .collect();
        device.check()?;
        let sections = plan.sections.iter().map(|s| s.dispatches.clone()).collect();
        drop(backings);
        Ok(Self {
            steps,
            sections,
            scratch,
            slots: layout.slots,
        })
    }

    /// Records commands and submits them: as one where no watchdog is near, or else in pieces that
    /// each run for a fraction of a second at the device's measured speed.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn submit(
        &self,
        device: &Device,
        record: impl FnOnce(&mut Recorder<'_>),
    ) -> Result<(), GpuError> {
        let mut recorder = Recorder::new(self, device, None);
        record(&mut recorder);
        recorder.flush();
        device.check()
    }

    /// [`Executable::submit`], and asks for the first words of `source` as they are then.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn submit_and_read(
        &self,
        device: &Device,
        readback: &mut Readback,
        (buffers, source): (&Buffers, PersistentId),
        record: impl FnOnce(&mut Recorder<'_>),
    ) -> Result<(), GpuError> {
        let mut recorder = Recorder::new(self, device, None);
        record(&mut recorder);
        let staging = readback.staging(device);
        let size_bytes = readback.words() as u64 * 4;
        recorder
            .encoder
            .copy_buffer_to_buffer(buffers.get(source), 0, &staging, 0, size_bytes);
        let submission = recorder.flush();
        readback.expect(staging, submission);
        device.check()
    }

    /// [`Executable::submit`], with the time that each dispatch took; waits for all of them.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn submit_profiled(
        &self,
        device: &Device,
        record: impl FnOnce(&mut Recorder<'_>),
    ) -> Result<Vec<DispatchTime>, GpuError> {
        let mut recorder = Recorder::new(self, device, Some(Profile::new(device)));
        record(&mut recorder);
        recorder.flush();
        device.wait()?;
        match recorder.profile {
            Some(profile) => profile.times(device),
            None => Ok(Vec::new()),
        }
    }

    /// The steps of a section, those of `only` where it is given.
    pub(super) fn steps_of(
        &self,
        section: SectionId,
        only: Option<&'static Kernel>,
    ) -> impl Iterator<Item = &Step> {
        let steps = self.steps[self.sections[section.0].clone()].iter();
        steps.filter(move |step| only.is_none_or(|kernel| std::ptr::eq(kernel, step.kernel)))
    }

    /// Replays one section.
    ///
    /// # Errors
    /// When the device has failed.
    pub fn run(&self, device: &Device, section: SectionId) -> Result<(), GpuError> {
        self.submit(device, |recorder| recorder.replay(section))
    }

    /// Work of one replay of a section, in the unit of [`Device::note_speed`].
    pub fn work(&self, section: SectionId) -> u64 {
        let steps = &self.steps[self.sections[section.0].clone()];
        steps.iter().map(|step| step.work).sum()
    }
}

/// All `Params` of a plan in one uniform buffer, equal ones once.
struct ParamsBuffer {
    buffer: wgpu::Buffer,
    offsets: HashMap<Vec<u8>, u64>,
}

impl ParamsBuffer {
    fn new(device: &Device, dispatches: &[Dispatch]) -> Result<Self, GpuError> {
        let mut bytes = Vec::new();
        let mut offsets = HashMap::new();
        for dispatch in dispatches {
            offsets.entry(dispatch.params.clone()).or_insert_with(|| {
                let offset = bytes.len() as u64;
                bytes.extend_from_slice(&dispatch.params);
                bytes.resize(bytes.len().next_multiple_of(PARAMS_STRIDE), 0);
                offset
            });
        }
        let size = bytes.len().max(PARAMS_STRIDE) as u64;
        let limit_bytes = device.limits().max_buffer_size;
        if size > limit_bytes {
            let label = "params".to_owned();
            return Err(GpuError::OverLimit {
                label,
                size_bytes: size,
                limit_bytes,
                limit: "max_buffer_size",
            });
        }
        let buffer = device.raw.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        device.queue.write_buffer(&buffer, 0, &bytes);
        Ok(Self { buffer, offsets })
    }

    fn binding(&self, params: &[u8]) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.offsets[params],
            size: wgpu::BufferSize::new(params.len() as u64),
        })
    }
}

fn bind(
    device: &Device,
    dispatch: &Dispatch,
    pipeline: &wgpu::ComputePipeline,
    backings: &[Backing<'_>],
    params: &ParamsBuffer,
) -> wgpu::BindGroup {
    let resources = dispatch.bindings.iter().map(|bound| {
        match (bound, &backings[bound.storage().0 as usize]) {
            (Bound::Tensor(tensor), Backing::Buffer(buffer)) => {
                // Whole quads, for shaders that read four words at once: storages end at multiples
                // of 256 bytes, so there is something behind the last word.
                let size_bytes = tensor.size_bytes().next_multiple_of(16);
                wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: tensor.offset as u64 * 4,
                    size: wgpu::BufferSize::new(size_bytes),
                })
            }
            (Bound::Texture(_), Backing::Texture(texture)) => {
                wgpu::BindingResource::TextureView(&texture.view)
            }
            _ => unreachable!("the layout backs every bound storage with its own kind"),
        }
    });
    let entries: Vec<_> = std::iter::once(params.binding(&dispatch.params))
        .chain(resources)
        .zip(0..)
        .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
        .collect();
    device.raw.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(&dispatch.label),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    })
}

fn copy_action(dispatch: &Dispatch, copy: RowCopy, backings: &[Backing<'_>]) -> Action {
    let [from, to] = [0, 1].map(|at| &dispatch.bindings[at]);
    let backing = |bound: &Bound| &backings[bound.storage().0 as usize];
    match (from, to, backing(from), backing(to)) {
        (
            Bound::Tensor(tensor),
            Bound::Texture(_),
            Backing::Buffer(buffer),
            Backing::Texture(to),
        ) => Action::Copy {
            buffer: (*buffer).clone(),
            layout: wgpu::TexelCopyBufferLayout {
                offset: (tensor.offset + copy.first) as u64 * 4,
                bytes_per_row: Some(word(copy.row_stride * 4)),
                rows_per_image: None,
            },
            texture: to.texture.clone(),
            size: wgpu::Extent3d {
                width: word(copy.cols / 4),
                height: word(copy.rows),
                depth_or_array_layers: 1,
            },
        },
        _ => unreachable!("rows are copied from a buffer to a texture"),
    }
}

pub(super) struct Scratch {
    pub(super) buffers: Vec<wgpu::Buffer>,
    pub(super) textures: Vec<DeviceTexture>,
}

fn allocate_scratch(
    device: &Device,
    layout: &super::lifetimes::Layout,
) -> Result<Scratch, GpuError> {
    let mut before_bytes = 0;
    let mut buffers = Vec::with_capacity(layout.buffers.len());
    for (label, words) in &layout.buffers {
        let size_bytes = *words as u64 * 4;
        buffers.push(create_buffer(device, label, size_bytes, before_bytes)?);
        before_bytes += size_bytes;
    }
    let mut textures = Vec::with_capacity(layout.textures.len());
    for (label, width, height) in &layout.textures {
        let size_bytes = u64::from(*width) * u64::from(*height) * 16;
        let sides = (*width, *height);
        textures.push(DeviceTexture::create(device, label, sides, before_bytes)?);
        before_bytes += size_bytes;
    }
    Ok(Scratch { buffers, textures })
}

/// Refuses what the device would refuse, with the tensor's name and the limit's; worth a call
/// before the plan's buffers are allocated.
///
/// # Errors
/// When a tensor or texture is over a limit.
pub fn check_limits(plan: &Plan, device: &Device) -> Result<(), GpuError> {
    let limits = device.limits();
    let limit_bytes = limits.max_storage_buffer_binding_size;
    for bound in plan.dispatches.iter().flat_map(|d| &d.bindings) {
        let Storage { label, kind } = &plan.storages[bound.storage().0 as usize];
        match (bound, kind) {
            (Bound::Tensor(tensor), _) if tensor.size_bytes() > limit_bytes => {
                return Err(GpuError::OverLimit {
                    label: label.clone(),
                    size_bytes: tensor.size_bytes(),
                    limit_bytes,
                    limit: "max_storage_buffer_binding_size",
                });
            }
            (
                _,
                StorageKind::Texture { width, height }
                | StorageKind::PersistentTexture { width, height, .. },
            ) if *width.max(height) > limits.max_texture_dimension_2d => {
                return Err(GpuError::OverLimit {
                    label: label.clone(),
                    size_bytes: u64::from(*width.max(height)) * 16,
                    limit_bytes: u64::from(limits.max_texture_dimension_2d) * 16,
                    limit: "max_texture_dimension_2d",
                });
            }
            _ => {}
        }
    }
    Ok(())
}
