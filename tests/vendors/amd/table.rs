//! The table of figures: written to Markdown, read back, compared.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use crate::hot_loop::HotLoop;
use crate::vulkan::NO_FIGURES;
use crate::{FAMILIES, Failure};

const HEAD: &str = "\
# Shaders on AMD GPUs

What Mesa's AMD compiler makes of every shader, for chips that were not there: `make amd-shader-stats` writes this file, `make test-compilers` fails where a shader of the first table spills, uses scratch memory, or has fewer waves or a worse hot loop than here. docs/kernels-amd.md tells what was tried.

A cell has the vector registers of a lane, the scalar registers of a wave, and the waves that a SIMD can hold, which hide each other's waits; more is better, up to 8 (Polaris), 10 (Vega), 40 (RDNA1) or 32 (RDNA2 and newer).
Then, if there are any, registers that did not fit and were spilled to memory, and bytes of scratch memory a wave, where arrays that are indexed at run time end up. Both cost time, and no shader of the first table may have them. A dash stands where a chip has no matrix units, which the shader needs.
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
    /// By family; none where it cannot run the shader.
    cells: Vec<Option<Cell>>,
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
        let on_all = self.hot.len() == FAMILIES.len();
        (self.gpu && on_all && self.hot.iter().all(is_hot))
            .then(|| self.hot.iter().map(cell).collect())
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
        // AMD's matrix units have 16 rows.
        let has_units = |e: &Value| e["matrices"].is_null() || e["matrices"] == 16;
        let is_for_amd = |e: &&Value| has_units(e) && e["not_on_amd"] != true;
        let entries = entries.iter().filter(is_for_amd);
        let name = |entry: &Value| stem(entry["file"].as_str().unwrap_or_default());
        Self {
            driver: String::new(),
            rows: entries.map(|e| (name(e), row(e))).collect(),
        }
    }

    /// Adds one family's cells from what its process printed.
    pub(crate) fn add(&mut self, printed: &str) -> Result<(), Failure> {
        for line in printed.lines() {
            if let Some(driver) = line.strip_prefix("driver ") {
                if self.driver.is_empty() {
                    driver.clone_into(&mut self.driver);
                } else if !self.driver.split(", ").any(|known| known == driver) {
                    self.driver = format!("{}, {driver}", self.driver);
                }
                continue;
            }
            let mut words = line.split(' ');
            let name = stem(words.next().unwrap_or_default());
            let Some(row) = self.rows.get_mut(&name) else {
                continue;
            };
            if line.ends_with(NO_FIGURES) {
                row.cells.push(None);
                continue;
            }
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
            row.cells.push(Some(Cell {
                vgprs,
                sgprs,
                waves,
                spilled: spilled_vgprs + spilled_sgprs,
                scratch,
            }));
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

/// Writes the table to `path`, unless a shader of a GPU's plan spills.
pub(crate) fn write(figures: &Figures, path: &str) -> Result<(), Failure> {
    let spilling = figures.spilling();
    if !spilling.is_empty() {
        return Err(format!("{}\nmend these first", spilling.join("\n")).into());
    }
    std::fs::write(path, figures.text())?;
    println!("{} shaders in {path}", figures.rows.len());
    Ok(())
}

impl Figures {
    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let _ = writeln!(text, "\nCompiler: {}\n", self.driver);
        write_rows(&mut text, self, true);
        text.push_str(HOT_HEAD);
        text.push('\n');
        write_head(&mut text);
        for (name, row) in &self.rows {
            if let Some(cells) = row.hot_cells() {
                let cells: Vec<String> = cells.iter().map(HotCell::text).collect();
                let _ = writeln!(text, "| `{name}` | {} |", cells.join(" | "));
            }
        }
        text.push_str(SOFTWARE_HEAD);
        text.push('\n');
        write_rows(&mut text, self, false);
        text
    }

    /// Shaders that GPUs run and that spill or use scratch memory, with the most of both.
    fn spilling(&self) -> Vec<String> {
        let most = |row: &Row, of: fn(&Cell) -> u64| {
            let cells = row.cells.iter().flatten();
            cells.map(of).max().unwrap_or(0)
        };
        let rows = self.rows.iter().filter(|(_, row)| row.gpu);
        rows.map(|(name, row)| (name, most(row, |c| c.spilled), most(row, |c| c.scratch)))
            .filter(|(_, spilled, scratch)| spilled + scratch > 0)
            .map(|(name, spilled, scratch)| {
                format!("{name} spills {spilled} registers and uses {scratch} bytes of scratch")
            })
            .collect()
    }
}

fn write_head(text: &mut String) {
    let _ = writeln!(text, "| shader | {} |", FAMILIES.join(" | "));
    let _ = writeln!(text, "|---{}|", "|---".repeat(FAMILIES.len()));
}

fn write_rows(text: &mut String, figures: &Figures, gpu: bool) {
    write_head(text);
    for (name, row) in figures.rows.iter().filter(|(_, row)| row.gpu == gpu) {
        let text_of = |cell: &Option<Cell>| cell.map_or(NO_FIGURES.to_owned(), |c| c.text());
        let cells: Vec<String> = row.cells.iter().map(text_of).collect();
        let _ = writeln!(text, "| `{name}` | {} |", cells.join(" | "));
    }
}

/// Fails where a shader that GPUs run is worse than in the table at `path`, or missing from it.
pub(crate) fn compare(figures: &Figures, path: &str) -> Result<(), Failure> {
    let table = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let worse = faults(figures, &table)?;
    if worse.is_empty() {
        let (shaders, families) = (figures.rows.len(), FAMILIES.len());
        println!("{shaders} shaders on {families} families, none worse than in {path}");
        return Ok(());
    }
    let advice = "where that is meant, run `make amd-shader-stats` and commit the table";
    Err(format!("{}\n{advice}", worse.join("\n")).into())
}

/// What is worse in `figures` than in the text of a table.
fn faults(figures: &Figures, table: &str) -> Result<Vec<String>, Failure> {
    let driver = table.lines().find_map(|l| l.strip_prefix("Compiler: "));
    if driver != Some(&figures.driver) {
        let (was, is) = (driver.unwrap_or("no compiler"), &figures.driver);
        let advice = "run `make amd-shader-stats`";
        return Err(format!("the table is of {was}, here is {is}: {advice}").into());
    }
    let (rest, hot_and_software) = table.split_once(HOT_HEAD).ok_or("no hot loops")?;
    let (hot, software) = hot_and_software
        .split_once(SOFTWARE_HEAD)
        .ok_or("no shaders for software adapters")?;
    let read_cell = |text: &str| match text {
        NO_FIGURES => Some(None),
        _ => Cell::read(text).map(Some),
    };
    let mut known = read(rest, read_cell)?;
    if known.is_empty() {
        return Err("the table is empty".into());
    }
    known.extend(read(software, read_cell)?);
    let known_hot = read(hot, HotCell::read)?;
    let mut worse = figures.spilling();
    for (name, row) in figures.rows.iter().filter(|(_, row)| row.gpu) {
        let Some(cells) = known.get(name) else {
            worse.push(format!("{name} is not in the table"));
            continue;
        };
        if row.cells.len() != FAMILIES.len() {
            let (found, all) = (row.cells.len(), FAMILIES.len());
            worse.push(format!(
                "{name} has figures of {found} families and not {all}"
            ));
        }
        for ((family, now), was) in FAMILIES.iter().zip(&row.cells).zip(cells) {
            match (now, was) {
                (Some(now), Some(was)) if now.waves < was.waves => {
                    let (now, was) = (now.text(), was.text());
                    worse.push(format!("{name} on {family}: {now} was {was}"));
                }
                (None, Some(_)) => worse.push(format!("{name} does not compile for {family}")),
                _ => {}
            }
        }
        worse.extend(worse_hot_loops(name, row, known_hot.get(name)));
    }
    let gone = known
        .keys()
        .filter(|name| !figures.rows.contains_key(*name));
    worse.extend(gone.map(|name| format!("{name} is in the table and no more in the program")));
    Ok(worse)
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
    Ok(rows)
}

fn stem(file: &str) -> String {
    file.trim_end_matches(".spv").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `vulkan::print_figures` prints of a shader: registers, waves, spills, scratch, and the
    /// multiply-adds, workgroup accesses and other instructions of its hot loop.
    const SOUND: &str = "84 32 4 0 0 0 64 8 8";

    fn figures(shaders: &[(&str, &str)]) -> Figures {
        let entries: Vec<Value> = shaders
            .iter()
            .map(|(name, _)| json!({ "file": format!("{name}.spv"), "classes": ["gpu"] }))
            .collect();
        let mut figures = Figures::new(&entries);
        let mut printed = "driver radv 1\n".to_owned();
        for (name, cell) in shaders {
            let _ = writeln!(printed, "{name}.spv {cell}");
        }
        for _ in FAMILIES {
            figures.add(&printed).unwrap();
        }
        figures
    }

    fn faults_of(shaders: &[(&str, &str)], table: &str) -> Vec<String> {
        faults(&figures(shaders), table).unwrap()
    }

    #[test]
    fn any_worsening_is_a_fault_and_a_betterment_is_none() {
        let table = figures(&[("matmul", SOUND)]).text();
        for same_or_better in [SOUND, "99 99 5 0 0 0 64 8 8", "84 32 4 0 0 0 64 4 4"] {
            let found = faults_of(&[("matmul", same_or_better)], &table);
            assert!(found.is_empty(), "{same_or_better}: {found:?}");
        }
        for (worse, says) in [
            (
                "84 32 3 0 0 0 64 8 8",
                "matmul on polaris10: 84 / 32 / 3 was",
            ),
            ("84 32 4 0 0 0 64 9 7", "matmul on polaris10: hot loop 7.1"),
            (
                "84 32 4 0 0 0 64 8 12",
                "hot loop 8.0 / 76 % was 8.0 / 80 %",
            ),
            ("84 32 4 0 0 0 0 0 0", "matmul gained or lost its hot loop"),
            ("84 32 4 4 0 0 64 8 8", "matmul spills 4 registers"),
            ("84 32 4 0 1 0 64 8 8", "matmul spills 1 registers"),
            ("84 32 4 0 0 4 64 8 8", "uses 4 bytes of scratch"),
        ] {
            let found = faults_of(&[("matmul", worse)], &table).join("; ");
            assert!(found.contains(says), "{worse}: {found}");
        }
    }

    #[test]
    fn a_shader_without_a_row_a_row_without_a_shader_and_another_compiler_are_faults() {
        let table = figures(&[("matmul", SOUND)]).text();
        let found = faults_of(&[("matmul", SOUND), ("softmax", SOUND)], &table);
        assert_eq!(found, ["softmax is not in the table"]);
        let found = faults_of(&[("softmax", SOUND)], &table).join(" ");
        assert!(
            found.contains("matmul is in the table and no more"),
            "{found}"
        );
        let other = table.replace("radv 1", "radv 2");
        let error = faults(&figures(&[("matmul", SOUND)]), &other).unwrap_err();
        assert!(
            error.to_string().contains("of radv 2, here is radv 1"),
            "{error}"
        );
    }

    #[test]
    fn a_table_with_a_spill_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.md");
        let path = path.to_str().unwrap();
        let error = write(&figures(&[("matmul", "84 32 4 3 0 1024 64 8 8")]), path).unwrap_err();
        assert!(error.to_string().contains("matmul spills 3"), "{error}");
        assert!(!std::path::Path::new(path).exists());
        write(&figures(&[("matmul", SOUND)]), path).unwrap();
        compare(&figures(&[("matmul", SOUND)]), path).unwrap();
    }
}
