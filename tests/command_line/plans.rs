//! What is said before anything is trained: `plan`, `schedule`, `devices`.

use serde_json::Value;

use super::{Project, command, finished, succeed, utf8};

#[test]
fn plan_counts_what_training_takes() {
    let project = Project::new();
    let config = utf8(&project.path("config.json")).to_owned();
    let plan: Value =
        serde_json::from_str(&succeed(&["plan", "--config", &config, "--json"])).unwrap();
    // 2 * 24 * 32 embeddings and head, 3 gains of 32, 2 * 32 * 32 + 2 * 16 * 32 attention, 3 * 40 * 32.
    assert_eq!(
        plan["parameters"],
        2 * 24 * 32 + 3 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 40 * 32
    );
    let bytes = plan["device_bytes"].as_object().unwrap();
    let parts: u64 = bytes
        .iter()
        .filter(|(k, _)| *k != "total")
        .map(|(_, v)| v.as_u64().unwrap())
        .sum();
    assert_eq!(bytes["total"].as_u64(), Some(parts));
    let text = succeed(&["plan", "--config", &config, "--list-dispatches"]);
    for part in [
        "layers.0.attn/attention_forward",
        "activations and scratch",
        "matmul nt",
        "default",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // Vulkan says what an adapter has, and no other backend of a test machine does.
    let has_memory = text.contains(" MiB of ") || text.contains("does not say");
    assert!(has_memory, "{text}");
    let forced = succeed(&["plan", "--config", &config, "--variant", "matmul.tiled"]);
    let products = forced.lines().filter(|line| line.starts_with("matmul "));
    let mut products = products.peekable();
    assert!(products.peek().is_some(), "{forced}");
    for line in products {
        assert!(
            line.contains("matmul.tiled split") && line.ends_with("forced"),
            "{line}"
        );
    }
}

#[test]
fn plan_counts_what_held_parameters_take() {
    let project = Project::new();
    let config = utf8(&project.path("config.json")).to_owned();
    let bytes = |settings: &[&str]| {
        let plan = ["plan", "--config", &config, "--lora-rank", "8", "--json"];
        let plan: Value = serde_json::from_str(&succeed(&[&plan[..], settings].concat())).unwrap();
        let bytes = plan["device_bytes"].as_object().unwrap();
        let own = bytes.iter().filter(|(k, _)| k.starts_with("parameters"));
        own.map(|(_, v)| v.as_u64().unwrap()).sum::<u64>()
    };
    // A multiple of 512 bytes each, or right behind each other: embeddings and head 24 x 32, queries and output
    // 32 x 32, keys and values 16 x 32, gate, up and down 64 x 32.
    let matrices = 2 * 24 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32;
    let f32 = bytes(&["--d-ff", "64"]);
    for (storage, own) in [("f16", 2 * matrices), ("q8_0", matrices + matrices / 16)] {
        let held = bytes(&["--d-ff", "64", "--frozen-type", storage]);
        let wanted = f32 - 4 * matrices + own;
        let gaps = 9 * 512;
        assert!(
            (wanted - gaps..wanted + gaps).contains(&held),
            "{storage}: {held} of {wanted}"
        );
    }
}

#[test]
fn plans_of_eval_and_generate_hold_the_weights_and_no_gradients_or_moments() {
    let project = Project::new();
    let config = utf8(&project.path("config.json")).to_owned();
    let plan = |purpose: &str| -> Value {
        let args = ["plan", "--config", &config, "--for", purpose, "--json"];
        serde_json::from_str(&succeed(&args)).unwrap()
    };
    let train = plan("train");
    assert!(train["device_bytes"]["gradients"].as_u64() > Some(0));
    for purpose in ["eval", "generate"] {
        let own = plan(purpose);
        let bytes = own["device_bytes"].as_object().unwrap();
        assert_eq!(own["parameters"], train["parameters"]);
        assert_eq!(bytes["parameters"], train["device_bytes"]["parameters"]);
        let trained =
            |label: &String| label.starts_with("gradients") || label.starts_with("moment");
        assert!(!bytes.keys().any(trained), "{own}");
        let total = |plan: &Value| plan["device_bytes"]["total"].as_u64().unwrap();
        assert!(total(&own) < total(&train), "{own}");
        assert!(own["dispatches"].as_u64().unwrap() > 5, "{own}");
        assert!(
            own["flops_per_token"]["forward"].as_u64().unwrap() > 0,
            "{own}"
        );
    }
}

#[test]
fn schedule_prints_the_rates_of_a_run() {
    let project = Project::new();
    let config = utf8(&project.path("config.json")).to_owned();
    let args = ["schedule", "--config", &config, "--points", "40", "--json"];
    let schedule: Value = serde_json::from_str(&succeed(&args)).unwrap();
    let rows = schedule["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 40);
    let rate = |row: usize| rows[row]["learning_rate"].as_f64().unwrap();
    assert_eq!(rate(0), 0.0);
    assert!((rate(5) - 0.01).abs() < 1e-15 && rate(39) < rate(38));
}

#[test]
fn devices_lists_what_would_be_used() {
    let answer: Value = serde_json::from_str(&succeed(&["devices", "--json"])).unwrap();
    let devices = answer["devices"].as_array().unwrap();
    assert_eq!(devices.iter().filter(|d| d["default"] == true).count(), 1);
    let floor = answer["portable_floor"].as_object().unwrap();
    assert_eq!(floor["max_storage_buffers_per_shader_stage"], 8);
    for name in floor.keys() {
        assert!(devices[0]["limits"][name].is_u64(), "{name}");
    }
    assert!(
        devices[0]["limits"]["max_storage_buffer_binding_size_bytes"].as_u64() >= Some(128 << 20)
    );
    // A software adapter never stands before a real one.
    let software: Vec<bool> = devices
        .iter()
        .map(|d| d["software"].as_bool().unwrap())
        .collect();
    assert!(software.is_sorted());
}

#[test]
fn a_machine_without_a_runtime_folder_gets_no_complaint_of_a_library() {
    let run = command(&["devices"]).env_remove("XDG_RUNTIME_DIR").output();
    let run = finished(run.unwrap());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(!run.stderr.contains("XDG_RUNTIME_DIR"), "{}", run.stderr);
}
