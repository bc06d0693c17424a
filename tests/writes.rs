//! No file is written but through `src/files.rs`.

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

#[test]
fn only_one_module_opens_files_to_write_them() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&sources, &mut files);
    assert!(files.len() > 100, "{} files were found", files.len());
    let mut found = Vec::new();
    for path in files
        .iter()
        .filter(|path| **path != sources.join("files.rs"))
    {
        let text = std::fs::read_to_string(path).unwrap();
        found.extend(writes(&text).map(|line| format!("{}: {line}", path.display())));
    }
    assert!(found.is_empty(), "use crate::files:\n{}", found.join("\n"));
}

#[test]
fn a_write_is_found_outside_of_unit_tests_and_comments() {
    let lines = |text| writes(text).count();
    assert_eq!(lines("    std::fs::write(&path, text)?;\n"), 1);
    assert_eq!(lines("let file = fs::OpenOptions::new();"), 1);
    assert_eq!(lines("// fs::write( would lose it"), 0);
    assert_eq!(
        lines("fn f() {}\n#[cfg(test)]\nmod tests { fs::write( }"),
        0
    );
}

/// The lines of a source that write files; unit tests end a file.
fn writes(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
    code.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .filter(|line| WRITES.iter().any(|call| line.contains(call)))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
}
