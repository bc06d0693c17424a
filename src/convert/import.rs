//! A model of another program as one of our checkpoints.

use std::path::Path;

use serde_json::{Map, Value};

use super::Report;
use crate::Error;
use crate::checkpoint::{self, Checkpoint, Metadata};
use crate::data::tokenizer::Format;
use crate::interop::{ForeignModel, InteropError};
use crate::weights::{EngineState, ParameterTable};

/// Reads the model of `checkpoint`, which is of another program, and writes it to `out`, with moments and iteration where the file has them, and its
/// tokenizer to the folder `tokenizer_out` if one is named. `given` are keys of a `ModelConfig` that the file may
/// not tell.
///
/// # Errors
/// When the file is missing, damaged, of a kind that is not supported or ours already, does not tell all of the
/// model's shape, has no tokenizer that is wanted, or the disk says no.
pub fn import(
    mut checkpoint: Checkpoint,
    given: &Map<String, Value>,
    out: &Path,
    tokenizer_out: Option<&Path>,
) -> Result<Report, Error> {
    let from = checkpoint.path();
    if checkpoint.noted().is_some() {
        return Err(InteropError::Own { path: from }.into());
    }
    checkpoint.give(given)?;
    let config = checkpoint.model()?;
    let table = ParameterTable::new(&config, &[], usize::MAX);
    let left = checkpoint.check(&config)?;
    let base = checkpoint.base();
    let foreign = base.map_or(checkpoint.foreign(), Checkpoint::foreign);
    let mut report = match foreign {
        Some(foreign) => report(foreign, &table, left),
        None => Report::default(),
    };
    if base.is_some() {
        let note = "adapters were added to the weights that they are beside".to_owned();
        report.notes.push(note);
    }
    let tokenizer = match (checkpoint.tokenizer(), tokenizer_out) {
        (Ok(None), Some(_)) => {
            return Err(InteropError::NoTokenizer { path: from }.into());
        }
        (Err(error), Some(_)) => return Err(error.into()),
        (Err(error), None) => {
            let note = format!("its tokenizer cannot be used here: {error}");
            report.notes.push(note);
            None
        }
        (Ok(own), _) => own,
    };
    let (moments, iteration, settings) = checkpoint.stored_moments(&config)?;
    if moments.is_some() {
        let note = format!("moments of AdamW after {iteration} iterations, to go on from");
        report.notes.push(note);
    }
    let state = EngineState {
        moments,
        ..checkpoint.initial_state(&table, 0)?
    };
    let mut noted = match serde_json::to_value(&config) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    };
    noted.extend(settings);
    let metadata = Metadata {
        iteration,
        config: noted,
        tokenizer_hash: tokenizer.as_ref().map(|(tokenizer, _)| tokenizer.hash()),
        train_loss: None,
        val_loss: None,
        best_val_loss: None,
        base: None,
        tuning: None,
    };
    checkpoint::save(out, &table, &state, &metadata)?;
    if let (Some(folder), Some((tokenizer, roles))) = (tokenizer_out, tokenizer) {
        tokenizer.save_with(Format::HuggingFace, folder, &roles)?;
    }
    Ok(report)
}

fn report(foreign: &ForeignModel, table: &ParameterTable, left: Vec<String>) -> Report {
    let mut report = Report {
        format: foreign.format().to_owned(),
        parameters: table.count(),
        left,
        ..Report::default()
    };
    for taken in foreign.taken(table) {
        let count = report.types.entry(taken.element_type.name().to_owned());
        *count.or_insert(0) += 1;
        for (is_so, names) in [
            (taken.is_permuted, &mut report.permuted),
            (taken.is_transposed, &mut report.transposed),
            (taken.is_joined, &mut report.joined),
        ] {
            if is_so {
                names.push(taken.name.clone());
            }
        }
    }
    report
}
