//! Files that are damaged, or have what is not supported.

use std::io::{Seek, SeekFrom};

use proptest::prelude::*;

use super::*;
use crate::interop::elements::to_f32;

/// A file, piece by piece.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(tensors: u64, metadata: u64) -> Self {
        Self(b"GGUF\x03\0\0\0".to_vec()).u64(tensors).u64(metadata)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(mut self, text: impl AsRef<[u8]>) -> Self {
        self = self.u64(text.as_ref().len() as u64);
        self.0.extend(text.as_ref());
        self
    }

    fn tensor(mut self, sides: &[u64], kind: u32, offset: u64) -> Self {
        self = self.text("w").u32(u32::try_from(sides.len()).unwrap());
        for side in sides {
            self = self.u64(*side);
        }
        self.u32(kind).u64(offset)
    }

    fn then(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len() + bytes, 0);
        self
    }
}

/// The problem of a file with one tensor and zeros behind it.
fn of_tensor(sides: &[u64], kind: u32, offset: u64) -> String {
    problem_of(&Bytes::new(1, 0).tensor(sides, kind, offset).then(100))
}

fn problem_of(bytes: &Bytes) -> String {
    opened(&bytes.0).unwrap_err().to_string()
}

fn check(cases: &[(String, &str)]) {
    for (problem, wanted) in cases {
        assert!(problem.contains(wanted), "{problem} and not {wanted}");
        assert!(problem.contains("model.gguf'"), "{problem}");
    }
}

#[test]
fn other_files_and_versions_are_refused() {
    let version = |version| problem_of(&Bytes(b"GGUF".to_vec()).u32(version).then(16));
    check(&[
        (
            problem_of(&Bytes(b"GGUF\x03\0\0".to_vec())),
            "the version: 4 times 1 bytes should follow byte 4, and 3 do",
        ),
        (
            problem_of(&Bytes(b"ggjt\x03\0\0\0".to_vec())),
            "it begins with 'ggjt' and not with 'GGUF'",
        ),
        (version(1), "version 1 of GGUF is not supported"),
        (version(4), "version 4 of GGUF is not supported"),
        (
            version(0x0300_0000),
            "a big-endian GGUF file is not supported",
        ),
    ]);
    assert!(opened(&Bytes::new(0, 0).0).is_ok(), "what the others vary");
}

#[test]
fn damaged_metadata_are_refused_by_their_key() {
    let one = |kind| Bytes::new(0, 1).text("key").u32(kind);
    let twice = Bytes::new(0, 2).text("key").u32(4).u32(1);
    let alignment = |value| Bytes::new(0, 1).text("general.alignment").u32(4).u32(value);
    let parts = |count| Bytes::new(0, 1).text("split.count").u32(4).u32(count);
    let array = |kind, count| one(9).u32(kind).u64(count);
    check(&[
        (
            problem_of(&Bytes::new(0, u64::MAX)),
            "the metadata: 18446744073709551615 times 13 bytes",
        ),
        (
            problem_of(&Bytes::new(u64::MAX, 0)),
            "the tensors' names: 18446744073709551615 times 24",
        ),
        (
            problem_of(&one(8).text([0xc3])),
            "the text of 'key' is no UTF-8",
        ),
        (
            problem_of(&one(8).u64(1 << 60)),
            "the text of 'key': 1152921504606846976 times 1 bytes",
        ),
        (problem_of(&one(13).u64(1)), "'key' has type 13"),
        (
            problem_of(&one(7).u32(2)),
            "'key' has a bool that is neither 0 nor 1",
        ),
        (
            problem_of(&array(7, 4).u32(2)),
            "'key' has a bool that is neither 0 nor 1",
        ),
        (problem_of(&array(13, 0)), "'key' has type 13"),
        (
            problem_of(&array(10, 1 << 61).u64(0)),
            "the array of 'key': 2305843009213693952 times 8",
        ),
        (
            problem_of(&array(8, 3).u64(0).u64(0)),
            "the array of 'key': 3 times 8 bytes",
        ),
        (
            problem_of(&array(9, 1).u32(9).u64(1).u32(9).u64(1)),
            "'key', which is an array of arrays",
        ),
        (
            problem_of(&twice.text("key").u32(4).u32(1)),
            "it has the key 'key' twice",
        ),
        (
            problem_of(&alignment(0)),
            "general.alignment is 0, which is no power of two",
        ),
        (
            problem_of(&alignment(48)),
            "general.alignment is 48, which is no power of two",
        ),
        (
            problem_of(&parts(2)),
            "a model in several files is not supported",
        ),
    ]);
    assert!(opened(&parts(1).0).is_ok());
}

