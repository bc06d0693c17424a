//! `gpu-tlm plan`: what a step of training or a pass would take, without allocating any of it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::Error;
use crate::config::{ModelConfig, Resolved, SettingFlags};
use crate::decode::{DecodePlans, Prefill, ScorePlan, Step};
use crate::gpu::{Device, DeviceOptions, Dispatch, Plan, SectionId, Target};
use crate::train::builtin;
use crate::train::run::open_initial;
use crate::train::step_plan::StepPlan;
use crate::weights::ParameterTable;

/// Arguments of `gpu-tlm plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// JSON file with the settings below as keys; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
    /// What is planned: a training step, or what eval or generate run
    #[arg(
        long = "for",
        value_enum,
        default_value = "train",
        value_name = "COMMAND"
    )]
    purpose: Purpose,
    /// List every dispatch too
    #[arg(long)]
    list_dispatches: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    forced: super::VariantArgs,
    #[command(flatten)]
    pub(super) validation: super::ValidationArgs,
}

/// A command whose plan is shown.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Purpose {
    /// A training step
    Train,
    /// A pass of eval over batch_size windows
    Eval,
    /// A pass of generate over a whole context
    Generate,
}

/// Builds the plan of a step or of a pass and prints its sizes.
///
/// # Errors
/// When the settings are wrong or there is no adapter.
pub fn run(args: &PlanArgs) -> Result<(), Error> {
    let mut resolved = Resolved::load(args.config.as_deref(), &args.settings)?;
    open_initial(&mut resolved)?;
    let settings = resolved.settings;
    let tokenizer = super::load_tokenizer(settings.tokenizer.as_deref())?;
    let vocab_size = tokenizer.map_or(builtin::DEFAULT_VOCAB_SIZE, |t| t.vocab_size());
    let model = settings.model(settings.vocab_size.is_none().then_some(vocab_size))?;
    let train = settings.train()?;
    ParameterTable::for_training(&model, &train, usize::MAX)?;
    let options = DeviceOptions {
        request: settings.adapter_request()?,
        ..DeviceOptions::default()
    };
    let device = Device::open(&options)?.with_choices(args.forced.choices()?);
    let planned = match args.purpose {
        Purpose::Train => Planned::of_step(&StepPlan::new(&model, &train, device.target())),
        Purpose::Eval => Planned::of_eval(&model, train.batch_size, device.target()),
        Purpose::Generate => Planned::of_generate(&model, device.target()),
    };
    let summary = planned.summary();
    if args.json {
        return super::print_json(&summary);
    }
    let mut text = describe(&summary, &device);
    text.push_str(&describe_kernels(&planned.sections[0].plan));
    if args.list_dispatches {
        text.push_str(&planned.list_dispatches());
    }
    super::print(&text)
}

/// What is said of a plan.
struct Planned {
    parameters: usize,
    device_bytes: Vec<(String, u64)>,
    /// Operations for each token, by pass.
    flops_per_token: Vec<(&'static str, u64)>,
    /// What runs, in order.
    sections: Vec<Section>,
}

/// A part of what runs.
struct Section {
    name: &'static str,
    plan: Plan,
    id: SectionId,
    /// How often it runs.
    times: usize,
}

impl Section {
    fn of(name: &'static str, plan: &Plan, id: SectionId, times: usize) -> Self {
        let plan = plan.clone();
        Self {
            name,
            plan,
            id,
            times,
        }
    }

    fn dispatches(&self) -> &[Dispatch] {
        self.plan.dispatches(self.id)
    }
}

impl Planned {
    fn of_step(step: &StepPlan) -> Self {
        let sections = step.sections;
        let per_token = |section: SectionId| step.plan.flops(section) / step.shape.rows() as u64;
        let forward = per_token(sections.evaluate);
        let section = |name, id, times| Section::of(name, &step.plan, id, times);
        Self {
            parameters: step.table.count(),
            device_bytes: step.device_bytes(),
            flops_per_token: vec![
                ("forward", forward),
                ("backward", per_token(sections.first) - forward),
            ],
            sections: vec![
                section("first micro-batch", sections.first, 1),
                section(
                    "further micro-batches",
                    sections.next,
                    step.micro_batches - 1,
                ),
                section("update", sections.update, 1),
            ],
        }
    }

    fn of_eval(model: &ModelConfig, batch_size: usize, target: Target) -> Self {
        let table = ParameterTable::new(model, &[], target.max_binding_words);
        let pass = ScorePlan::new(model, &table, batch_size, target);
        let tokens = batch_size * model.context_length;
        Self {
            parameters: table.count(),
            device_bytes: pass.device_bytes(),
            flops_per_token: vec![("forward", pass.plan.flops(pass.section) / tokens as u64)],
            sections: vec![Section::of("pass", &pass.plan, pass.section, 1)],
        }
    }

    fn of_generate(model: &ModelConfig, target: Target) -> Self {
        let table = ParameterTable::new(model, &[], target.max_binding_words);
        let plans = DecodePlans::new(model, &table, 1, &target);
        let prefill = plans.prefill(target.clone(), Prefill::of(model.context_length));
        let step = plans.step(target, Step::of(1));
        let of_prompt = prefill.plan.flops(prefill.section) / model.context_length as u64;
        let of_token = step.plan.flops(step.section);
        Self {
            parameters: table.count(),
            device_bytes: plans.device_bytes(&[&prefill.plan, &step.plan]),
            flops_per_token: vec![("forward", of_prompt), ("cached", of_token)],
            sections: vec![
                Section::of("prompt", &prefill.plan, prefill.section, 1),
                Section::of("token", &step.plan, step.section, 1),
            ],
        }
    }

