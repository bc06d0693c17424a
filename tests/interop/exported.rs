//! What is written for other programs, with what we compute from it beside it: `target/tmp/interop` is what
//! `make test-interop` hands to `transformers` and llama.cpp.

use std::path::{Path, PathBuf};

use gpu_tlm::checkpoint::Checkpoint;
use gpu_tlm::convert::{ExportFormat, export, import};
use gpu_tlm::decode::{Generator, InferenceModel};
use gpu_tlm::gpu::{Device, DeviceOptions};
use gpu_tlm::interop::StoredType;
use serde_json::Map;

use super::hugging_face::folder;

fn tokens(vocab_size: usize, len: usize) -> Vec<u32> {
    // Every token, in an order without a pattern that a model could have learnt.
    let token = |at: usize| (at * at * 7 + at * 3 + 1) % vocab_size;
    (0..len)
        .map(|at| u32::try_from(token(at)).unwrap())
        .collect()
}

/// The logits after each of `tokens`.
fn logits(path: &Path, tokens: &[u32]) -> Vec<f32> {
    let device = Device::open(&DeviceOptions::default()).unwrap();
    let words = device.target().max_binding_words;
    let model = InferenceModel::open(path, words).unwrap();
    let mut generator = Generator::new(device, model, 1).unwrap();
    let after = |end: usize| generator.logits(&tokens[..end]).unwrap();
    (1..=tokens.len()).flat_map(after).collect()
}

fn output() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes the tokens and their logits beside the exports of a case.
fn write(case: &str, tokens: &[u32], logits: &[f32], vocab_size: usize) {
    let path = output().join(case);
    std::fs::write(
        path.with_extension("json"),
        serde_json::json!(tokens).to_string(),
    )
    .unwrap();
    let shape = vec![tokens.len(), vocab_size];
    let bytes = bytemuck::cast_slice(logits);
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes).unwrap();
    let bytes = safetensors::serialize([("logits", view)], None).unwrap();
    std::fs::write(path.with_extension("safetensors"), bytes).unwrap();
}

/// The largest difference of a logit between one of f32 and the same from blocks: their rounding errors, which the
/// weights of the fixtures (standard deviation 0.2) make large.
fn assert_near(what: &str, got: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (place, (got, want)) in got.iter().zip(want).enumerate() {
        let difference = (got - want).abs();
        // Written so that NaN fails.
        assert!(
            difference <= tolerance,
            "{what}: {got} for {want} at {place}"
        );
    }
}

#[test]
fn what_is_exported_computes_the_same() {
    let own = tempfile::tempdir().unwrap();
    let own = own.path().join("m.safetensors");
    for case in ["llama_grouped", "llama_tied_head_dim", "qwen3", "gpt2"] {
        let report = import(
            Checkpoint::open(&folder(case)).unwrap(),
            &Map::new(),
            &own,
            None,
        )
        .unwrap();
        assert!(report.parameters > 10_000, "{report}");
        let checkpoint = Checkpoint::open(&own).unwrap();
        let vocab_size = checkpoint.model().unwrap().vocab_size;
        // A wrong order of rows looks plausible over a few tokens.
        let tokens = tokens(vocab_size, 96);
        let want = logits(&own, &tokens);
        write(case, &tokens, &want, vocab_size);
        let formats = [
            (ExportFormat::Hf, StoredType::F32, "", 0.0),
            (ExportFormat::Gguf, StoredType::F32, ".gguf", 0.0),
        ];
        for (format, stored, end, tolerance) in formats {
            let path = output().join(format!("{case}{end}"));
            export(&checkpoint, None, format, stored, &path).unwrap();
            assert_near(
                &format!("{case} {format:?}"),
                &logits(&path, &tokens),
                &want,
                tolerance,
            );
        }
    }
}

