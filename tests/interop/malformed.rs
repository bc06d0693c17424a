//! Files of other programs that are damaged or of another kind: one clear error that names what is wrong.

use std::collections::HashMap;
use std::path::Path;

use gpu_tlm::checkpoint::Checkpoint;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use super::hugging_face::folder;

/// What opening the model at `path`, finding its shape and reading it says.
fn error_of(path: &Path) -> String {
    let read = || -> Result<(), gpu_tlm::Error> {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.model()?;
        checkpoint.check(&config)?;
        let table = gpu_tlm::weights::ParameterTable::new(&config, &[], usize::MAX);
        checkpoint.initial_state(&table, 0)?;
        Ok(())
    };
    match read() {
        Ok(()) => "no error".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// A copy of a fixture whose config and tensors somebody changed.
struct Changed(tempfile::TempDir);

impl Changed {
    fn of(case: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            std::fs::copy(folder(case).join(name), dir.path().join(name)).unwrap();
        }
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(self, change: impl Fn(&mut Value)) -> Self {
        let path = self.path().join("config.json");
        let mut config = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut config);
        std::fs::write(path, config.to_string()).unwrap();
        self
    }

    fn tensors(self, change: impl Fn(&mut HashMap<String, TensorView<'_>>)) -> Self {
        let path = self.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: HashMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
        change(&mut tensors);
        std::fs::write(path, safetensors::serialize(tensors, None).unwrap()).unwrap();
        self
    }

    fn bytes(self, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        let path = self.path().join("model.safetensors");
        std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
        self
    }

    fn error(self) -> String {
        error_of(self.path())
    }
}

const QUERY: &str = "model.layers.1.self_attn.q_proj.weight";

#[test]
fn a_tensor_that_is_missing_too_many_or_of_another_shape_is_named() {
    let changed = || Changed::of("llama_grouped");
    let error = changed()
        .tensors(|tensors| drop(tensors.remove(QUERY)))
        .error();
    assert!(
        error.ends_with(&format!("has no tensor '{QUERY}', which the model needs")),
        "{error}"
    );
    let error = changed()
        .tensors(|tensors| {
            let query = tensors[QUERY].clone();
            tensors.insert("model.layers.1.self_attn.extra".to_owned(), query);
        })
        .error();
    assert!(
        error.contains("tensor 'model.layers.1.self_attn.extra', which the model has no place for"),
        "{error}"
    );
    let error = changed()
        .tensors(|tensors| {
            let other = tensors["model.layers.1.self_attn.k_proj.weight"].clone();
            tensors.insert(QUERY.to_owned(), other);
        })
        .error();
    assert!(
        error.contains(&format!(
            "tensor '{QUERY}' has the shape [32, 64] where the model wants [64, 64]"
        )),
        "{error}"
    );
    let error = changed()
        .tensors(|tensors| {
            let bytes: &'static [u8] = &[0; 64 * 64 * 4];
            let words = TensorView::new(safetensors::Dtype::I32, vec![64, 64], bytes).unwrap();
            tensors.insert(QUERY.to_owned(), words);
        })
        .error();
    assert!(
        error.contains(&format!(
            "tensor '{QUERY}' is of I32, which is no type of weights"
        )),
        "{error}"
    );
}

#[test]
fn a_file_that_is_cut_or_whose_header_lies_names_a_tensor() {
    let changed = || Changed::of("llama_grouped");
    let error = changed()
        .bytes(|bytes| bytes[..bytes.len() - 1].to_vec())
        .error();
    assert!(
        error.contains("so tensor '") && error.contains("is cut"),
        "{error}"
    );
    let error = changed().bytes(|bytes| bytes[..100].to_vec()).error();
    assert!(error.contains("no sound safetensors file"), "{error}");
    let header = |change: fn(String) -> String| {
        move |bytes: Vec<u8>| {
            let len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let len = usize::try_from(len).unwrap();
            let text = String::from_utf8(bytes[8..8 + len].to_vec()).unwrap();
            let text = change(text);
            [
                &(text.len() as u64).to_le_bytes(),
                text.as_bytes(),
                &bytes[8 + len..],
            ]
            .concat()
        }
    };
    let twice = header(|text| {
        let one =
            "\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]}";
        text.replacen('{', &format!("{{{one},"), 1)
    });
    let error = changed().bytes(twice).error();
    assert!(
        error.contains("it has tensor 'model.norm.weight' twice"),
        "{error}"
    );
    let past_the_end = header(|text| {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json[QUERY]["data_offsets"][1] = json!(u32::MAX);
        json.to_string()
    });
    let error = changed().bytes(past_the_end).error();
    assert!(error.contains(QUERY), "{error}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change, &str)] = &[
        (
            "llama_grouped",
            |c| c["rope_parameters"]["rope_type"] = json!("yarn"),
            "a rope_type of \"yarn\" is not supported",
        ),
        (
            "llama_grouped",
            |c| c["hidden_act"] = json!("relu"),
            "hidden_act \"relu\" is not supported",
        ),
        (
            "llama_grouped",
            |c| c["attention_bias"] = json!(true),
            "attention_bias alone is not supported",
        ),
        (
            "llama_grouped",
            |c| c["model_type"] = json!("mamba"),
            "a model_type of \"mamba\" is not supported",
        ),
        (
            "llama_grouped",
            |c| c["head_dim"] = json!(256),
            "cannot be built: unsupported: head_dim 256",
        ),
        (
            "llama_grouped",
            |c| c["hidden_size"] = json!("wide"),
            "key 'hidden_size' is \"wide\"",
        ),
        (
            "llama_grouped",
            |c| drop(c.as_object_mut().unwrap().remove("intermediate_size")),
            "it has no key 'intermediate_size'",
        ),
        (
            "mistral",
            |c| c["sliding_window"] = json!(16),
            "a sliding_window of 16 is not supported",
        ),
        (
            "qwen3",
            |c| c["layer_types"] = json!(["sliding_attention"]),
            "a layer of type \"sliding_attention\" is not supported",
        ),
        (
            "gpt2",
            |c| c["activation_function"] = json!("gelu"),
            "activation_function \"gelu\" is not supported",
        ),
        (
            "gpt2",
            |c| c["scale_attn_by_inverse_layer_idx"] = json!(true),
            "scale_attn_by_inverse_layer_idx true is not supported",
        ),
    ];
    for (case, change, want) in cases {
        let error = Changed::of(case).config(change).error();
        assert!(error.contains(want), "{case}: {error}");
    }
}

#[test]
fn an_index_that_does_not_fit_its_files_is_refused() {
    let copy = || {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder("llama_sharded")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        dir
    };
    let dir = copy();
    assert_eq!(error_of(dir.path()), "no error");
    let index = dir.path().join("model.safetensors.index.json");
    let sound: Value = serde_json::from_str(&std::fs::read_to_string(&index).unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut json = sound.clone();
        change(&mut json);
        std::fs::write(&index, json.to_string()).unwrap();
        error_of(dir.path())
    };
    let norm = "model.norm.weight";
    let first = sound["weight_map"]["model.embed_tokens.weight"].clone();
    assert_ne!(first, sound["weight_map"][norm]);
    let error = with(&|json| json["weight_map"][norm] = first.clone());
    assert!(
        error.contains(&format!("tensor '{norm}' is in '")),
        "{error}"
    );
    let error = with(&|json| json["weight_map"]["another"] = first.clone());
    assert!(error.contains("tensor 'another' should be in '"), "{error}");
    let error = with(&|json| json["weight_map"][norm] = json!("../model.safetensors"));
    assert!(error.contains("which lies elsewhere"), "{error}");
    let error = with(&|json| json["weight_map"][norm] = json!("model-9.safetensors"));
    assert!(error.contains("model-9.safetensors"), "{error}");
}

#[test]
fn what_is_no_model_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = error_of(dir.path());
    assert!(error.contains("is a folder without config.json"), "{error}");
    let file = dir.path().join("notes.txt");
    std::fs::write(
        &file,
        "not a model at all, but some text of more than sixteen bytes",
    )
    .unwrap();
    let error = error_of(&file);
    assert!(
        error.contains("is a file of no format that is known"),
        "{error}"
    );
    let error = error_of(&dir.path().join("nowhere"));
    assert!(
        error.contains("cannot read") && error.contains("nowhere"),
        "{error}"
    );
}

#[test]
fn sizes_that_no_model_has_are_refused_before_anything_is_made_of_them() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change, &str)] = &[
        (
            "llama_grouped",
            |c| c["num_hidden_layers"] = json!(16_000_000),
            "it would have 16000000 layers of",
        ),
        (
            "llama_grouped",
            |c| c["num_attention_heads"] = json!(0),
            "key 'num_heads' is 0",
        ),
        (
            "llama_grouped",
            |c| c["head_dim"] = json!(u64::MAX),
            "head_dim",
        ),
        ("gpt2", |c| c["n_embd"] = json!(u64::MAX), "d_model"),
    ];
    for (case, change, want) in cases {
        let error = Changed::of(case).config(change).error();
        assert!(error.contains(want), "{case}: {error}");
    }
}

