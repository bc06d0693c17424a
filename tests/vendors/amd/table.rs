//! The table of figures: written to Markdown, read back, compared.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::{FAMILIES, Failure};

const HEAD: &str = "\
# Shaders on AMD GPUs

What Mesa's AMD compiler makes of every shader, for chips that were not there: `make amd-shader-stats` writes this file, `make test-compilers` fails where a shader of the first table spills more or has fewer waves than here.

A cell has the vector registers of a lane, the scalar registers of a wave, and the waves that a SIMD can hold, which hide each other's waits; more is better, up to 8 (Polaris), 10 (Vega), 40 (RDNA1) or 32 (RDNA2, RDNA3).
Then, if there are any, registers that did not fit and were spilled to memory, and bytes of scratch memory a wave, where arrays that are indexed at run time end up. Both cost time and are listed as known.
";
const SOFTWARE_HEAD: &str = "
## Shaders for software adapters

Sizes that only adapters which run shaders on the CPU use, and variants that read textures, which are meant for those too. They have to compile; their figures are not held.
";

/// What the compiler says of one shader on one family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    vgprs: u64,
    sgprs: u64,
    waves: u64,
    spilled: u64,
    scratch: u64,
}

/// All cells, by shader.
pub(crate) struct Figures {
    driver: String,
    rows: BTreeMap<String, Row>,
}

struct Row {
    gpu: bool,
    cells: Vec<Cell>,
}

impl Figures {
    /// Rows without cells, from the manifest's entries.
    pub(crate) fn new(entries: &[Value]) -> Self {
        let row = |entry: &Value| {
            let list = |key: &str| entry[key].as_array().cloned().unwrap_or_default();
            let textures = |b: &Value| b["role"].as_str().is_some_and(|r| r.starts_with("Texture"));
            Row {
                gpu: list("classes").iter().any(|class| class == "gpu")
                    && !list("bindings").iter().any(textures),
                cells: Vec::new(),
            }
        };
        let name = |entry: &Value| stem(entry["file"].as_str().unwrap_or_default());
        Self {
            driver: String::new(),
            rows: entries.iter().map(|e| (name(e), row(e))).collect(),
        }
    }

    /// Adds one family's cells from what its process printed.
    pub(crate) fn add(&mut self, printed: &str) -> Result<(), Failure> {
        for line in printed.lines() {
            if let Some(driver) = line.strip_prefix("driver ") {
                driver.clone_into(&mut self.driver);
                continue;
            }
            let mut words = line.split(' ');
            let name = stem(words.next().unwrap_or_default());
            let figures: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>()?;
            let [vgprs, sgprs, waves, spilled_vgprs, spilled_sgprs, scratch] = figures[..] else {
                return Err(format!("cannot read '{line}'").into());
            };
            let row = self.rows.get_mut(&name).ok_or("a shader without a row")?;
            row.cells.push(Cell {
                vgprs,
                sgprs,
                waves,
                spilled: spilled_vgprs + spilled_sgprs,
                scratch,
            });
        }
        Ok(())
    }
}

impl Cell {
    fn text(&self) -> String {
        let mut text = format!("{} / {} / {}", self.vgprs, self.sgprs, self.waves);
        if self.spilled > 0 {
            let _ = write!(text, " spills {}", self.spilled);
        }
        if self.scratch > 0 {
            let _ = write!(text, " scratch {}", self.scratch);
        }
        text
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut number = |label: &str| {
            if !label.is_empty() && words.next()? != label {
                return None;
            }
            words.next()?.parse::<u64>().ok()
        };
        let (vgprs, sgprs, waves) = (number("")?, number("/")?, number("/")?);
        let mut cell = Self {
            vgprs,
            sgprs,
            waves,
            spilled: 0,
            scratch: 0,
        };
        while let Some(label) = words.next() {
            let value = words.next()?.parse().ok()?;
            match label {
                "spills" => cell.spilled = value,
                "scratch" => cell.scratch = value,
                _ => return None,
            }
        }
        Some(cell)
    }
}

