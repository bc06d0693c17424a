//! Files that are damaged, or made to do harm: each is an error that says what is wrong, and none is a panic,
//! a hang or an allocation by an unchecked length.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use gpu_tlm::interop::torch::TorchFile;
use gpu_tlm::interop::{ElementType, InteropError, TensorSource};

use super::torch_files::fixture;
use super::torch_pickles::{
    Scratch, archive, archive_by, dict, file_of, int, legacy, part, pickle, six, tensor, text,
};

/// Reads all that a file has; its text is equal for equal contents.
pub(super) fn read_all(path: &Path) -> Result<String, InteropError> {
    let file = TorchFile::open(path)?;
    let mut all = format!(
        "{:?} {:?} {:?} ",
        file.iteration(),
        file.metadata(),
        file.tied()
    );
    for (index, info) in file.tensors().iter().enumerate() {
        let bytes = file.read(index)?;
        let width = match info.element_type {
            ElementType::F32 => 4,
            ElementType::F64 | ElementType::Other("int64") => 8,
            ElementType::F16 | ElementType::Bf16 => 2,
            _ => bytes.len() / info.shape.iter().product::<usize>().max(1),
        };
        assert_eq!(
            bytes.len(),
            width * info.shape.iter().product::<usize>(),
            "{info:?}"
        );
        all += &format!("{info:?} {bytes:?} ");
    }
    if let Some(optimizer) = file.optimizer() {
        for parameter in &optimizer.parameters {
            let Some(moments) = &parameter.moments else {
                continue;
            };
            for moment in [&moments.exp_avg, &moments.exp_avg_sq] {
                all += &format!("{:?} {:?} ", moment.info, file.read_moment(moment)?);
            }
            all += &format!("{} {} ", parameter.index, moments.step);
        }
        for group in &optimizer.groups {
            all += &format!("{:?} {:?} ", group.settings, group.parameters);
        }
        // What does not fit any more is an error, too, but none of the file.
        let _ = file.match_optimizer(|_| true);
    }
    Ok(all)
}

pub(super) fn refused(bytes: &[u8], want: &str) {
    let scratch = Scratch::new();
    let error = read_all(scratch.write(bytes)).unwrap_err().to_string();
    assert!(error.contains(want), "found: {error}\nwanted: {want}");
    assert!(error.contains("file.pt"), "{error}");
}

/// The fixtures of both formats that the next tests damage.
const WHOLE: [&str; 6] = [
    "tied.pt",
    "torch113_zip.pt",
    "protocol4.pt",
    "legacy.pt",
    "views_legacy.pt",
    "numpy.pt",
];

#[test]
fn files_that_are_cut_short_anywhere_are_errors() {
    let scratch = Scratch::new();
    for name in WHOLE {
        let bytes = std::fs::read(fixture(name)).unwrap();
        assert!(read_all(scratch.write(&bytes)).is_ok(), "{name}");
        for len in (0..bytes.len()).rev() {
            let cut = read_all(scratch.edit(|file| file.set_len(len as u64)));
            assert!(cut.is_err(), "{name}: {len} bytes");
        }
    }
}

#[test]
fn files_with_a_changed_byte_are_errors_or_sound() {
    let scratch = Scratch::new();
    for name in WHOLE {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let whole = read_all(scratch.write(&bytes)).unwrap();
        // An archive has checksums of whatever is read as a whole.
        let is_archive = bytes.starts_with(b"PK");
        let mut errors = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let set = |byte: u8| {
                scratch.edit(|file| {
                    file.seek(SeekFrom::Start(at as u64))?;
                    file.write_all(&[byte])
                })
            };
            for change in [0x01, 0x80] {
                match read_all(set(byte ^ change)) {
                    Ok(read) => assert!(!is_archive || read == whole, "{name}: byte {at}"),
                    Err(_) => errors += 1,
                }
            }
            set(*byte);
        }
        assert!(errors > bytes.len() / 4, "{name}: {errors} errors");
    }
}

