//! `gpu-tlm devices`: the adapters of this machine.

use std::fmt::Write;

use serde_json::json;

use super::AdapterArgs;
use crate::Error;
use crate::gpu::adapter::{AdapterDescription, describe_all};

/// Arguments of `gpu-tlm devices`.
#[derive(Debug, clap::Args)]
pub struct DevicesArgs {
    #[command(flatten)]
    adapter: AdapterArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Lists every adapter; the one that would be taken is marked.
///
/// # Errors
/// When there is none.
pub fn run(args: &DevicesArgs) -> Result<(), Error> {
    let devices = describe_all(&args.adapter.request()?)?;
    if args.json {
        return super::print_json(&json!({ "devices": devices }));
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
        line(name, &value.to_string());
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
