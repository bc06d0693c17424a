//! Against the package `gguf` of llama.cpp, which made the files.

use super::*;
use crate::interop::elements::{from_f32, to_f32};
use crate::interop::{ElementType, StoredType};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_type_is_widened_as_llamacpp_does() {
    let file = GgufFile::open(&fixture("types.gguf")).unwrap();
    let types = [
        ("F64", ElementType::F64),
        ("F32", ElementType::F32),
        ("F16", ElementType::F16),
        ("BF16", ElementType::Bf16),
        ("Q8_0", ElementType::Q8_0),
        ("Q4_0", ElementType::Q4_0),
        ("Q4_1", ElementType::Q4_1),
        ("Q4_K", ElementType::Q4K),
        ("Q6_K", ElementType::Q6K),
    ];
    for (name, element_type) in types {
        let info = file.tensors().iter().find(|t| t.name == name).unwrap();
        assert_eq!(info.element_type, element_type);
        let wanted = floats_of(&file, &format!("{name}.values"));
        let len = info.shape.iter().product();
        let found = to_f32(element_type, &bytes_of(&file, name), len).unwrap();
        assert_eq!(bits(&found), bits(&wanted), "{name}");
        assert!(wanted.iter().any(|value| *value != 0.0), "{name}");
    }
    assert_eq!(file.tensors().len(), 2 * types.len());
}

#[test]
fn rows_are_quantised_as_llamacpp_does() {
    let file = GgufFile::open(&fixture("rows.gguf")).unwrap();
    let rows = floats_of(&file, "rows");
    let types = [
        ("F16", StoredType::F16),
        ("BF16", StoredType::Bf16),
        ("Q8_0", StoredType::Q8_0),
        ("Q4_0", StoredType::Q4_0),
    ];
    for (name, stored) in types {
        let wanted = bytes_of(&file, &format!("rows.{name}"));
        let found = from_f32(stored, &rows);
        assert_eq!(found.len(), wanted.len());
        let row_bytes = wanted.len() / (rows.len() / 32);
        let pairs = found.chunks(row_bytes).zip(wanted.chunks(row_bytes));
        for (row, (found, wanted)) in pairs.enumerate() {
            let values = &rows[32 * row..32 * (row + 1)];
            assert_eq!(found, wanted, "{name} of row {row}, {values:?}");
        }
    }
}

/// Longer than what one thread takes, so that a mistake in spreading them shows.
#[test]
fn many_rows_are_as_each_of_them() {
    let file = GgufFile::open(&fixture("rows.gguf")).unwrap();
    let rows = floats_of(&file, "rows");
    for stored in [StoredType::F32, StoredType::Bf16, StoredType::Q4_0] {
        let (one, many) = (from_f32(stored, &rows), from_f32(stored, &rows.repeat(70)));
        assert!(many == one.repeat(70), "{stored:?}");
        let element_type = stored.element_type();
        let one = to_f32(element_type, &one, rows.len()).unwrap();
        let many = to_f32(element_type, &many, 70 * rows.len()).unwrap();
        assert!(bits(&many) == bits(&one.repeat(70)), "{stored:?}");
    }
}

#[test]
fn bytes_that_do_not_fit_are_no_tensor() {
    for (element_type, bytes, len) in [
        (ElementType::F32, 7, 2),
        (ElementType::F64, 8, 2),
        (ElementType::Q8_0, 34, 31),
        (ElementType::Q8_0, 33, 32),
        (ElementType::Q6K, 209, 256),
        (ElementType::Q4K, 0, usize::MAX - 255),
        (ElementType::Other("I32"), 4, 1),
    ] {
        let problem = to_f32(element_type, &vec![0; bytes], len).unwrap_err();
        assert!(problem.starts_with("has "), "{problem}");
    }
    assert_eq!(to_f32(ElementType::Q4K, &[], 0), Ok(Vec::new()));
}

