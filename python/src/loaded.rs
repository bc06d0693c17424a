//! What a model holds on a device, which one thread uses at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use gpu_tlm::config::ModelConfig;
use gpu_tlm::decode::{BatchLogits, Generator, InferenceModel};
use gpu_tlm::gpu::Device;
use gpu_tlm::train::gradients::Gradients;
use gpu_tlm::weights::HostTensor;

use crate::errors::{Failure, GpuTlmError};

/// What a model holds until it is closed.
pub(crate) struct Loaded {
    pub(crate) device: Device,
    pub(crate) values: Arc<[HostTensor]>,
    pub(crate) logits: Option<BatchLogits>,
    pub(crate) gradients: Option<Gradients>,
    pub(crate) generator: Option<Generator>,
}

impl Loaded {
    pub(crate) fn new(device: Device, values: Arc<[HostTensor]>) -> Self {
        Self {
            device,
            values,
            logits: None,
            gradients: None,
            generator: None,
        }
    }

    pub(crate) fn model(&self, config: &ModelConfig) -> InferenceModel {
        let words = self.device.target().max_binding_words;
        InferenceModel::of_values(config, self.values.clone(), words)
    }

    /// A generator for so many sequences at once, which has none under way.
    pub(crate) fn take_generator(
        &mut self,
        config: &ModelConfig,
        slots: usize,
    ) -> Result<Generator, Failure> {
        match self.generator.take() {
            Some(generator) if generator.slots() >= slots && generator.active() == 0 => {
                Ok(generator)
            }
            _ => {
                let model = self.model(config);
                Ok(Generator::new(self.device.clone(), model, slots)?)
            }
        }
    }
}

/// What is loaded, until it is closed.
pub(crate) struct Shared {
    loaded: Mutex<Option<Loaded>>,
    /// The thread that uses it.
    user: Mutex<Option<ThreadId>>,
}

impl Shared {
    pub(crate) fn new(loaded: Loaded) -> Self {
        Self {
            loaded: Mutex::new(Some(loaded)),
            user: Mutex::new(None),
        }
    }

    /// Waits until no other thread uses it. This one, which a callback may be of, would wait for ever.
    pub(crate) fn lock(&self) -> Result<Used<'_>, Failure> {
        let user = || self.user.lock().unwrap_or_else(PoisonError::into_inner);
        let own = thread::current().id();
        if *user() == Some(own) {
            let text =
                "the model is in use by the call whose callback this is; use it when that is done";
            return Err(Failure::Python(GpuTlmError::new_err(text)));
        }
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        *user() = Some(own);
        Ok(Used {
            user: &self.user,
            loaded,
        })
    }
}

/// What this thread uses.
pub(crate) struct Used<'a> {
    user: &'a Mutex<Option<ThreadId>>,
    pub(crate) loaded: MutexGuard<'a, Option<Loaded>>,
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        *self.user.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
