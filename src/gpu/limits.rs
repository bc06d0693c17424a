//! The portable floor: one table of the limits that kernels and plans meet, with WebGPU's default
//! beside each, what an adapter has of it, and what a pipeline takes.

use super::kernel::Kernel;
use super::translate::Translated;

/// One limit of a device.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// wgpu's name, with its unit.
    pub name: &'static str,
    /// WebGPU's default, which every WebGPU adapter has: no kernel may take more.
    pub floor: u64,
    of: fn(&wgpu::Limits) -> u64,
    taken: Taken,
}

/// What decides how much is taken of a limit.
#[derive(Clone, Copy, Debug)]
enum Taken {
    /// The shader and its constants.
    ByPipeline(fn(&Kernel, &Translated) -> u64),
    /// The sizes of a model's tensors; plans split what is too large.
    BySizes,
}

/// Name of the limit on the bytes that a workgroup's lanes share.
pub const WORKGROUP_MEMORY: &str = "max_compute_workgroup_storage_size_bytes";

/// Every limit that decides which kernels and shapes run.
pub const LIMITS: [Limit; 15] = [
    Limit {
        name: "max_compute_invocations_per_workgroup",
        floor: 256,
        of: |limits| limits.max_compute_invocations_per_workgroup.into(),
        taken: Taken::ByPipeline(|_, shader| {
            shader.workgroup_size.into_iter().map(u64::from).product()
        }),
    },
    Limit {
        name: "max_compute_workgroup_size_x",
        floor: 256,
        of: |limits| limits.max_compute_workgroup_size_x.into(),
        taken: Taken::ByPipeline(|_, shader| shader.workgroup_size[0].into()),
    },
    Limit {
        name: "max_compute_workgroup_size_y",
        floor: 256,
        of: |limits| limits.max_compute_workgroup_size_y.into(),
        taken: Taken::ByPipeline(|_, shader| shader.workgroup_size[1].into()),
    },
    Limit {
        name: "max_compute_workgroup_size_z",
        floor: 64,
        of: |limits| limits.max_compute_workgroup_size_z.into(),
        taken: Taken::ByPipeline(|_, shader| shader.workgroup_size[2].into()),
    },
    Limit {
        name: WORKGROUP_MEMORY,
        floor: 16 << 10,
        of: |limits| limits.max_compute_workgroup_storage_size.into(),
        taken: Taken::ByPipeline(|_, shader| shader.workgroup_bytes.into()),
    },
    Limit {
        name: "max_storage_buffers_per_shader_stage",
        floor: 8,
        of: |limits| limits.max_storage_buffers_per_shader_stage.into(),
        taken: Taken::ByPipeline(|kernel, _| bindings(kernel, false)),
    },
    Limit {
        name: "max_storage_textures_per_shader_stage",
        floor: 4,
        of: |limits| limits.max_storage_textures_per_shader_stage.into(),
        taken: Taken::ByPipeline(|kernel, _| bindings(kernel, true)),
    },
    Limit {
        name: "max_uniform_buffers_per_shader_stage",
        floor: 12,
        of: |limits| limits.max_uniform_buffers_per_shader_stage.into(),
        taken: Taken::ByPipeline(|_, _| 1),
    },
    Limit {
        name: "max_uniform_buffer_binding_size_bytes",
        floor: 64 << 10,
        of: |limits| limits.max_uniform_buffer_binding_size,
        taken: Taken::ByPipeline(|kernel, _| kernel.params.size as u64),
    },
    Limit {
        name: "max_bindings_per_bind_group",
        floor: 1000,
        of: |limits| limits.max_bindings_per_bind_group.into(),
        taken: Taken::ByPipeline(|kernel, _| kernel.bindings.len() as u64 + 1),
    },
    Limit {
        name: "max_bind_groups",
        floor: 4,
        of: |limits| limits.max_bind_groups.into(),
        taken: Taken::ByPipeline(|_, _| 1),
    },
    Limit {
        name: "max_compute_workgroups_per_dimension",
        floor: 65_535,
        of: |limits| limits.max_compute_workgroups_per_dimension.into(),
        taken: Taken::BySizes,
    },
    Limit {
        name: "max_storage_buffer_binding_size_bytes",
        floor: 128 << 20,
        of: |limits| limits.max_storage_buffer_binding_size,
        taken: Taken::BySizes,
    },
    Limit {
        name: "max_buffer_size_bytes",
        floor: 256 << 20,
        of: |limits| limits.max_buffer_size,
        taken: Taken::BySizes,
    },
    Limit {
        name: "max_texture_dimension_2d",
        floor: 8192,
        of: |limits| limits.max_texture_dimension_2d.into(),
        taken: Taken::BySizes,
    },
];