    fn summary(&self) -> Value {
        let total = self.device_bytes.iter().map(|(_, bytes)| bytes).sum();
        let parts = self.device_bytes.iter().cloned();
        let parts = parts.chain([("total".to_owned(), total)]);
        let device_bytes: Map<String, Value> =
            parts.map(|(label, bytes)| (label, bytes.into())).collect();
        let flops = self.flops_per_token.iter();
        let flops: Map<String, Value> = flops
            .map(|&(pass, flops)| (pass.to_owned(), flops.into()))
            .collect();
        let sections = self.sections.iter();
        let dispatches: usize = sections.map(|s| s.times * s.dispatches().len()).sum();
        json!({
            "parameters": self.parameters,
            "device_bytes": device_bytes,
            "flops_per_token": flops,
            "dispatches": dispatches,
        })
    }

    fn list_dispatches(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            text.push_str(&format!("\n{}\n", section.name));
            for d in section.dispatches() {
                let [x, y, z] = d.workgroups;
                text.push_str(&format!(
                    "  {:<52} {x:>6} x {y} x {z}  {:>14} flops\n",
                    d.label, d.flops
                ));
            }
        }
        text
    }
}

/// What people want to know first: does it fit, and what takes the room.
fn describe(summary: &Value, device: &Device) -> String {
    let mut parts = Parts::default();
    for (label, size_bytes) in summary["device_bytes"].as_object().into_iter().flatten() {
        if label != "total" {
            parts.add(label, size_bytes.as_u64().unwrap_or(0));
        }
    }
    let number = |key: &str| count(summary[key].as_u64().unwrap_or(0));
    let flops = summary["flops_per_token"].as_object().into_iter().flatten();
    let millions = |flops: &Value| flops.as_u64().unwrap_or(0) as f64 / 1e6;
    let flops: Vec<String> = flops
        .map(|(pass, n)| format!("{:.2} million {pass}", millions(n)))
        .collect();
    let memory = match device.memory_bytes() {
        Some(bytes) => format!(
            "{:.1} % of the {:.0} MiB of {}",
            100.0 * parts.total() as f64 / bytes as f64,
            mib(bytes),
            device.name()
        ),
        None => format!("{} does not say how much it has", device.name()),
    };
    format!(
        "{} parameters, {} dispatches; operations a token: {}\n\n{}{memory}\n",
        number("parameters"),
        number("dispatches"),
        flops.join(", "),
        parts.table(),
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// `1234567` as `1,234,567`.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Device memory by what people call its parts, in the order of their first mention.
#[derive(Default)]
struct Parts {
    bytes: Vec<(&'static str, u64)>,
}

impl Parts {
    /// Adds a buffer; a part may have several, numbered behind a space.
    fn add(&mut self, label: &str, size_bytes: u64) {
        let part = match label.split(' ').next().unwrap_or(label) {
            "parameters" => "parameters",
            "gradients" => "gradients",
            "moment1" | "moment2" => "moments",
            "scratch" => "activations and scratch",
            "batch" | "inputs" | "uploads" | "tokens" => "batches",
            _ => "the rest",
        };
        match self.bytes.iter_mut().find(|(known, _)| *known == part) {
            Some((_, bytes)) => *bytes += size_bytes,
            None => self.bytes.push((part, size_bytes)),
        }
    }

    fn total(&self) -> u64 {
        self.bytes.iter().map(|(_, bytes)| bytes).sum()
    }

    fn table(&self) -> String {
        let mut text = format!("{:<26} {:>10} {:>7}\n", "device memory", "MiB", "share");
        let total = self.total();
        for &(part, bytes) in self.bytes.iter().chain([&("total", total)]) {
            let share = 100.0 * bytes as f64 / total.max(1) as f64;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {part:<24} {:>10.2} {share:>5.1} %", mib(bytes));
        }
        text
    }
}

/// Which kernels compute the ops that several can, and why: a line for each kind of op and recipe.
fn describe_kernels(plan: &Plan) -> String {
    let mut text = format!("\n{:<19} {:<43} {:>6}  why\n", "op", "kernel", "shapes");
    let mut lines: Vec<(String, &str, &str, usize)> = Vec::new();
    for chosen in plan.chosen() {
        let kind = chosen.class.rsplit_once(' ').map_or("", |(kind, _)| kind);
        let known = lines.iter_mut().find(|(k, recipe, reason, _)| {
            (k.as_str(), *recipe, *reason) == (kind, &chosen.recipe, chosen.reason.name())
        });
        match known {
            Some((.., shapes)) => *shapes += 1,
            None => {
                let reason = chosen.reason.name();
                lines.push((kind.to_owned(), &chosen.recipe, reason, 1));
            }
        }
    }
    for (kind, recipe, reason, shapes) in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{kind:<19} {recipe:<43} {shapes:>6}  {reason}");
    }
    let left_out: BTreeSet<_> = plan.chosen().iter().flat_map(|c| &c.left_out).collect();
    for (label, obstacle) in left_out {
        let _ = writeln!(text, "  not everywhere {label}: {obstacle}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_grouped_and_add_up() {
        let mut parts = Parts::default();
        for (label, mib) in [
            ("parameters", 1),
            ("parameters 1", 2),
            ("moment1", 3),
            ("moment2", 3),
            ("scratch", 10),
            ("metrics", 1),
        ] {
            parts.add(label, mib << 20);
        }
        assert_eq!(parts.total(), 20 << 20);
        let table = parts.table();
        for line in [
            "  parameters                     3.00  15.0 %",
            "  moments                        6.00  30.0 %",
            "  total                         20.00 100.0 %",
        ] {
            assert!(table.contains(line), "{table}");
        }
        assert!(table.lines().all(|line| line.len() <= 80));
    }

    #[test]
    fn large_numbers_are_grouped_by_threes() {
        for (n, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(n), shown);
        }
    }
}
