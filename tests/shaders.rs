//! Shaders as the backends get them: every pipeline in every language, and within WebGPU's limits.

use std::collections::{BTreeMap, BTreeSet};

use gpu_tlm::check;
use gpu_tlm::config::{Resolved, SettingFlags};
use gpu_tlm::gpu::limits::{LIMITS, Limit};
use gpu_tlm::gpu::translate::ShaderFormat;
use gpu_tlm::gpu::{AdapterClass, Requirement, Target};
use gpu_tlm::kernels;
use gpu_tlm::shaders::{self, collect, pipelines};
use gpu_tlm::train::step_plan::StepPlan;
use serde_json::Value;

#[test]
fn every_pipeline_translates_to_every_language() {
    for pipeline in pipelines() {
        for format in [
            ShaderFormat::Wgsl,
            ShaderFormat::Spirv,
            ShaderFormat::Hlsl,
            ShaderFormat::Msl,
        ] {
            if format.obstacle(pipeline.kernel).is_some() {
                continue;
            }
            let shader = pipeline.translate(format).unwrap();
            assert!(!shader.code.is_empty(), "{} as {format:?}", pipeline.name());
            assert_eq!(shader.places.len(), pipeline.kernel.bindings.len() + 1);
        }
    }
}

#[test]
fn every_pipeline_keeps_to_the_portable_floor_or_takes_what_its_kernel_requires() {
    let mut over = Vec::new();
    for pipeline in pipelines() {
        let shader = pipeline.translate(ShaderFormat::Spirv).unwrap();
        for limit in LIMITS {
            let taken = limit.taken_by(pipeline.kernel, &shader).unwrap_or(0);
            let Limit { name, floor, .. } = limit;
            let required = pipeline.kernel.requires.iter().find_map(|r| match r {
                Requirement::Limit { name: of, at_least } if *of == name => Some(*at_least),
                _ => None,
            });
            if required.map_or(taken > floor, |required| taken != required) {
                let (pipeline, most) = (pipeline.name(), required.unwrap_or(floor));
                over.push(format!("{pipeline} takes {taken} of {name}, {most}"));
            }
        }
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
}

#[test]
fn no_dispatch_has_more_workgroups_in_a_dimension_than_the_portable_floor() {
    let name = "max_compute_workgroups_per_dimension";
    let limit = LIMITS.iter().find(|limit| limit.name == name).unwrap();
    let mut most = 0;
    for row in check::all_rows().iter().filter(|row| !row.is_large()) {
        for class in row.classes() {
            let Some(plan) = row.plan(class) else {
                continue;
            };
            for dispatch in plan.all_dispatches() {
                let workgroups = dispatch.workgroups.into_iter().max().unwrap();
                assert!(u64::from(workgroups) <= limit.floor, "{}", row.label());
                most = most.max(workgroups);
            }
        }
    }
    assert!(most > 10_000, "no row has more than {most} workgroups");
}

#[test]
fn every_kernel_has_a_pipeline() {
    let found: BTreeSet<_> = pipelines().iter().map(|p| p.kernel.label()).collect();
    let all: BTreeSet<_> = kernels::ALL.iter().map(|kernel| kernel.label()).collect();
    assert_eq!(found, all);
}

#[test]
fn pipelines_of_a_training_plan_are_among_the_checks_own() {
    let known: BTreeSet<_> = pipelines().iter().map(shaders::Pipeline::name).collect();
    let flags = SettingFlags {
        vocab_size: Some(300),
        context_length: Some(32),
        d_model: Some(64),
        num_layers: Some(2),
        num_heads: Some(4),
        num_kv_heads: Some(2),
        d_ff: Some(128),
        batch_size: Some(4),
        micro_batch_size: Some(2),
        ..SettingFlags::default()
    };
    let settings = Resolved::load(None, &flags).unwrap().settings;
    let (model, train) = (settings.model(None).unwrap(), settings.train().unwrap());
    for class in [AdapterClass::Gpu, AdapterClass::Software] {
        let target = Target {
            subgroup_size: Some(8),
            ..Target::portable(class)
        };
        let step = StepPlan::new(&model, &train, target);
        let mut used = BTreeMap::new();
        collect(&mut used, class, step.plan.all_dispatches());
        assert!(used.len() > 10, "a step uses {} pipelines", used.len());
        let unknown: Vec<_> = used.keys().filter(|name| !known.contains(*name)).collect();
        assert!(
            unknown.is_empty(),
            "{class:?}: no row of the check runs {unknown:?}"
        );
    }
}

#[test]
fn the_manifest_names_every_file_with_its_bindings() {
    let folder = tempfile::tempdir().unwrap();
    let count = shaders::write_all(folder.path(), ShaderFormat::Hlsl).unwrap();
    let text = std::fs::read_to_string(folder.path().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let entries = manifest["shaders"].as_array().unwrap();
    assert_eq!(entries.len(), count);
    let left_out = manifest["left_out"].as_array().unwrap();
    assert_eq!(count + left_out.len(), pipelines().len());
    let mut names = left_out.iter().map(|e| e["pipeline"].as_str().unwrap());
    assert!(names.clone().count() > 0 && names.all(|n| n.contains("cooperative")));
    let files: BTreeSet<_> = entries
        .iter()
        .map(|e| e["file"].as_str().unwrap())
        .collect();
    assert_eq!(files.len(), count);
    for file in files {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    let texture = entries
        .iter()
        .find(|entry| entry["file"] == "matmul.texture.hlsl")
        .unwrap();
    assert_eq!(texture["entry_point"], "main");
    assert_eq!(texture["params"]["fields"][0]["type"], "u32");
    assert_eq!(texture["bindings"][0]["place"], "b0");
    assert_eq!(texture["bindings"][1]["role"], "Texture");
    assert_eq!(texture["bindings"][1]["place"], "u0");
}
