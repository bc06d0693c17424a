//! Text of every kind that is read: through the library and through the program.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use gpu_tlm::cli::explain;
use gpu_tlm::data::npy::{SideCar, TokenFile};
use gpu_tlm::data::tokenizer::{END_OF_TEXT, Tokenizer};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::json;
use tempfile::TempDir;

use super::command::run_words;
use super::learn;

/// A folder with a tokenizer.
pub(super) struct Folder {
    dir: TempDir,
}

impl Folder {
    pub(super) fn new() -> Self {
        let folder = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let text = "a story of a cat. the story was low, lower, lowest<|endoftext|>";
        learn(text, 280).save(&folder.path("tokenizer")).unwrap();
        folder
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.name(name)
    }

    pub(super) fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(super) fn tokenizer(&self) -> Tokenizer {
        Tokenizer::load(&self.path("tokenizer")).unwrap()
    }

    /// Names of the files that are there, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Encodes `inputs` and decodes what comes out; an error gives its message.
    fn encode(&self, inputs: &[&str], more: &[&str]) -> Result<String, String> {
        let (tokenizer, out) = (self.name("tokenizer"), self.name("out.npy"));
        let words = [
            "encode",
            "--tokenizer",
            &tokenizer,
            "--out",
            &out,
            "--input",
        ];
        let words = [&words[..], inputs, more].concat();
        run_words(&words).map_err(|error| explain(&error))?;
        Ok(self.text("out.npy"))
    }

