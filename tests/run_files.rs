//! The files of a run that other programs read: TensorBoard events and the loss picture.
#![allow(clippy::unwrap_used, reason = "a failing unwrap fails its test")]

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gpu_tlm::train::loss_plot::{self, Curve, Floor, LossPlot};
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

fn curve(name: &str, points: impl IntoIterator<Item = (f64, f64)>) -> Curve {
    Curve {
        name: name.to_owned(),
        points: points.into_iter().collect(),
    }
}

fn draw(plot: &LossPlot) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loss.svg");
    loss_plot::write(&path, plot).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for bad in ["NaN", "inf", "-0<"] {
        assert!(!svg.contains(bad), "{bad} in {svg}");
    }
    svg
}

/// The points of each line of `color`.
fn lines(svg: &str, color: &str) -> Vec<Vec<(f64, f64)>> {
    let stroke = format!("stroke=\"{color}\"");
    svg.lines()
        .filter(|line| line.starts_with("<polyline") && line.contains(&stroke))
        .map(|line| {
            let points = line.split("points=\"").nth(1).unwrap();
            let points = points.split('"').next().unwrap();
            let numbers = |pair: &str| {
                let (x, y) = pair.split_once(',').unwrap();
                (x.parse().unwrap(), y.parse().unwrap())
            };
            points.split_whitespace().map(numbers).collect()
        })
        .collect()
}

const TRAIN: &str = "#0072B2";
const TRAIN_RAW: &str = "#99C2DF";
const VALIDATION: &str = "#D55E00";
const FLOOR: &str = "#6B7280";

#[test]
fn loss_plot_names_its_axes_and_curves() {
    let svg = draw(&LossPlot {
        title: "tiny & <new>".to_owned(),
        train: curve(
            "train",
            (0..300).map(|i| (f64::from(i), 9.0 - f64::from(i) / 50.0)),
        ),
        validation: curve("validation", [(0.0, 9.0), (299.0, 3.5)]),
        floor: Some(Floor {
            label: "entropy of the corpus".to_owned(),
            loss: 2.0,
        }),
    });
    for text in [
        "tiny &amp; &lt;new&gt;",
        "iteration",
        "loss (nats)",
        "train",
        "train, moving mean",
        "validation",
        "entropy of the corpus",
    ] {
        assert!(svg.lines().any(|line| line == text), "{text} in {svg}");
    }
    assert!(svg.contains(FLOOR));
    assert_eq!(
        svg.matches("<circle").count(),
        2 + 1,
        "and one in the legend"
    );
}

#[test]
fn loss_plot_thins_long_curves_and_keeps_their_ends() {
    let falling = |i: i32| (f64::from(i), 10.0 - f64::from(i) / 5000.0);
    let svg = draw(&LossPlot {
        train: curve("train", (0..25_000).map(falling)),
        ..LossPlot::default()
    });
    for color in [TRAIN, TRAIN_RAW] {
        let line = lines(&svg, color).into_iter().find(|line| line.len() > 2);
        let line = line.unwrap_or_else(|| panic!("no line of {color}"));
        assert!(line.len() <= 1000, "{color}: {}", line.len());
        // A straight line stays one: its first point is the highest and leftmost.
        assert!(
            line.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1),
            "{line:?}"
        );
        assert!(
            line[0].0 < 130.0 && line[line.len() - 1].0 > 900.0,
            "{line:?}"
        );
    }
}

#[test]
fn loss_plot_skips_values_that_are_not_finite() {
    let rows = [
        4.0,
        f64::NAN,
        3.0,
        f64::INFINITY,
        f64::MAX,
        f64::NEG_INFINITY,
        2.0,
    ];
    let points = (0..).map(f64::from).zip(rows);
    let finite = points.clone().filter(|p| [4.0, 3.0, 2.0].contains(&p.1));
    let with_floor = |train, loss| LossPlot {
        train,
        floor: Some(Floor {
            label: "floor".to_owned(),
            loss,
        }),
        ..LossPlot::default()
    };
    let got = draw(&with_floor(curve("train", points), f64::NAN));
    let want = draw(&LossPlot {
        train: curve("train", finite),
        ..LossPlot::default()
    });
    assert_eq!(got, want);
}

#[test]
fn loss_plot_draws_small_and_flat_curves() {
    let cases: [(&str, &[(f64, f64)]); 7] = [
        ("none", &[]),
        ("one", &[(0.0, 9.0)]),
        ("one far away", &[(1e9, 1e-9)]),
        ("flat", &[(0.0, 2.0), (10.0, 2.0)]),
        ("nearly flat", &[(0.0, 1e6), (10.0, 1e6 + 1e-9)]),
        ("all zero", &[(0.0, 0.0), (1.0, 0.0)]),
        ("diverged", &[(0.0, 9.0), (1.0, 3.4e38)]),
    ];
    for (case, points) in cases {
        let svg = draw(&LossPlot {
            train: curve("train", points.iter().copied()),
            validation: curve("validation", points.iter().copied()),
            ..LossPlot::default()
        });
        assert!(svg.contains("loss (nats)"), "{case}");
        assert_eq!(svg.contains(TRAIN), !points.is_empty(), "{case}");
        assert_eq!(svg.contains(VALIDATION), !points.is_empty(), "{case}");
    }
}

#[test]
fn loss_plot_replaces_a_file_and_fails_without_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loss.svg");
    fs::write(&path, "old").unwrap();
    loss_plot::write(&path, &LossPlot::default()).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("<svg"));
    let missing = Path::new("no such directory").join("loss.svg");
    assert!(loss_plot::write(&missing, &LossPlot::default()).is_err());
}

#[test]
fn loss_plot_keeps_its_legend_off_the_curve() {
    let left_of_legend = |end_loss: f64| {
        let svg = draw(&LossPlot {
            train: curve("train", [(0.0, 5.0), (10.0, end_loss)]),
            ..LossPlot::default()
        });
        let lines: Vec<_> = svg.lines().collect();
        let name = lines.iter().position(|line| *line == "train").unwrap();
        let x = lines[name - 1].split('"').nth(1).unwrap();
        x.parse::<u32>().unwrap()
    };
    let (falling, rising) = (left_of_legend(1.0), left_of_legend(9.0));
    assert!(falling > 700 && rising < 600, "{falling} and {rising}");
}
