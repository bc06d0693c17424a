//! Models of other programs to checkpoints of ours and back: the same bytes.

use std::collections::BTreeMap;
use std::path::Path;

use gpu_tlm::checkpoint::Checkpoint;
use gpu_tlm::convert::{ExportFormat, export, import};
use gpu_tlm::interop::StoredType;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::hugging_face::folder;

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The tensors of the safetensors files in a folder.
fn tensors_of(folder: &Path) -> Tensors {
    let mut all = Tensors::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            let bytes = std::fs::read(&path).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
                let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                assert!(all.insert(name, tensor).is_none());
            }
        }
    }
    all
}

fn json_of(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join(name)).unwrap()).unwrap()
}

#[test]
fn hugging_face_folders_come_back_byte_for_byte() {
    for (case, stored) in [
        ("llama_grouped", StoredType::F32),
        ("llama_tied_head_dim", StoredType::F32),
        ("mistral", StoredType::F32),
        ("qwen3", StoredType::F32),
        ("gpt2", StoredType::F32),
        ("llama_sharded", StoredType::F32),
        ("llama_f16", StoredType::F16),
        ("smollm2", StoredType::Bf16),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("m.safetensors"), dir.path().join("hf"));
        let report = import(
            Checkpoint::open(&folder(case)).unwrap(),
            &Map::new(),
            &ours,
            None,
        )
        .unwrap();
        assert_eq!(report.format, "Hugging Face folder");
        let checkpoint = Checkpoint::open(&ours).unwrap();
        export(&checkpoint, None, ExportFormat::Hf, stored, &theirs).unwrap();
        let (want, got) = (tensors_of(&folder(case)), tensors_of(&theirs));
        let names = |tensors: &Tensors| tensors.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&got), names(&want), "{case}");
        for (name, tensor) in want {
            assert!(got[&name] == tensor, "{case}: {name}");
        }
        // And the config says what it said.
        let (want, got) = (
            json_of(&folder(case), "config.json"),
            json_of(&theirs, "config.json"),
        );
        let said = want.as_object().unwrap().iter();
        for (key, value) in said.filter(|(_, value)| !value.is_null()) {
            // Nothing is dropped out here, in training as well.
            const OTHERS: &[&str] = &[
                "architectures",
                "model_type",
                "transformers_version",
                "bos_token_id",
                "eos_token_id",
                "attn_pdrop",
                "embd_pdrop",
                "resid_pdrop",
            ];
            if let Some(own) = got.get(key).filter(|_| !OTHERS.contains(&key.as_str())) {
                assert_eq!(own, value, "{case}: {key}");
            }
        }
    }
}

#[test]
fn older_spellings_of_a_config_mean_the_same() {
    for case in [
        "llama_grouped",
        "llama_tied_head_dim",
        "qwen3",
        "gpt2",
        "smollm2",
        "mistral",
    ] {
        let dir = tempfile::tempdir().unwrap();
        for name in ["model.safetensors", "config.older.json"] {
            let to = name.replace(".older", "");
            std::fs::copy(folder(case).join(name), dir.path().join(to)).unwrap();
        }
        let newer = Checkpoint::open(&folder(case)).unwrap().model().unwrap();
        let older = Checkpoint::open(dir.path()).unwrap().model().unwrap();
        assert_eq!(older, newer, "{case}");
    }
}

#[test]
fn an_import_says_what_was_permuted_transposed_and_joined() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.safetensors");
    let report = import(
        Checkpoint::open(&folder("qwen3")).unwrap(),
        &Map::new(),
        &out,
        None,
    )
    .unwrap();
    let text = report.to_string();
    assert!(
        report
            .permuted
            .iter()
            .any(|name| name.ends_with("q_norm.weight")),
        "{text}"
    );
    assert!(
        !report.permuted.iter().any(|name| name.contains("v_proj")),
        "{text}"
    );
    assert!(
        report.transposed.is_empty() && report.joined.is_empty(),
        "{text}"
    );
    let report = import(
        Checkpoint::open(&folder("gpt2")).unwrap(),
        &Map::new(),
        &out,
        None,
    )
    .unwrap();
    let text = report.to_string();
    assert_eq!(report.joined.len(), 4, "{text}");
    assert!(
        report.joined.iter().all(|name| name.contains("c_attn")),
        "{text}"
    );
    assert!(
        report
            .transposed
            .iter()
            .any(|name| name.ends_with("c_fc.weight")),
        "{text}"
    );
    assert!(text.starts_with("Hugging Face folder: "), "{text}");
}

#[test]
fn plain_safetensors_come_back_and_tell_what_they_do_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, plain, again) = (
        dir.path().join("m.safetensors"),
        dir.path().join("plain.safetensors"),
        dir.path().join("again.safetensors"),
    );
    import(
        Checkpoint::open(&folder("llama_grouped")).unwrap(),
        &Map::new(),
        &ours,
        None,
    )
    .unwrap();
    let checkpoint = Checkpoint::open(&ours).unwrap();
    let config = checkpoint.model().unwrap();
    export(
        &checkpoint,
        None,
        ExportFormat::Safetensors,
        StoredType::F32,
        &plain,
    )
    .unwrap();
    let error = import(Checkpoint::open(&plain).unwrap(), &Map::new(), &again, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("does not say what its model's context_length, num_heads, num_kv_heads are"),
        "{error}"
    );
    let given = json!({
        "num_heads": config.num_heads, "context_length": config.context_length,
        "norm_eps": config.norm_eps, "rope_scaling": "llama3", "rope_factor": 8.0,
        "rope_original_context": 32,
    });
    import(
        Checkpoint::open(&plain).unwrap(),
        given.as_object().unwrap(),
        &again,
        None,
    )
    .unwrap();
    let again = Checkpoint::open(&again).unwrap();
    assert_eq!(again.model().unwrap(), config);
    let table = gpu_tlm::weights::ParameterTable::new(&config, &[], usize::MAX);
    for parameter in table.iter() {
        let read = |checkpoint: &Checkpoint| checkpoint.read(&config, parameter).unwrap();
        assert!(read(&again) == read(&checkpoint), "{}", parameter.name);
    }
}