#[test]
fn metadata_of_every_type_is_read() {
    for name in ["metadata.gguf", "version_2.gguf"] {
        let file = GgufFile::open(&fixture(name)).unwrap();
        let metadata = file.metadata();
        for (key, wanted) in [
            ("general.architecture", GgufValue::Text("llama".to_owned())),
            ("a.u8", GgufValue::U8(200)),
            ("a.i8", GgufValue::I8(-100)),
            ("a.u16", GgufValue::U16(60_000)),
            ("a.i16", GgufValue::I16(-30_000)),
            ("a.u32", GgufValue::U32(4_000_000_000)),
            ("a.i32", GgufValue::I32(-2_000_000_000)),
            ("a.f32", GgufValue::F32(1e-5)),
            ("a.true", GgufValue::Bool(true)),
            ("a.false", GgufValue::Bool(false)),
            ("a.text", GgufValue::Text("naïve ☃".to_owned())),
            ("a.u64", GgufValue::U64((1 << 63) + 1)),
            ("a.i64", GgufValue::I64(-(1 << 62))),
            ("a.f64", GgufValue::F64(0.1)),
        ] {
            assert_eq!(metadata.find(key), Some(&wanted), "{key}");
        }
        assert_eq!(
            metadata.get_texts("a.texts").unwrap(),
            ["<s>", "Ġa", "", "☃"]
        );
        for (key, wanted) in [
            ("uint8", &[0, 255][..]),
            ("int8", &[-128, 127]),
            ("uint16", &[1, 65_535]),
            ("int16", &[-32_768]),
            ("uint32", &[1, 2, 4_294_967_295]),
            ("int32", &[1, 3, -6]),
            ("uint64", &[i64::MAX]),
            ("int64", &[i64::MIN]),
        ] {
            let found = metadata.get_integers(&format!("a.array.{key}"));
            assert_eq!(found.unwrap(), wanted, "{key}");
        }
        let floats = metadata.get_numbers("a.array.float32").unwrap();
        assert_eq!(floats, [0.5, -1e-6], "as decimal numbers, and not as f32");
        assert_eq!(
            metadata.get_numbers("a.array.float64").unwrap(),
            [0.1, 1e300]
        );
        let nested = metadata.find("a.nested").unwrap();
        let row = |values: &[i32]| GgufValue::Numbers(Numbers::of_i32(values));
        let wanted = [vec![row(&[1, 2]), row(&[3])], vec![row(&[4])]];
        assert_eq!(
            *nested,
            GgufValue::Arrays(wanted.map(GgufValue::Arrays).to_vec())
        );
    }
}

#[test]
fn metadata_are_given_as_what_is_asked_for() {
    let file = GgufFile::open(&fixture("metadata.gguf")).unwrap();
    let metadata = file.metadata();
    assert_eq!(metadata.get_u64("a.u8").unwrap(), 200);
    assert_eq!(metadata.get_u64("a.u64").unwrap(), (1 << 63) + 1);
    assert_eq!(metadata.get_f64("a.f32").unwrap(), 1e-5);
    assert_eq!(metadata.get_f64("a.i16").unwrap(), -30_000.0);
    assert!(metadata.get_bool("a.true").unwrap());
    assert_eq!(metadata.get_str("a.text").unwrap(), "naïve ☃");
    assert_eq!(metadata.find_u64("a.none").unwrap(), None);
    let problems = [
        metadata.get_u64("a.none").unwrap_err(),
        metadata.get_u64("a.i8").unwrap_err(),
        metadata.find_u64("a.f64").unwrap_err(),
        metadata.get_str("a.true").unwrap_err(),
        metadata.get_bool("a.text").unwrap_err(),
        metadata.get_texts("a.array.int32").unwrap_err(),
        metadata.get_integers("a.array.float32").unwrap_err(),
        metadata.find_numbers("a.nested").unwrap_err(),
    ];
    let wanted = [
        "it has no 'a.none', which should be a whole number from 0 on",
        "'a.i8' is the i8 -100, and should be a whole number from 0 on",
        "'a.f64' is the f64 0.1, and should be a whole number from 0 on",
        "'a.true' is the bool true, and should be a text",
        "'a.text' is a text, and should be a bool",
        "'a.array.int32' is an array of 3 i32, and should be an array of texts",
        "'a.array.float32' is an array of 2 f32, and should be an array of whole numbers",
        "'a.nested' is an array of 2 arrays, and should be an array of numbers",
    ];
    for (problem, wanted) in problems.iter().zip(wanted) {
        let problem = problem.to_string();
        assert!(problem.ends_with(wanted), "{problem} and not {wanted}");
        assert!(problem.contains("metadata.gguf"), "{problem}");
    }
}

#[test]
fn tensors_lie_at_the_alignment_of_their_file() {
    let file = GgufFile::open(&fixture("metadata.gguf")).unwrap();
    assert_eq!(file.metadata().get_u64(ALIGNMENT_KEY).unwrap(), 64);
    let shapes: Vec<&[usize]> = file.tensors().iter().map(|t| &t.shape[..]).collect();
    assert_eq!(shapes, [&[7][..], &[2, 3, 4], &[3]]);
    let counted = |len: u16| (0..len).map(f32::from).collect::<Vec<_>>();
    assert_eq!(floats_of(&file, "one"), counted(7));
    assert_eq!(floats_of(&file, "two"), counted(24));
    assert_eq!(file.tensors()[2].element_type, ElementType::Other("I32"));
    assert_eq!(bytes_of(&file, "ids"), [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
}
