//! Runs that train adapters beside a model, or a part of it: what they leave, that they go on with the same
//! bits, and that every command takes the result.

use std::collections::BTreeMap;
use std::path::Path;

use gpu_tlm::weights::{self, HostTensor, WeightsFile};
use serde_json::{Value, json};

use super::runs::{self, without_run};
use super::{Project, gpu_tlm, succeed, utf8};

/// A request that makes no sense.
const USAGE: Option<i32> = Some(2);
const MIXED: [&str; 2] = ["--precision", "mixed"];
const LORA: [&str; 6] = [
    "--lora-rank",
    "3",
    "--lora-alpha",
    "5",
    "--lora-targets",
    "q_proj,v_proj,w2",
];

/// The tensors of a checkpoint, by name.
fn tensors(path: &str) -> BTreeMap<String, Vec<u8>> {
    runs::tensors(path).into_iter().collect()
}

/// A project with a model to start from, and its checkpoint.
fn with_a_model() -> (Project, String) {
    let project = Project::new();
    project.write_config(json!({ "eval_iters": 0 }));
    trained(&project, "model", &["--max-iters", "10"]);
    let model = project.checkpoint("model");
    (project, model)
}

fn trained(project: &Project, logdir: &str, more: &[&str]) {
    let run = project.train(logdir, more);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

fn last_val_loss(project: &Project, logdir: &str) -> f64 {
    let lines = project.metrics(logdir);
    let mut evals = lines.iter().filter(|line| line["kind"] == "eval");
    evals.next_back().unwrap()["val_loss"].as_f64().unwrap()
}

fn loss(project: &Project, checkpoint: &str, more: &[&str]) -> f64 {
    let data = project.path("val.npy");
    let eval = [
        "eval",
        "--checkpoint",
        checkpoint,
        "--data",
        utf8(&data),
        "--json",
    ];
    let text = succeed(&[&eval[..], more].concat());
    let evaluated: Value = serde_json::from_str(&text).unwrap();
    evaluated["loss"].as_f64().unwrap()
}

fn goes_on_with_the_same_bits(project: &Project, model: &str, settings: &[&str]) {
    let settings = [&["--init-from", model, "--learning-rate", "0.02"], settings].concat();
    for logdir in ["whole", "parts"] {
        let _ = std::fs::remove_dir_all(project.path(logdir));
    }
    trained(project, "whole", &settings);
    let to_half = [&settings[..], &["--max-iters", "20"]].concat();
    trained(project, "parts", &to_half);
    let half = project.checkpoint("parts");
    let half_tensors = tensors(&half);
    let go_on = [&settings[..], &["--load-checkpoint", &half]].concat();
    trained(project, "parts", &go_on);
    let of = |logdir| tensors(&project.checkpoint(logdir));
    assert!(of("whole") == of("parts"));
    assert!(of("whole") != half_tensors);
    let [whole, parts] = ["whole", "parts"].map(|logdir| without_run(project.metrics(logdir)));
    assert_eq!(whole, parts);
}

#[test]
fn adapters_go_on_with_the_same_bits() {
    let (project, model) = with_a_model();
    goes_on_with_the_same_bits(&project, &model, &LORA);
    goes_on_with_the_same_bits(&project, &model, &[&LORA[..], &MIXED].concat());
}

#[test]
fn a_partly_frozen_run_goes_on_with_the_same_bits_and_leaves_the_rest_as_it_was() {
    let (project, model) = with_a_model();
    // A new run of its own weights may load no other one's.
    let frozen = ["--freeze", "embeddings,layers.0"];
    trained(
        &project,
        "whole",
        &[&["--init-from", &model][..], &frozen].concat(),
    );
    trained(
        &project,
        "parts",
        &[&["--init-from", &model, "--max-iters", "20"][..], &frozen].concat(),
    );
    let half = project.checkpoint("parts");
    // The run's own config names the model that it began from, too.
    let config = project.path("parts").join("config.json");
    let train = ["train", "--config", utf8(&config), "--max-iters", "40"];
    let both = ["--load-checkpoint", &half, "--init-from", &model];
    let run = gpu_tlm(&[&train[..], &both].concat());
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    succeed(&[&train[..], &both[..2]].concat());
    let after = tensors(&project.checkpoint("whole"));
    assert!(after == tensors(&project.checkpoint("parts")));
    for (name, before) in tensors(&model) {
        let is_frozen = name.contains("embeddings") || name.contains("layers.0");
        match name.strip_prefix("optimizer.") {
            Some(_) => assert_eq!(after.contains_key(&name), !is_frozen, "{name}"),
            None => assert_eq!(after[&name] == before, is_frozen, "{name}"),
        }
    }
    let (whole, out) = (project.checkpoint("whole"), project.path("whole.pt"));
    let export = ["export", "--checkpoint", &whole, "--format", "pt", "--out"];
    succeed(&[&export[..], &[utf8(&out)]].concat());
    // Another part of it would have no moments.
    let other = ["--freeze", "embeddings", "--load-checkpoint", &half];
    let run = project.train("parts", &other);
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    assert!(run.stderr.contains("freeze"), "{}", run.stderr);
}

#[test]
fn runs_beside_held_parameters_go_on_with_the_same_bits() {
    let (project, model) = with_a_model();
    let held = [&LORA[..], &["--frozen-type", "f16"]].concat();
    goes_on_with_the_same_bits(&project, &model, &held);
    // They are adapters of the model as it lies there, next to which its halves are.
    let trained_to = last_val_loss(&project, "whole");
    let found = loss(&project, &project.checkpoint("whole"), &[]);
    assert!(
        (found / trained_to - 1.0).abs() < 1e-3,
        "{found}, not {trained_to}"
    );
    let frozen = ["--freeze", "embeddings,q_proj,w1", "--frozen-type", "q8_0"];
    trained(
        &project,
        "all",
        &[&["--init-from", &model][..], &frozen].concat(),
    );
    trained(
        &project,
        "two",
        &[&["--init-from", &model, "--max-iters", "20"][..], &frozen].concat(),
    );
    let half = project.checkpoint("two");
    let go_on = |held: &str| {
        let settings = ["--load-checkpoint", &half, "--freeze", frozen[1]];
        project.train("two", &[&settings[..], &["--frozen-type", held]].concat())
    };
    let run = go_on("f16");
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    assert!(run.stderr.contains("frozen_type"), "{}", run.stderr);
    let run = go_on("q8_0");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let [all, two] = ["all", "two"].map(|logdir| tensors(&project.checkpoint(logdir)));
    assert!(all == two);
    // A value that no half is.
    let large = project.path("large.safetensors");
    let file = WeightsFile::open(Path::new(&model)).unwrap();
    let read = |(name, _, shape): (String, _, Vec<usize>)| {
        let mut values = file.read_floats(&name).unwrap();
        if name == "layers.0.attn.q_proj.weight" {
            values[35] = 1e9;
        }
        (name, shape, HostTensor::from_f32(&values))
    };
    let all: Vec<_> = file.tensors().into_iter().map(read).collect();
    let all = all
        .iter()
        .map(|(n, shape, t)| (n.clone(), shape.clone(), t));
    weights::write(&large, all, file.metadata().unwrap().clone()).unwrap();
    let init = ["--init-from", utf8(&large)];
    let run = project.train("large", &[&init[..], &held].concat());
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    let wanted = "key 'frozen_type' is f16, but it does not hold 1e9, which \
                  layers.0.attn.q_proj.weight has in row 1, column 3; set f32";
    assert!(run.stderr.contains(wanted), "{}", run.stderr);
}

#[test]
fn a_run_of_adapters_leaves_these_alone_and_every_command_adds_them_to_their_model() {
    let (project, model) = with_a_model();
    let from = ["--init-from", &model, "--learning-rate", "0.02"];
    trained(&project, "run", &[&from[..], &LORA].concat());
    let checkpoint = project.checkpoint("run");
    let names: Vec<String> = tensors(&checkpoint).into_keys().collect();
    assert!(
        names.iter().all(|name| name.contains(".lora_")),
        "{names:?}"
    );
    // Training evaluates the sum of two products, and others the product with the sum.
    let trained_to = last_val_loss(&project, "run");
    assert!(trained_to < loss(&project, &model, &[]) - 0.01);
    let is_same = |checkpoint: &str, more: &[&str]| {
        let found = loss(&project, checkpoint, more);
        assert!(
            (found / trained_to - 1.0).abs() < 1e-5,
            "{checkpoint}: {found}, not {trained_to}"
        );
    };
    is_same(&checkpoint, &[]);
    let adapter = project.path("run").join("adapter");
    is_same(utf8(&adapter), &[]);
    for format in ["hf", "safetensors", "peft"] {
        let out = project.path(format);
        let export = [
            "export",
            "--checkpoint",
            &checkpoint,
            "--format",
            format,
            "--out",
            utf8(&out),
        ];
        let said = succeed(&export);
        assert!(said.contains("adapters"), "{said}");
        match format {
            // Its heads are told by nothing but the checkpoint.
            "safetensors" => {}
            _ => is_same(utf8(&out), &[]),
        }
    }
    let prompt = [
        "--prompt-tokens",
        "0,4,6",
        "--max-new-tokens",
        "4",
        "--temperature",
        "0",
    ];
    let [own, merged] = [&checkpoint, utf8(&project.path("hf"))]
        .map(|path| succeed(&[&["generate", "--checkpoint", path][..], &prompt].concat()));
    assert_eq!(own, merged);
    // They may be trained further as a new run, which adapts the sum.
    let again = [
        "--init-from",
        utf8(&adapter),
        "--max-iters",
        "1",
        "--learning-rate",
        "1e-9",
    ];
    trained(&project, "again", &[&again[..], &LORA].concat());
    is_same(&project.checkpoint("again"), &[]);
}

#[test]
fn the_model_of_adapters_is_looked_for_where_it_was_and_held_against_what_it_was() {
    let (project, model) = with_a_model();
    trained(
        &project,
        "run",
        &[&["--init-from", &model][..], &LORA].concat(),
    );
    let checkpoint = project.checkpoint("run");
    let trained_to = loss(&project, &checkpoint, &[]);
    let moved = project.path("moved.safetensors");
    std::fs::rename(&model, &moved).unwrap();
    let data = project.path("val.npy");
    let eval = [
        "eval",
        "--checkpoint",
        &checkpoint,
        "--data",
        utf8(&data),
        "--json",
    ];
    let run = gpu_tlm(&eval);
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    assert!(
        run.stderr.contains("which is not there") && run.stderr.contains("--base"),
        "{}",
        run.stderr
    );
    let found = loss(&project, &checkpoint, &["--base", utf8(&moved)]);
    assert_eq!(found, trained_to);
    let other = project.checkpoint("model").replace("latest", "other");
    trained(&project, "others", &["--max-iters", "1"]);
    std::fs::rename(project.checkpoint("others"), &other).unwrap();
    let run = gpu_tlm(&[&eval[..], &["--base", &other]].concat());
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    assert!(
        run.stderr.contains("adapters of another model"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_cannot_be_adapted_or_frozen_is_told_before_anything_is_written() {
    let (project, model) = with_a_model();
    let init = ["--init-from", &model[..]];
    for (settings, wanted) in [
        (
            &["--lora-rank", "4"][..],
            "there is no model to adapt; set init_from",
        ),
        (
            &["--lora-rank", "4000", init[0], init[1]],
            "whose rank is not higher than",
        ),
        (
            &[
                "--lora-rank",
                "2",
                "--lora-targets",
                "gate_proj",
                init[0],
                init[1],
            ],
            "no linear layer has 'gate_proj'",
        ),
        (
            &[
                "--lora-rank",
                "2",
                "--lora-dropout",
                "0.1",
                init[0],
                init[1],
            ],
            "there is no dropout",
        ),
        (&["--lora-alpha", "2"], "lora_rank is not given"),
        (&["--lora-targets", "w2"], "lora_rank is not given"),
        (
            &["--lora-rank", "2", "--lora-targets", "", init[0], init[1]],
            "leave out empty ones",
        ),
        (
            &["--lora-rank", "2", "--freeze", "ln", init[0], init[1]],
            "stay as they are; leave it out",
        ),
        (&["--freeze", "gate_proj"], "no parameter has 'gate_proj'"),
        (&["--freeze", "weight"], "nothing would be left to train"),
        (&["--frozen-type", "f16"], "every matrix is trained, in f32"),
        (
            &[
                "--lora-rank",
                "2",
                "--frozen-type",
                "q8_0",
                init[0],
                init[1],
            ],
            "layers.0.ffn.w2.weight has rows of 40, no multiple of 32; set f16",
        ),
    ] {
        let run = project.train("new", settings);
        assert_eq!(run.code, USAGE, "{settings:?}: {}", run.stderr);
        assert!(run.stderr.contains(wanted), "{settings:?}: {}", run.stderr);
        let folder = project.path("new");
        assert!(!folder.join("config.json").exists(), "{settings:?}");
    }
    // A run would replace the model that its adapters are worth nothing without.
    let settings = [&init[..], &["--lora-rank", "2", "--overwrite"]].concat();
    let run = project.train("model", &settings);
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    assert!(run.stderr.contains("it lies in logdir"), "{}", run.stderr);
    assert!(Path::new(&model).is_file());
    let run = gpu_tlm(&[
        "export",
        "--checkpoint",
        &model,
        "--format",
        "peft",
        "--out",
        utf8(&project.path("out")),
    ]);
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    assert!(run.stderr.contains("it has no adapters"), "{}", run.stderr);
}

#[test]
fn a_run_in_the_place_of_adapters_leaves_none() {
    let (project, model) = with_a_model();
    let once = ["--max-iters", "1"];
    let from = ["--init-from", &model];
    trained(&project, "run", &[&from[..], &LORA, &once].concat());
    let adapters = project.path("run/adapter/adapter_model.safetensors");
    assert!(adapters.exists());
    trained(&project, "run", &[&["--overwrite"][..], &once].concat());
    assert!(!adapters.exists());
}

#[test]
fn adapters_beside_adapters_keep_what_these_are_of() {
    let (project, model) = with_a_model();
    let once = ["--max-iters", "1"];
    trained(
        &project,
        "first",
        &[&["--init-from", &model][..], &LORA, &once].concat(),
    );
    let first = project.checkpoint("first");
    let second = [&["--init-from", &first, "--overwrite"][..], &LORA, &once].concat();
    // The model of the first lies in the folder that the second would replace.
    let run = project.train("model", &second);
    assert_eq!(run.code, USAGE, "{}", run.stderr);
    assert!(
        run.stderr.contains("choose another logdir"),
        "{}",
        run.stderr
    );
    trained(&project, "second", &second);
}

#[test]
fn a_model_that_was_moved_is_noted_where_it_is() {
    let (project, model) = with_a_model();
    let half = ["--max-iters", "1"];
    trained(
        &project,
        "run",
        &[&["--init-from", &model][..], &LORA, &half].concat(),
    );
    let moved = project.path("moved.safetensors");
    std::fs::rename(&model, &moved).unwrap();
    let run = project.checkpoint("run");
    let on = ["--load-checkpoint", &run, "--max-iters", "2"];
    let lost = project.train("run", &[&on[..], &LORA].concat());
    assert_eq!(lost.code, USAGE, "{}", lost.stderr);
    assert!(lost.stderr.contains("--init-from PATH"), "{}", lost.stderr);
    let from = ["--init-from", utf8(&moved)];
    trained(&project, "run", &[&on[..], &from, &LORA].concat());
    // Nobody has to say it again.
    loss(&project, &run, &[]);
    loss(&project, utf8(&project.path("run/adapter")), &[]);
}
