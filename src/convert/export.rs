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
    ElementType, Exported, Family, InteropError, Naming, StoredType, TensorInfo, tensors,
};
use crate::interop::{gguf, hugging_face, llama2c, peft, safetensors};
use crate::weights::ParameterTable;

/// Formats of other programs that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// Folder of Hugging Face's transformers: config.json, model.safetensors, tokenizer.json
    Hf,
    /// Folder of PEFT: the adapters alone, of a checkpoint of adapters; other formats have them added to the model
    Peft,
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

impl ExportFormat {
    /// As messages call what holds a model.
    fn name(self) -> &'static str {
        match self {
            Self::Hf => "a Hugging Face folder",
            Self::Peft => "a PEFT folder",
            Self::Gguf => "GGUF",
            Self::Pt => "a PyTorch checkpoint",
            Self::Llama2c | Self::Llama2cV1 => "a llama2.c file",
            Self::Safetensors => "a safetensors file",
        }
    }

    fn refused(self, reason: String) -> InteropError {
        let format = self.name();
        InteropError::CannotHold { format, reason }
    }
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
    let left = checkpoint.check(&config)?;
    let has_type = match stored {
        StoredType::F32 => true,
        StoredType::F16 | StoredType::Bf16 => {
            !matches!(format, ExportFormat::Llama2c | ExportFormat::Llama2cV1)
        }
        StoredType::Q8_0 | StoredType::Q4_0 => format == ExportFormat::Gguf,
    };
    if !has_type {
        let reason = format!("it has no elements of type {}", stored.name());
        return Err(format.refused(reason).into());
    }
    if let Some((tokenizer, _)) = tokenizer
        && tokenizer.vocab_size() > config.vocab_size
    {
        return Err(format
            .refused(format!(
                "its embedding has {} rows and its tokenizer {} tokens",
                config.vocab_size,
                tokenizer.vocab_size()
            ))
            .into());
    }
    let work = Work {
        checkpoint,
        config,
        format,
        stored,
        out,
    };
    let mut report = match format {
        ExportFormat::Hf => work.hugging_face(tokenizer),
        ExportFormat::Peft => work.peft(),
        ExportFormat::Gguf => work.gguf(tokenizer),
        ExportFormat::Pt => work.torch(),
        ExportFormat::Llama2c => work.llama2c(llama2c::Version::Zero),
        ExportFormat::Llama2cV1 => work.llama2c(llama2c::Version::One),
        ExportFormat::Safetensors => work.safetensors(),
    }?;
    report.left = left;
    if checkpoint.base().is_some() && format != ExportFormat::Peft {
        let note = "adapters were added to the weights that they are beside".to_owned();
        report.notes.push(note);
    }
    Ok(report)
}

/// What is written where.
struct Work<'a> {
    checkpoint: &'a Checkpoint,
    config: ModelConfig,
    format: ExportFormat,
    stored: StoredType,
    out: &'a Path,
}