    fn text(&self, name: &str) -> String {
        let file = TokenFile::open(&self.path(name)).unwrap();
        let bytes = self
            .tokenizer()
            .decode(&file.get(0..file.len()).unwrap())
            .unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

#[test]
fn compressed_text_is_read_member_by_member() {
    let folder = Folder::new();
    // Longer than a block, so that frames have several.
    let text = "a story of 日本語, lower ".repeat(20_000);
    for (name, pack) in [
        ("a.txt.gz", gzip as fn(&[u8]) -> Vec<u8>),
        ("a.TXT.zst", zstd),
    ] {
        let packed = [pack(text.as_bytes()), pack(b"the end")].concat();
        let input = folder.write(name, &packed);
        assert!(
            folder.encode(&[&input], &[]).unwrap() == format!("{text}the end"),
            "{name}"
        );
        folder.write(name, &packed[..packed.len() / 2]);
        let message = folder.encode(&[&input], &[]).unwrap_err();
        assert!(
            message.contains(name) && message.contains("download the file again"),
            "{message}"
        );
        folder.write(name, b"no such thing");
        let message = folder.encode(&[&input], &[]).unwrap_err();
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn documents_of_json_lines_are_joined_whatever_their_compression() {
    let folder = Folder::new();
    let line = |text: &str| json!({"id": 1, "text": text, "body": "no"}).to_string();
    let lines = [
        line("low\ncat"),
        line(""),
        line("été"),
        line("lower<|endoftext|>"),
        line("x"),
    ];
    let lines = lines.join("\n");
    let wanted = "low\ncat<|endoftext|>été<|endoftext|>lower<|endoftext|>x";
    for (name, bytes) in [
        ("a.jsonl", lines.clone().into_bytes()),
        ("a.ndjson.gz", gzip(lines.as_bytes())),
        ("a.jsonl.zst", zstd(lines.as_bytes())),
    ] {
        let input = folder.write(name, bytes);
        assert_eq!(folder.encode(&[&input], &[]).unwrap(), wanted, "{name}");
        let side_car = SideCar::read(&folder.path("out.npy")).unwrap().unwrap();
        assert_eq!(
            (side_car.documents, side_car.tokenizer_hash),
            (4, folder.tokenizer().hash())
        );
    }
    let input = folder.name("a.jsonl");
    assert_eq!(
        folder
            .encode(&[&input], &["--field", "body"])
            .unwrap()
            .matches("no")
            .count(),
        5
    );
    let message = folder
        .encode(&[&input], &["--field", "content"])
        .unwrap_err();
    assert!(
        message.contains("a.jsonl: line 1, at byte 0, has no key \"content\""),
        "{message}"
    );
}

#[test]
fn patterns_give_their_files_by_name() {
    let folder = Folder::new();
    for (name, text) in [("b.txt", "low"), ("a.txt", "cat"), ("c.md", "story")] {
        folder.write(name, text);
    }
    let pattern = folder.name("*.txt");
    assert_eq!(
        folder.encode(&[&pattern], &[]).unwrap(),
        "cat<|endoftext|>low"
    );
    let both = [&folder.name("c.md")[..], &pattern];
    assert_eq!(
        folder.encode(&both, &[]).unwrap(),
        "story<|endoftext|>cat<|endoftext|>low"
    );
    for (input, wanted) in [
        (folder.name("*.csv"), "no file matches"),
        (folder.name("tokenizer"), "is a directory; name its files"),
        (folder.name("missing.txt"), "missing.txt: "),
        (folder.write("x.parquet", "PAR1"), "x.parquet"),
    ] {
        let message = folder.encode(&[&input], &[]).unwrap_err();
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn lossy_reading_replaces_what_strict_reading_names() {
    let folder = Folder::new();
    let good = "lower ".repeat(100_000);
    let bytes = [good.as_bytes(), b"caf\xC3\xA9 \xED\xA0\x80 \xFF."].concat();
    for (name, bytes, suffix) in [
        ("a.txt", bytes.clone(), ""),
        ("a.txt.gz", gzip(&bytes), " of its uncompressed text"),
    ] {
        let input = folder.write(name, bytes);
        let message = folder.encode(&[&input], &[]).unwrap_err();
        let wanted = format!("{name} is not UTF-8 at byte {}{suffix};", good.len() + 6);
        assert!(message.contains(&wanted), "{message}");
        assert!(!folder.path("out.npy").exists());
    }
    let input = folder.name("a.txt");
    let text = folder.encode(&[&input], &["--lossy"]).unwrap();
    assert!(text == format!("{good}café \u{FFFD}\u{FFFD}\u{FFFD} \u{FFFD}."));
}

#[test]
fn validation_documents_are_chosen_by_number_and_seed() {
    let folder = Folder::new();
    let documents: Vec<String> = (0..200).map(|n| format!("story {n}")).collect();
    let text = folder.write("a.txt", documents.join(END_OF_TEXT));
    let lines = documents
        .iter()
        .map(|text| json!({"text": text}).to_string());
    let lines = folder.write("a.jsonl", lines.collect::<Vec<_>>().join("\n"));
    let split = |input: &str, fraction: &str, seed: &str| {
        let val = folder.name("val.npy");
        let more = [
            "--val-fraction",
            fraction,
            "--val-out",
            &val,
            "--seed",
            seed,
        ];
        let train = folder.encode(&[input], &more).unwrap();
        (train, folder.text("val.npy"))
    };
    let (train, val) = split(&text, "0.25", "1");
    let parts = |text: &str| -> Vec<String> {
        let parts = text.split(END_OF_TEXT).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let n_val = parts(&val).len();
    assert!((30..70).contains(&n_val), "{n_val} of 200");
    let mut all = [parts(&train), parts(&val)].concat();
    all.sort();
    let mut wanted = documents.clone();
    wanted.sort();
    assert_eq!(all, wanted);
    assert_eq!(
        parts(&split(&lines, "0.25", "1").1),
        parts(&val),
        "the same from JSON lines"
    );
    assert_ne!(split(&text, "0.25", "2").1, val, "another seed");
    assert_eq!(
        split(&text, "0", "1"),
        (documents.join(END_OF_TEXT), String::new())
    );
    assert_eq!(split(&text, "1", "1").0, "");
    let out = folder.name("out.npy");
    let same = folder.encode(&[&text], &["--val-fraction", "0.5", "--val-out", &out]);
    assert!(same.unwrap_err().contains("--out, --val-out"));
}

/// Runs the program on some standard input; gives its output.
fn piped(args: &[&str], input: &[u8]) -> std::process::Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpu-tlm"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn ids_go_through_pipes_and_back() {
    let folder = Folder::new();
    let tokenizer = folder.name("tokenizer");
    let text = "the low cat<|endoftext|>日本";
    let encoded = piped(
        &["tokenizer", "encode", "--tokenizer", &tokenizer],
        text.as_bytes(),
    );
    let ids = folder.tokenizer().encode(text);
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    assert_eq!(
        String::from_utf8(encoded.stdout).unwrap(),
        ids.join(" ") + "\n"
    );
    let decode = ["tokenizer", "decode", "--tokenizer", &tokenizer];
    for numbers in [ids.join(" "), ids.join(",\n") + "\n"] {
        assert_eq!(piped(&decode, numbers.as_bytes()).stdout, text.as_bytes());
    }
    // The last byte of a character is missing.
    let cut = ids[..ids.len() - 1].join(" ");
    let bytes = &text.as_bytes()[..text.len() - 1];
    assert_eq!(
        piped(&decode, cut.as_bytes()).stdout,
        String::from_utf8_lossy(bytes).as_bytes()
    );
    let raw = [&decode[..], &["--raw"]].concat();
    assert_eq!(piped(&raw, cut.as_bytes()).stdout, bytes);
    for (numbers, wanted) in [
        ("1 2 x3", "\"x3\" at byte 4"),
        ("1 2 999", "token 999 at position 2"),
    ] {
        let refused = piped(&decode, numbers.as_bytes());
        let stderr = String::from_utf8(refused.stderr).unwrap();
        assert!(
            stderr.contains(wanted) && refused.status.code() == Some(1),
            "{stderr}"
        );
    }
}

#[test]
fn token_files_of_another_tokenizer_are_refused() {
    let folder = Folder::new();
    let input = folder.write("a.txt", "the low cat");
    folder.encode(&[&input], &[]).unwrap();
    learn("a story of a dog. the story was high, higher, highest", 280)
        .save(&folder.path("other"))
        .unwrap();
    let (tokens, other, back) = (
        folder.name("out.npy"),
        folder.name("other"),
        folder.name("back"),
    );
    let decode = [
        "decode",
        "--tokenizer",
        &other,
        "--input",
        &tokens,
        "--out",
        &back,
    ];
    let message = run_words(&decode).unwrap_err().to_string();
    let hashes = [
        folder.tokenizer(),
        Tokenizer::load(Path::new(&other)).unwrap(),
    ];
    for hash in hashes.map(|tokenizer| tokenizer.hash()) {
        assert!(message.contains(&hash[..12]), "{message}");
    }
    run_words(&[&decode[..], &["--ignore-tokenizer-mismatch"]].concat()).unwrap();
    // A side-car of another file is no authority.
    std::fs::copy(folder.path("out.npy.json"), folder.path("b.npy.json")).unwrap();
    super::super::npy::write(&folder.path("c.npy"), 280, &[1, 2]).unwrap();
    std::fs::rename(folder.path("c.npy"), folder.path("b.npy")).unwrap();
    let b = folder.name("b.npy");
    let message = run_words(&[
        "decode",
        "--tokenizer",
        &other,
        "--input",
        &b,
        "--out",
        &back,
    ]);
    let message = message.unwrap_err().to_string();
    assert!(
        message.contains("b.npy.json does not describe the token file beside it"),
        "{message}"
    );
}

#[test]
fn info_counts_tokens_documents_and_bytes() {
    let folder = Folder::new();
    let documents = ["low low low", "cat", "日本語 story"];
    let input = folder.write("a.txt", documents.join(END_OF_TEXT));
    folder.encode(&[&input], &[]).unwrap();
    let tokenizer = folder.tokenizer();
    let lens = documents.map(|text| tokenizer.encode(text).len());
    let (file, name) = (folder.name("out.npy"), folder.name("tokenizer"));
    let info = |more: &[&str]| -> serde_json::Value {
        let args = [&["data", "info", &file, "--json"], more].concat();
        let output = piped(&args, b"");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let found = info(&["--tokenizer", &name]);
    let n_tokens = lens.iter().sum::<usize>() + 2;
    let n_bytes = documents.join(END_OF_TEXT).len();
    assert_eq!(found["tokens"], n_tokens);
    assert_eq!(
        (&found["dtype"], &found["documents"]),
        (&json!("<u2"), &json!(3))
    );
    let lengths = &found["tokens_a_document"];
    assert_eq!(
        (&lengths["shortest"], &lengths["longest"]),
        (&json!(lens[1].min(lens[0])), &json!(lens[2]))
    );
    let bytes_a_token = found["bytes_a_token"].as_f64().unwrap();
    assert!((bytes_a_token - n_bytes as f64 / n_tokens as f64).abs() < 1e-9);
    assert_eq!(found["commonest"].as_array().unwrap().len(), 10);
    assert_eq!(found["excerpt"], documents.join(END_OF_TEXT));
    assert_eq!(found["tokenizer_hash"], tokenizer.hash());
    let bare = info(&[]);
    assert_eq!(
        (&bare["documents"], &bare["excerpt"]),
        (&json!(3), &json!(null))
    );
    let info = piped(&["tokenizer", "info", "--tokenizer", &name, "--json"], b"");
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(
        (&info["vocab_size"], &info["hash"]),
        (&json!(280), &json!(tokenizer.hash()))
    );
    assert_eq!(
        info["special_tokens"],
        json!([{"id": 0, "token": END_OF_TEXT}])
    );
}

#[test]
fn a_document_over_the_limit_is_refused_with_its_place_and_the_flag() {
    const LIMIT: usize = 1 << 20;
    let folder = Folder::new();
    let run = "a".repeat(2 * LIMIT);
    folder.write("run.txt", format!("some words, {run}"));
    folder.write("zeros.txt.gz", gzip(&vec![0; 2 * LIMIT]));
    let long = "b c ".repeat(LIMIT / 2);
    folder.write(
        "long.jsonl",
        format!("{{\"text\": \"one\"}}\n{{\"text\": \"{long}\"}}\n"),
    );
    folder.write("words.txt", &long);
    let limit = LIMIT.to_string();
    for (input, place) in [
        ("run.txt", "text from byte 0 on"),
        ("zeros.txt.gz", "text from byte 0 on"),
        ("long.jsonl", "line 2, at byte 16 "),
    ] {
        let path = folder.name(input);
        let error = folder.encode(&[&path], &["--max-document-bytes", &limit]);
        let error = error.unwrap_err();
        for part in [&path[..], place, &limit, "--max-document-bytes"] {
            assert!(error.contains(part), "{error}");
        }
        folder.encode(&[&path], &[]).unwrap();
    }
    // Text with places to cut has no limit.
    let path = folder.name("words.txt");
    let text = folder.encode(&[&path], &["--max-document-bytes", &limit]);
    assert!(text.unwrap() == long);
}