#[test]
fn archives_that_are_damaged_are_refused() {
    let model = dict(&[(text("w"), tensor("0", 6, 0, &[6], &[1]))]);
    let whole = pickle(model);
    let storage = [0; 24];
    refused(b"", "neither as a zip archive nor as a pickle");
    refused(b"hello, world", "neither as a zip archive nor as a pickle");
    refused(b"PK\x03\x04", "no end; the file was probably cut short");
    refused(&archive(&[("data/0", &storage)]), "no entry 'data.pkl'");
    refused(
        &archive(&[
            ("data.pkl", &whole),
            ("data/0", &storage),
            ("data/0", &storage),
        ]),
        "two entries 'archive/data/0'",
    );
    refused(
        &archive(&[("data.pkl", &whole)]),
        "tensor 'w' needs the storage '0', which is missing",
    );
    for len in [0, 23, 25, 48] {
        refused(
            &archive(&[("data.pkl", &whole), ("data/0", &vec![0; len])]),
            &format!(
                "tensor 'w' needs a storage '0' of 6 elements of float32, but the file has {len} bytes"
            ),
        );
    }
    refused(
        &archive_by(8, &[("data.pkl", &whole), ("data/0", &storage)]),
        "'data.pkl' that is compressed (method 8)",
    );
    refused(
        &archive(&[
            ("byteorder", b"big"),
            ("data.pkl", &whole),
            ("data/0", &storage),
        ]),
        "big-endian machine is not supported",
    );
    let mut long = archive(&[("data.pkl", &whole), ("data/0", &storage)]);
    // The length of the last entry, in the directory before the end of 22 bytes.
    let at = long.len() - 22 - "archive/data/0".len() - 46;
    long[at + 20..at + 28].copy_from_slice(&[0xf0, 0xff, 0xff, 0x7f, 0xf0, 0xff, 0xff, 0x7f]);
    refused(&long, "'data/0' lies outside the file");
}

#[test]
fn views_that_do_not_fit_their_storage_are_refused_by_name() {
    let of = |tensor: Vec<u8>| {
        file_of(dict(&[(
            text("model"),
            dict(&[(text("module.w"), tensor)]),
        )]))
    };
    for (tensor, want) in [
        (
            tensor("0", 6, 7, &[1], &[1]),
            "the offset 7 reaches behind its storage of 6 elements",
        ),
        (
            tensor("0", 6, 1, &[6], &[1]),
            "the offset 1 reaches behind its storage of 6 elements",
        ),
        (
            tensor("0", 6, 0, &[2, 3], &[4, 1]),
            "strides [4, 1] and the offset 0 reaches behind",
        ),
        (tensor("0", 6, 0, &[6], &[-1]), "has the strides [-1]"),
        (tensor("0", 6, 5, &[6], &[-1]), "has the strides [-1]"),
        (tensor("0", 6, -1, &[6], &[1]), "begins at element -1"),
        (tensor("0", 6, 0, &[-6], &[1]), "has the shape [-6]"),
        (
            tensor("0", 6, 0, &[6], &[1, 1]),
            "has 1 dimensions and 2 strides",
        ),
        (tensor("0", 6, 0, &[1; 65], &[1; 65]), "has 65 dimensions"),
        (
            tensor("0", 6, 0, &[1 << 62, 1 << 62], &[0, 0]),
            "more than the file holds",
        ),
        (
            tensor("0", 6, 0, &[1 << 62, 0, 1 << 62], &[0, 0, 0]),
            "more than the file holds",
        ),
        (
            tensor("0", 6, 0, &[1 << 40], &[0]),
            "more than the file holds",
        ),
        (
            tensor("0", 6, 0, &[2, 2], &[i64::MAX, i64::MAX]),
            "reaches behind",
        ),
        (tensor("0", 6, i64::MAX, &[2], &[1]), "reaches behind"),
        (
            tensor("0", -6, 0, &[6], &[1]),
            "needs a storage '0' of -6 elements",
        ),
        (
            tensor("0", i64::MAX, 0, &[6], &[1]),
            "needs a storage '0' of 9223372036854775807",
        ),
        (
            tensor("../0", 6, 0, &[6], &[1]),
            "needs the storage '../0', which is missing",
        ),
        (int(5), "it has neither tensors nor a dict of them"),
    ] {
        let bytes = of(tensor);
        refused(&bytes, want);
        if !want.starts_with("it has neither") {
            refused(&bytes, "tensor 'w' ");
        }
    }
}

