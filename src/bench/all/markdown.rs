//! A page of measurements as Markdown, from nothing but its data.

use std::fmt::Write;

use super::budget::span;
use super::page::{Absent, CheckFigures, Entry, Outcome, Page, ProductFigures, TrainingFigures};
use crate::bench::train::{BATCH_SIZE, Model};
use crate::bench::{Ceilings, RowReport};

const TRAINING: &str = "
| model | precision | tokens/s | ms a step | spread | GFLOP/s | of the ceiling | of the product | host | allocated, MiB | planned, MiB | first step, s |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

const GENERATION: &str = "
## Generation

One text, token by token, by a model of initial weights.

| model | precision | prompt | new tokens | tokens/s |
|---|---|---|---|---|
";

const PRODUCTS: &str = "
## Matrix products

`MxNxK`, with n or t for each operand that lies as it is or transposed; the fastest of the kernels that plans for this adapter may take, copies of operands included. Matrix units for f16 can pass the ceiling of f32 multiply-adds, and operands that stay in a cache that of copies.

| shape | precision | fastest kernel | ms | spread | GFLOP/s | of multiply-adds | of copies | others, ms |
|---|---|---|---|---|---|---|---|---|
";

const ABSENT: &str = "
## Not measured

| part | what | precision | why |
|---|---|---|---|
";

const KERNELS: &str = "
## The check by kernel

Of each kernel the row that is nearest to its tolerance.

| kernel | rows | worst | tolerance | result |
|---|---|---|---|---|
";

/// The whole page.
pub(super) fn render(page: &Page) -> String {
    let mut text = head(page);
    text.push_str(&check(page));
    text.push_str(&ceilings(page));
    let training = page.training.iter().filter_map(|entry| {
        let figures = entry.outcome.figures()?;
        Some(training_row(entry, figures))
    });
    add_table(&mut text, &(models() + TRAINING), training);
    let generation = page.generation.iter().filter_map(|entry| {
        let figures = entry.outcome.figures()?;
        Some(format!(
            "| {} | {} | {} | {} | {} |\n",
            entry.name,
            entry.precision.name(),
            or_dash(figures.prompt_tokens, |n| n.to_string()),
            figures.new_tokens,
            number(figures.tokens_per_s),
        ))
    });
    add_table(&mut text, GENERATION, generation);
    let products = page.products.iter().filter_map(|entry| {
        let figures = entry.outcome.figures()?;
        Some(product_row(entry, figures, page.ceilings.figures()))
    });
    add_table(&mut text, PRODUCTS, products);
    add_table(&mut text, ABSENT, absent_rows(&page.absent()).into_iter());
    let kernels = page.check.figures().map(kernel_rows).unwrap_or_default();
    add_table(&mut text, KERNELS, kernels.into_iter());
    text
}

fn head(page: &Page) -> String {
    let mut text = format!(
        "# {}\n\nMeasured on {}; `gpu-tlm bench all` made this page of the JSON file beside it.\n\n| | |\n|---|---|\n",
        escape(&page.adapter),
        page.date
    );
    let kind = if page.software {
        "a driver that runs shaders on the CPU"
    } else {
        "a GPU"
    };
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} | {} |", escape(value));
    };
    line("program", &format!("gpu-tlm {}", page.version));
    line("kind", kind);
    line("driver", &page.driver);
    line("backend", &page.backend);
    if let Some(bytes) = page.memory_bytes {
        line("memory", &format!("{} MiB", mib(bytes)));
    }
    line("system", &page.system);
    if let Some(cores) = page.host_cores {
        line("cores of the host", &cores.to_string());
    }
    if let (Some(elapsed_s), Some(minutes)) = (page.elapsed_s, page.budget_minutes) {
        let text = format!(
            "{} of a budget of {}",
            span(elapsed_s),
            span(60.0 * minutes)
        );
        line("time", &text);
    }
    for note in &page.notes {
        line("note", note);
    }
    text
}

fn check(page: &Page) -> String {
    let mut text = String::from(
        "\n## Check\n\nEvery kernel, and whole training steps, against the f64 reference: ",
    );
    match &page.check {
        Outcome::Measured(check) => {
            let ran = check.passed + check.failed;
            let verdict = match (check.failed, check.left_out.is_empty()) {
                (0, true) => "PASS",
                (0, false) => "PASS as far as it ran",
                _ => "FAIL",
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{verdict}, {} of {ran} checks passed in {}; {} skipped for the adapter, {} for the kernel.",
                check.passed,
                span(check.seconds),
                check.skipped_for_adapter,
                check.skipped_for_kernel,
            );
            if !check.failures.is_empty() {
                text.push('\n');
            }
            for failure in &check.failures {
                let _ = writeln!(text, "- {}", escape(failure));
            }
        }
        Outcome::Skipped { .. } => text.push_str("not checked.\n"),
        Outcome::Failed { .. } => text.push_str("FAIL, it broke off.\n"),
    }
    text
}

fn ceilings(page: &Page) -> String {
    let Some(ceilings) = page.ceilings.figures() else {
        return String::new();
    };
    format!(
        "\n## Ceilings\n\nWhat probes reach in registers, between two buffers, and in workgroup memory.\n\n\
         | multiply-add, GFLOP/s | copy, GB/s | workgroup memory, GB/s |\n|---|---|---|\n| {} | {} | {} |\n",
        number(ceilings.fma_gflops),
        number(ceilings.copy_gb_per_s),
        number(ceilings.workgroup_gb_per_s),
    )
}

