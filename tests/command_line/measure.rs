//! `check`, `bench` and `--profile`: what they print, and how they answer bad requests.

use serde_json::Value;

use super::{Project, gpu_tlm, succeed, utf8};

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&succeed(args)).unwrap()
}

#[test]
fn check_reports_every_row_of_a_kernel() {
    let report = json(&["check", "--kernel", "rmsnorm_backward_input", "--json"]);
    for key in ["adapter", "driver"] {
        assert!(!report[key].as_str().unwrap().is_empty(), "{key}");
    }
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(report["passed"], rows.len());
    assert_eq!(report["failed"], 0);
    assert_eq!(report["skipped"], Value::Array(Vec::new()));
    assert!(rows.len() > 8, "{}", rows.len());
    for row in rows {
        assert_eq!(row["kernel"], "rmsnorm_backward_input");
        assert!(["portable", "quads"].contains(&row["variant"].as_str().unwrap()));
        assert!(row["shape"].as_str().unwrap().contains('x'), "{row}");
        assert_eq!(row["ok"], true);
        assert!(
            row["worst"].as_f64().unwrap() <= row["tolerance"].as_f64().unwrap(),
            "{row}"
        );
    }
}

#[test]
fn check_ends_with_a_line_for_a_bug_report() {
    let text = succeed(&["check", "--kernel", "train_step"]);
    for part in [
        "gradient of layers.1.ffn.w2.weight",
        "update of ln_final.weight",
        "loss",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let last = text.lines().last().unwrap();
    let version = concat!("gpu-tlm ", env!("CARGO_PKG_VERSION"));
    assert!(last.starts_with(version) && last.contains("PASS"), "{last}");
}

#[test]
fn a_row_over_the_adapters_limits_is_skipped_with_the_limits_name() {
    let report = json(&["check", "--kernel", "embedding_forward", "--json"]);
    let large = |row: &&Value| row["shape"].as_str().unwrap().starts_with("vocab 262145");
    let ran = report["rows"].as_array().unwrap().iter().any(|r| large(&r));
    let skipped = report["skipped"].as_array().unwrap();
    match skipped.iter().find(large) {
        Some(row) => {
            assert!(!ran);
            let reason = row["reason"].as_str().unwrap();
            assert!(
                reason.contains("max_storage_buffer_binding_size"),
                "{reason}"
            );
        }
        None => assert!(ran),
    }
}

#[test]
fn an_unknown_kernel_lists_the_near_ones() {
    for (command, wanted, near) in [
        (&["check"][..], "rmsnorm_forwrad", "rmsnorm_forward"),
        (&["bench", "kernels"][..], "matmul.tild", "matmul.tiled"),
        (&["check"][..], "attention", "attention_forward"),
    ] {
        let run = gpu_tlm(&[command, &["--kernel", wanted]].concat());
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stdout.is_empty());
        let named = run.stderr.contains(wanted) && run.stderr.contains(near);
        assert!(named, "{}", run.stderr);
    }
}

