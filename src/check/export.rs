//! The kernels and some rows as JSON, to hold another implementation of WebGPU against the same
//! reference.

use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Row, all_rows};
use crate::gpu::AdapterClass;
use crate::kernels;

/// Every kernel with each set of constants that a row runs it with, and the rows that `runs` picks
/// with their inputs and what the reference expects.
///
/// The object has two lists, `kernels` and `rows`.
pub fn export(runs: impl Fn(&Row) -> bool + Sync) -> Value {
    let mut rows = all_rows();
    rows.retain(|row| !row.is_large());
    // What one row needs: label and constants of its dispatches, and the row itself if it is run.
    let used: Vec<_> = rows
        .par_iter()
        .filter_map(|row| {
            let (case, section) = row.case(AdapterClass::Gpu)?;
            let dispatches = case.plan.dispatches(section).iter();
            let constants: Vec<_> = dispatches
                .map(|d| (d.kernel.label(), d.constants_to_json()))
                .collect();
            let exported = runs(row).then(|| {
                json!({
                    "label": row.label(),
                    "plan": case.plan.to_json(),
                    "inputs": case.inputs_to_json(),
                    "expected": case.expected_to_json(),
                })
            });
            Some((constants, exported))
        })
        .collect();
    // WebGPU has no cooperative matrices.
    let kernels: Vec<_> = kernels::ALL
        .iter()
        .filter(|kernel| kernel.matrix_side().is_none())
        .map(|kernel| {
            let label = kernel.label();
            let mut distinct: Vec<&Value> = Vec::new();
            for (user, constants) in used.iter().flat_map(|(constants, _)| constants) {
                if *user == label && !distinct.contains(&constants) {
                    distinct.push(constants);
                }
            }
            let mut entry = kernel.to_json();
            entry["constants"] = json!(distinct);
            entry
        })
        .collect();
    let rows: Vec<_> = used.iter().filter_map(|(_, row)| row.as_ref()).collect();
    json!({ "kernels": kernels, "rows": rows })
}
