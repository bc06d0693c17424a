//! Zip archives and pickles made by hand, also such as PyTorch never writes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A zip archive of stored entries, without checksums. A name that is there twice is written twice.
pub(super) fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive_by(0, entries)
}

/// The same, where the directory says that entries are compressed by `method`.
pub(super) fn archive_by(method: u16, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let name = format!("archive/{name}");
        let start = u32::try_from(file.len()).unwrap();
        let lens = [bytes.len(), bytes.len()].map(|len| u32::try_from(len).unwrap().to_le_bytes());
        let name_len = u16::try_from(name.len()).unwrap().to_le_bytes();
        // Versions and flags, the method, time and date, and no checksum.
        let common = [
            &[20, 0, 0, 0][..],
            &method.to_le_bytes(),
            &[0; 8],
            &lens.concat(),
            &name_len,
        ]
        .concat();
        file.extend([b"PK\x03\x04", &*common, &[0; 2], name.as_bytes(), bytes].concat());
        let rest = [&[0; 12][..], &start.to_le_bytes(), name.as_bytes()].concat();
        directory.extend([b"PK\x01\x02\x14\x00", &*common, &rest].concat());
    }
    let places = [directory.len(), file.len()].map(|n| u32::try_from(n).unwrap().to_le_bytes());
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    file.extend(directory);
    file.extend(
        [
            b"PK\x05\x06\0\0\0\0",
            &*[count; 2].concat(),
            &places.concat(),
            &[0; 2],
        ]
        .concat(),
    );
    file
}

/// A file in a folder that goes with it.
pub(super) struct Scratch {
    _folder: tempfile::TempDir,
    pub(super) path: PathBuf,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.pt");
        Self {
            _folder: folder,
            path,
        }
    }

    pub(super) fn write(&self, bytes: &[u8]) -> &Path {
        std::fs::write(&self.path, bytes).unwrap();
        &self.path
    }

    /// Changes the file where it lies; writing it anew thousands of times keeps disks busy.
    pub(super) fn edit(&self, edit: impl FnOnce(&mut File) -> io::Result<()>) -> &Path {
        let mut file = File::options().write(true).open(&self.path).unwrap();
        edit(&mut file).unwrap();
        &self.path
    }
}

/// A pickle of protocol 2.
pub(super) fn pickle(value: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02", &*value, b"."].concat()
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).unwrap().to_le_bytes();
    [b"X", &len[..], text.as_bytes()].concat()
}

pub(super) fn int(value: i64) -> Vec<u8> {
    [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
}

pub(super) fn tuple(values: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &*values.concat(), b"t"].concat()
}

pub(super) fn list(values: &[Vec<u8>]) -> Vec<u8> {
    [b"](", &*values.concat(), b"e"].concat()
}

pub(super) fn dict(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let pairs: Vec<u8> = pairs
        .iter()
        .flat_map(|(key, value)| [&**key, value].concat())
        .collect();
    [b"}(", &*pairs, b"u"].concat()
}

/// A tensor of f32, a view of a storage `key` of `elements`.
pub(super) fn tensor(
    key: &str,
    elements: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Vec<u8> {
    view(
        &[text(key), text("cpu"), int(elements)],
        offset,
        shape,
        strides,
    )
}

/// A tensor of f32, a view of `elements` of the `whole` storage `0` from `first` on, as there were before
/// torch 1.6.
pub(super) fn part(whole: i64, first: i64, elements: i64) -> Vec<u8> {
    let part = tuple(&[text("1"), int(first), int(elements)]);
    view(
        &[text("0"), text("cpu"), int(whole), part],
        0,
        &[elements],
        &[1],
    )
}

fn view(storage: &[Vec<u8>], offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let ints = |values: &[i64]| tuple(&values.iter().map(|v| int(*v)).collect::<Vec<_>>());
    let class = b"ctorch\nFloatStorage\n".to_vec();
    let storage = tuple(&[&[text("storage"), class][..], storage].concat());
    let storage = [storage, b"Q".to_vec()].concat();
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = [
        storage,
        int(offset),
        ints(shape),
        ints(strides),
        b"\x89".to_vec(),
        hooks,
    ];
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        &*tuple(&arguments),
        b"R",
    ]
    .concat()
}

/// A file as before torch 1.6, of a pickle, the keys of its storages, and what follows them.
pub(super) fn legacy(value: Vec<u8>, keys: &[&str], rest: &[u8]) -> Vec<u8> {
    let keys: Vec<Vec<u8>> = keys.iter().map(|key| text(key)).collect();
    let magic = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19".to_vec();
    let pickles = [magic, int(1001), dict(&[]), value, list(&keys)].map(pickle);
    [&*pickles.concat(), rest].concat()
}

/// An archive of a pickle and a storage `0` of six elements of f32.
pub(super) fn file_of(value: Vec<u8>) -> Vec<u8> {
    let storage: Vec<u8> = (0..6_u8)
        .flat_map(|at| f32::from(at).to_le_bytes())
        .collect();
    archive(&[("data.pkl", &pickle(value)), ("data/0", &storage)])
}

/// The numbers from 0 to 5.
pub(super) fn six() -> Vec<u8> {
    (0..6_u8)
        .flat_map(|at| f32::from(at).to_le_bytes())
        .collect()
}
