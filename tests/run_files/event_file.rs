//! TensorBoard event files, decoded by hand.
#![allow(clippy::unwrap_used, reason = "a failing unwrap fails its test")]

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use gpu_tlm::train::tensorboard::EventWriter;

/// CRC-32C bit by bit, to share nothing with the table of the writer.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

fn masked(crc: u32) -> u32 {
    crc.rotate_left(17).wrapping_add(0xa282_ead8)
}

/// Cuts `n` bytes off the front.
fn take<'a>(rest: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(n);
    *rest = left;
    taken
}

/// The data of each record, its checksums compared.
fn records(mut file: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while !file.is_empty() {
        let length_bytes = take(&mut file, 8);
        let length_crc = u32::from_le_bytes(take(&mut file, 4).try_into().unwrap());
        assert_eq!(length_crc, masked(crc32c(length_bytes)), "of a length");
        let length = u64::from_le_bytes(length_bytes.try_into().unwrap());
        let data = take(&mut file, usize::try_from(length).unwrap());
        let data_crc = u32::from_le_bytes(take(&mut file, 4).try_into().unwrap());
        assert_eq!(data_crc, masked(crc32c(data)), "of the data {data:x?}");
        records.push(data);
    }
    records
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(rest, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// The fields of a message: number, and the value's bytes (a varint as 8 little-endian ones).
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let value = match key & 7 {
            0 => varint(&mut message).to_le_bytes().to_vec(),
            1 => take(&mut message, 8).to_vec(),
            2 => {
                let length = varint(&mut message);
                take(&mut message, usize::try_from(length).unwrap()).to_vec()
            }
            5 => take(&mut message, 4).to_vec(),
            wire_type => panic!("unknown wire type {wire_type}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn field(message: &[u8], number: u64) -> Vec<u8> {
    let mut found = fields(message).into_iter().filter(|f| f.0 == number);
    let value = found.next().unwrap_or_else(|| panic!("no field {number}"));
    assert_eq!(found.next(), None, "field {number} twice");
    value.1
}

/// (tag, step, bits of the value) of a record.
fn scalar(record: &[u8]) -> (String, u64, u32) {
    let step = u64::from_le_bytes(field(record, 2).try_into().unwrap());
    let value = field(&field(record, 5), 1);
    let tag = String::from_utf8(field(&value, 1)).unwrap();
    let bits = u32::from_le_bytes(field(&value, 2).try_into().unwrap());
    (tag, step, bits)
}

fn wall_time_s(record: &[u8]) -> f64 {
    f64::from_le_bytes(field(record, 1).try_into().unwrap())
}

#[test]
fn checksum_of_these_tests_has_the_known_answers() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    // RFC 3720, appendix B.4.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
}

#[test]
fn event_file_holds_the_version_and_each_scalar() {
    let dir = tempfile::tempdir().unwrap();
    let long_tag = "a/".repeat(100);
    let rows = [
        ("loss/train", 0, 9.25_f32),
        ("loss/train", 127, -0.0),
        ("loss/validation", 128, f32::MIN_POSITIVE),
        (long_tag.as_str(), 1 << 40, f32::INFINITY),
        ("", i64::MAX.unsigned_abs(), f32::NAN),
    ];

    let now_s = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs_f64()
    };
    let before_s = now_s();
    let mut writer = EventWriter::open(&dir.path().join("run")).unwrap();
    for (tag, step, value) in rows {
        writer.scalar(tag, step, value).unwrap();
    }
    writer.flush().unwrap();
    let after_s = now_s();

    let file = fs::read(writer.path()).unwrap();
    let records = records(&file);
    assert_eq!(field(records[0], 3), b"brain.Event:2");
    let got: Vec<_> = records[1..].iter().map(|record| scalar(record)).collect();
    let want = rows.map(|(tag, step, value)| (tag.to_owned(), step, value.to_bits()));
    assert_eq!(got, want);
    for record in records {
        let time_s = wall_time_s(record);
        assert!((before_s..=after_s).contains(&time_s), "{time_s}");
    }
}

#[test]
fn event_files_of_one_second_get_names_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths: Vec<_> = (0..3)
        .map(|_| {
            let writer = EventWriter::open(dir.path()).unwrap();
            writer.path().to_owned()
        })
        .collect();
    assert!(paths.is_sorted(), "TensorBoard reads by name: {paths:?}");
    paths.dedup();
    assert_eq!(paths.len(), 3);
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("events.out.tfevents.1"), "{name}");
        assert_eq!(records(&fs::read(&path).unwrap()).len(), 1, "{name}");
    }
}

#[test]
fn event_file_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = EventWriter::open(file.path()).unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
}
