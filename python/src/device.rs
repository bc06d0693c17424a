//! Adapters, each opened once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use gpu_tlm::gpu::{AdapterRequest, Device, DeviceOptions, adapter};
use pyo3::prelude::*;

use crate::errors::{Failure, detached};
use crate::json;

static OPENED: Mutex<BTreeMap<String, Device>> = Mutex::new(BTreeMap::new());
/// That of [`set_device`].
static CHOSEN: Mutex<Option<String>> = Mutex::new(None);

/// The device of an adapter, by its index or a part of its name; without one that of [`set_device`], and with an
/// empty name the best there is.
pub(crate) fn open(name: Option<&str>) -> Result<Device, Failure> {
    let chosen = CHOSEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let key = name.map(str::to_owned).or(chosen).unwrap_or_default();
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = opened.get(&key) {
        return Ok(device.clone());
    }
    let options = DeviceOptions {
        request: AdapterRequest {
            name: Some(key.clone()).filter(|key| !key.is_empty()),
            backend: None,
        },
        ..DeviceOptions::default()
    };
    let device = Device::open(&options)?;
    opened.insert(key, device.clone());
    Ok(device)
}

/// Makes the next call open devices anew.
pub(crate) fn forget() {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.clear();
}

/// Adapters of this machine, best first, as `gpu-tlm devices` lists them.
#[pyfunction]
pub(crate) fn devices(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let all = detached(py, || {
        let all = adapter::describe_all(&AdapterRequest::default())?;
        Ok(serde_json::to_value(all).unwrap_or_default())
    })?;
    json::to_python(py, &all)
}

/// Chooses the device of everything that names none of its own.
///
/// Args:
///     name: an index of `devices()` or a part of a name; None for the best there is.
///
/// Raises:
///     ValueError: there is no such device.
#[pyfunction]
#[pyo3(signature = (name=None))]
pub(crate) fn set_device(py: Python<'_>, name: Option<String>) -> PyResult<()> {
    detached(py, || {
        open(Some(name.as_deref().unwrap_or_default()))?;
        let mut chosen = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner);
        *chosen = name;
        Ok(())
    })
}
