//! The part of a page that holds every kernel against the f64 reference, as much of it as the budget has room
//! for.

use std::cell::Cell;
use std::collections::HashMap;

use super::page::{CheckFigures, KernelCheck};
use super::parts::CHECKED_STEPS_S;
use super::run::Run;
use crate::Error;
use crate::check::{self, SkippedBy};
use crate::gpu::{AdapterClass, Device, GpuError};

impl Run<'_> {
    /// Checks the table row by row until it has used its share of the budget, and then whole steps.
    pub(super) fn check(&mut self) -> Result<CheckFigures, Error> {
        /// What the check may take of the budget.
        const SHARE: f64 = 0.4;
        let (began_s, until_s) = (
            self.elapsed_s(),
            self.elapsed_s() + SHARE * self.budget.total_s(),
        );
        // On a software adapter a row takes a fraction of a second.
        let at_once = match self.device.class() {
            AdapterClass::Gpu => 256,
            AdapterClass::Software => 32,
        };
        let rows = by_turns(check::all_rows());
        let (mut found, mut ran, mut left_out) = (check::Report::default(), 0, Vec::new());
        let mut broken = None;
        for block in rows.chunks(at_once) {
            if self.is_stopped() || self.elapsed_s() >= until_s {
                break;
            }
            match self.check_block(block, false, &mut found) {
                Ok(()) => ran += block.len(),
                Err(error) if found.rows.is_empty() => return Err(error.into()),
                Err(error) => {
                    broken = Some(error.to_string());
                    break;
                }
            }
        }
        let why = |run: &Self| match (&broken, run.is_stopped()) {
            (Some(error), _) => error.clone(),
            (None, true) => "the run was stopped before them".to_owned(),
            (None, false) => format!("the check takes {:.0} % of the time budget", 100.0 * SHARE),
        };
        if ran < rows.len() {
            let left = rows.len() - ran;
            left_out.push(format!("{left} of {} rows: {}", rows.len(), why(self)));
        }
        if broken.is_some() || self.is_stopped() || self.elapsed_s() + CHECKED_STEPS_S > until_s {
            left_out.push(format!("whole training steps: {}", why(self)));
        } else if let Err(error) = self.check_block(&[], true, &mut found) {
            left_out.push(format!("whole training steps: {error}"));
        }
        Ok(check_figures(&found, left_out, self.elapsed_s() - began_s))
    }

    fn check_block(
        &mut self,
        rows: &[check::Row],
        with_step: bool,
        found: &mut check::Report,
    ) -> Result<(), GpuError> {
        self.mend()?;
        let taken = Cell::new(0);
        let reopen = || self.spare(taken.replace(taken.get() + 1));
        let block = check::run(&self.device, rows, with_step, reopen, || ())?;
        found.rows.extend(block.rows);
        found.skipped.extend(block.skipped);
        Ok(())
    }

    /// The spare device of this index, which must not be beyond the next one; one that was lost is opened
    /// anew.
    fn spare(&self, index: usize) -> Result<Device, GpuError> {
        let mut spare = self.spare.borrow_mut();
        if let Some(known) = spare.get(index)
            && known.wait().is_ok()
        {
            return Ok(known.clone());
        }
        let opened = (self.reopen)()?;
        spare.truncate(index);
        spare.push(opened.clone());
        Ok(opened)
    }
}

/// The first row of each kernel, then the second of each, and so on, large ones last: a check that is cut
/// short has then seen every kernel.
fn by_turns(rows: Vec<check::Row>) -> Vec<check::Row> {
    let mut turns = HashMap::new();
    let mut with_turn: Vec<(usize, check::Row)> = rows
        .into_iter()
        .map(|row| {
            let turn = turns.entry(row.kernel.label()).or_insert(0);
            *turn += 1;
            (*turn, row)
        })
        .collect();
    with_turn.sort_by_key(|(turn, row)| (row.is_large(), *turn));
    with_turn.into_iter().map(|(_, row)| row).collect()
}

fn check_figures(found: &check::Report, left_out: Vec<String>, seconds: f64) -> CheckFigures {
    let skipped = |by| found.skipped.iter().filter(|row| row.by == by).count();
    let failures = found.failures().map(|row| {
        let failure = row.failure.as_deref().unwrap_or_default();
        format!(
            "{}.{} {} ({}): {failure}",
            row.kernel, row.variant, row.shape, row.class
        )
    });
    let kernels = found.by_kernel().into_iter().filter_map(|rows| {
        let nearest = rows
            .iter()
            .max_by(|a, b| a.nearness().total_cmp(&b.nearness()))?;
        Some(KernelCheck {
            kernel: format!("{}.{}", nearest.kernel, nearest.variant),
            rows: rows.len(),
            failed: rows.iter().filter(|row| !row.ok).count(),
            worst: nearest.worst,
            tolerance: nearest.tolerance,
        })
    });
    CheckFigures {
        passed: found.passed(),
        failed: found.failures().count(),
        skipped_for_adapter: skipped(SkippedBy::Adapter),
        skipped_for_kernel: skipped(SkippedBy::Shape),
        seconds,
        left_out,
        failures: failures.collect(),
        kernels: kernels.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_check_that_is_cut_short_has_seen_a_row_of_each_kernel() {
        let all = check::all_rows();
        let label = |row: &check::Row| row.kernel.label();
        let kernels: BTreeSet<String> = all.iter().map(label).collect();
        let count = all.len();
        let turns = by_turns(all);
        assert_eq!(turns.len(), count);
        let first: BTreeSet<String> = turns[..kernels.len()].iter().map(label).collect();
        assert_eq!(first, kernels);
        let large = turns.iter().skip_while(|row| !row.is_large());
        assert!(large.clone().count() > 0 && large.into_iter().all(check::Row::is_large));
    }
}
