//! What is left where encoding does not come to its end: the files that were there, and no others.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use super::inputs::Folder;

/// A folder with an old token file, and an encoding of standard input over it that has read some
/// text and waits for more.
fn encoding() -> (Folder, Child, Vec<u8>) {
    let folder = Folder::new();
    let old = folder.write("out.npy", b"what was there before");
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpu-tlm"))
        .args([
            "tokenizer",
            "encode",
            "--tokenizer",
            &folder.name("tokenizer"),
        ])
        .args(["--out", &old])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "the low cat and the lower story ".repeat(1 << 19);
    child
        .stdin
        .as_mut()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    (folder, child, std::fs::read(&old).unwrap())
}

fn check_nothing_changed(folder: &Folder, old: &[u8]) {
    assert_eq!(std::fs::read(folder.path("out.npy")).unwrap(), old);
    assert_eq!(folder.names(), ["out.npy", "tokenizer"]);
}

#[test]
fn a_killed_encoding_leaves_the_old_file_whole() {
    let (folder, mut child, old) = encoding();
    child.kill().unwrap();
    child.wait().unwrap();
    check_nothing_changed(&folder, &old);
}

#[test]
fn ctrl_c_leaves_the_old_file_whole_and_says_so() {
    let (folder, mut child, old) = encoding();
    let kill = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("once more to stop at once"), "{said}");
    // The read that waits ends with the input.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"more").unwrap();
    drop(stdin);
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(said.contains("stopped; nothing was written"), "{said}");
    check_nothing_changed(&folder, &old);
}

#[test]
fn a_disk_without_room_is_one_error_and_leaves_the_old_file_whole() {
    let folder = Folder::new();
    let old = folder.write("out.npy", b"what was there before");
    let text = folder.write(
        "text.txt",
        "the low cat and the lower story ".repeat(40_000),
    );
    // The limit on a file's size, in blocks of 512 or 1,024 bytes, stands in for the disk's.
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script, "bash", env!("CARGO_BIN_EXE_gpu-tlm")])
        .args([
            "tokenizer",
            "encode",
            "--tokenizer",
            &folder.name("tokenizer"),
        ])
        .args(["--input", &text, "--out", &old])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("out.npy") && stderr.contains("has space"),
        "{stderr}"
    );
    assert_eq!(std::fs::read(&old).unwrap(), b"what was there before");
    assert_eq!(folder.names(), ["out.npy", "text.txt", "tokenizer"]);
}