#[test]
fn damaged_tensors_are_refused_by_their_name() {
    let two = Bytes::new(2, 0).tensor(&[1], 0, 0).tensor(&[1], 0, 0);
    check(&[
        (
            of_tensor(&[256], 13, 0),
            "type Q5_K of tensor 'w' is not supported",
        ),
        (
            of_tensor(&[256], 77, 0),
            "type number 77 of tensor 'w' is not supported",
        ),
        (of_tensor(&[1; 5], 0, 0), "tensor 'w' has 5 dimensions"),
        (
            of_tensor(&[1 << 32, 1 << 32], 0, 0),
            "tensor 'w' has the shape [4294967296, 4294967296]",
        ),
        (
            of_tensor(&[1 << 62], 0, 0),
            "tensor 'w' has the shape [4611686018427387904]",
        ),
        (
            of_tensor(&[128, 2], 12, 0),
            "tensor 'w' has rows of 128 elements, which are no whole blocks of 256, as Q4_K",
        ),
        (
            of_tensor(&[4], 0, 8),
            "tensor 'w' begins at 8, which is no multiple of 32",
        ),
        // Elements begin at byte 64, behind 57 others, and the file has 157.
        (
            of_tensor(&[24], 0, 0),
            "tensor 'w' should end at byte 160, and the file ends at byte 157",
        ),
        (
            of_tensor(&[8], 0, 64),
            "tensor 'w' should end at byte 160, and the file ends at byte 157",
        ),
        (
            of_tensor(&[1], 0, u64::MAX - 31),
            "tensor 'w' of 4 bytes begins too far",
        ),
        // Its beginning has 64 bits, and its end has not.
        (
            of_tensor(&[10], 0, u64::MAX - 95),
            "tensor 'w' of 40 bytes begins too far",
        ),
        (problem_of(&two.then(100)), "tensor 'w' is there twice"),
        (
            problem_of(&Bytes::new(1, 0).text([0xff; 30])),
            "the name of tensor 0 is no UTF-8",
        ),
    ]);
    for sides in [&[15][..], &[], &[0, 5], &[3, 5]] {
        assert!(opened(&Bytes::new(1, 0).tensor(sides, 0, 0).then(100).0).is_ok());
    }
}

/// What is read of a file is no more than it has, and sound or refused.
fn check_whole(file: &GgufFile) {
    for (index, (info, place)) in file.tensors().iter().zip(&file.places).enumerate() {
        assert!(place.len as u64 <= file.file.len(), "{info:?}");
        let bytes = file.read(index).unwrap();
        let len = info.shape.iter().product();
        let is_weights = to_f32(info.element_type, &bytes, len).is_ok();
        assert_eq!(is_weights, info.element_type.block().is_some(), "{info:?}");
    }
}

/// A copy of a fixture that may be changed, without waiting for the disk.
fn copy(name: &str) -> (tempfile::NamedTempFile, Vec<u8>) {
    let bytes = std::fs::read(fixture(name)).unwrap();
    let mut copy = tempfile::NamedTempFile::new().unwrap();
    copy.write_all(&bytes).unwrap();
    (copy, bytes)
}

#[test]
fn every_shorter_file_is_refused() {
    let (copy, _) = copy("metadata.gguf");
    let file = GgufFile::open(copy.path()).unwrap();
    let last = file.places.last().unwrap();
    let end = last.start + last.len as u64;
    copy.as_file().set_len(end).unwrap();
    assert!(GgufFile::open(copy.path()).is_ok(), "it needs no padding");
    for len in (0..end).rev() {
        copy.as_file().set_len(len).unwrap();
        assert!(GgufFile::open(copy.path()).is_err(), "{len} bytes");
    }
}

#[test]
fn any_changed_byte_is_an_error_or_another_value() {
    for name in ["metadata.gguf", "types.gguf"] {
        let (mut copy, bytes) = copy(name);
        let mut put = |at: usize, byte: u8| {
            copy.seek(SeekFrom::Start(at as u64)).unwrap();
            copy.write_all(&[byte]).unwrap();
            GgufFile::open(copy.path())
        };
        let (mut sound, mut refused) = (0, 0);
        for (at, byte) in bytes.iter().enumerate() {
            for change in [1, 0x80, 0xff] {
                match put(at, byte ^ change) {
                    Ok(file) => {
                        check_whole(&file);
                        sound += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            assert!(put(at, *byte).is_ok());
        }
        assert!(sound > 500 && refused > 500, "{sound} and {refused}");
    }
}

proptest! {
    #[test]
    fn anything_behind_a_header_is_no_panic(
        tensors in 0_u64..4,
        metadata in 0_u64..4,
        kinds in prop::collection::vec((0_u32..14, 0_u64..5, any::<u64>()), 0..8),
    ) {
        let mut bytes = Bytes::new(tensors, metadata);
        for (kind, small, large) in kinds {
            bytes = bytes.text("k").u32(kind).u64(small).u32(kind).u64(large);
        }
        if let Ok(file) = opened(&bytes.0) {
            check_whole(&file);
        }
    }

    #[test]
    fn several_changed_bytes_are_no_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(fixture("metadata.gguf")).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(file) = opened(&bytes) {
            check_whole(&file);
        }
    }
}
