//! The steps of a compiled plan, and how they are recorded: kernels in passes, copies between them.

use std::sync::Arc;

use super::Kernel;
use super::profile::DispatchTime;

/// One launch or copy, with everything that it binds made.
pub(super) struct Step {
    pub(super) kernel: &'static Kernel,
    pub(super) label: String,
    pub(super) flops: u64,
    pub(super) workgroups: [u32; 3],
    pub(super) action: Action,
    /// Operations and bytes: the unit in which the watchdog's budget is counted.
    pub(super) work: u64,
}

/// What a step does.
pub(super) enum Action {
    Kernel {
        pipeline: Arc<wgpu::ComputePipeline>,
        bind_group: wgpu::BindGroup,
    },
    Copy {
        buffer: wgpu::Buffer,
        layout: wgpu::TexelCopyBufferLayout,
        texture: wgpu::Texture,
        size: wgpu::Extent3d,
    },
}

impl Step {
    pub(super) fn untimed(&self) -> DispatchTime {
        DispatchTime {
            label: self.label.clone(),
            workgroups: self.workgroups,
            flops: self.flops,
            start_us: 0.0,
            duration_us: 0.0,
        }
    }

    /// Whether it runs between passes and not in one.
    pub(super) fn is_copy(&self) -> bool {
        matches!(self.action, Action::Copy { .. })
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.workgroups;
        tracing::trace!(
            "{}.{} {x} x {y} x {z}",
            self.kernel.name,
            self.kernel.variant
        );
        if let Action::Kernel {
            pipeline,
            bind_group,
        } = &self.action
        {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }

    fn record_copy(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Action::Copy {
            buffer,
            layout,
            texture,
            size,
        } = &self.action
        {
            tracing::trace!("copy for {}", self.label);
            let source = wgpu::TexelCopyBufferInfo {
                buffer,
                layout: *layout,
            };
            let to = wgpu::TexelCopyTextureInfo {
                origin: wgpu::Origin3d::ZERO,
                ..texture.as_image_copy()
            };
            encoder.copy_buffer_to_texture(source, to, *size);
        }
    }
}

/// Where two timestamps go, of the beginning and of the end: a set, and the first one's index.
pub(super) type Clock<'a> = (&'a wgpu::QuerySet, u32);

/// Records steps in order: those in a row that run kernels share a pass.
pub(super) fn record_steps(
    encoder: &mut wgpu::CommandEncoder,
    label: &str,
    steps: &[&Step],
    clock: Option<Clock<'_>>,
) {
    let copies = steps.iter().any(|step| step.is_copy());
    // Passes keep time for what is in them, and copies are in none.
    if copies {
        stamp(encoder, label, clock, 0);
    }
    let in_passes = clock.filter(|_| !copies);
    for run in steps.chunk_by(|a, b| !a.is_copy() && !b.is_copy()) {
        if run[0].is_copy() {
            run[0].record_copy(encoder);
            continue;
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some(label),
            timestamp_writes: in_passes.map(|(query_set, first)| {
                wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }
            }),
        });
        for step in run {
            step.record(&mut pass);
        }
    }
    if copies {
        stamp(encoder, label, clock, 1);
    }
}

/// Writes one of two timestamps by a pass without commands.
fn stamp(encoder: &mut wgpu::CommandEncoder, label: &str, clock: Option<Clock<'_>>, which: u32) {
    if let Some((query_set, first)) = clock {
        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some(label),
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(first + which),
                end_of_pass_write_index: None,
            }),
        });
    }
}
