//! What can go wrong between us and an adapter, and what the user can do about it.

/// An error of the device layer.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// No adapter at all was found on the backends that were asked for.
    #[error(
        "no GPU adapter found on backend {backends}; install a Vulkan driver (Debian and Ubuntu: \
         `apt-get install mesa-vulkan-drivers`, which also brings a software adapter) or choose \
         another backend"
    )]
    NoAdapter {
        /// The backends that were searched.
        backends: String,
    },
    /// Adapters exist, but none matches `--adapter`.
    #[error("no adapter matches '{wanted}'; there are: {found}")]
    NoSuchAdapter {
        /// The index or name part that was asked for.
        wanted: String,
        /// What there is, as `index: name` pairs.
        found: String,
    },
    /// An unknown backend name.
    #[error("unknown backend '{0}'; use vulkan, metal, dx12 or gl")]
    UnknownBackend(String),
    /// The adapter refused to open a device.
    #[error(
        "adapter '{adapter}' gave no device ({reason}); update its driver or choose another adapter"
    )]
    NoDevice {
        /// Name of the adapter.
        adapter: String,
        /// The driver's reason.
        reason: String,
    },
    /// The adapter lacks something that every kernel needs.
    #[error("adapter '{adapter}' lacks {what}; choose another adapter")]
    MissingFeature {
        /// Name of the adapter.
        adapter: String,
        /// The missing feature or limit.
        what: String,
    },
    /// A single allocation is larger than the adapter allows.
    #[error(
        "'{label}' needs {size_bytes} bytes, over this adapter's limit of {limit_bytes} \
         ({limit}); lower vocab_size, d_model, batch_size or context_length, or set micro_batch_size"
    )]
    OverLimit {
        /// Label of the buffer or texture.
        label: String,
        /// Bytes asked for.
        size_bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
        /// Name of the limit.
        limit: &'static str,
    },
    /// The device ran out of memory.
    #[error(
        "out of device memory at '{label}' ({size_bytes} bytes, after {before_bytes} bytes); \
         lower vocab_size, d_model, batch_size or context_length, or set micro_batch_size"
    )]
    OutOfMemory {
        /// Label of the buffer that did not fit.
        label: String,
        /// Its size in bytes.
        size_bytes: u64,
        /// Bytes already allocated for the same plan.
        before_bytes: u64,
    },
    /// A kernel cannot run the shape on this adapter.
    #[error("kernel '{kernel}' cannot run: {reason}")]
    Unsupported {
        /// Name of the kernel.
        kernel: String,
        /// The limit that stands in the way.
        reason: String,
    },
    /// A shader does not compile: our bug or the driver's.
    #[error("shader '{kernel}' does not compile: {message}\n{source_text}")]
    Shader {
        /// Name of the kernel.
        kernel: String,
        /// The compiler's message.
        message: String,
        /// The joined source with the names of its files.
        source_text: String,
    },
    /// The device reported an error while it ran.
    #[error(
        "the device failed: {0}; run again with checked shaders to find the dispatch, or update the driver"
    )]
    Device(String),
    /// Vulkan's validation layers were asked for and are not there.
    #[error("no Vulkan validation layers: {reason}")]
    NoValidation {
        /// How that is known, and what to do.
        reason: String,
    },
    /// Vulkan's validation layers found fault with a run.
    #[error("Vulkan's validation layers gave {faults} message(s), the first of them: {first}")]
    Validation {
        /// Number of messages.
        faults: usize,
        /// The first.
        first: String,
    },
}

impl GpuError {
    /// Whether the adapter is sound but too small for what was asked of it.
    pub fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::Unsupported { .. }
                | Self::MissingFeature { .. }
                | Self::OverLimit { .. }
                | Self::OutOfMemory { .. }
        )
    }

    /// Whether the request was wrong, rather than the run failed.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoSuchAdapter { .. } | Self::UnknownBackend(_))
    }
}