/// A GGUF file of `keys` and `tensors`, of f32 zeros.
fn gguf(keys: &[(&str, u32)], tensors: &[(&str, &[u64])]) -> Vec<u8> {
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64 + 1).to_le_bytes());
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    text(&mut bytes, "general.architecture");
    bytes.extend(8u32.to_le_bytes());
    text(&mut bytes, "llama");
    for (key, value) in keys {
        text(&mut bytes, &format!("llama.{key}"));
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    let mut offset = 0u64;
    for (name, sides) in tensors {
        text(&mut bytes, name);
        bytes.extend(u32::try_from(sides.len()).unwrap().to_le_bytes());
        sides
            .iter()
            .rev()
            .for_each(|side| bytes.extend(side.to_le_bytes()));
        bytes.extend(0u32.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        offset += (4 * sides.iter().product::<u64>()).next_multiple_of(32);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.resize(bytes.len() + usize::try_from(offset).unwrap(), 0);
    bytes
}

#[test]
fn gguf_keys_that_no_model_has_are_refused() {
    let sound = [
        ("context_length", 64),
        ("embedding_length", 32),
        ("block_count", 1),
        ("feed_forward_length", 16),
        ("attention.head_count", 2),
    ];
    let tensors: &[(&str, &[u64])] =
        &[("token_embd.weight", &[8, 32]), ("rope_freqs.weight", &[8])];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let error = |key: &str, value: u32| {
        let mut keys = sound.to_vec();
        keys.retain(|(own, _)| *own != key);
        keys.push((key, value));
        std::fs::write(&path, gguf(&keys, tensors)).unwrap();
        error_of(&path)
    };
    for (key, value, want) in [
        ("attention.head_count", 0, "key 'num_heads' is 0"),
        ("attention.key_length", 1 << 30, "head_dim"),
        ("embedding_length", u32::MAX, "key 'd_model' is"),
        ("attention.scale", 1, "llama.attention.scale = 1"),
        (
            "attention.key_length",
            64,
            "has the shape [8] where the model wants [32]",
        ),
        (
            "rope.scaling.factor",
            2,
            "rope_freqs.weight beside another scaling",
        ),
        ("attention.head_count", 2, "is none of Llama 3's scaling"),
    ] {
        let error = error(key, value);
        assert!(error.contains(want), "{key} = {value}: {error}");
    }
    // 123 tensors: the byte that begins a safetensors header.
    let names: Vec<String> = (0..122).map(|i| format!("t{i}")).collect();
    let mut many: Vec<(&str, &[u64])> =
        names.iter().map(|name| (name.as_str(), &[1][..])).collect();
    many.push(tensors[0]);
    std::fs::write(&path, gguf(&sound, &many)).unwrap();
    let error = error_of(&path);
    assert!(
        error.contains("has no tensor 'blk.0.attn_norm.weight'"),
        "{error}"
    );
}

#[test]
fn a_head_that_differs_from_a_tied_embedding_is_the_head() {
    let with_head = |change: fn(&mut Vec<u8>)| {
        let dir = tempfile::tempdir().unwrap();
        for name in ["config.json", "model.safetensors"] {
            let from = folder("llama_tied_head_dim").join(name);
            std::fs::copy(from, dir.path().join(name)).unwrap();
        }
        let path = dir.path().join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let embedding = tensors.tensor("model.embed_tokens.weight").unwrap();
        let mut head = embedding.data().to_vec();
        change(&mut head);
        let shape = embedding.shape().to_vec();
        let head = TensorView::new(embedding.dtype(), shape, &head).unwrap();
        let mut all = tensors.tensors();
        all.push(("lm_head.weight".to_owned(), head));
        std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
        let model = Checkpoint::open(dir.path()).unwrap().model().unwrap();
        assert_eq!(error_of(dir.path()), "no error");
        model.tie_embeddings
    };
    assert!(with_head(|_| {}));
    assert!(!with_head(|head| head[1] ^= 1));
}

#[test]
fn a_folder_of_a_run_names_its_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("checkpoints")).unwrap();
    std::fs::write(dir.path().join("config.json"), "{}").unwrap();
    let error = error_of(dir.path());
    assert!(
        error.contains("whose model is checkpoints/latest.safetensors"),
        "{error}"
    );
}