/// Writes the table to `path` and says what spills.
pub(crate) fn write(figures: &Figures, path: &str) -> Result<(), Failure> {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\nCompiler: {}\n", figures.driver);
    write_known(&mut text, figures);
    write_rows(&mut text, figures, true);
    text.push_str(SOFTWARE_HEAD);
    text.push('\n');
    write_rows(&mut text, figures, false);
    std::fs::write(path, text)?;
    println!("{} shaders in {path}", figures.rows.len());
    Ok(())
}

fn write_known(text: &mut String, figures: &Figures) {
    let mut known = Vec::new();
    for (name, row) in figures.rows.iter().filter(|(_, row)| row.gpu) {
        let spilled = row.cells.iter().map(|cell| cell.spilled).max().unwrap_or(0);
        let scratch = row.cells.iter().map(|cell| cell.scratch).max().unwrap_or(0);
        if spilled + scratch > 0 {
            known.push(format!(
                "- `{name}`: up to {spilled} registers, {scratch} bytes\n"
            ));
        }
    }
    if known.is_empty() {
        text.push_str("No shader spills or uses scratch memory.\n\n");
    } else {
        text.push_str("Known to spill or to use scratch memory:\n\n");
        text.extend(known);
        text.push('\n');
    }
}

fn write_rows(text: &mut String, figures: &Figures, gpu: bool) {
    let _ = writeln!(text, "| shader | {} |", FAMILIES.join(" | "));
    let _ = writeln!(text, "|---{}|", "|---".repeat(FAMILIES.len()));
    for (name, row) in figures.rows.iter().filter(|(_, row)| row.gpu == gpu) {
        let cells: Vec<String> = row.cells.iter().map(Cell::text).collect();
        let _ = writeln!(text, "| `{name}` | {} |", cells.join(" | "));
    }
}

/// Fails where a shader that GPUs run is worse than in the table at `path`, or missing from it.
pub(crate) fn compare(figures: &Figures, path: &str) -> Result<(), Failure> {
    let table = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let driver = table.lines().find_map(|l| l.strip_prefix("Compiler: "));
    if driver != Some(&figures.driver) {
        let (was, is) = (driver.unwrap_or("no compiler"), &figures.driver);
        return Err(
            format!("{path} is of {was}, here is {is}: run `make amd-shader-stats`").into(),
        );
    }
    let known = read(&table)?;
    let mut worse = Vec::new();
    let mut better = 0;
    for (name, row) in figures.rows.iter().filter(|(_, row)| row.gpu) {
        let Some(cells) = known.get(name) else {
            worse.push(format!("{name} is not in the table"));
            continue;
        };
        for ((family, now), was) in FAMILIES.iter().zip(&row.cells).zip(cells) {
            if now.spilled > was.spilled || now.scratch > was.scratch || now.waves < was.waves {
                worse.push(format!(
                    "{name} on {family}: {} was {}",
                    now.text(),
                    was.text()
                ));
            } else if now != was {
                better += 1;
            }
        }
    }
    let gone = known
        .keys()
        .filter(|name| !figures.rows.contains_key(*name));
    worse.extend(gone.map(|name| format!("{name} is in the table and no more in the program")));
    println!(
        "{} shaders on {} families, {better} cells changed for no worse",
        figures.rows.len(),
        FAMILIES.len()
    );
    if worse.is_empty() {
        return Ok(());
    }
    let advice = "where that is meant, run `make amd-shader-stats` and commit the table";
    Err(format!("{}\n{advice}", worse.join("\n")).into())
}

fn read(table: &str) -> Result<BTreeMap<String, Vec<Cell>>, Failure> {
    let mut rows = BTreeMap::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let unreadable = || format!("cannot read '{line}'");
        let (name, cells) = line.split_once("` | ").ok_or_else(unreadable)?;
        let cells: Option<Vec<Cell>> = cells
            .trim_end_matches(" |")
            .split(" | ")
            .map(Cell::read)
            .collect();
        let cells = cells.filter(|cells| cells.len() == FAMILIES.len());
        rows.insert(name.to_owned(), cells.ok_or_else(unreadable)?);
    }
    if rows.is_empty() {
        return Err("the table is empty".into());
    }
    Ok(rows)
}

fn stem(file: &str) -> String {
    file.trim_end_matches(".spv").to_owned()
}
