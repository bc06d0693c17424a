//! The table of figures: written to Markdown, read back, compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

use crate::{FAMILIES, Failure};

const HEAD: &str = "\
# Shaders on AMD GPUs

What Mesa's AMD compiler makes of every shader, for chips that were not there: `make amd-shader-stats` writes this file, `make test-compilers` fails where a shader of the first table spills more or has fewer waves than here.

A cell has the vector registers of a lane, the scalar registers of a wave, and the waves that a SIMD can hold, which hide each other's waits; more is better, up to 8 (Polaris), 10 (Vega), 40 (RDNA1) or 32 (RDNA2, RDNA3).
Then, if there are any, registers that did not fit and were spilled to memory, and bytes of scratch memory a wave, where arrays that are indexed at run time end up. Both cost time, and only the shaders that are listed as known may: `make amd-shader-stats` takes a shader off the list and never puts one on it.
";
const KNOWN_HEAD: &str = "Known to spill or to use scratch memory:";
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

/// Writes the table to `path`, unless a shader spills that the table there does not know to.
pub(crate) fn write(figures: &Figures, path: &str) -> Result<(), Failure> {
    let before = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let new = figures.unknown_spills(&known_to_spill(&before));
    if !new.is_empty() {
        let advice = "mend it; where that cannot be, add it by hand to the list of known ones";
        return Err(format!("{}\n{advice} in {path}", new.join("\n")).into());
    }
    std::fs::write(path, figures.text())?;
    println!("{} shaders in {path}", figures.rows.len());
    Ok(())
}

impl Figures {
    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let _ = writeln!(text, "\nCompiler: {}\n", self.driver);
        write_known(&mut text, self);
        write_rows(&mut text, self, true);
        text.push_str(SOFTWARE_HEAD);
        text.push('\n');
        write_rows(&mut text, self, false);
        text
    }

    /// Shaders that GPUs run and that spill or use scratch memory, with the most of both.
    fn spills(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let most = |row: &Row, of: fn(&Cell) -> u64| row.cells.iter().map(of).max().unwrap_or(0);
        self.rows
            .iter()
            .filter(|(_, row)| row.gpu)
            .map(move |(name, row)| {
                let (spilled, scratch) = (most(row, |c| c.spilled), most(row, |c| c.scratch));
                (name.as_str(), spilled, scratch)
            })
            .filter(|(_, spilled, scratch)| spilled + scratch > 0)
    }

    fn unknown_spills(&self, known: &BTreeSet<&str>) -> Vec<String> {
        self.spills()
            .filter(|(name, ..)| !known.contains(name))
            .map(|(name, spilled, scratch)| {
                format!("{name} spills {spilled} registers and uses {scratch} bytes of scratch")
            })
            .collect()
    }
}

fn write_known(text: &mut String, figures: &Figures) {
    let known: Vec<String> = figures
        .spills()
        .map(|(name, spilled, scratch)| {
            format!("- `{name}`: up to {spilled} registers, {scratch} bytes\n")
        })
        .collect();
    if known.is_empty() {
        text.push_str("No shader spills or uses scratch memory.\n\n");
    } else {
        text.push_str(KNOWN_HEAD);
        text.push_str("\n\n");
        text.extend(known);
        text.push('\n');
    }
}

/// Names in the list of shaders that may spill.
fn known_to_spill(table: &str) -> BTreeSet<&str> {
    table
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split('`').next())
        .collect()
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
    let known = read(table)?;
    let mut worse = figures.unknown_spills(&known_to_spill(table));
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
            if now.spilled > was.spilled || now.scratch > was.scratch || now.waves < was.waves {
                let (now, was) = (now.text(), was.text());
                worse.push(format!("{name} on {family}: {now} was {was}"));
            }
        }
    }
    let gone = known
        .keys()
        .filter(|name| !figures.rows.contains_key(*name));
    worse.extend(gone.map(|name| format!("{name} is in the table and no more in the program")));
    Ok(worse)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `vulkan::print_figures` prints of a shader: registers, waves, spills, scratch.
    const SOUND: &str = "84 32 4 0 0 0";

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
        let before = "84 32 4 3 0 1024";
        let table = figures(&[("matmul", before)]).text();
        for same_or_better in [before, "99 99 5 2 0 0", SOUND] {
            let found = faults_of(&[("matmul", same_or_better)], &table);
            assert!(found.is_empty(), "{same_or_better}: {found:?}");
        }
        for worse in [
            "84 32 3 3 0 1024",
            "84 32 4 4 0 1024",
            "84 32 4 3 1 1024",
            "84 32 4 3 0 1028",
        ] {
            let found = faults_of(&[("matmul", worse)], &table);
            assert_eq!(found.len(), FAMILIES.len(), "{worse}: {found:?}");
            assert!(found[0].starts_with("matmul on polaris10"), "{found:?}");
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
    fn a_shader_may_spill_only_where_the_list_says_so_and_writing_does_not_lengthen_it() {
        let spilling = figures(&[("matmul", "84 32 4 3 0 1024")]);
        let listed = spilling.text();
        assert_eq!(faults(&spilling, &listed).unwrap(), [""; 0]);
        let list = "- `matmul`: up to 3 registers, 1024 bytes\n";
        let unlisted = listed.replace(list, "");
        assert_ne!(unlisted, listed);
        let found = faults(&spilling, &unlisted).unwrap();
        assert_eq!(
            found,
            ["matmul spills 3 registers and uses 1024 bytes of scratch"]
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.md");
        let path = path.to_str().unwrap();
        std::fs::write(path, &unlisted).unwrap();
        let error = write(&spilling, path).unwrap_err().to_string();
        assert!(
            error.contains("matmul spills 3") && error.contains(path),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(path).unwrap(), unlisted);
        std::fs::write(path, &listed).unwrap();
        write(&figures(&[("matmul", SOUND)]), path).unwrap();
        let written = std::fs::read_to_string(path).unwrap();
        assert!(written.contains("No shader spills"), "{written}");
    }
}
