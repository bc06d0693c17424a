//! What only one module may do, by looking at the sources: write files, and, below training and decoding,
//! what a browser could not.

use std::path::{Path, PathBuf};

/// What opens, creates or renames a file, or hands out the crate that does.
const WRITES: [&str; 10] = [
    "fs::write(",
    "fs::rename(",
    "fs::copy(",
    "fs::hard_link(",
    "create_dir",
    "File::create",
    "File::options",
    "OpenOptions",
    "AtomicWriteFile",
    "atomic_write_file",
];

/// Waits for the device.
const WAITS: [&str; 4] = ["block_on(", ".poll(", "PollType", ".recv()"];
/// Threads of our own.
const THREADS: [&str; 5] = [
    "rayon",
    "par_iter",
    "thread::spawn",
    "thread::scope",
    "thread::sleep",
];
/// Files, and what the system says of processes.
const FILES: [&str; 3] = ["std::fs", "std::process", "File::"];
/// The modules below training and decoding, which run on the device or say what to run.
const BELOW: [&str; 7] = [
    "gpu",
    "kernels",
    "model",
    "parallel.rs",
    "random.rs",
    "reference",
    "wgsl.rs",
];

/// Lines in `folders` of `src` that hold one of `calls`, except in the file `except`.
fn lines_with(calls: &[&str], folders: &[&str], except: &str) -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for folder in folders {
        collect(&sources.join(folder), &mut files);
    }
    let mut found = Vec::new();
    for path in files.iter().filter(|path| **path != sources.join(except)) {
        let text = std::fs::read_to_string(path).unwrap();
        found.extend(holding(&text, calls).map(|line| format!("{}: {line}", path.display())));
    }
    found
}

#[test]
fn only_one_module_opens_files_to_write_them() {
    let found = lines_with(&WRITES, &[""], "files.rs");
    assert!(found.is_empty(), "use crate::files:\n{}", found.join("\n"));
    assert!(!lines_with(&WRITES, &[""], "").is_empty());
}

/// Whether a line of code holds a flag in a string.
fn names_a_flag(line: &str) -> bool {
    let is_flag = |at: usize| {
        let before = line[..at].chars().next_back();
        let after = line[at + 2..].chars().next();
        before.is_none_or(|c| " `'(\"".contains(c)) && after.is_some_and(|c| c.is_ascii_lowercase())
    };
    // What cargo takes is no flag of ours.
    line.match_indices("--").any(|(at, _)| is_flag(at)) && !line.contains("cargo install")
}

#[test]
fn flags_are_known_to_the_command_line_alone() {
    let found: Vec<String> = lines_with(&["--"], &[""], "")
        .into_iter()
        .filter(|line| !line.contains("/cli/") && !line.contains("/src/main.rs"))
        .filter(|line| names_a_flag(line.split_once(": ").map_or("", |(_, code)| code)))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(names_a_flag("choose another --logdir\","));
    assert!(!names_a_flag("a -- b"));
}

#[test]
fn what_a_browser_could_not_do_is_in_one_place_each() {
    for (calls, place) in [
        (&WAITS[..], "gpu/wait.rs"),
        (&THREADS, "parallel.rs"),
        // The threads of a software driver, by what Linux says of them.
        (&FILES, "gpu/threads.rs"),
    ] {
        let found = lines_with(calls, &BELOW, place);
        assert!(found.is_empty(), "not in {place}:\n{}", found.join("\n"));
        assert!(!lines_with(calls, &BELOW, "").is_empty(), "{place}");
    }
}

#[test]
fn a_write_is_found_outside_of_unit_tests_and_comments() {
    let lines = |text| holding(text, &WRITES).count();
    assert_eq!(lines("    std::fs::write(&path, text)?;\n"), 1);
    assert_eq!(lines("let file = fs::OpenOptions::new();"), 1);
    assert_eq!(lines("// fs::write( would lose it"), 0);
    assert_eq!(
        lines("fn f() {}\n#[cfg(test)]\nmod tests { fs::write( }"),
        0
    );
}

/// The lines of a source that hold one of `calls`; unit tests end a file.
fn holding<'a>(text: &'a str, calls: &[&str]) -> impl Iterator<Item = &'a str> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
    code.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .filter(move |line| calls.iter().any(|call| line.contains(call)))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    if folder.is_file() {
        files.push(folder.to_owned());
        return;
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}
