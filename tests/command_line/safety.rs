//! What is still there after a run was killed, and what no run may take from another.

use std::time::{Duration, Instant};

use gpu_tlm::checkpoint::Checkpoint;
use gpu_tlm::weights::ParameterTable;

use super::{Project, command, utf8};

/// Runs of a killed process and of one that was told to stop end with these.
const USAGE: Option<i32> = Some(2);

#[cfg(unix)]
#[test]
fn a_kill_while_a_resume_rewrites_the_metrics_loses_no_line() {
    use std::os::unix::process::ExitStatusExt;
    const SIGXFSZ: i32 = 25;
    let project = Project::new();
    assert_eq!(project.train("run", &["--max-iters", "4"]).code, Some(0));
    let metrics = project.path("run").join("metrics.jsonl");
    let mut history = std::fs::read_to_string(&metrics).unwrap();
    let line = "{\"kind\":\"eval\",\"iteration\":0,\"val_loss\":3.0,\"val_perplexity\":20.1}\n";
    history.push_str(&line.repeat(4 << 20 >> 6));
    std::fs::write(&metrics, &history).unwrap();
    let checkpoint = project.checkpoint("run");
    let args = project.train_args("run", &["--load-checkpoint", &checkpoint]);
    // The system kills a process that writes a file past this size: here, while it rewrites.
    let mut killed = std::process::Command::new("sh");
    killed
        .args(["-c", "ulimit -f 2048; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_gpu-tlm"))
        .args(&args)
        .arg("--no-tune")
        .env("MESA_SHADER_CACHE_DISABLE", "true");
    let killed = killed.output().unwrap();
    assert_eq!(
        killed.status.signal(),
        Some(SIGXFSZ),
        "{}",
        String::from_utf8_lossy(&killed.stderr)
    );
    let left = std::fs::read_to_string(&metrics).unwrap();
    assert!(left == history, "{} of {} bytes", left.len(), history.len());
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    assert_eq!(super::gpu_tlm(&args).code, Some(0), "it goes on after that");
}

