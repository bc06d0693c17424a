//! `gpu-tlm devices`: the adapters of this machine.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::AdapterArgs;
use crate::Error;
use crate::gpu::adapter::{AdapterDescription, describe_all};
use crate::gpu::limits::LIMITS;

/// Arguments of `gpu-tlm devices`.
#[derive(Debug, clap::Args)]
pub struct DevicesArgs {
    #[command(flatten)]
    pub(super) adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Lists every adapter; the one that would be taken is marked. Beside a limit stands the portable
/// floor, which every kernel keeps to.
///
/// # Errors
/// When there is none.
pub fn run(args: &DevicesArgs) -> Result<(), Error> {
    let devices = describe_all(&args.adapter.request()?)?;
    if args.json {
        let floor: Map<String, Value> = LIMITS
            .iter()
            .map(|limit| (limit.name.to_owned(), limit.floor.into()))
            .collect();
        return super::print_json(&json!({ "devices": devices, "portable_floor": floor }));
    }
    let text: String = devices.iter().map(describe).collect();
    super::print(&text)
}

fn describe(device: &AdapterDescription) -> String {
    let mark = if device.default { "*" } else { " " };
    let software = if device.software {
        ", runs shaders on the CPU"
    } else {
        ""
    };
    let mut text = format!(
        "{mark} {}: {} ({}, {}{software})\n",
        device.index, device.name, device.backend, device.kind
    );
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "      {name:<42} {value}");
    };
    line("driver", &device.driver);
    for (name, value) in &device.limits {
        match LIMITS.iter().find(|limit| limit.name == name) {
            Some(limit) => line(name, &format!("{value:<12} floor {}", limit.floor)),
            None => line(name, &value.to_string()),
        }
    }
    let list = |names: &[String]| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    line("optional features in use", &list(&device.features_in_use));
    line("optional features absent", &list(&device.features_absent));
    text
}
