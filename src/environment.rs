//! What of the process's environment libraries below us are kept from complaining about.
#![allow(
    unsafe_code,
    reason = "changing the environment is unsafe; the proof is beside the call"
)]

/// Mesa's Vulkan layer that finds the default device asks Wayland for it, whose library prints an error
/// to stderr at each look where there is no runtime folder, as on a headless machine. With a folder that
/// does not exist it finds no display without a word.
pub(crate) fn keep_wayland_quiet() {
    const FOLDER: &str = "XDG_RUNTIME_DIR";
    if cfg!(target_os = "linux") && std::env::var_os(FOLDER).is_none() {
        // SAFETY: `main` calls this first, when the process has no other thread.
        unsafe { std::env::set_var(FOLDER, "/nonexistent") }
    }
}
