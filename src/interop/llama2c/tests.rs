//! Files that are written, read, and damaged.

use std::io::Write;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::files;

fn header(shared_classifier: bool) -> Header {
    Header {
        dim: 8,
        hidden_dim: 12,
        n_layers: 2,
        n_heads: 4,
        n_kv_heads: 2,
        vocab_size: 5,
        max_seq_len: 3,
        shared_classifier,
    }
}

/// The place of each element in the file as its value.
fn numbered(header: &Header, version: Version) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    let mut next = 0.0;
    let values = |name: &str| {
        let slots = layout::slots(header, version);
        let slot = slots.iter().find(|slot| match slot {
            Slot::Tensor { name: own, .. } => own == name,
            Slot::Angles { .. } => false,
        });
        let values = (0..slot.unwrap().elements()).map(|_| {
            next += 1.0;
            next
        });
        Ok(values.collect())
    };
    write(&path, version, header, values).unwrap();
    std::fs::read(&path).unwrap()
}

fn opened(bytes: &[u8]) -> Result<Llama2cFile, InteropError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    // Not by `files::write`, which waits for the disk: there are hundreds of these.
    files::create_new(&path).unwrap().write_all(bytes).unwrap();
    Llama2cFile::open(&path)
}

fn problem_of(bytes: &[u8]) -> String {
    opened(bytes).unwrap_err().to_string()
}

fn words(bytes: &[u8]) -> Vec<i32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|word| i32::from_le_bytes(*word)).collect()
}

/// Offsets by hand, from the order in llama2.c's `export.py`.
#[test]
fn tensors_lie_where_llama2c_has_them() {
    // Of version 0: embeddings 40, ln1 2 x 8, wq 2 x 64, wk and wv 2 x 32 each, wo 2 x 64, ln2 2 x 8, w1, w2 and w3
    // 2 x 96 each, norm 8, angles 2 x 3.
    let v0 = [
        ("token_embeddings.weight", 0, vec![5, 8]),
        ("layers.0.ln1.weight", 40, vec![8]),
        ("layers.1.ln1.weight", 48, vec![8]),
        ("layers.0.attn.q_proj.weight", 56, vec![8, 8]),
        ("layers.1.attn.q_proj.weight", 120, vec![8, 8]),
        ("layers.0.attn.k_proj.weight", 184, vec![4, 8]),
        ("layers.1.attn.v_proj.weight", 280, vec![4, 8]),
        ("layers.0.attn.output_proj.weight", 312, vec![8, 8]),
        ("layers.0.ln2.weight", 440, vec![8]),
        ("layers.0.ffn.w1.weight", 456, vec![12, 8]),
        ("layers.0.ffn.w2.weight", 648, vec![8, 12]),
        ("layers.1.ffn.w3.weight", 936, vec![12, 8]),
        ("ln_final.weight", 1032, vec![8]),
        ("lm_head.weight", 1046, vec![5, 8]),
    ];
    // Of version 1: ln1 2 x 8, ln2 2 x 8, norm 8, embeddings 40, wq 2 x 64, ...
    let v1 = [
        ("layers.0.ln1.weight", 0, vec![8]),
        ("layers.1.ln2.weight", 24, vec![8]),
        ("ln_final.weight", 32, vec![8]),
        ("token_embeddings.weight", 40, vec![5, 8]),
        ("layers.0.attn.q_proj.weight", 80, vec![8, 8]),
        ("layers.0.attn.k_proj.weight", 208, vec![4, 8]),
        ("layers.0.attn.v_proj.weight", 272, vec![4, 8]),
        ("layers.1.attn.output_proj.weight", 400, vec![8, 8]),
        ("layers.0.ffn.w1.weight", 464, vec![12, 8]),
        ("layers.0.ffn.w2.weight", 656, vec![8, 12]),
        ("layers.0.ffn.w3.weight", 848, vec![12, 8]),
        ("lm_head.weight", 1040, vec![5, 8]),
    ];
    for (version, start, places) in [(Version::Zero, 28, &v0[..]), (Version::One, 256, &v1)] {
        let bytes = numbered(&header(false), version);
        let file = opened(&bytes).unwrap();
        assert_eq!(file.tensors().len(), 3 + 9 * 2, "{version:?}");
        for (name, offset, shape) in places {
            let index = file.tensors().iter().position(|t| t.name == *name).unwrap();
            assert_eq!(file.tensors()[index].shape, *shape, "{name}");
            let at = start + 4 * offset;
            let len = shape.iter().product::<usize>() * 4;
            assert_eq!(file.read(index).unwrap(), bytes[at..at + len], "{name}");
        }
    }
}

