//! Files that are written for PyTorch. The first test leaves them for `torch_reads.py`, which reads them with
//! PyTorch itself; here they are read back.

use std::io;
use std::path::{Path, PathBuf};

use gpu_tlm::interop::torch::{AdamWGroup, AdamWState, Content, TorchCheckpoint, TorchFile, write};
use gpu_tlm::interop::{ElementType, InteropError, TensorInfo, TensorSource};
use half::{bf16, f16};
use serde_json::{Map, Value, json};

/// Where `torch_reads.py` looks.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("torch");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn tensor(name: &str, element_type: ElementType, shape: &[usize]) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        element_type,
        shape: shape.to_vec(),
    }
}

/// Two matrices that are tied, another one, a gain and a scalar.
fn tensors(element_type: ElementType) -> Vec<TensorInfo> {
    [
        ("embed.weight", &[3, 2][..]),
        ("layers.0.w", &[2, 4]),
        ("gain", &[2]),
        ("head.weight", &[3, 2]),
        ("scale", &[]),
    ]
    .map(|(name, shape)| tensor(name, element_type, shape))
    .to_vec()
}

/// Element `at` of a content, which `torch_reads.py` computes too: eighths, which every type holds exactly.
fn value(content: Content, at: usize) -> f32 {
    let (kind, index) = match content {
        Content::Tensor(index) => (0, index),
        Content::ExpAvg(index) => (1, index),
        Content::ExpAvgSq(index) => (2, index),
    };
    (1 + at + 10 * index + 3 * kind) as f32 / 8.0
}

fn bytes(content: Content, element_type: ElementType, len: usize) -> Vec<u8> {
    let values = (0..len).map(|at| value(content, at));
    match element_type {
        ElementType::F32 => values.flat_map(f32::to_le_bytes).collect(),
        ElementType::F16 => values
            .flat_map(|v| f16::from_f32(v).to_le_bytes())
            .collect(),
        ElementType::Bf16 => values
            .flat_map(|v| bf16::from_f32(v).to_le_bytes())
            .collect(),
        ElementType::F64 => values.flat_map(|v| f64::from(v).to_le_bytes()).collect(),
        other => panic!("{other:?}"),
    }
}

/// The elements of what is asked for; moments are of f32.
fn elements(tensors: &[TensorInfo], content: Content) -> io::Result<Vec<u8>> {
    let (index, element_type) = match content {
        Content::Tensor(index) => (index, tensors[index].element_type),
        Content::ExpAvg(index) | Content::ExpAvgSq(index) => (index, ElementType::F32),
    };
    let len = tensors[index].shape.iter().product();
    Ok(bytes(content, element_type, len))
}

fn optimizer(groups: &[&[usize]]) -> AdamWState {
    let group = |(number, parameters): (usize, &&[usize])| AdamWGroup {
        lr: 0.125,
        betas: (0.75, 0.875),
        eps: 1e-8,
        weight_decay: if number == 0 { 0.25 } else { 0.0 },
        parameters: parameters.to_vec(),
    };
    AdamWState {
        step: 5,
        element_type: ElementType::F32,
        groups: groups.iter().enumerate().map(group).collect(),
    }
}

fn metadata() -> Map<String, Value> {
    let value = json!({
        "config": {"d_model": 2, "rope": null, "lr": 0.125, "tied": true, "betas": [0.75, 0.875]},
        "name": "größe",
        "seed": u64::MAX,
        "negative": i64::MIN,
    });
    value.as_object().unwrap().clone()
}

/// Writes a file for `torch_reads.py` and gives what is read of it.
fn written(name: &str, checkpoint: &TorchCheckpoint<'_>) -> TorchFile {
    let path = folder().join(name);
    write(&path, checkpoint, &mut |content| {
        elements(checkpoint.tensors, content)
    })
    .unwrap();
    let file = TorchFile::open(&path).unwrap();
    assert_eq!(file.tensors(), checkpoint.tensors, "{name}");
    for (index, info) in checkpoint.tensors.iter().enumerate() {
        let tied = checkpoint.tied.iter().find(|(later, _)| *later == index);
        let content = Content::Tensor(tied.map_or(index, |(_, earlier)| *earlier));
        let want = bytes(content, info.element_type, info.shape.iter().product());
        assert_eq!(file.read(index).unwrap(), want, "{name}: {}", info.name);
    }
    assert_eq!(file.iteration(), checkpoint.iteration);
    assert_eq!(file.metadata(), checkpoint.metadata);
    file
}

