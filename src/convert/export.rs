//! A model for another program.

use std::path::Path;

use serde_json::Map;

use super::Report;
use crate::Error;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::ModelConfig;
use crate::data::tokenizer::{Format, GgufTokenizer, TokenRoles, Tokenizer};
use crate::interop::torch::{self, AdamWGroup, AdamWState, Content, TorchCheckpoint};
use crate::interop::{
    Changes, ElementType, Exported, Family, InteropError, Naming, StoredType, TensorInfo, tensors,
};
use crate::interop::{gguf, hugging_face, llama2c, safetensors};
use crate::weights::ParameterTable;

/// Formats of other programs that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// Folder of Hugging Face's transformers: config.json, model.safetensors, tokenizer.json
    Hf,
    /// One file for llama.cpp, tokenizer included
    Gguf,
    /// PyTorch checkpoint with the names of CS336, with the optimizer's state where there is one
    Pt,
    /// File for karpathy/llama2.c, version 0
    Llama2c,
    /// The same, version 1
    #[value(name = "llama2c-v1")]
    Llama2cV1,
    /// Safetensors with plain names
    Safetensors,
}

/// Writes the model of `checkpoint` to `out`, in `format`, its matrices stored as `stored`.
///
/// # Errors
/// When a tensor cannot be read, the format cannot hold the model, or the disk says no.
pub fn export(
    checkpoint: &Checkpoint,
    tokenizer: Option<&(Tokenizer, TokenRoles)>,
    format: ExportFormat,
    stored: StoredType,
    out: &Path,
) -> Result<Report, Error> {
    let config = checkpoint.model()?;
    let read = |naming| {
        tensors(
            &config,
            naming,
            |_, _| stored,
            |p| checkpoint.read(&config, p),
        )
    };
    match format {
        ExportFormat::Hf => {
            let name = "a Hugging Face folder";
            let family = Family::of(&config, name)?;
            refuse_blocks(name, stored)?;
            let exported = read(Naming::of_hugging_face(family))?;
            let report = report(name, &exported);
            let roles = tokenizer.map(|(_, roles)| roles.clone());
            hugging_face::write(out, &config, &roles.unwrap_or_default(), stored, exported)?;
            if let Some((tokenizer, roles)) = tokenizer {
                tokenizer.save_with(Format::HuggingFace, out, roles)?;
            }
            Ok(report)
        }
        ExportFormat::Safetensors => {
            let name = "a safetensors file";
            refuse_blocks(name, stored)?;
            let exported = read(Naming::Plain)?;
            let report = report(name, &exported);
            safetensors::write(out, exported, &[("format", "pt")])?;
            Ok(report)
        }
        ExportFormat::Gguf => export_gguf(checkpoint, &config, tokenizer, stored, out),
        ExportFormat::Llama2c => {
            export_llama2c(llama2c::Version::Zero, &config, &read, out, stored)
        }
        ExportFormat::Llama2cV1 => {
            export_llama2c(llama2c::Version::One, &config, &read, out, stored)
        }
        ExportFormat::Pt => export_torch(checkpoint, &config, stored, out),
    }
}

fn export_llama2c(
    version: llama2c::Version,
    config: &ModelConfig,
    read: &dyn Fn(Naming) -> Result<Vec<Exported>, CheckpointError>,
    out: &Path,
    stored: StoredType,
) -> Result<Report, Error> {
    let name = "a llama2.c file";
    if stored != StoredType::F32 {
        let reason = format!("it has no elements of type {}", stored.name());
        return Err(InteropError::CannotHold {
            format: name,
            reason,
        }
        .into());
    }
    let header = llama2c::Header::of(config)?;
    let exported = read(Naming::Plain)?;
    llama2c::write(out, version, &header, |name| {
        let own = exported.iter().find(|tensor| tensor.name == name);
        let bytes = own.map_or(&[][..], |tensor| &tensor.bytes);
        Ok(bytemuck::pod_collect_to_vec(bytes))
    })?;
    Ok(report(name, &exported))
}