#[test]
fn bench_sets_a_kernel_beside_the_ceilings_and_an_earlier_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("earlier.json");
    let args = ["bench", "kernels", "--kernel", "softmax_forward", "--json"];
    let text = succeed(&args);
    std::fs::write(&file, &text).unwrap();
    let earlier: Value = serde_json::from_str(&text).unwrap();
    assert!(earlier["adapter"].is_string());
    for key in ["fma_gflops", "copy_gb_per_s", "workgroup_gb_per_s"] {
        assert!(earlier["ceilings"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let compared = json(&[&args[..], &["--compare", utf8(&file)]].concat());
    let rows = compared["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row["kernel"], "softmax_forward");
        for key in ["ms", "gflops", "gb_per_s", "ratio"] {
            assert!(row[key].as_f64().unwrap() > 0.0, "{row}");
        }
        assert!(row["spread"].as_f64().unwrap() >= 0.0, "{row}");
        let share = row["share_of_ceiling"].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.5, "{row}");
    }
}

#[test]
fn bench_takes_a_shape_and_refuses_one_that_no_row_has() {
    let args = ["bench", "kernels", "--kernel", "matmul.texture", "--json"];
    let report = json(&[&args[..], &["--shape", "33x20x17"]].concat());
    assert_eq!(report["rows"].as_array().unwrap().len(), 1);
    for (flag, value, said) in [
        ("--shape", "banana", "64x64x64"),
        ("--compare", "missing.json", "missing.json"),
    ] {
        let run = gpu_tlm(&[&args[..], &[flag, value]].concat());
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
}

#[test]
fn bench_train_sets_a_step_beside_the_matrix_product_and_the_plan_beside_the_allocator() {
    let args = [
        "bench",
        "train",
        "--model",
        "S",
        "--json",
        "--batch-size",
        "2",
    ];
    let report = json(&args);
    assert_eq!(
        (&report["model"], &report["batch_size"]),
        (&"S".into(), &2.into())
    );
    for key in [
        "tokens_per_s",
        "ms_per_step",
        "gflops",
        "matmul_gflops",
        "first_step_s",
    ] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(report["tuning"], Value::Array(Vec::new()));
    assert_eq!(report["tuning_s"], 0.0);
    let host_share = report["host_share"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&host_share), "{host_share}");
    let planned = report["planned_device_bytes"].as_f64().unwrap();
    // Backends other than Vulkan and DX12 do not say.
    if let Some(allocated) = report["peak_device_bytes"].as_f64() {
        assert!(
            (allocated / planned - 1.0).abs() < 0.05,
            "{allocated} of {planned}"
        );
    }
    let run = gpu_tlm(&["bench", "train", "--batch-size", "0"]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("batch_size"), "{}", run.stderr);
}

#[test]
fn a_profile_is_a_trace_of_every_dispatch_and_changes_no_result() {
    let project = Project::new();
    let trace = project.path("trace.json");
    let run = project.train("profiled", &["--max-iters", "6", "--profile", utf8(&trace)]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("all kernels"), "{}", run.stderr);
    let text = std::fs::read_to_string(&trace).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |part: &str| {
        let found = events
            .iter()
            .find(|e| e["name"].as_str().unwrap().contains(part));
        found.unwrap_or_else(|| panic!("no {part}"))
    };
    named("submit");
    let update = named("update/adamw_update");
    assert_eq!(update["ph"], "X");
    assert!(update["dur"].as_f64().unwrap() > 0.0);
    let plain = project.train("plain", &["--max-iters", "6"]);
    assert_eq!(plain.code, Some(0));
    let [profiled, plain] =
        ["profiled", "plain"].map(|name| std::fs::read(project.checkpoint(name)).unwrap());
    // The configs in the metadata differ by their logdir.
    let tensors = |bytes: &[u8]| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        bytes[8 + usize::try_from(header).unwrap()..].to_vec()
    };
    assert!(tensors(&profiled) == tensors(&plain));
    let run = project.train("nowhere", &["--profile", "missing/trace.json"]);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("missing/trace.json"), "{}", run.stderr);
}

#[test]
fn bench_all_keeps_to_its_budget_and_its_page_says_what_was_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("pages");
    let started = std::time::Instant::now();
    let args = ["bench", "all", "--minutes", "0.2", "--out", utf8(&out)];
    let page = json(&[&args[..], &["--json"]].concat());
    // The budget, and the part that was begun last.
    let took_s = started.elapsed().as_secs_f64();
    assert!(took_s < 60.0, "{took_s} s");
    assert!(page["elapsed_s"].as_f64().unwrap() < 60.0);
    assert_eq!(page["check"]["status"], "measured");
    assert_eq!(page["check"]["failed"], 0);
    assert!(page["check"]["passed"].as_u64() > Some(0));
    assert!(page["ceilings"]["fma_gflops"].as_f64() > Some(0.0));
    let entries = |key: &str| page[key].as_array().unwrap().clone();
    let largest = entries("training")
        .into_iter()
        .find(|e| e["name"] == "G")
        .unwrap();
    assert_eq!(largest["status"], "skipped");
    let reason = largest["reason"].as_str().unwrap();
    assert!(
        reason.contains("budget") || reason.contains("memory"),
        "{reason}"
    );
    for entry in [
        entries("training"),
        entries("generation"),
        entries("products"),
    ]
    .concat()
    {
        let known = ["measured", "skipped"].contains(&entry["status"].as_str().unwrap());
        assert!(known, "{entry}");
    }
    // The files, whose names are the adapter's, hold the same.
    let files: Vec<_> = std::fs::read_dir(&out)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    let file = files
        .iter()
        .find(|f| f.extension().unwrap() == "json")
        .unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), page);
    let markdown = std::fs::read_to_string(file.with_extension("md")).unwrap();
    for part in [
        "## Check",
        "## Ceilings",
        "## Not measured",
        page["adapter"].as_str().unwrap(),
    ] {
        assert!(markdown.contains(part), "no {part} in\n{markdown}");
    }
    // A page is made of its JSON alone.
    let again = folder.path().join("again");
    let paths = succeed(&["bench", "all", "--from", utf8(file), "--out", utf8(&again)]);
    let path = paths.lines().find(|path| path.ends_with(".md")).unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), markdown);
}

#[test]
fn bench_all_refuses_a_budget_that_is_none_and_a_file_that_is_no_page() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, value, said) in [
        ("--minutes", "0", "over 0"),
        ("--minutes", "soon", "over 0"),
        ("--minutes", "-1", "over 0"),
        ("--minutes", "1e300", "over 0"),
        ("--from", "missing.json", "gpu-tlm bench all"),
    ] {
        let out = utf8(folder.path());
        let run = gpu_tlm(&["bench", "all", flag, value, "--out", out]);
        assert_eq!(run.code, Some(2), "{value}: {}", run.stderr);
        assert!(
            run.stdout.is_empty() && run.stderr.contains(said),
            "{}",
            run.stderr
        );
    }
}
