//! Token files: NumPy's own headers, round trips, damaged files, and the check of the vocabulary.
#![allow(clippy::unwrap_used, reason = "a failing unwrap fails its test")]

use std::path::{Path, PathBuf};

use gpu_tlm::data::dataset::Dataset;
use gpu_tlm::data::npy::{Dtype, NpyError, TokenFile, TokenWriter};
use gpu_tlm::data::token_stats::TokenStats;
use tempfile::TempDir;

/// A `.npy` file as NumPy lays it out: the dictionary padded with spaces to a newline.
fn npy(version: u8, dict: &str, data: &[u8]) -> Vec<u8> {
    let dict = format!("{dict:<69}\n");
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend_from_slice(&[version, 0]);
    let len = u32::try_from(dict.len()).unwrap().to_le_bytes();
    bytes.extend_from_slice(if version == 1 { &len[..2] } else { &len });
    bytes.extend_from_slice(dict.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn dict(dtype: &str, shape: &str) -> String {
    format!("{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}")
}

fn file_of(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens.npy");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

pub(crate) fn write(path: &Path, vocab_size: usize, ids: &[u32]) -> Result<(), NpyError> {
    let mut writer = TokenWriter::create(path, vocab_size)?;
    for block in ids.chunks(1000) {
        writer.push(block)?;
    }
    writer.finish()
}

#[test]
fn headers_of_numpy_are_understood() {
    // numpy.save of numpy.array([1, 2, 515], dtype="<u2"), byte for byte.
    let mut saved = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    saved.extend_from_slice(b"{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }");
    saved.resize(127, b' ');
    saved.extend_from_slice(b"\n\x01\x00\x02\x00\x03\x02");
    let u2 = dict("'<u2'", "(3,)");
    let u4 = dict("'<u4'", "(2,)");
    let fortran = u2.replace("False", "True");
    for (bytes, dtype, ids) in [
        (saved, Dtype::U16, &[1, 2, 515][..]),
        (npy(1, &u2, &[1, 0, 2, 0, 3, 2]), Dtype::U16, &[1, 2, 515]),
        (
            npy(1, &fortran, &[1, 0, 2, 0, 3, 2]),
            Dtype::U16,
            &[1, 2, 515],
        ),
        (
            npy(2, &u4, &[1, 0, 0, 0, 4, 3, 2, 1]),
            Dtype::U32,
            &[1, 0x0102_0304],
        ),
        (npy(1, &dict("'<u4'", "(0,)"), &[]), Dtype::U32, &[]),
    ] {
        let (_dir, path) = file_of(&bytes);
        let file = TokenFile::open(&path).unwrap();
        assert_eq!((file.dtype(), file.len()), (dtype, ids.len()));
        assert_eq!(file.get(0..ids.len()).unwrap(), ids);
    }
}

#[test]
fn written_headers_are_those_of_numpy() {
    let (_dir, path) = file_of(b"");
    write(&path, 1000, &[1, 2, 515]).unwrap();
    let mut wanted = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    wanted.extend_from_slice(b"{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }");
    wanted.resize(127, b' ');
    wanted.extend_from_slice(b"\n\x01\x00\x02\x00\x03\x02");
    assert_eq!(std::fs::read(&path).unwrap(), wanted);
}

#[test]
fn reading_gives_back_what_was_written() {
    for vocab_size in [65_536, 65_537] {
        let limit = u32::try_from(vocab_size).unwrap();
        for len in [0, 1, 7, 1000, 1001, 70_001] {
            let (_dir, path) = file_of(b"replaced");
            let ids: Vec<u32> = (0..len).map(|at| limit - 1 - at * 31 % limit).collect();
            write(&path, vocab_size, &ids).unwrap();
            let file = TokenFile::open(&path).unwrap();
            let is_wide = file.dtype() == Dtype::U32;
            assert_eq!(is_wide, vocab_size > 65_536);
            assert_eq!(file.get(0..file.len()).unwrap(), ids);
            let middle = ids.len() / 3..ids.len() / 2;
            assert_eq!(file.get(middle.clone()).unwrap(), ids[middle]);
            file.check_vocab(vocab_size).unwrap();
        }
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn damaged_and_foreign_files_are_refused() {
    let whole = npy(1, &dict("'<u2'", "(3,)"), &[0; 6]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            vec![],
            "is not a .npy file: expected it to start with \\x93NUMPY, found ''",
        ),
        (b"PK\x03\x04zip file".to_vec(), "found 'PK\\x03\\x04zi'"),
        (
            npy(3, &dict("'<u2'", "(3,)"), &[0; 6]),
            "has .npy version 3.0, expected 1.0 or 2.0",
        ),
        (
            npy(1, &dict("'<i8'", "(1,)"), &[0; 8]),
            "numbers of type '<i8', expected '<u2' or '<u4'",
        ),
        (
            npy(1, &dict("'>u2'", "(3,)"), &[0; 6]),
            "numbers of type '>u2'",
        ),
        (
            npy(1, &dict("[('a', '<u2')]", "(3,)"), &[0; 6]),
            "numbers of type [('a', '<u2')]",
        ),
        (
            npy(1, &dict("'<u2'", "(3, 1)"), &[0; 6]),
            "has shape (3, 1), expected one dimension",
        ),
        (
            npy(1, &dict("'<u2'", "()"), &[0; 2]),
            "has shape (), expected one dimension",
        ),
        (
            npy(
                1,
                &dict("'<u2'", "(3, 1)").replace("False", "True"),
                &[0; 6],
            ),
            "has shape (3, 1) in Fortran order, expected one dimension",
        ),
        (
            npy(1, &dict("'<u2'", "(x,)"), &[0; 6]),
            "damaged .npy header: expected a 'shape' of whole",
        ),
        (
            npy(1, "{'descr': '<u2'}", &[0; 6]),
            "damaged .npy header: expected a 'fortran_order'",
        ),
        (
            npy(1, "", &[0; 6]),
            "damaged .npy header: expected a 'descr'",
        ),
        (
            whole[..85].to_vec(),
            "cut short: expected 86 bytes by its header, found 85",
        ),
        (
            whole[..40].to_vec(),
            "cut short: expected 80 bytes by its header, found 40",
        ),
        (whole[..7].to_vec(), "cut short"),
        (
            [&whole[..], b"\0"].concat(),
            "bytes after its last token: expected 86 bytes",
        ),
        (
            npy(1, &dict("'<u4'", &format!("({},)", usize::MAX)), &[]),
            "cut short",
        ),
    ];
    for (bytes, wanted) in cases {
        let (_dir, path) = file_of(&bytes);
        let error = TokenFile::open(&path).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(wanted), "{wanted}: {message}");
        assert!(
            message.contains("tokens.npy") && !message.contains('\n'),
            "{message}"
        );
        assert!(!error.is_usage());
    }
    let error = TokenFile::open(Path::new("/missing/tokens.npy")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot read /missing/tokens.npy"),
        "{error}"
    );
}

#[test]
fn first_token_outside_the_vocabulary_is_named() {
    // Longer than what one thread checks at a time.
    let len = 3_000_017;
    for (vocab_size, positions) in [
        (500, &[0][..]),
        (500, &[2_999_999, 1_048_576, 1_048_577]),
        (500, &[3_000_016]),
        (70_000, &[1_048_575, 2_000_000]),
    ] {
        let (_dir, path) = file_of(b"");
        let mut ids = vec![499; len];
        positions
            .iter()
            .for_each(|&at| ids[at] = u32::try_from(vocab_size).unwrap());
        write(&path, vocab_size + 1, &ids).unwrap();
        let file = TokenFile::open(&path).unwrap();
        file.check_vocab(vocab_size + 1).unwrap();
        let first = positions.iter().copied().min();
        match file.check_vocab(vocab_size) {
            Err(NpyError::OutsideVocab { id, position, .. }) => {
                assert_eq!(
                    (usize::try_from(id).unwrap(), Some(position)),
                    (vocab_size, first)
                );
            }
            other => panic!("{positions:?}: {other:?}"),
        }
    }
}

#[test]
fn writers_leave_nothing_half_written() {
    let (dir, path) = file_of(b"old");
    let mut writer = TokenWriter::create(&path, 300).unwrap();
    writer.push(&[1; 100_000]).unwrap();
    let error = writer.push(&[299, 300]).unwrap_err();
    assert!(
        matches!(
            error,
            NpyError::OutsideVocab {
                id: 300,
                position: 100_001,
                ..
            }
        ),
        "{error}"
    );
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "a temporary file is left"
    );
    let error = TokenWriter::create(Path::new("/missing/tokens.npy"), 300).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot write /missing/tokens.npy"),
        "{error}"
    );
}

/// Under a memory map the process would end by a signal here.
#[test]
fn a_file_that_is_cut_short_while_it_is_open_is_an_error_that_names_it() {
    let ids: Vec<u32> = (0..5000).map(|i| i % 1000).collect();
    let (_dir, path) = file_of(b"");
    write(&path, 1000, &ids).unwrap();
    let file = TokenFile::open(&path).unwrap();
    let dataset = Dataset::open(&path, 1000, 64).unwrap();
    let on_disk = std::fs::File::options().write(true).open(&path).unwrap();
    on_disk.set_len(128 + 2 * 100).unwrap();
    assert_eq!(file.get(0..100).unwrap(), ids[..100]);
    let errors = [
        file.get(90..110).unwrap_err().to_string(),
        file.check_vocab(1000).unwrap_err().to_string(),
        TokenStats::of(&file, None).unwrap_err().to_string(),
        dataset.batch(&[0, 3000]).unwrap_err().to_string(),
    ];
    for error in errors {
        assert!(
            error.contains("became shorter while it was read"),
            "{error}"
        );
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}
