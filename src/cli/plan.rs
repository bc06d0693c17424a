//! `gpu-tlm plan`: what training would take, without allocating any of it.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Error;
use crate::config::{Resolved, SettingFlags};
use crate::gpu::{Device, DeviceOptions, SectionId};
use crate::train::builtin;
use crate::train::step_plan::{StepPlan, Target};

/// Arguments of `gpu-tlm plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// JSON file with the settings below as keys; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
    /// List every dispatch too
    #[arg(long)]
    list_dispatches: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Builds the plan of a step and prints its sizes.
///
/// # Errors
/// When the settings are wrong or there is no adapter.
pub fn run(args: &PlanArgs) -> Result<(), Error> {
    let settings = Resolved::load(args.config.as_deref(), &args.settings)?.settings;
    let tokenizer = super::load_tokenizer(settings.tokenizer.as_deref())?;
    let vocab_size = tokenizer.map_or(builtin::DEFAULT_VOCAB_SIZE, |t| t.vocab_size());
    let model = settings.model(settings.vocab_size.is_none().then_some(vocab_size))?;
    let train = settings.train()?;
    let options = DeviceOptions {
        request: settings.adapter_request()?,
        ..DeviceOptions::default()
    };
    let device = Device::open(&options)?;
    let target = Target {
        class: device.class(),
        subgroup_size: device.subgroup_size(),
        max_binding_words: device.max_binding_words(),
    };
    let plan = StepPlan::new(&model, &train, target);
    let summary = summarise(&plan);
    if args.json {
        return super::print_json(&summary);
    }
    super::print(&describe(&summary, args.list_dispatches.then_some(&plan)))
}

fn summarise(step: &StepPlan) -> Value {
    let mut device_bytes = serde_json::Map::new();
    let mut total = step.plan.scratch_bytes();
    for (label, size_bytes) in step.memory.parts() {
        device_bytes.insert(label.to_owned(), size_bytes.into());
        total += size_bytes;
    }
    device_bytes.insert("scratch".to_owned(), step.plan.scratch_bytes().into());
    device_bytes.insert("total".to_owned(), total.into());
    let sections = step.sections;
    let per_token = |section: SectionId| step.plan.flops(section) / step.shape.rows() as u64;
    let forward = per_token(sections.evaluate);
    let count = |section: SectionId| step.plan.dispatches(section).len();
    let further = (step.micro_batches - 1) * count(sections.next);
    json!({
        "parameters": step.table.count(),
        "device_bytes": device_bytes,
        "flops_per_token": {
            "forward": forward,
            "backward": per_token(sections.first) - forward,
        },
        "dispatches": count(sections.first) + further + count(sections.update),
    })
}

fn describe(summary: &Value, listed: Option<&StepPlan>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<28} {value:>16}");
    };
    line("parameters", &summary["parameters"].to_string());
    for (part, size_bytes) in summary["device_bytes"].as_object().into_iter().flatten() {
        line(&format!("bytes: {part}"), &size_bytes.to_string());
    }
    for (pass, flops) in summary["flops_per_token"].as_object().into_iter().flatten() {
        line(&format!("flops a token: {pass}"), &flops.to_string());
    }
    line("dispatches a step", &summary["dispatches"].to_string());
    if let Some(step) = listed {
        let sections = step.sections;
        for (name, section) in [
            ("first micro-batch", sections.first),
            ("further micro-batches", sections.next),
            ("update", sections.update),
        ] {
            text.push_str(&format!("\n{name}\n"));
            for d in step.plan.dispatches(section) {
                let [x, y, z] = d.workgroups;
                text.push_str(&format!(
                    "  {:<52} {x:>6} x {y} x {z}  {:>14} flops\n",
                    d.label, d.flops
                ));
            }
        }
    }
    text
}
