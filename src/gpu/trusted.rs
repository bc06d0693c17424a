//! Every unsafe call, with its proof beside it.
#![allow(
    unsafe_code,
    reason = "wgpu's unchecked shader modules and the process environment"
)]

/// The setting of Mesa's llvmpipe for the threads that run shaders.
const LLVMPIPE_THREADS: &str = "LP_NUM_THREADS";

/// Gives llvmpipe four threads on a machine of two cores, unless the user has set their number.
///
/// Its own choice is a thread a core. A dispatch wakes both at once, and Linux often puts both on
/// one core for as long as a short dispatch lasts: steps of model S took 150 or 230 ms by turns,
/// and with four threads 154. Call it first in `main`, before any other thread exists.
pub fn spread_llvmpipe_threads() {
    let cores = std::thread::available_parallelism();
    let is_set = std::env::var_os(LLVMPIPE_THREADS).is_some();
    if !is_set && cores.is_ok_and(|cores| cores.get() == 2) {
        // SAFETY: no other thread reads or writes the environment yet, as the caller promises.
        unsafe { std::env::set_var(LLVMPIPE_THREADS, "4") };
    }
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
    // the texture variants of `matmul` alone read without guards, from textures that `matmul_stage`
    // pads to whole tiles, and lanes of a shuffle are constants below the subgroup size that the
    // kernel requires; what is read in quads of words is bound as whole quads; every loop counts up
    // to a bound from `Params`; every divisor is a shape that `config` has checked to be at least
    // one. The parity tests run each kernel on ragged shapes, and a test of whole steps wants the
    // same bits with and without the checks, so an access that a check would have redirected shows.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}
