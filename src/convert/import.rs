//! A model of another program as one of our checkpoints.

use std::path::Path;

use serde_json::{Map, Value};

use super::Report;
use crate::Error;
use crate::checkpoint::{self, Checkpoint, Metadata};
use crate::data::tokenizer::{Format, Tokenizer};
use crate::decode::DecodeError;
use crate::weights::ParameterTable;

/// Reads the model at `from` and writes it to `out`, with moments and iteration where the file has them. `given`
/// are keys of a `ModelConfig` that the file may not tell.
///
/// # Errors
/// When the file is missing, damaged, or of a kind that is not supported, does not tell all of the model's
/// shape, or the disk says no.
pub fn import(from: &Path, given: &Map<String, Value>, out: &Path) -> Result<Report, Error> {
    let mut checkpoint = Checkpoint::open(from)?;
    checkpoint.give(given)?;
    let config = checkpoint.model()?;
    let table = ParameterTable::new(&config, &[], usize::MAX);
    let mut report = report(&checkpoint, &table)?;
    let tokenizer_hash = match checkpoint.tokenizer() {
        Ok(own) => own.map(|(tokenizer, _)| tokenizer.hash()),
        Err(error) => {
            let note = format!("its tokenizer cannot be used here: {error}");
            report.notes.push(note);
            None
        }
    };
    let (state, iteration) = checkpoint.whole_state(&table)?;
    if state.moments.is_some() {
        let note = format!("moments of AdamW after {iteration} iterations, to go on from");
        report.notes.push(note);
    }
    let config = match serde_json::to_value(&config) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    };
    let metadata = Metadata {
        iteration,
        config,
        tokenizer_hash,
        train_loss: None,
        val_loss: None,
        best_val_loss: None,
        tuning: None,
    };
    checkpoint::save(out, &table, &state, &metadata)?;
    Ok(report)
}

/// Writes the tokenizer that came with the model at `from` to the folder `to`.
///
/// # Errors
/// When there is none, it is of a kind that is not supported, or the disk says no.
pub fn import_tokenizer(from: &Path, to: &Path) -> Result<Tokenizer, Error> {
    let tokenizer = Checkpoint::open(from)?.tokenizer()?;
    let (tokenizer, roles) = tokenizer.ok_or(DecodeError::NoOwnTokenizer)?;
    tokenizer.save_with(Format::HuggingFace, to, &roles)?;
    Ok(tokenizer)
}

fn report(checkpoint: &Checkpoint, table: &ParameterTable) -> Result<Report, Error> {
    let mut report = Report {
        parameters: table.count(),
        ..Report::default()
    };
    let Some(foreign) = checkpoint.foreign() else {
        report.format = "checkpoint of gpu-tlm".to_owned();
        report.types.insert("F32".to_owned(), table.iter().count());
        return Ok(report);
    };
    foreign.format().clone_into(&mut report.format);
    let left = foreign.check(table.config());
    report.left = left.map_err(checkpoint::CheckpointError::from)?.tensors;
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
    Ok(report)
}
