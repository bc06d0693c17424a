//! Whether kernels with cooperative matrices compute what they should on an adapter: how a driver lays
//! subgroups out and what naga writes for it are young, so each is held against the reference before it is
//! taken for the first time.

use std::collections::BTreeMap;

use crate::check::{Outcome, Row, all_rows};
use crate::gpu::{AdapterClass, Device, GpuError};
use crate::kernels::family::AnyFamily;

/// How the shapes of the rows of the check begin that decide. Products have an edge on every side, a ragged k, and
/// every form with the epilogues that layers use. Attention has rows and heads that end within a tile, grouped
/// heads, several sequences, scores that grow along a row, and the largest head.
const SHAPES: [&str; 4] = [
    "127x129x23 ",
    "70x72x64 ",
    "batch 2, time 45, heads 4/2, head_dim 24, ",
    "batch 1, time 70, heads 2/1, head_dim 128, ",
];

fn decides(row: &Row) -> bool {
    SHAPES.iter().any(|shape| row.shape.starts_with(shape))
}

/// What was found so far, by label.
#[derive(Default)]
pub(super) struct Soundness {
    known: BTreeMap<String, bool>,
}

impl Soundness {
    /// Whether the member that `recipe` launches may be taken on `device`; a warning says why where it may
    /// not. Members without matrices are left to `gpu-tlm check`.
    ///
    /// # Errors
    /// When the device is lost.
    pub(super) fn of(
        &mut self,
        device: &Device,
        family: &dyn AnyFamily,
        recipe: &str,
    ) -> Result<bool, GpuError> {
        let label = recipe.split(' ').next().unwrap_or_default();
        let kernels = family.kernels(label);
        if kernels.iter().all(|k| k.matrix_side().is_none()) {
            return Ok(true);
        }
        if let Some(&known) = self.known.get(label) {
            return Ok(known);
        }
        let device = device.with_class(AdapterClass::Gpu);
        let rows = all_rows();
        let own = |row: &&Row| {
            let is_of_member = kernels.iter().any(|k| std::ptr::eq(*k, row.kernel));
            is_of_member && decides(row)
        };
        let outcomes = rows.iter().filter(own).map(|row| row.run(&device));
        let fault = first_fault(outcomes)?;
        if let Some(fault) = &fault {
            tracing::warn!(
                "{label} is left out, since this adapter's driver computes it wrongly ({fault}); a newer \
                 driver may mend it"
            );
        }
        self.known.insert(label.to_owned(), fault.is_none());
        Ok(fault.is_none())
    }
}

/// What is wrong with the first row that fails; something is where there is no row.
fn first_fault(
    outcomes: impl Iterator<Item = Result<Outcome, GpuError>>,
) -> Result<Option<String>, GpuError> {
    let mut count = 0;
    for outcome in outcomes {
        count += 1;
        match outcome {
            Ok(outcome) if outcome.failure.is_some() => return Ok(outcome.failure),
            Ok(_) => {}
            Err(error @ GpuError::Device(_)) => return Err(error),
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
    Ok((count == 0).then(|| "no row of the check is of it".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels;

    fn outcome(failure: Option<&str>) -> Result<Outcome, GpuError> {
        Ok(Outcome {
            worst: 0.0,
            tolerance: 1e-5,
            failure: failure.map(str::to_owned),
            kernels: std::collections::BTreeSet::new(),
        })
    }

    #[test]
    fn one_wrong_row_is_a_fault_and_so_is_none_at_all() {
        let of = |outcomes: Vec<_>| first_fault(outcomes.into_iter());
        assert_eq!(of(vec![outcome(None), outcome(None)]).unwrap(), None);
        let wrong = of(vec![outcome(None), outcome(Some("it is 3"))]).unwrap();
        assert_eq!(wrong.as_deref(), Some("it is 3"));
        assert!(of(Vec::new()).unwrap().is_some());
        let lost = GpuError::Device("gone".to_owned());
        assert!(of(vec![Err(lost)]).is_err());
    }

    #[test]
    fn every_kernel_with_matrices_has_rows_of_these_shapes() {
        let rows = all_rows();
        for kernel in kernels::ALL.iter().filter(|k| k.matrix_side().is_some()) {
            let own = rows.iter().filter(|r| std::ptr::eq(r.kernel, *kernel));
            let found = own.filter(|r| decides(r)).count();
            let wanted = if kernel.name == "matmul" { 10 } else { 4 };
            assert!(found >= wanted, "{found} of {}", kernel.label());
        }
    }
}
