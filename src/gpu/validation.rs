//! Vulkan's validation layers: an instance that has them, and what they said.
//!
//! wgpu hands their messages to the program's log and goes on. [`listen`] gives a layer of that log
//! which keeps them, and [`verdict`] makes any of them fail the run.
#![allow(
    unsafe_code,
    reason = "wgpu makes no instance with a messenger and without debug information in SPIR-V"
)]

use std::fmt::Write;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::{Backend, GpuError};

/// The module of wgpu-hal whose callback logs the messages.
const SOURCE: &str = "wgpu_hal::vulkan::instance";
/// What the layer says of itself when an instance is made: the proof that it is there, that its
/// messages reach us and that we can read them.
const PRESENT: &str = "Khronos Validation Layer Active";

static HEARD: OnceLock<Heard> = OnceLock::new();

/// What the layers said.
#[derive(Debug, Default)]
struct Heard(Mutex<Inner>);

#[derive(Clone, Debug, Default)]
struct Inner {
    present: bool,
    faults: usize,
    first: String,
}

/// From now on instances are made with the validation layers. Gives the layer of the log that hears
/// them; without it in the program's subscriber no adapter will be found.
pub fn listen<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    listener(HEARD.get_or_init(Heard::default))
}

/// How many messages the layers have given; `None` where nobody listens.
pub fn faults() -> Option<usize> {
    HEARD.get().map(|heard| heard.inner().faults)
}

/// Whether everything went by without a message of the layers, or nobody listens.
///
/// # Errors
/// When there was one.
pub fn verdict() -> Result<(), GpuError> {
    HEARD.get().map_or(Ok(()), Heard::verdict)
}

/// An instance of Vulkan with the layers if [`listen`] was called, else `None`.
///
/// # Errors
/// When `backend` is another, or the layers are not heard.
pub(super) fn instance(backend: Option<Backend>) -> Result<Option<wgpu::Instance>, GpuError> {
    let Some(heard) = HEARD.get() else {
        return Ok(None);
    };
    let missing = |reason: String| GpuError::NoValidation { reason };
    if backend.is_some_and(|backend| backend != Backend::Vulkan) {
        return Err(missing("they are those of the backend Vulkan".to_owned()));
    }
    let instance = vulkan_instance().map_err(missing)?;
    if heard.inner().present {
        Ok(Some(instance))
    } else {
        let reason = "Vulkan loads none; install them (Debian and Ubuntu: `apt-get install \
                      vulkan-validationlayers`, elsewhere the Vulkan SDK)";
        Err(missing(reason.to_owned()))
    }
}

/// As wgpu makes it with its flags `VALIDATION` and `DEBUG`, except that SPIR-V keeps no trace of
/// its source: the layers of Vulkan 1.3.239 do not know the number of WGSL and take such a module
/// for invalid, and look no further into it.
#[cfg(not(target_vendor = "apple"))]
fn vulkan_instance() -> Result<wgpu::Instance, String> {
    use wgpu::hal::vulkan;

    let descriptor = wgpu::hal::InstanceDescriptor {
        name: "gpu-tlm",
        flags: wgpu::InstanceFlags::VALIDATION,
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds::default(),
        backend_options: wgpu::BackendOptions::default(),
        telemetry: None,
        display: None,
    };
    let messenger: Box<vulkan::CreateInstanceCallback<'_>> =
        Box::new(|arguments| arguments.extensions.push(c"VK_EXT_debug_utils"));
    // SAFETY: the callback adds an extension to the list and nothing else; where the loader does
    // not know it, Vulkan refuses to make the instance.
    let raw = unsafe { vulkan::Instance::init_with_callback(&descriptor, Some(messenger)) }
        .map_err(|error| error.to_string())?;
    // SAFETY: the instance was made just now and is given away whole.
    Ok(unsafe { wgpu::Instance::from_hal::<wgpu::hal::api::Vulkan>(raw) })
}

#[cfg(target_vendor = "apple")]
fn vulkan_instance() -> Result<wgpu::Instance, String> {
    Err("this program runs on Metal here".to_owned())
}

impl Heard {
    fn inner(&self) -> Inner {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.clone()
    }

    /// Takes one record of the log: `VALIDATION [name (number)]`, then the message. Those of type
    /// `GENERAL` are the Vulkan loader's.
    fn note(&self, level: Level, text: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.present |= text.contains(PRESENT);
        let of_the_layers = text.starts_with("VALIDATION") || text.contains("PERFORMANCE");
        if level <= Level::WARN && of_the_layers {
            inner.faults += 1;
            if inner.first.is_empty() {
                text.lines()
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut inner.first);
            }
        }
    }

    fn verdict(&self) -> Result<(), GpuError> {
        let Inner { faults, first, .. } = self.inner();
        if faults == 0 {
            return Ok(());
        }
        Err(GpuError::Validation { faults, first })
    }
}

fn listener<S: Subscriber + for<'a> LookupSpan<'a>>(heard: &'static Heard) -> impl Layer<S> {
    let messages = Targets::new().with_target(SOURCE, LevelFilter::DEBUG);
    Listener(heard).with_filter(messages)
}

struct Listener(&'static Heard);

impl<S: Subscriber> Layer<S> for Listener {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.note(*event.metadata().level(), &text.0);
    }
}

/// The text of a log record.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_of_the_layers_fails_the_run_and_what_the_loader_says_does_not() {
        let heard = Heard::default();
        heard.note(
            Level::DEBUG,
            "VALIDATION [status (0x0)]\n\tKhronos Validation Layer Active:",
        );
        heard.note(
            Level::DEBUG,
            "VALIDATION [Best-Practices (0x1)]\n\tinformation",
        );
        heard.note(
            Level::WARN,
            "GENERAL [Loader Message (0x0)]\n\tno such driver",
        );
        heard.note(Level::WARN, "\tobjects: (type: DEVICE, hndl: 0x1, name: ?)");
        assert!(heard.verdict().is_ok());
        assert!(heard.inner().present);
        heard.note(Level::WARN, "PERFORMANCE [slow (0x2)]\n\tslow");
        heard.note(
            Level::ERROR,
            "VALIDATION | PERFORMANCE [VUID-1 (0x3)]\n\twrong",
        );
        heard.note(Level::ERROR, "VALIDATION [VUID-1 (0x3)]\n\twrong again");
        let message = heard.verdict().unwrap_err().to_string();
        assert!(
            message.contains("3 message(s)") && message.contains("slow (0x2)"),
            "{message}"
        );
    }

    #[test]
    fn the_log_record_of_wgpus_callback_is_heard() {
        use tracing_subscriber::layer::SubscriberExt;

        static HEARD: OnceLock<Heard> = OnceLock::new();
        let heard = HEARD.get_or_init(Heard::default);
        let subscriber = tracing_subscriber::registry().with(listener(heard));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "wgpu_hal::vulkan::device", "VALIDATION [a (0x0)]");
            tracing::error!(target: "wgpu_hal::vulkan::instance", "VALIDATION [b (0x0)]");
        });
        let message = heard.verdict().unwrap_err().to_string();
        assert!(
            message.contains("1 message(s)") && message.contains("b (0x0)"),
            "{message}"
        );
    }
}
