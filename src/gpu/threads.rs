//! Where the threads of a software adapter run.
//!
//! llvmpipe runs shaders on a thread for each core. Each dispatch wakes them all at once, from a
//! thread that is about to sleep itself, and Linux often puts them on one core for as long as a
//! short dispatch lasts: on two cores, steps of model S took 150 or 230 ms by turns. With a core
//! for each thread they take 150.

/// Runs `make`, and gives each thread that llvmpipe starts for shaders meanwhile a core of its own.
#[cfg(not(target_os = "linux"))]
pub(super) fn pin_those_of_llvmpipe<T>(make: impl FnOnce() -> T) -> T {
    make()
}

/// Runs `make`, and gives each thread that llvmpipe starts for shaders meanwhile a core of its own.
///
/// Nothing is pinned where the threads are not as many as the cores that the process may use, as
/// when the user has set `LP_NUM_THREADS`.
#[cfg(target_os = "linux")]
pub(super) fn pin_those_of_llvmpipe<T>(make: impl FnOnce() -> T) -> T {
    let before = threads();
    let made = make();
    let mut new = threads();
    new.retain(|thread| !before.contains(thread));
    let own_name = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
    pin(&shader_threads(&new, own_name.trim_end()));
    made
}

/// Number and name of each thread of this process, in the order of their start.
#[cfg(target_os = "linux")]
fn threads() -> Vec<(i32, String)> {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let mut threads: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let id = path.file_name()?.to_str()?.parse().ok()?;
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            Some((id, name.trim_end().to_owned()))
        })
        .collect();
    threads.sort();
    threads
}

/// Those that run shaders: llvmpipe starts as many threads that draw, which have its name, and then
/// these, which keep the name of the thread that starts them.
#[cfg(target_os = "linux")]
fn shader_threads(new: &[(i32, String)], own_name: &str) -> Vec<i32> {
    let draws = |name: &str| name.starts_with("llvmpipe-");
    let count = new.iter().filter(|(_, name)| draws(name)).count();
    let after_drawing = new
        .iter()
        .rposition(|(_, name)| draws(name))
        .map_or(new.len(), |last| last + 1);
    let found: Vec<i32> = new[after_drawing..]
        .iter()
        .filter(|(_, name)| name == own_name)
        .map(|(id, _)| *id)
        .take(count)
        .collect();
    if found.len() == count {
        found
    } else {
        Vec::new()
    }
}

/// A core for each, if there are as many. A thread that cannot be moved stays where it is.
#[cfg(target_os = "linux")]
fn pin(ids: &[i32]) {
    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&c| allowed.is_set(c))
        .collect();
    if ids.len() != cores.len() {
        return;
    }
    for (&id, core) in ids.iter().zip(cores) {
        let mut own = CpuSet::new();
        own.set(core);
        let done = Pid::from_raw(id).map(|pid| sched_setaffinity(Some(pid), &own));
        tracing::debug!("shader thread {id} of llvmpipe on core {core}: {done:?}");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::shader_threads;

    fn named(threads: &[(i32, &str)]) -> Vec<(i32, String)> {
        threads
            .iter()
            .map(|(id, n)| (*id, (*n).to_owned()))
            .collect()
    }

    #[test]
    fn shader_threads_are_the_unnamed_ones_after_those_that_draw() {
        let new = [
            (2, "gpu-tlm"),
            (3, "llvmpipe-0"),
            (4, "llvmpipe-1"),
            (5, "gpu-tlm"),
            (6, "gpu-tlm"),
            (7, "gpu-tlm:disk$0"),
            (8, "gpu-tlm"),
        ];
        assert_eq!(shader_threads(&named(&new), "gpu-tlm"), [5, 6]);
    }

    #[test]
    fn other_drivers_threads_are_left_alone() {
        let other = [(2, "gpu-tlm"), (3, "gpu-tlm")];
        assert!(shader_threads(&named(&other), "gpu-tlm").is_empty());
        let renamed = [
            (2, "llvmpipe-0"),
            (3, "llvmpipe-1"),
            (4, "cs-0"),
            (5, "cs-1"),
        ];
        assert!(shader_threads(&named(&renamed), "gpu-tlm").is_empty());
        assert!(shader_threads(&[], "gpu-tlm").is_empty());
    }
}
