//! What is written here, and read again.

use super::*;
use crate::interop::ElementType;

fn info(name: &str, element_type: ElementType, shape: &[usize]) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        element_type,
        shape: shape.to_vec(),
    }
}

/// The package `gguf` wrote the fixtures with the same header, alignment and padding.
#[test]
fn a_copy_has_the_bytes_of_the_original() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["types.gguf", "rows.gguf"] {
        let (from, to) = (fixture(name), folder.path().join(name));
        let file = GgufFile::open(&from).unwrap();
        let read = |index| file.read(index);
        write(&to, file.metadata().entries(), file.tensors(), read).unwrap();
        let (copy, original) = (std::fs::read(to).unwrap(), std::fs::read(from).unwrap());
        assert!(copy == original, "{name}");
    }
}

#[test]
fn metadata_of_every_type_survive() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let file = GgufFile::open(&fixture("metadata.gguf")).unwrap();
    let of_file = file.metadata().entries().iter();
    let mut entries: Vec<(String, GgufValue)> = of_file
        .filter(|(key, _)| key != ALIGNMENT_KEY)
        .cloned()
        .collect();
    entries.push(("none".to_owned(), GgufValue::Texts(Vec::new())));
    entries.push((
        "scores".to_owned(),
        GgufValue::Numbers(Numbers::of_f32(&[0.5])),
    ));
    write(&path, &entries, &[], |_| unreachable!()).unwrap();
    let copy = GgufFile::open(&path).unwrap();
    assert_eq!(copy.metadata().entries(), entries);
}

#[test]
fn a_large_vocabulary_survives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let tokens: Vec<String> = (0..150_000).map(|id| format!("Ġtoken{id}")).collect();
    let kinds = vec![1; tokens.len()];
    let entries = [
        ("tokens".to_owned(), GgufValue::Texts(tokens.clone())),
        (
            "kinds".to_owned(),
            GgufValue::Numbers(Numbers::of_i32(&kinds)),
        ),
    ];
    write(&path, &entries, &[], |_| unreachable!()).unwrap();
    let file = GgufFile::open(&path).unwrap();
    assert!(file.metadata().get_texts("tokens").unwrap() == tokens);
    let read = file.metadata().get_integers("kinds").unwrap();
    assert!(read.len() == kinds.len() && read.iter().all(|kind| *kind == 1));
}

#[test]
fn nothing_is_written_of_what_no_file_can_have() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let long = "n".repeat(64);
    let good = info("good", ElementType::F32, &[2]);
    let tensors = [
        (
            info("x", ElementType::F32, &[3]),
            "tensor 'x' has 8 bytes, and its shape 12",
        ),
        (
            info("x", ElementType::Q4_0, &[2, 33]),
            "tensor 'x' has rows of 33 elements",
        ),
        (
            info("x", ElementType::Other("U8"), &[2]),
            "which GGUF has not",
        ),
        (
            info("x", ElementType::F32, &[1; 5]),
            "has more than 4 dimensions",
        ),
        (
            info("x", ElementType::F32, &[usize::MAX, 2]),
            "too large for any file",
        ),
        (info("good", ElementType::F32, &[2]), "is there twice"),
        (
            info(&long, ElementType::F32, &[2]),
            "has a name of more than 63 bytes",
        ),
    ];
    for (tensor, wanted) in tensors {
        let tensors = [good.clone(), tensor];
        let written = write(&path, &[], &tensors, |_| Ok(vec![0; 8]));
        let problem = written.unwrap_err().to_string();
        assert!(problem.contains(wanted), "{problem} and not {wanted}");
    }
    let entry = |key: &str, value: GgufValue| (key.to_owned(), value);
    let metadata = [
        (
            vec![entry("a", GgufValue::U8(1)), entry("a", GgufValue::U8(1))],
            "two values for 'a'",
        ),
        (
            vec![entry(ALIGNMENT_KEY, GgufValue::U32(64))],
            "should be 32",
        ),
        (
            vec![entry("a", GgufValue::Arrays(vec![GgufValue::U8(1)]))],
            "holds the u8 1",
        ),
    ];
    for (metadata, wanted) in metadata {
        let written = write(&path, &metadata, &[], |_| unreachable!());
        let problem = written.unwrap_err().to_string();
        assert!(problem.contains(wanted), "{problem} and not {wanted}");
    }
    let read = |_| {
        Err(InteropError::Unsupported {
            path: PathBuf::from("elsewhere"),
            what: "it".to_owned(),
        })
    };
    let problem = write(&path, &[], &[good], read).unwrap_err().to_string();
    assert_eq!(problem, "'elsewhere': it is not supported");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