/// The heading of training, with the sizes of the models.
fn models() -> String {
    let models = [Model::Small, Model::Medium, Model::Large].map(|model| {
        let config = model.config();
        format!(
            "{} has d_model {}, {} layers, {} heads, d_ff {}, a vocabulary of {} and a context of {}",
            model.name(),
            config.d_model,
            config.num_layers,
            config.num_heads,
            config.d_ff,
            config.vocab_size,
            config.context_length,
        )
    });
    format!(
        "\n## Training\n\nWhole steps on {BATCH_SIZE} sequences of random tokens: the median of several. {}. \
         The ceiling is that of f32 multiply-adds, which matrix units for f16 can pass; the product is one of \
         1024x1024x1024 in f32, in the same run.\n",
        models.join("; ")
    )
}

fn training_row(entry: &Entry<TrainingFigures>, figures: &TrainingFigures) -> String {
    let of_product = figures
        .matmul_gflops
        .map(|product| figures.gflops / product);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        entry.name,
        entry.precision.name(),
        number(figures.tokens_per_s),
        number(figures.ms_per_step),
        or_dash(figures.spread, percent),
        number(figures.gflops),
        or_dash(figures.share_of_ceiling, percent),
        or_dash(of_product, percent),
        or_dash(figures.host_share, percent),
        or_dash(figures.peak_device_bytes, mib),
        or_dash(figures.planned_device_bytes, mib),
        or_dash(figures.first_step_s, number),
    )
}

fn product_row(
    entry: &Entry<ProductFigures>,
    figures: &ProductFigures,
    ceilings: Option<&Ceilings>,
) -> String {
    let fastest = figures.fastest();
    let is_other = |row: &&RowReport| fastest.is_none_or(|fastest| row.variant != fastest.variant);
    let others = figures.kernels.iter().filter(is_other);
    let others: Vec<String> = others
        .map(|row| match &row.failure {
            None => format!("{} {}", row.variant, or_dash(row.ms, number)),
            Some(failure) => format!("{} WRONG: {}", row.variant, escape(failure)),
        })
        .collect();
    let of = |figure: fn(&RowReport) -> Option<f64>, show: fn(f64) -> String| {
        or_dash(fastest.and_then(figure), show)
    };
    let share = |figure: fn(&RowReport) -> Option<f64>, ceiling: fn(&Ceilings) -> f64| {
        let reached = fastest.and_then(figure).zip(ceilings.map(ceiling));
        or_dash(reached.map(|(reached, most)| reached / most), percent)
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        entry.name,
        entry.precision.name(),
        or_dash(fastest, |row| format!("{}.{}", row.kernel, row.variant)),
        of(|row| row.ms, number),
        of(|row| row.spread, percent),
        of(|row| row.gflops, number),
        share(|row| row.gflops, |ceilings| ceilings.fma_gflops),
        share(|row| row.gb_per_s, |ceilings| ceilings.copy_gb_per_s),
        others.join(", "),
    )
}

/// A row for each part, precision and reason, with all that they stand for.
fn absent_rows(absent: &[Absent<'_>]) -> Vec<String> {
    let mut groups: Vec<(&Absent<'_>, Vec<&str>)> = Vec::new();
    for one in absent {
        let same = |(known, _): &&mut (&Absent<'_>, Vec<&str>)| {
            (known.part, known.precision, known.reason) == (one.part, one.precision, one.reason)
        };
        match groups.iter_mut().find(same) {
            Some((_, names)) => names.push(one.name),
            None => groups.push((one, vec![one.name])),
        }
    }
    let row = |(absent, names): &(&Absent<'_>, Vec<&str>)| {
        let failed = if absent.failed { "FAILED: " } else { "" };
        format!(
            "| {} | {} | {} | {failed}{} |\n",
            absent.part,
            list(names),
            or_dash(absent.precision, |precision| precision.name().to_owned()),
            escape(absent.reason),
        )
    };
    groups.iter().map(row).collect()
}

/// All of a few names, and the first ones of many.
fn list(names: &[&str]) -> String {
    const MOST: usize = 6;
    const SHOWN: usize = 3;
    if names.len() <= MOST {
        return names.join(", ");
    }
    let further = names.len() - SHOWN;
    format!("{} and {further} more", names[..SHOWN].join(", "))
}

fn kernel_rows(check: &CheckFigures) -> Vec<String> {
    let rows = check.kernels.iter().map(|kernel| {
        let result = match kernel.failed {
            0 => "ok".to_owned(),
            n => format!("FAIL: {n}"),
        };
        format!(
            "| {} | {} | {} | {:.0e} | {result} |\n",
            kernel.kernel,
            kernel.rows,
            or_dash(kernel.worst, |worst| format!("{worst:.1e}")),
            kernel.tolerance,
        )
    });
    rows.collect()
}

/// Adds a heading with its table, where the table has a row.
fn add_table(text: &mut String, heading: &str, rows: impl Iterator<Item = String>) {
    let rows: String = rows.collect();
    if !rows.is_empty() {
        text.push_str(heading);
        text.push_str(&rows);
    }
}

fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

/// Three digits at least, and none behind the point of what has them before it.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn mib(bytes: u64) -> String {
    number(bytes as f64 / f64::from(1 << 20))
}

/// Text of a driver or an error in a cell: on one line, and without what Markdown would take for a
/// cell's end or for HTML.
fn escape(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn a_page_shows_what_was_measured_and_what_was_not_and_why() {
        assert_eq!(render(&example::page()), include_str!("example.md"));
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(list(&["a"; 6]), "a, a, a, a, a, a");
        assert_eq!(
            list(&["a", "b", "c", "d", "e", "f", "g"]),
            "a, b, c and 4 more"
        );
    }

    #[test]
    fn numbers_keep_three_digits() {
        let shown = [0.0256, 2.345, 23.45, 234.5, 23_450.0].map(number);
        assert_eq!(shown, ["0.026", "2.35", "23.4", "234", "23450"]);
    }
}
