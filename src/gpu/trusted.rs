//! The one place that creates shader modules without runtime checks, and that asks for what wgpu calls
//! experimental.
#![allow(
    unsafe_code,
    reason = "wgpu's unchecked shader modules and matrices; the proofs are beside the calls"
)]

/// Consent to cooperative matrices where `features` have them.
pub(super) fn cooperative_matrices(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if !features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: what may go wrong in wgpu 30 with them is a shader that is translated wrongly, and each of
    // those that use them is held against the reference before a device's plans take it unasked.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// Creates a shader module without bounds checks, loop guards and division checks.
///
/// Only for kernels of [`crate::kernels::ALL`], whose source is part of this binary.
pub(super) fn create_unchecked(
    device: &wgpu::Device,
    descriptor: wgpu::ShaderModuleDescriptor<'_>,
) -> wgpu::ShaderModule {
    // SAFETY: the source is ours and not user input. Each kernel guards its indices by the sizes
    // in `Params`, which the typed functions of `crate::kernels` take from the bound tensors;
    // the texture variants of `matmul` alone read without guards, from textures of whole
    // tiles (`texture_sides`, `COLS_MULTIPLE`), and lanes of a shuffle are constants below the subgroup size that the
    // kernel requires; what is read in quads of words is bound as whole quads; every loop counts up
    // to a bound from `Params`; every divisor is a shape that `config` has checked to be at least
    // one. The parity tests run each kernel on ragged shapes, and a test of whole steps wants the
    // same bits with and without the checks, so an access that a check would have redirected shows.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}