#[test]
fn strides_of_a_dimension_of_one_element_say_nothing() {
    let of = |tensor: Vec<u8>| file_of(dict(&[(text("model"), dict(&[(text("w"), tensor)]))]));
    let scratch = Scratch::new();
    let tied = [i64::MAX, 5].map(|stride| tensor("0", 6, 1, &[1, 2], &[stride, 1]));
    let [first, second] = tied;
    let tied = file_of(dict(&[(text("a"), first), (text("b"), second)]));
    assert_eq!(
        TorchFile::open(scratch.write(&tied)).unwrap().tied(),
        [0, 0]
    );
    let odd = of(tensor(
        "0",
        6,
        1,
        &[1, 2, 2, 1],
        &[i64::MAX, 1, 2, i64::MAX],
    ));
    let file = TorchFile::open(scratch.write(&odd)).unwrap();
    let want: Vec<u8> = [1.0_f32, 3.0, 2.0, 4.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    assert_eq!(file.read(0).unwrap(), want);
}

#[test]
fn files_of_the_format_before_1_6_that_are_damaged_are_refused() {
    let w = |tensor: Vec<u8>| dict(&[(text("w"), tensor)]);
    let six_of = || w(tensor("0", 6, 0, &[6], &[1]));
    let storage = |len: i64| [&len.to_le_bytes()[..], &six()].concat();
    // A part of a storage is read as that.
    let scratch = Scratch::new();
    let sound = legacy(w(part(6, 2, 3)), &["0"], &storage(6));
    let file = TorchFile::open(scratch.write(&sound)).unwrap();
    assert_eq!(file.read(0).unwrap(), six()[8..20]);
    for (bytes, want) in [
        (
            legacy(w(part(6, 4, 3)), &["0"], &storage(6)),
            "'w' needs 3 elements from 4 on of the storage '0', which has 6",
        ),
        (
            legacy(w(part(6, -1, 3)), &["0"], &storage(6)),
            "'w' needs 3 elements from -1 on",
        ),
        (
            legacy(six_of(), &[], &[]),
            "'w' needs the storage '0', which is missing",
        ),
        (
            legacy(six_of(), &["0"], &storage(5)),
            "4 bytes behind its last storage",
        ),
        (
            legacy(six_of(), &["0"], &[&*storage(6), b"more"].concat()),
            "4 bytes behind its last storage",
        ),
        (
            legacy(six_of(), &["0"], &storage(5)[..28]),
            "of 6 elements of float32, but the file has 20 bytes",
        ),
        (
            legacy(six_of(), &["0"], &storage(7)),
            "ends within or before its storage '0'",
        ),
        (
            legacy(six_of(), &["0"], &storage(-1)),
            "ends within or before its storage '0'",
        ),
        (
            legacy(six_of(), &["0"], &storage(i64::MAX)),
            "ends within or before its storage '0'",
        ),
        (
            legacy(six_of(), &["0"], &[0; 7]),
            "ends within or before its storage '0'",
        ),
        (
            legacy(six_of(), &["1"], &storage(6)),
            "no tensor uses its storage '1'",
        ),
        (
            legacy(six_of(), &["0", "0"], &storage(6).repeat(2)),
            "has its storage '0' twice",
        ),
        (pickle(int(5)), "does not start with torch's magic number"),
        (six_of_version_2(), "another version than 1001"),
    ] {
        refused(&bytes, want);
    }
}

/// A file that says that it has another version of the format.
fn six_of_version_2() -> Vec<u8> {
    let mut bytes = legacy(dict(&[]), &[], &[]);
    let version = int(1001);
    let at = bytes
        .windows(version.len())
        .position(|window| window == version);
    bytes[at.unwrap() + 2] ^= 1;
    bytes
}