#[test]
fn what_is_written_is_read_back() {
    let (none, metadata) = (Map::new(), metadata());
    for (name, element_type) in [
        ("f32.pt", ElementType::F32),
        ("f16.pt", ElementType::F16),
        ("bf16.pt", ElementType::Bf16),
        ("f64.pt", ElementType::F64),
    ] {
        // Of the model alone, which PyTorch 1.13 takes with weights_only=True, too.
        let tensors = tensors(element_type);
        let checkpoint = TorchCheckpoint {
            tensors: &tensors,
            tied: &[(3, 0)],
            optimizer: None,
            iteration: Some(7),
            metadata: &none,
        };
        let file = written(name, &checkpoint);
        assert_eq!(file.tied(), [0, 1, 2, 0, 4], "{name}");
        assert!(file.optimizer().is_none());
    }
    for (name, groups) in [
        ("one_group.pt", &[&[0, 1, 2, 4][..]][..]),
        ("two_groups.pt", &[&[1, 0], &[4, 2]]),
    ] {
        let tensors = tensors(ElementType::F32);
        let optimizer = optimizer(groups);
        let checkpoint = TorchCheckpoint {
            tensors: &tensors,
            tied: &[(3, 0)],
            optimizer: Some(&optimizer),
            iteration: Some(5),
            metadata: &metadata,
        };
        let file = written(name, &checkpoint);
        assert_optimizer_is(&file, groups);
    }
}

/// Looks at the moments of each tensor by way of the matching, whatever its number in the file.
fn assert_optimizer_is(file: &TorchFile, groups: &[&[usize]]) {
    let optimizer = file.optimizer().unwrap();
    let matched = file.match_optimizer(|_| true).unwrap();
    assert_eq!(matched[3], matched[0]);
    for (index, number) in matched.iter().enumerate().filter(|(index, _)| *index != 3) {
        let parameter = &optimizer.parameters[number.unwrap()];
        assert!(groups[parameter.group].contains(&index));
        let moments = parameter.moments.as_ref().unwrap();
        assert!((moments.step - 5.0).abs() < f64::EPSILON);
        let len = file.tensors()[index].shape.iter().product();
        for (moment, content) in [
            (&moments.exp_avg, Content::ExpAvg(index)),
            (&moments.exp_avg_sq, Content::ExpAvgSq(index)),
        ] {
            let want = bytes(content, ElementType::F32, len);
            assert_eq!(file.read_moment(moment).unwrap(), want, "{content:?}");
        }
    }
    let decays = optimizer
        .groups
        .iter()
        .map(|group| &group.settings["weight_decay"]);
    let want: Vec<f64> = [0.25, 0.0][..groups.len()].to_vec();
    assert_eq!(
        decays.map(|v| v.as_f64().unwrap()).collect::<Vec<_>>(),
        want
    );
    assert_eq!(optimizer.groups[0].settings["betas"], json!([0.75, 0.875]));
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    std::fs::write(&path, "before").unwrap();
    let (none, own) = (
        Map::new(),
        json!({"iteration": 3}).as_object().unwrap().clone(),
    );
    let floats = tensors(ElementType::F32);
    let ints = [tensor("tokens", ElementType::Other("int64"), &[2])];
    let unlike = [
        tensor("a", ElementType::F32, &[2]),
        tensor("b", ElementType::F32, &[3]),
    ];
    let outside = optimizer(&[&[9]]);
    let whole = TorchCheckpoint {
        tensors: &floats,
        tied: &[],
        optimizer: None,
        iteration: None,
        metadata: &none,
    };
    let refused = |checkpoint: TorchCheckpoint<'_>, len: usize, want: &str| {
        let error = write(&path, &checkpoint, &mut |_| Ok(vec![0; len])).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
        assert!(error.to_string().contains("model.pt"), "{error}");
    };
    refused(whole, 24, "'layers.0.w' has 24 bytes where 32 are needed");
    refused(
        TorchCheckpoint {
            tensors: &ints,
            ..whole
        },
        16,
        "a tensor of Other(\"int64\")",
    );
    refused(
        TorchCheckpoint {
            metadata: &own,
            ..whole
        },
        24,
        "metadata with the key 'iteration'",
    );
    refused(
        TorchCheckpoint {
            optimizer: Some(&outside),
            ..whole
        },
        24,
        "a parameter 9 of 5 tensors",
    );
    let tied = "'b' is tied to tensor 0, which is unlike it";
    refused(
        TorchCheckpoint {
            tensors: &unlike,
            tied: &[(1, 0)],
            ..whole
        },
        8,
        tied,
    );
    let error = write(&path, &whole, &mut |_| Err(io::Error::other("no more"))).unwrap_err();
    assert!(matches!(error, InteropError::Unwritable { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn equal_checkpoints_are_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let (tensors, metadata) = (tensors(ElementType::Bf16), metadata());
    let checkpoint = TorchCheckpoint {
        tensors: &tensors,
        tied: &[],
        optimizer: None,
        iteration: Some(1),
        metadata: &metadata,
    };
    let files = ["a.pt", "b.pt"].map(|name| {
        let path = folder.path().join(name);
        write(&path, &checkpoint, &mut |content| {
            elements(&tensors, content)
        })
        .unwrap();
        std::fs::read(path).unwrap()
    });
    assert_eq!(files[0], files[1]);
}