impl Work<'_> {
    fn tensors(&self, naming: Naming) -> Vec<Exported> {
        tensors(&self.config, naming, |_, _| self.stored)
    }

    fn bytes(&self, tensor: &Exported) -> Result<Vec<u8>, InteropError> {
        let bytes = tensor.bytes(|p| self.checkpoint.read(&self.config, p));
        bytes.map_err(|error| match error {
            CheckpointError::Interop(error) => error,
            CheckpointError::Weights(error) => safetensors::of_weights(error),
            other => InteropError::Unreadable {
                path: self.checkpoint.path(),
                source: std::io::Error::other(other),
            },
        })
    }

    fn report(&self, exported: &[Exported]) -> Report {
        let mut report = Report {
            format: self.format.name().to_owned(),
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

    fn hugging_face(&self, tokenizer: Option<&(Tokenizer, TokenRoles)>) -> Result<Report, Error> {
        let family = Family::of(&self.config, self.format.name())?;
        let exported = self.tensors(Naming::of_hugging_face(family));
        let none = TokenRoles::default();
        let roles = tokenizer.map_or(&none, |(_, roles)| roles);
        let model = hugging_face::Model {
            config: &self.config,
            roles,
            stored: self.stored,
        };
        hugging_face::write(self.out, &model, &infos(&exported), |index| {
            self.bytes(&exported[index])
        })?;
        if let Some((tokenizer, roles)) = tokenizer {
            tokenizer.save_with(Format::HuggingFace, self.out, roles)?;
        }
        Ok(self.report(&exported))
    }

    fn peft(&self) -> Result<Report, Error> {
        let adapters = self.checkpoint.adapters(&self.config)?;
        let base = self.checkpoint.base_path();
        let Some(base) = base.filter(|_| !adapters.is_empty()) else {
            let reason = "it has no adapters; choose another format".to_owned();
            return Err(self.format.refused(reason).into());
        };
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let of = (&self.config, &*base.to_string_lossy());
        let written = peft::write(self.out, of, &adapters, self.stored)?;
        let mut report = Report {
            format: self.format.name().to_owned(),
            parameters: adapters.iter().map(|(_, values)| values.len()).sum(),
            ..Report::default()
        };
        let types = self.stored.element_type().name().to_owned();
        report.types.insert(types, 2 * written.len());
        let note = format!(
            "adapters of {} modules of '{}'",
            written.len(),
            base.display()
        );
        report.notes.push(note);
        Ok(report)
    }

    fn safetensors(&self) -> Result<Report, Error> {
        let exported = self.tensors(Naming::Plain);
        let metadata = [("format", "pt")];
        safetensors::write(self.out, &metadata, &infos(&exported), |index| {
            self.bytes(&exported[index])
        })?;
        Ok(self.report(&exported))
    }

    fn llama2c(&self, version: llama2c::Version) -> Result<Report, Error> {
        let header = llama2c::Header::of(&self.config)?;
        let exported = self.tensors(Naming::Plain);
        llama2c::write(self.out, version, &header, |name| {
            let own = exported.iter().find(|tensor| tensor.name == name);
            let bytes = own.map_or(Ok(Vec::new()), |tensor| self.bytes(tensor))?;
            Ok(bytemuck::pod_collect_to_vec(&bytes))
        })?;
        Ok(self.report(&exported))
    }

    fn gguf(&self, tokenizer: Option<&(Tokenizer, TokenRoles)>) -> Result<Report, Error> {
        let family = Family::of(&self.config, self.format.name())?;
        let stored_of = |name: &str, shape: &[usize]| gguf_type(self.stored, name, shape);
        let exported = tensors(&self.config, Naming::of_gguf(family), stored_of);
        let mut report = self.report(&exported);
        let mut infos = infos(&exported);
        let divisors = gguf::rope_divisors(&self.config, family)?;
        if let Some(divisors) = &divisors {
            infos.push(divisors.0.clone());
        }
        let name = self.out.file_stem();
        let name = name.map_or("model".into(), |stem| stem.to_string_lossy());
        let mut metadata = gguf::metadata(&self.config, family, self.stored, &name);
        match tokenizer {
            Some((tokenizer, roles)) => {
                let tokenizer = GgufTokenizer::new(tokenizer, roles)?;
                metadata.extend(gguf::tokenizer_keys(tokenizer, self.config.vocab_size));
            }
            None => report
                .notes
                .push("no tokenizer: llama.cpp wants one".to_owned()),
        }
        gguf::write(self.out, &metadata, &infos, |index| {
            match (exported.get(index), &divisors) {
                (None, Some((_, divisors))) => Ok(divisors.clone()),
                _ => self.bytes(&exported[index]),
            }
        })?;
        Ok(report)
    }

    /// With the state of `torch.optim.AdamW` where the checkpoint has moments, in groups of what decays and what
    /// does not.
    fn torch(&self) -> Result<Report, Error> {
        let exported = self.tensors(Naming::Plain);
        let mut report = self.report(&exported);
        let (moments, iteration, settings) = self.checkpoint.stored_moments(&self.config)?;
        let no_decay = settings.get("no_decay");
        let no_decay: Vec<String> = no_decay
            .and_then(|patterns| serde_json::from_value(patterns.clone()).ok())
            .unwrap_or_default();
        let table = ParameterTable::new(&self.config, &no_decay, usize::MAX);
        let mut unsaid = Vec::new();
        let mut number = |key: &'static str, default: f64| {
            settings
                .get(key)
                .and_then(serde_json::Value::as_f64)
                .unwrap_or_else(|| {
                    unsaid.push(key);
                    default
                })
        };
        let (lr, eps) = (number("learning_rate", 1e-3), number("eps", 1e-8));
        let betas = (number("beta1", 0.9), number("beta2", 0.95));
        let weight_decay = number("weight_decay", 0.1);
        let group = |decays: bool| {
            let own = table.iter().enumerate().filter(|(_, p)| p.decays == decays);
            AdamWGroup {
                lr,
                betas,
                eps,
                weight_decay: if decays { weight_decay } else { 0.0 },
                parameters: own.map(|(index, _)| index).collect(),
            }
        };
        let groups = [true, false].map(group).into_iter();
        let optimizer = moments.as_ref().map(|_| AdamWState {
            step: iteration,
            element_type: ElementType::F32,
            groups: groups
                .filter(|group| !group.parameters.is_empty())
                .collect(),
        });
        if optimizer.is_some() {
            let mut note = format!("AdamW's state after {iteration} iterations");
            if !unsaid.is_empty() {
                note += &format!(
                    "; the checkpoint does not say {}, which is the default",
                    unsaid.join(", ")
                );
            }
            report.notes.push(note);
        }
        let config = serde_json::to_value(&self.config).unwrap_or_default();
        let file = TorchCheckpoint {
            tensors: &infos(&exported),
            tied: &[],
            optimizer: optimizer.as_ref(),
            iteration: Some(iteration),
            metadata: &Map::from_iter([("config".to_owned(), config)]),
        };
        let moment = |which: usize, index: usize| {
            let moments = moments.as_ref().map(|moments| &moments[which][index]);
            moments.map_or(Vec::new(), |moment| moment.bytes().to_vec())
        };
        torch::write(self.out, &file, &mut |content| match content {
            Content::Tensor(index) => self.bytes(&exported[index]).map_err(std::io::Error::other),
            Content::ExpAvg(index) => Ok(moment(0, index)),
            Content::ExpAvgSq(index) => Ok(moment(1, index)),
        })?;
        Ok(report)
    }
}

fn infos(exported: &[Exported]) -> Vec<TensorInfo> {
    exported.iter().map(Exported::info).collect()
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