#[test]
fn headers_are_those_of_llama2c() {
    let v0 = numbered(&header(false), Version::Zero);
    assert_eq!(words(&v0[..28]), [8, 12, 2, 4, 2, -5, 3]);
    assert_eq!(words(&numbered(&header(true), Version::Zero)[20..24]), [5]);
    for (shared, byte) in [(false, 0), (true, 1)] {
        let v1 = numbered(&header(shared), Version::One);
        assert_eq!(&v1[..4], b"24ka", "little end first");
        assert_eq!(words(&v1[4..36]), [1, 8, 12, 2, 4, 2, 5, 3]);
        assert_eq!(v1[36], byte);
        assert!(v1[37..256].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_is_written_is_read() {
    for version in [Version::Zero, Version::One] {
        for shared in [false, true] {
            let bytes = numbered(&header(shared), version);
            let file = opened(&bytes).unwrap();
            assert_eq!(*file.header(), header(shared));
            assert_eq!(file.version(), version);
            let mut next = 1.0_f32;
            for index in 0..file.tensors().len() {
                for value in file.read(index).unwrap().as_chunks::<4>().0 {
                    assert_eq!(f32::from_le_bytes(*value), next);
                    next += 1.0;
                }
            }
            let has_head = file.tensors().iter().any(|t| t.name == "lm_head.weight");
            assert_eq!(has_head, !shared);
        }
    }
}

/// Heads are 2 wide, so that the only angle is the position.
#[test]
fn version_0_has_tables_of_the_rotary_embedding() {
    let bytes = numbered(&header(true), Version::Zero);
    let table = &bytes[bytes.len() - 6 * 4..];
    let values = table.as_chunks::<4>().0.iter();
    let values: Vec<f32> = values.map(|v| f32::from_le_bytes(*v)).collect();
    let wanted = [
        1.0,
        0.540_302_3,
        -0.416_146_84,
        0.0,
        0.841_470_96,
        0.909_297_4,
    ];
    for (value, wanted) in values.iter().zip(wanted) {
        // An ulp of 1: libraries of mathematics differ in their last bit.
        assert!((value - wanted).abs() <= 1.2e-7, "{value} and {wanted}");
    }
}

#[test]
fn a_wrong_length_is_named_with_the_tensor_that_is_cut() {
    let bytes = numbered(&header(false), Version::Zero);
    let whole = bytes.len();
    let within = [
        (28, "token_embeddings.weight"),
        (28 + 4 * 40 - 1, "token_embeddings.weight"),
        (28 + 4 * 40, "layers.0.ln1.weight"),
        (28 + 4 * 1031, "layers.1.ffn.w3.weight"),
        (28 + 4 * 1041, "freq_cis_real"),
        (whole - 1, "lm_head.weight"),
    ];
    for (len, name) in within {
        let problem = problem_of(&bytes[..len]);
        assert!(problem.contains(&format!("'{name}'")), "{len}: {problem}");
        assert!(problem.contains(&whole.to_string()), "{problem}");
        assert!(problem.contains(&format!("it has {len}")), "{problem}");
    }
    let problem = problem_of(&[&bytes[..], &[0]].concat());
    assert!(problem.contains("some follow the last tensor"), "{problem}");
}

#[test]
fn a_file_is_told_by_its_magic_number_or_by_its_length() {
    for version in [Version::Zero, Version::One] {
        let bytes = numbered(&header(false), version);
        let (start, len) = (&bytes[..32], bytes.len() as u64);
        assert!(may_be_one(start, len) && may_be_one(start, len - 1));
        assert_eq!(may_be_one(start, len / 3), version == Version::One);
        assert_eq!(may_be_one(start, 3 * len), version == Version::One);
    }
    assert!(!may_be_one(&[1; 32], 5000) && !may_be_one(b"{}", 2));
}

#[test]
fn other_versions_and_headers_are_refused() {
    let with = |at: usize, word: i32, version| {
        let mut bytes = numbered(&header(true), version);
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        problem_of(&bytes)
    };
    for (problem, wanted) in [
        (
            with(4, 2, Version::One),
            "version 2 of llama2.c, with int8 tensors, is not supported",
        ),
        (
            with(4, 7, Version::One),
            "version 7 of llama2.c is not supported",
        ),
        (with(36, 9, Version::One), "shared_classifier is 9"),
        (with(28, -5, Version::One), "vocab_size is 0"),
        (with(0, -8, Version::Zero), "dim is 0"),
        (
            with(12, 3, Version::Zero),
            "no even number for each of n_heads = 3",
        ),
        (
            with(12, 8, Version::Zero),
            "no even number for each of n_heads = 8",
        ),
        (with(16, 3, Version::Zero), "no multiple of n_kv_heads = 3"),
        (with(8, i32::MAX, Version::Zero), "n_layers is 2147483647"),
        (
            with(20, i32::MIN, Version::Zero),
            "vocab_size is 2147483648",
        ),
        (
            problem_of(b"24ka"),
            "its header should have 28 bytes, and it has 4",
        ),
        (
            problem_of(b""),
            "its header should have 28 bytes, and it has 0",
        ),
        (
            problem_of(b"24ka\x01\0\0\0"),
            "its header should have 256 bytes, and it has 8",
        ),
    ] {
        assert!(problem.contains(wanted), "{problem} and not {wanted}");
    }
}

#[test]
fn a_size_of_more_than_64_bits_is_too_long_for_any_file() {
    let mut bytes = numbered(&header(true), Version::Zero);
    for (at, word) in [(0, 2_147_483_640), (4, i32::MAX)] {
        bytes[at..at + 4].copy_from_slice(&i32::to_le_bytes(word));
    }
    let problem = problem_of(&bytes);
    assert!(problem.contains(&u64::MAX.to_string()), "{problem}");
}

#[test]
fn nothing_is_written_of_what_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    let short = write(&path, Version::One, &header(true), |_| Ok(vec![0.0; 7]));
    let problem = short.unwrap_err().to_string();
    assert!(
        problem.contains("'layers.0.ln1.weight' has 7 elements"),
        "{problem}"
    );
    let odd = Header {
        n_heads: 3,
        ..header(true)
    };
    assert!(write(&path, Version::One, &odd, |_| Ok(Vec::new())).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A file of each version.
static FILES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    [Version::Zero, Version::One].map(|version| numbered(&header(false), version))
});

proptest! {
    /// A file with any four bytes of its header changed is read whole, or refused.
    #[test]
    fn a_changed_header_is_no_panic(at in 0_usize..40, word: [u8; 4], is_v1: bool, cut in 0_usize..5000) {
        let mut bytes = FILES[usize::from(is_v1)].clone();
        bytes[at..at + 4].copy_from_slice(&word);
        bytes.truncate(cut.max(1));
        if let Ok(file) = opened(&bytes) {
            let places = file.places.iter();
            prop_assert!(places.map(|(_, len)| *len).sum::<usize>() <= bytes.len());
        }
    }
}