#[test]
fn a_logdir_is_refused_while_a_run_writes_to_it_and_not_once_that_was_killed() {
    let project = Project::new();
    project.write_config(serde_json::json!({ "max_iters": 100_000, "eval_interval": 0 }));
    let args = project.train_args("run", &[]);
    let mut first = command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut first = first.stderr(std::process::Stdio::null()).spawn().unwrap();
    let metrics = project.path("run").join("metrics.jsonl");
    let started = Instant::now();
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 4 {
        assert!(started.elapsed() < Duration::from_secs(120), "no iteration");
        std::thread::sleep(Duration::from_millis(20));
    }
    for more in [&[][..], &["--overwrite"]] {
        let second = project.train("run", more);
        assert_eq!(second.code, USAGE, "{}", second.stderr);
        let wanted = format!("another run is writing to '{}'", utf8(&project.path("run")));
        assert!(second.stderr.contains(&wanted), "{}", second.stderr);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let third = project.train("run", &["--overwrite", "--max-iters", "3"]);
    assert_eq!(third.code, Some(0), "{}", third.stderr);
    let lines = project.metrics("run");
    assert_eq!(lines.iter().filter(|l| l["kind"] == "train").count(), 3);
}

#[test]
fn a_finished_run_is_not_replaced_unasked() {
    let project = Project::new();
    assert_eq!(project.train("run", &["--max-iters", "3"]).code, Some(0));
    let checkpoint = project.checkpoint("run");
    let metrics = project.path("run").join("metrics.jsonl");
    let files = || {
        (
            std::fs::read(&checkpoint).unwrap(),
            std::fs::read(&metrics).unwrap(),
        )
    };
    let before = files();
    let again = project.train("run", &["--max-iters", "3"]);
    assert_eq!(again.code, USAGE, "{}", again.stderr);
    for wanted in ["holds a run already", "--load-checkpoint", "--overwrite"] {
        assert!(again.stderr.contains(wanted), "{}", again.stderr);
    }
    assert!(files() == before, "nothing was touched");
    // A checkpoint of another run does not open this one's folder either.
    assert_eq!(project.train("other", &["--max-iters", "2"]).code, Some(0));
    let of_other = project.checkpoint("other");
    let mixed = project.train("run", &["--load-checkpoint", &of_other]);
    assert_eq!(mixed.code, USAGE, "{}", mixed.stderr);
    assert!(files() == before, "nothing was touched");
    let replaced = project.train("run", &["--max-iters", "2", "--overwrite"]);
    assert_eq!(replaced.code, Some(0), "{}", replaced.stderr);
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_found_and_older_files_still_load() {
    let project = Project::new();
    assert_eq!(project.train("run", &["--max-iters", "2"]).code, Some(0));
    let sound = std::fs::read(project.checkpoint("run")).unwrap();
    let header_len = usize::try_from(u64::from_le_bytes(*sound.first_chunk().unwrap())).unwrap();
    let data = 8 + header_len;
    let damaged = project.path("damaged.safetensors");
    let eval = || {
        let data = project.path("val.npy");
        let args = [
            "eval",
            "--checkpoint",
            utf8(&damaged),
            "--data",
            utf8(&data),
        ];
        super::gpu_tlm(&args)
    };
    let resume = || project.train("other", &["--load-checkpoint", utf8(&damaged)]);
    // Parameters lie among moments, in the order of their names; both ends and between.
    for at in [
        data,
        data + 4097,
        data + (sound.len() - data) / 2,
        sound.len() - 1,
    ] {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&damaged, &bytes).unwrap();
        let run = resume();
        assert_eq!(run.code, Some(1), "byte {at}: {}", run.stderr);
        assert!(run.stderr.contains("has the checksum"), "{}", run.stderr);
        assert!(!project.path("other").exists(), "nothing is written");
    }
    // A digit of the metadata's iteration is no less of a damage.
    let text = std::str::from_utf8(&sound[8..data]).unwrap();
    let key = "\"iteration\":\"";
    let at = 8 + text.find(&format!("{key}2\"")).unwrap() + key.len();
    let mut bytes = sound.clone();
    bytes[at] = b'3';
    std::fs::write(&damaged, &bytes).unwrap();
    let run = eval();
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains("its metadata has the checksum"),
        "{}",
        run.stderr
    );
    // As earlier versions wrote it: without either checksum, and so also with a changed bit.
    let file = safetensors::SafeTensors::deserialize(&sound).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&sound).unwrap();
    let mut map = header.metadata().clone().unwrap();
    assert!(map.remove("tensor_crc32c").is_some() && map.remove("metadata_crc32c").is_some());
    let older = safetensors::serialize(file.tensors(), Some(map)).unwrap();
    std::fs::write(&damaged, &older).unwrap();
    let run = eval();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
}

#[test]
fn a_checkpoint_that_is_cut_short_while_it_is_open_is_an_error() {
    let project = Project::new();
    assert_eq!(project.train("run", &["--max-iters", "1"]).code, Some(0));
    let path = std::path::PathBuf::from(project.checkpoint("run"));
    let checkpoint = Checkpoint::open(&path).unwrap();
    let table = ParameterTable::new(&checkpoint.model().unwrap(), &[], 1 << 25);
    let values = || -> Result<Vec<_>, _> {
        let parameters = table.iter();
        parameters
            .map(|p| checkpoint.read(table.config(), p))
            .collect()
    };
    values().unwrap();
    let len = std::fs::metadata(&path).unwrap().len();
    let on_disk = std::fs::File::options().write(true).open(&path).unwrap();
    // Weights are the first third of the file, before both moments.
    on_disk.set_len(len / 5).unwrap();
    let error = values().unwrap_err().to_string();
    assert!(
        error.contains("became shorter while it was read"),
        "{error}"
    );
    // And a whole file that lost its end before it was opened.
    let error = Checkpoint::open(&path).unwrap_err().to_string();
    assert!(
        error.contains(&format!("its header wants {len}")),
        "{error}"
    );
}
