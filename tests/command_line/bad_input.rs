//! Bad input: one clear line on stderr that names the thing and the remedy, the right exit code,
//! and nothing half-written.

use std::path::Path;

use gpu_tlm::data::tokenizer::Tokenizer;
use serde_json::json;

use super::{Project, gpu_tlm, succeed, utf8, write_npy};

const BAD_REQUEST: i32 = 2;
const FAILED: i32 = 1;

/// Runs training and wants it refused, with one line that holds every part.
fn refused(project: &Project, more: &[&str], code: i32, parts: &[&str]) {
    let run = project.train("run", more);
    expect_refusal(&run.stderr, run.code, code, parts);
    assert_eq!(run.stdout, "", "a refusal prints no result");
    let written = std::fs::read_dir(project.path("run")).map_or(0, Iterator::count);
    assert_eq!(written, 0, "nothing is written to logdir by {more:?}");
}

fn expect_refusal(stderr: &str, found: Option<i32>, code: i32, parts: &[&str]) {
    assert_eq!(found, Some(code), "{stderr}");
    let errors: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("ERROR"))
        .collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    for part in parts {
        assert!(
            errors[0].contains(part),
            "'{part}' is not in: {}",
            errors[0]
        );
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn wrong_settings_are_refused() {
    let project = Project::new();
    for (flags, parts) in [
        (
            &["--d-model", "33"][..],
            &["d_model", "33", "num_heads (2)"][..],
        ),
        (
            &["--d-model", "34", "--num-kv-heads", "2"],
            &["odd head_dim of 17"],
        ),
        (
            &["--d-model", "1024", "--num-heads", "2"],
            &["head_dim 512", "128"],
        ),
        (
            &["--num-heads", "4", "--num-kv-heads", "3"],
            &["num_kv_heads", "3", "num_heads (4)"],
        ),
        (&["--num-layers", "0"], &["num_layers", "from 1"]),
        (
            &["--batch-size", "3"],
            &["micro_batch_size", "2", "batch_size (3)"],
        ),
        (&["--max-iters", "0"], &["max_iters"]),
        (&["--learning-rate", "0"], &["learning_rate", "over 0"]),
        (
            &["--min-learning-rate", "1"],
            &["min_learning_rate", "learning_rate (0.01)"],
        ),
        (&["--beta2", "1"], &["beta2", "below 1"]),
        (&["--weight-decay", "nan"], &["weight_decay", "finite"]),
        (
            &["--backend", "cuda"],
            &["cuda", "vulkan, metal, dx12 or gl"],
        ),
        (
            &["--adapter", "no such adapter"],
            &["no such adapter", "0: "],
        ),
    ] {
        refused(&project, flags, BAD_REQUEST, parts);
    }
}

#[test]
fn wrong_config_files_are_refused() {
    let project = Project::new();
    project.write_config(json!({ "d_modle": 32 }));
    refused(
        &project,
        &[],
        BAD_REQUEST,
        &["d_modle", "did you mean 'd_model'", "config.json"],
    );
    project.write_config(json!({ "d_model": "wide" }));
    refused(&project, &[], BAD_REQUEST, &["d_model", "\"wide\""]);
    project.write_config(json!({ "batch_size": -4 }));
    refused(&project, &[], BAD_REQUEST, &["batch_size", "-4"]);
    std::fs::write(project.path("config.json"), "{\"d_model\": 32,").unwrap();
    refused(
        &project,
        &[],
        BAD_REQUEST,
        &["config.json", "not a JSON object"],
    );
    std::fs::remove_file(project.path("config.json")).unwrap();
    refused(&project, &[], BAD_REQUEST, &["config.json", "No such file"]);
}

#[test]
fn misspelt_flags_are_usage_errors_with_a_hint() {
    let run = gpu_tlm(&["train", "--d-modle", "32"]);
    assert_eq!(run.code, Some(BAD_REQUEST));
    assert!(run.stderr.contains("--d-model"), "{}", run.stderr);
}

/// The project's training file, changed byte by byte.
fn damage(project: &Project, change: impl FnOnce(&mut Vec<u8>)) {
    let path = project.path("train.npy");
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
}

fn replace_in_header(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes
        .windows(from.len())
        .position(|w| w == from.as_bytes())
        .unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn wrong_token_files_are_refused() {
    let fresh = Project::new;
    let project = fresh();
    refused(
        &project,
        &["--train-path", "missing.npy"],
        FAILED,
        &["missing.npy", "tokenizer encode"],
    );
    refused(
        &project,
        &["--val-path", "missing.npy"],
        FAILED,
        &["missing.npy"],
    );
    let project = fresh();
    damage(&project, |bytes| bytes.truncate(bytes.len() - 3));
    refused(&project, &[], FAILED, &["train.npy"]);
    let project = fresh();
    damage(&project, |bytes| replace_in_header(bytes, "<u2", "<f2"));
    refused(&project, &[], FAILED, &["train.npy", "f2"]);
    let project = fresh();
    damage(&project, |bytes| {
        replace_in_header(bytes, "(2000,), ", "(2000,1),")
    });
    refused(&project, &[], FAILED, &["train.npy"]);
    let project = fresh();
    damage(&project, |bytes| bytes[0] = b'x');
    refused(&project, &[], FAILED, &["train.npy"]);
    let project = fresh();
    let mut tokens = vec![1; 100];
    tokens[61] = 24;
    write_npy(&project.path("train.npy"), &tokens);
    refused(&project, &[], FAILED, &["train.npy", "24", "61"]);
    write_npy(&project.path("train.npy"), &[1; 16]);
    refused(&project, &[], FAILED, &["train.npy", "16 tokens", "17"]);
}

#[test]
fn wrong_checkpoints_are_refused() {
    let project = Project::new();
    assert_eq!(project.train("good", &["--max-iters", "2"]).code, Some(0));
    let checkpoint = project.checkpoint("good");
    let load = |more: &[&str], code, parts: &[&str]| {
        let mut args = vec!["--load-checkpoint", &checkpoint];
        args.extend(more);
        refused(&project, &args, code, parts);
    };
    load(&["--d-ff", "48"], BAD_REQUEST, &["d_ff", "40", "48"]);
    load(
        &["--max-iters", "2"],
        BAD_REQUEST,
        &["2 iterations", "max_iters"],
    );
    load(
        &["--init-from", &checkpoint],
        BAD_REQUEST,
        &["init_from", "load_checkpoint"],
    );
    refused(
        &project,
        &["--init-from", &checkpoint, "--d-ff", "48"],
        BAD_REQUEST,
        &["has a model with d_ff = 40, and not 48"],
    );
    refused(
        &project,
        &["--load-checkpoint", "gone.safetensors"],
        FAILED,
        &["gone.safetensors"],
    );
    let cut = project.path("cut.safetensors");
    let bytes = std::fs::read(&checkpoint).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    refused(
        &project,
        &["--load-checkpoint", utf8(&cut)],
        FAILED,
        &["cut.safetensors", "safetensors"],
    );
}

fn make_tokenizer(folder: &Path, text: &str) {
    let input = folder.with_extension("txt");
    std::fs::write(&input, text).unwrap();
    let args = [
        "tokenizer",
        "train",
        "--input",
        utf8(&input),
        "--vocab-size",
        "260",
        "--out",
        utf8(folder),
    ];
    assert_eq!(gpu_tlm(&args).code, Some(0));
}

#[test]
fn another_tokenizer_is_refused() {
    let project = Project::new();
    let (one, other) = (project.path("one"), project.path("other"));
    make_tokenizer(&one, "a big big big dog");
    make_tokenizer(&other, "the cat that sat");
    let args = [
        "--tokenizer",
        utf8(&one),
        "--vocab-size",
        "260",
        "--max-iters",
        "1",
    ];
    assert_eq!(project.train("good", &args).code, Some(0));
    let checkpoint = project.checkpoint("good");
    let args = [
        "--tokenizer",
        utf8(&other),
        "--vocab-size",
        "260",
        "--load-checkpoint",
        &checkpoint,
    ];
    refused(&project, &args, BAD_REQUEST, &["tokenizer", "trained with"]);
    let args = [
        "generate",
        "--checkpoint",
        &checkpoint,
        "--tokenizer",
        utf8(&other),
        "--prompt",
        "the",
    ];
    let run = gpu_tlm(&args);
    expect_refusal(
        &run.stderr,
        run.code,
        BAD_REQUEST,
        &["tokenizer", "trained with"],
    );
    // A vocabulary smaller than the tokenizer's cannot hold its tokens.
    let args = ["--tokenizer", utf8(&one), "--vocab-size", "24"];
    refused(&project, &args, BAD_REQUEST, &["vocab_size", "260 tokens"]);
}

#[test]
fn a_model_has_the_tokenizer_of_its_run_and_no_other() {
    let project = Project::new();
    let (noted, kept) = (
        project.path("noted"),
        project.path("good").join("tokenizer"),
    );
    make_tokenizer(&noted, "a big big big dog");
    let args = ["--tokenizer", utf8(&noted), "--vocab-size", "260"];
    let args = [&args[..], &["--max-iters", "1"]].concat();
    assert_eq!(project.train("good", &args).code, Some(0));
    let checkpoint = project.checkpoint("good");
    let generate = ["generate", "--checkpoint", &checkpoint, "--prompt", "big"];
    let generate = [&generate[..], &["--max-new-tokens", "1"]].concat();
    succeed(&generate);
    std::fs::rename(&noted, &kept).unwrap();
    succeed(&generate);
    make_tokenizer(&noted, "the cat that sat");
    succeed(&generate);
    std::fs::remove_dir_all(&kept).unwrap();
    let run = gpu_tlm(&generate);
    expect_refusal(&run.stderr, run.code, BAD_REQUEST, &["needs a tokenizer"]);
}

#[test]
fn token_files_of_another_tokenizer_are_refused() {
    let project = Project::new();
    let folder = project.path("tokenizer");
    make_tokenizer(&folder, "a big big big dog");
    let hash = Tokenizer::load(&folder).unwrap().hash();
    let side_car = |name: &str, hash: &str, tokens: usize| {
        let json = json!({"tokenizer_hash": hash, "tokens": tokens, "documents": 1});
        std::fs::write(project.path(name), json.to_string()).unwrap();
    };
    let other = "0123456789abcdef";
    let args = [
        "--tokenizer",
        utf8(&folder),
        "--vocab-size",
        "260",
        "--max-iters",
        "1",
    ];
    let both = [&other[..12], &hash[..12], "--ignore-tokenizer-mismatch"];
    for (train_hash, val_hash) in [(other, &hash[..]), (&hash[..], other)] {
        side_car("train.npy.json", train_hash, 2000);
        side_car("val.npy.json", val_hash, 500);
        refused(&project, &args, BAD_REQUEST, &both);
    }
    let ignoring = [&args[..], &["--ignore-tokenizer-mismatch"]].concat();
    assert_eq!(project.train("ignored", &ignoring).code, Some(0));
    // Without --tokenizer the token file's own hash goes into the run and its checkpoint.
    side_car("train.npy.json", other, 2000);
    assert_eq!(project.train("good", &["--max-iters", "1"]).code, Some(0));
    assert_eq!(project.metrics("good")[0]["tokenizer_hash"], other);
    side_car("val.npy.json", &hash, 500);
    let (checkpoint, data) = (project.checkpoint("good"), project.path("val.npy"));
    let eval = ["eval", "--checkpoint", &checkpoint, "--data", utf8(&data)];
    let run = gpu_tlm(&eval);
    expect_refusal(&run.stderr, run.code, BAD_REQUEST, &both);
    succeed(&[&eval[..], &["--ignore-tokenizer-mismatch"]].concat());
    side_car("val.npy.json", &hash, 499);
    refused(
        &project,
        &[],
        FAILED,
        &["val.npy.json", "of 499 tokens, not of 500"],
    );
}

#[test]
fn wrong_sampling_is_refused() {
    let project = Project::new();
    assert_eq!(project.train("good", &["--max-iters", "1"]).code, Some(0));
    let checkpoint = project.checkpoint("good");
    for (flags, parts) in [
        (
            &["--prompt-tokens", "1", "--temperature=-1"][..],
            &["temperature", "-1"][..],
        ),
        (
            &["--prompt-tokens", "1", "--temperature", "nan"],
            &["temperature", "NaN"],
        ),
        (
            &["--prompt-tokens", "1", "--top-p", "0"],
            &["top-p", "over 0"],
        ),
        (
            &["--prompt-tokens", "1", "--top-p", "1.5"],
            &["top-p", "1.5"],
        ),
        (
            &["--prompt-tokens", "1", "--top-k", "0"],
            &["top-k", "at least 1"],
        ),
        (
            &["--prompt-tokens", "1", "--min-p", "1.1"],
            &["min-p", "1.1", "at most 1"],
        ),
        (
            &["--prompt-tokens", "1", "--repetition-penalty", "0"],
            &["repetition-penalty", "over 0"],
        ),
        (&["--prompt-tokens", "1,24"], &["24", "position 1"]),
        (&["--prompt", "hello"], &["--tokenizer"]),
        (&[], &["prompt"]),
        (
            &["--prompt-tokens", "1", "--eos-token", "<end>"],
            &["<end>", "none"],
        ),
    ] {
        let mut args = vec!["generate", "--checkpoint", &checkpoint];
        args.extend(flags);
        let run = gpu_tlm(&args);
        expect_refusal(&run.stderr, run.code, BAD_REQUEST, parts);
    }
}

#[test]
fn an_unwritable_logdir_is_refused() {
    let project = Project::new();
    // A file where the folder should be stops root too, whom permissions do not.
    let blocked = project.path("train.npy").join("run");
    let config = project.path("config.json");
    let run = gpu_tlm(&[
        "train",
        "--config",
        utf8(&config),
        "--logdir",
        utf8(&blocked),
    ]);
    expect_refusal(&run.stderr, run.code, FAILED, &["train.npy", "logdir"]);
}

#[test]
fn a_model_too_large_is_refused() {
    let project = Project::new();
    let wide = |vocab_size| {
        [
            "--vocab-size",
            vocab_size,
            "--d-model",
            "1024",
            "--num-heads",
            "8",
        ]
    };
    // For any shader, and for any adapter, whose bindings end at 4 GiB.
    let parts = ["vocab_size x d_model", "16000000 x 1024"];
    refused(&project, &wide("16000000"), BAD_REQUEST, &parts);
    // By its limit for one binding, which 64 rows of logits are over, or else by its memory.
    refused(&project, &wide("2000000"), FAILED, &["lower vocab_size"]);
}

#[test]
fn a_diverging_run_stops_and_names_the_iteration() {
    let project = Project::new();
    let args = [
        "--learning-rate",
        "1e30",
        "--warmup-iters",
        "0",
        "--schedule",
        "constant",
        "--grad-clip",
        "0",
        "--eval-interval",
        "0",
    ];
    let run = project.train("run", &args);
    expect_refusal(
        &run.stderr,
        run.code,
        FAILED,
        &["at iteration", "learning_rate"],
    );
    let checkpoints = std::fs::read_dir(project.path("run/checkpoints"))
        .unwrap()
        .count();
    assert_eq!(checkpoints, 0, "a diverged model is not saved");
}

#[test]
fn a_missing_adapter_is_named_with_the_remedy() {
    let run = super::command(&["devices", "--backend", "gl"])
        .env("VK_ICD_FILENAMES", "/nowhere.json")
        .env("LD_LIBRARY_PATH", "")
        .output()
        .unwrap();
    let run = super::finished(run);
    // A machine with OpenGL has an adapter there; one without says what to install.
    if run.code != Some(0) {
        expect_refusal(
            &run.stderr,
            run.code,
            FAILED,
            &["no GPU adapter", "mesa-vulkan-drivers"],
        );
    }
    let run = super::command(&["devices", "--backend", "vulkan"])
        .env("VK_ICD_FILENAMES", "/nowhere.json")
        .env("VK_DRIVER_FILES", "/nowhere.json")
        .output()
        .unwrap();
    let run = super::finished(run);
    expect_refusal(
        &run.stderr,
        run.code,
        FAILED,
        &["no GPU adapter", "mesa-vulkan-drivers"],
    );
}

#[test]
fn validation_layers_that_are_not_there_are_a_failure() {
    let run = super::command(&["devices", "--validation"])
        .env("VK_LAYER_PATH", "/nowhere")
        .output()
        .unwrap();
    let run = super::finished(run);
    let parts = ["no Vulkan validation layers"];
    expect_refusal(&run.stderr, run.code, FAILED, &parts);
    let run = super::gpu_tlm(&["devices", "--validation", "--backend", "gl"]);
    expect_refusal(&run.stderr, run.code, FAILED, &["--backend vulkan"]);
}