#[test]
fn rounded_weights_are_rounded_and_no_more() {
    let own = tempfile::tempdir().unwrap();
    let own = own.path().join("m.safetensors");
    // The only case whose rows are whole blocks throughout is GPT-2's.
    import(
        Checkpoint::open(&folder("gpt2")).unwrap(),
        &Map::new(),
        &own,
        None,
    )
    .unwrap();
    let checkpoint = Checkpoint::open(&own).unwrap();
    let config = checkpoint.model().unwrap();
    let table = gpu_tlm::weights::ParameterTable::new(&config, &[], usize::MAX);
    for (stored, relative) in [
        (StoredType::F16, 5e-4),
        (StoredType::Bf16, 4e-3),
        // Half a step of 127, and one of 8, of the largest of a block, whose scale is an f16.
        (StoredType::Q8_0, 0.5 / 127.0 + 5e-4),
        (StoredType::Q4_0, 1.0 / 8.0 + 5e-4),
    ] {
        let path = own.with_extension("gguf");
        export(&checkpoint, None, ExportFormat::Gguf, stored, &path).unwrap();
        let rounded = Checkpoint::open(&path).unwrap();
        assert_eq!(rounded.model().unwrap(), config);
        let mut changed = 0;
        for parameter in table.iter() {
            let read =
                |checkpoint: &Checkpoint| checkpoint.read(&config, parameter).unwrap().to_f32();
            let (got, want) = (read(&rounded), read(&checkpoint));
            let largest = want
                .iter()
                .fold(0.0f32, |most, value| most.max(value.abs()));
            let name = &parameter.name;
            assert_near(
                &format!("{stored:?} {name}"),
                &got,
                &want,
                largest * relative * 1.01,
            );
            changed += usize::from(got != want);
            let is_vector = parameter.shape().len() == 1 || name.starts_with("position");
            assert!(
                !is_vector || got == want,
                "{stored:?} {name} is no matrix of a product"
            );
        }
        assert!(changed >= 9, "{stored:?}: {changed} changed");
    }
}

#[test]
fn llama2c_files_come_back_in_both_versions_and_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("m.safetensors");
    import(
        Checkpoint::open(&folder("llama_grouped")).unwrap(),
        &Map::new(),
        &own,
        None,
    )
    .unwrap();
    let path = dir.path().join("m.bin");
    let checkpoint = Checkpoint::open(&own).unwrap();
    let refused = export(
        &checkpoint,
        None,
        ExportFormat::Llama2c,
        StoredType::F32,
        &path,
    );
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("its norm_eps is not the one that run.c has in its code"),
        "{error}"
    );
    // The same weights in a model that run.c computes.
    let model = gpu_tlm::config::ModelConfig {
        norm_eps: 1e-5,
        architecture: gpu_tlm::config::Architecture::default(),
        ..checkpoint.model().unwrap()
    };
    for (name, is_tied) in [("untied", false), ("tied", true)] {
        let model = gpu_tlm::config::ModelConfig {
            tie_embeddings: is_tied,
            ..model.clone()
        };
        let table = gpu_tlm::weights::ParameterTable::new(&model, &[], usize::MAX);
        let read = |p| checkpoint.read(&checkpoint.model().unwrap(), p).unwrap();
        let state = gpu_tlm::weights::EngineState {
            parameters: table.iter().map(read).collect(),
            moments: None,
            loss_scale: None,
        };
        let metadata = gpu_tlm::checkpoint::Metadata {
            iteration: 0,
            config: serde_json::to_value(&model)
                .unwrap()
                .as_object()
                .unwrap()
                .clone(),
            tokenizer_hash: None,
            train_loss: None,
            val_loss: None,
            best_val_loss: None,
            base: None,
            tuning: None,
        };
        let plain = dir.path().join("plain.safetensors");
        gpu_tlm::checkpoint::save(&plain, &table, &state, &metadata).unwrap();
        let plain = Checkpoint::open(&plain).unwrap();
        for format in [ExportFormat::Llama2c, ExportFormat::Llama2cV1] {
            export(&plain, None, format, StoredType::F32, &path).unwrap();
            let again = Checkpoint::open(&path).unwrap();
            assert_eq!(again.model().unwrap(), model, "{name} {format:?}");
            again.check(&model).unwrap();
            for parameter in table.iter() {
                let read = |checkpoint: &Checkpoint| checkpoint.read(&model, parameter).unwrap();
                assert!(
                    read(&again) == read(&plain),
                    "{name} {format:?}: {}",
                    parameter.name
                );
            }
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
            let error = Checkpoint::open(&path).unwrap_err().to_string();
            assert!(
                error.contains("it ends within tensor"),
                "{name} {format:?}: {error}"
            );
        }
    }
}