impl Limit {
    /// How much of it a pipeline takes; `None` where that depends on the sizes of tensors.
    pub fn taken_by(&self, kernel: &Kernel, shader: &Translated) -> Option<u64> {
        match self.taken {
            Taken::ByPipeline(taken) => Some(taken(kernel, shader)),
            Taken::BySizes => None,
        }
    }

    /// What an adapter or a device has of it.
    pub(super) fn of(&self, limits: &wgpu::Limits) -> u64 {
        (self.of)(limits)
    }
}

/// What a device has of each of [`LIMITS`], in their order.
#[derive(Clone, Debug)]
pub struct LimitValues([u64; LIMITS.len()]);

impl LimitValues {
    /// Those of a device that has no more than the floor.
    pub fn floor() -> Self {
        Self(LIMITS.map(|limit| limit.floor))
    }

    pub(super) fn of(limits: &wgpu::Limits) -> Self {
        Self(LIMITS.map(|limit| limit.of(limits)))
    }

    /// The same with another value of the limit of this name.
    #[cfg(test)]
    pub(crate) fn with(mut self, name: &str, value: u64) -> Self {
        let index = LIMITS.iter().position(|limit| limit.name == name);
        self.0[index.expect("a limit's name")] = value;
        self
    }

    /// The value of the limit of this name.
    ///
    /// # Panics
    /// If there is none: a bug in a kernel's table.
    pub fn get(&self, name: &str) -> u64 {
        let index = LIMITS.iter().position(|limit| limit.name == name);
        self.0[index.unwrap_or_else(|| panic!("no limit is called '{name}'"))]
    }
}

/// The first limit below the floor that some kernel may need, in words. Where sizes decide, a small
/// model may still fit.
pub(super) fn below_floor(limits: &wgpu::Limits) -> Option<String> {
    let needed = |limit: &&Limit| matches!(limit.taken, Taken::ByPipeline(_));
    let short = LIMITS
        .iter()
        .filter(needed)
        .find(|l| l.of(limits) < l.floor)?;
    Some(format!(
        "the portable floor: its {} is {} and has to be {}",
        short.name,
        short.of(limits),
        short.floor
    ))
}

fn bindings(kernel: &Kernel, textures: bool) -> u64 {
    let roles = kernel.bindings.iter().map(|binding| binding.role);
    roles.filter(|role| role.is_texture() == textures).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_webgpus_default() {
        for limit in LIMITS {
            assert_eq!(
                limit.floor,
                limit.of(&wgpu::Limits::default()),
                "{}",
                limit.name
            );
        }
    }

    #[test]
    fn an_adapter_below_the_floor_is_told_which_limit_is_short() {
        assert_eq!(below_floor(&wgpu::Limits::default()), None);
        let small_textures = wgpu::Limits {
            max_texture_dimension_2d: 4096,
            ..wgpu::Limits::default()
        };
        assert_eq!(below_floor(&small_textures), None);
        let few_buffers = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 4,
            ..wgpu::Limits::default()
        };
        let message = below_floor(&few_buffers).unwrap();
        for part in ["max_storage_buffers_per_shader_stage is 4", "to be 8"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
