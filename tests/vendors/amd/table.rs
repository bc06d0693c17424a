//! The table of figures: written to Markdown, read back, compared.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::hot_loop::HotLoop;
use crate::{FAMILIES, Failure};

const HEAD: &str = "\
# Shaders on AMD GPUs

What Mesa's AMD compiler makes of every shader, for chips that were not there: `make amd-shader-stats` writes this file, `make test-compilers` fails where a shader of the first table spills, uses scratch memory, or has fewer waves or a worse hot loop than here. docs/kernels-amd.md tells what was tried.

A cell has the vector registers of a lane, the scalar registers of a wave, and the waves that a SIMD can hold, which hide each other's waits; more is better, up to 8 (Polaris), 10 (Vega), 40 (RDNA1) or 32 (RDNA2, RDNA3).
Then, if there are any, registers that did not fit and were spilled to memory, and bytes of scratch memory a wave, where arrays that are indexed at run time end up. Both cost time, and no shader of the first table may have them.
";
const HOT_HEAD: &str = "
## Hot loops

Of the innermost loop with the most multiply-adds: multiply-adds for each access of workgroup memory, and their share of all vector and memory instructions. Shaders with fewer than 32 in the loop are left out; they wait for memory.
";
/// Fewer multiply-adds make no hot loop.
const FEWEST_MULTIPLY_ADDS: u64 = 32;
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

/// The figures of a hot loop that the table has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct HotCell {
    per_ten_accesses: u64,
    share_percent: u64,
}

/// All cells, by shader.
pub(crate) struct Figures {
    driver: String,
    rows: BTreeMap<String, Row>,
}

struct Row {
    gpu: bool,
    cells: Vec<Cell>,
    hot: Vec<HotLoop>,
}

impl Row {
    /// The cells of its hot loop, if it has one on every family.
    fn hot_cells(&self) -> Option<Vec<HotCell>> {
        let cell = |hot: &HotLoop| HotCell {
            per_ten_accesses: hot.per_ten_accesses(),
            share_percent: hot.share_percent(),
        };
        let is_hot = |hot: &HotLoop| hot.multiply_adds >= FEWEST_MULTIPLY_ADDS;
        (self.gpu && self.hot.iter().all(is_hot)).then(|| self.hot.iter().map(cell).collect())
    }
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
                hot: Vec::new(),
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
            let [
                vgprs,
                sgprs,
                waves,
                spilled_vgprs,
                spilled_sgprs,
                scratch,
                ref hot @ ..,
            ] = figures[..]
            else {
                return Err(format!("cannot read '{line}'").into());
            };
            let &[multiply_adds, workgroup, others] = hot else {
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
            row.hot.push(HotLoop {
                multiply_adds,
                workgroup,
                others,
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

impl HotCell {
    fn text(&self) -> String {
        let (whole, tenth) = (self.per_ten_accesses / 10, self.per_ten_accesses % 10);
        format!("{whole}.{tenth} / {} %", self.share_percent)
    }

    fn read(text: &str) -> Option<Self> {
        let (accesses, share) = text.strip_suffix(" %")?.split_once(" / ")?;
        let (whole, tenth) = accesses.split_once('.')?;
        Some(Self {
            per_ten_accesses: whole.parse::<u64>().ok()? * 10 + tenth.parse::<u64>().ok()?,
            share_percent: share.parse().ok()?,
        })
    }
}

/// Writes the table to `path` and says what spills.
pub(crate) fn write(figures: &Figures, path: &str) -> Result<(), Failure> {
    let mut text = HEAD.to_owned();
    let _ = writeln!(text, "\nCompiler: {}\n", figures.driver);
    write_known(&mut text, figures);
    write_rows(&mut text, figures, true);
    text.push_str(HOT_HEAD);
    text.push('\n');
    write_head(&mut text);
    for (name, row) in &figures.rows {
        if let Some(cells) = row.hot_cells() {
            let cells: Vec<String> = cells.iter().map(HotCell::text).collect();
            let _ = writeln!(text, "| `{name}` | {} |", cells.join(" | "));
        }
    }
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

fn write_head(text: &mut String) {
    let _ = writeln!(text, "| shader | {} |", FAMILIES.join(" | "));
    let _ = writeln!(text, "|---{}|", "|---".repeat(FAMILIES.len()));
}

fn write_rows(text: &mut String, figures: &Figures, gpu: bool) {
    write_head(text);
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
    let (rest, hot_and_software) = table.split_once(HOT_HEAD).ok_or("no hot loops")?;
    let (hot, software) = hot_and_software
        .split_once(SOFTWARE_HEAD)
        .ok_or("no shaders for software adapters")?;
    let mut known = read(rest, Cell::read)?;
    known.extend(read(software, Cell::read)?);
    let known_hot = read(hot, HotCell::read)?;
    let mut worse = Vec::new();
    let mut better = 0;
    for (name, row) in figures.rows.iter().filter(|(_, row)| row.gpu) {
        let Some(cells) = known.get(name) else {
            worse.push(format!("{name} is not in the table"));
            continue;
        };
        for ((family, now), was) in FAMILIES.iter().zip(&row.cells).zip(cells) {
            if now.spilled > 0 || now.scratch > 0 || now.waves < was.waves {
                worse.push(format!(
                    "{name} on {family}: {} was {}",
                    now.text(),
                    was.text()
                ));
            } else if now != was {
                better += 1;
            }
        }
        worse.extend(worse_hot_loops(name, row, known_hot.get(name)));
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

/// Families on which a shader's hot loop is worse than `known`.
fn worse_hot_loops(name: &str, row: &Row, known: Option<&Vec<HotCell>>) -> Vec<String> {
    let (now, known) = match (row.hot_cells(), known) {
        (Some(now), Some(known)) => (now, known),
        (None, None) => return Vec::new(),
        _ => return vec![format!("{name} gained or lost its hot loop")],
    };
    let pairs = FAMILIES.iter().zip(now.iter().zip(known));
    pairs
        .filter(|(_, (now, was))| {
            now.share_percent < was.share_percent || now.per_ten_accesses < was.per_ten_accesses
        })
        .map(|(family, (now, was))| {
            let (now, was) = (now.text(), was.text());
            format!("{name} on {family}: hot loop {now} was {was}")
        })
        .collect()
}

/// The rows of one table, by shader.
fn read<T>(
    table: &str,
    read_cell: impl Fn(&str) -> Option<T>,
) -> Result<BTreeMap<String, Vec<T>>, Failure> {
    let mut rows = BTreeMap::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let unreadable = || format!("cannot read '{line}'");
        let (name, cells) = line.split_once("` | ").ok_or_else(unreadable)?;
        let cells: Option<Vec<T>> = cells
            .trim_end_matches(" |")
            .split(" | ")
            .map(&read_cell)
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