/// With the state of `torch.optim.AdamW` where the checkpoint has moments, in groups of what decays and what does
/// not.
fn export_torch(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    stored: StoredType,
    out: &Path,
) -> Result<Report, Error> {
    let name = "a PyTorch checkpoint";
    refuse_blocks(name, stored)?;
    let settings = checkpoint.noted().map(|noted| &noted.config);
    let number = |key: &str, default: f64| {
        let value = settings.and_then(|settings| settings.get(key)?.as_f64());
        value.unwrap_or(default)
    };
    let no_decay = settings.and_then(|settings| settings.get("no_decay"));
    let no_decay: Vec<String> = no_decay
        .and_then(|patterns| serde_json::from_value(patterns.clone()).ok())
        .unwrap_or_default();
    let table = ParameterTable::new(config, &no_decay, usize::MAX);
    let (state, iteration) = checkpoint.whole_state(&table)?;
    let exported = tensors(
        config,
        Naming::Plain,
        |_, _| stored,
        |p| checkpoint.read(config, p),
    )?;
    let mut report = report(name, &exported);
    let infos: Vec<TensorInfo> = exported.iter().map(Exported::info).collect();
    let group = |decays: bool| {
        let parameters = table.iter().enumerate();
        let own = parameters.filter(|(_, p)| p.decays == decays);
        AdamWGroup {
            lr: number("learning_rate", 1e-3),
            betas: (number("beta1", 0.9), number("beta2", 0.95)),
            eps: number("eps", 1e-8),
            weight_decay: if decays {
                number("weight_decay", 0.1)
            } else {
                0.0
            },
            parameters: own.map(|(index, _)| index).collect(),
        }
    };
    let groups = [true, false].map(group).into_iter();
    let optimizer = state.moments.as_ref().map(|_| AdamWState {
        step: iteration,
        element_type: ElementType::F32,
        groups: groups
            .filter(|group| !group.parameters.is_empty())
            .collect(),
    });
    if optimizer.is_some() {
        report
            .notes
            .push(format!("AdamW's state after {iteration} iterations"));
    }
    let keys = match serde_json::to_value(config) {
        Ok(keys) => Map::from_iter([("config".to_owned(), keys)]),
        Err(_) => Map::new(),
    };
    let file = TorchCheckpoint {
        tensors: &infos,
        tied: &[],
        optimizer: optimizer.as_ref(),
        iteration: Some(iteration),
        metadata: &keys,
    };
    let moment = |which: usize, index: usize| {
        let moments = state.moments.as_ref().map(|moments| &moments[which][index]);
        moments.map_or(Vec::new(), |moment| moment.bytes().to_vec())
    };
    torch::write(out, &file, &mut |content| {
        Ok(match content {
            Content::Tensor(index) => exported[index].bytes.clone(),
            Content::ExpAvg(index) => moment(0, index),
            Content::ExpAvgSq(index) => moment(1, index),
        })
    })?;
    Ok(report)
}

fn export_gguf(
    checkpoint: &Checkpoint,
    config: &ModelConfig,
    tokenizer: Option<&(Tokenizer, TokenRoles)>,
    stored: StoredType,
    out: &Path,
) -> Result<Report, Error> {
    let family = Family::of(config, "GGUF")?;
    let stored_of = |name: &str, shape: &[usize]| gguf_type(stored, name, shape);
    let naming = Naming::of_gguf(family);
    let mut exported = tensors(config, naming, stored_of, |p| checkpoint.read(config, p))?;
    let mut report = report("a GGUF file", &exported);
    if let Some((name, divisors)) = gguf::rope_divisors(config) {
        exported.push(Exported {
            name,
            stored: StoredType::F32,
            shape: vec![divisors.len()],
            bytes: bytemuck::cast_slice(&divisors).to_vec(),
            changes: Changes::default(),
        });
    }
    let name = out
        .file_stem()
        .map_or("model".into(), |stem| stem.to_string_lossy());
    let mut metadata = gguf::metadata(config, family, stored, &name);
    match tokenizer {
        Some((tokenizer, roles)) => {
            let tokenizer = GgufTokenizer::new(tokenizer, roles)?;
            metadata.extend(gguf::tokenizer_keys(tokenizer, config.vocab_size));
        }
        None => report
            .notes
            .push("no tokenizer: llama.cpp wants one".to_owned()),
    }
    let infos: Vec<TensorInfo> = exported.iter().map(Exported::info).collect();
    gguf::write(out, &metadata, &infos, |index| {
        Ok(exported[index].bytes.clone())
    })?;
    Ok(report)
}

/// Gains, biases and vectors of positions are f32, as llama.cpp's own converter has them; rows that are no whole
/// blocks are f16, as it falls back to.
fn gguf_type(stored: StoredType, name: &str, shape: &[usize]) -> StoredType {
    const BLOCK: usize = 32;
    match shape {
        [_] => StoredType::F32,
        _ if name == "position_embd.weight" => StoredType::F32,
        [_, cols] if stored.is_of_blocks() && !cols.is_multiple_of(BLOCK) => StoredType::F16,
        _ => stored,
    }
}

/// Refuses element types that only GGUF has.
fn refuse_blocks(format: &'static str, stored: StoredType) -> Result<(), InteropError> {
    match stored.is_of_blocks() {
        true => Err(InteropError::CannotHold {
            format,
            reason: format!("it has no elements of type {}", stored.name()),
        }),
        false => Ok(()),
    }
}

fn report(format: &str, exported: &[Exported]) -> Report {
    let mut report = Report {
        format: format.to_owned(),
        ..Report::default()
    };
    for tensor in exported {
        report.parameters += tensor.shape.iter().product::<usize>();
        let count = report.types.entry(tensor.stored.name().to_owned());
        *count.or_insert(0) += 1;
        let changes = tensor.changes;
        for (is_so, names) in [
            (changes.is_permuted, &mut report.permuted),
            (changes.is_transposed, &mut report.transposed),
            (changes.is_joined, &mut report.joined),
        ] {
            if is_so {
                names.push(tensor.name.clone());
            }
        }
    }
    report
}
