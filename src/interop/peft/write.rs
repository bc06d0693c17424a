//! Writes a folder of PEFT.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde_json::{Value, json};

use super::{CONFIG_FILE, FORMAT, WEIGHTS_FILE, module_of, tensor_name};
use crate::config::ModelConfig;
use crate::files;
use crate::interop::names::{Naming, Place};
use crate::interop::{Family, InteropError, StoredType, elements, rows};
use crate::weights::{AdapterValues, Entry, Parameter, write_tensors};

/// The adapter of a module, put together of those of our layers that the module joins.
struct Module {
    name: String,
    cols: usize,
    parts: Vec<(Place, AdapterValues)>,
}

/// Writes the adapters of a model of `config`, each beside its weight, to `folder`, their matrices stored as
/// `stored`. `base` is the model that they are of. Gives the modules that have one.
///
/// Where a module joins several layers, as GPT-2's queries, keys and values, its A has the rows of all of them and
/// its B is zero but for a block each, so its rank and alpha are the sums.
///
/// # Errors
/// When the model is of no family that `transformers` knows, or the disk says no.
pub(crate) fn write(
    folder: &Path,
    (config, base): (&ModelConfig, &str),
    adapters: &[(Parameter, AdapterValues)],
    stored: StoredType,
) -> Result<Vec<String>, InteropError> {
    let family = Family::of(config, FORMAT)?;
    let naming = Naming::of_hugging_face(family);
    let mut modules: Vec<Module> = Vec::new();
    for (weight, values) in adapters {
        let name = module_of(config, weight)?;
        let place = naming.place(config, &weight.name, weight.rows);
        let part = (place, values.clone());
        match modules.iter_mut().find(|module| module.name == name) {
            Some(module) => module.parts.push(part),
            None => modules.push(Module {
                name,
                cols: weight.cols,
                parts: vec![part],
            }),
        }
    }
    let unwritable = |source| InteropError::Unwritable {
        path: folder.to_owned(),
        source,
    };
    files::create_folder(folder).map_err(unwritable)?;
    let tensors: Vec<(String, [usize; 2], Vec<u8>)> = modules
        .iter()
        .flat_map(|module| {
            let values = [('A', module.a()), ('B', module.b())];
            values.map(|(which, (shape, values))| {
                let bytes = elements::from_f32(stored, &values);
                (tensor_name(&module.name, which), shape, bytes)
            })
        })
        .collect();
    let entries: Vec<Entry<'_>> = tensors
        .iter()
        .map(|(name, shape, bytes)| Entry {
            name,
            element_type: stored.element_type().name(),
            shape,
            len: bytes.len(),
        })
        .collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_tensors(&folder.join(WEIGHTS_FILE), metadata, &entries, |index| {
        Ok(Cow::Borrowed(&tensors[index].2))
    })
    .map_err(unwritable)?;
    let text = format!("{:#}\n", config_json(config, base, family, &modules));
    files::write(&folder.join(CONFIG_FILE), text).map_err(unwritable)?;
    Ok(modules.into_iter().map(|module| module.name).collect())
}

impl Module {
    fn rank(&self) -> usize {
        self.parts.iter().map(|(_, values)| values.rank).sum()
    }

    /// Of all its parts, which are scaled alike.
    fn alpha(&self) -> f64 {
        let parts = self.parts.len() as f64;
        let first = &self.parts[0].1;
        match self
            .parts
            .iter()
            .all(|(_, values)| values.rank == first.rank)
        {
            true => first.alpha * parts,
            false => first.scale() * self.rank() as f64,
        }
    }

    /// `[rank, in]`.
    fn a(&self) -> ([usize; 2], Vec<f32>) {
        let values = self.parts.iter().flat_map(|(_, values)| &values.a);
        ([self.rank(), self.cols], values.copied().collect())
    }

    /// `[out, rank]`.
    fn b(&self) -> ([usize; 2], Vec<f32>) {
        let (rows, rank) = (self.parts[0].0.total_rows, self.rank());
        let mut b = vec![0.0; rows * rank];
        let mut first = 0;
        for (place, values) in &self.parts {
            let own = match place.half_split {
                None => values.b.clone(),
                Some(head_dim) => rows::halves_of_pairs(&values.b, values.rank, head_dim),
            };
            for (row, own) in place.rows.clone().zip(own.chunks_exact(values.rank)) {
                let at = row * rank + first;
                b[at..at + values.rank].copy_from_slice(own);
            }
            first += values.rank;
        }
        ([rows, rank], b)
    }
}

/// What `peft.PeftModel.from_pretrained` takes.
fn config_json(config: &ModelConfig, base: &str, family: Family, modules: &[Module]) -> Value {
    // What most modules have is the folder's; that of others stands in patterns, by their whole names.
    let of = |module: &Module| (module.rank(), module.alpha());
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for module in modules {
        *counts.entry(module.rank()).or_insert(0) += 1;
    }
    let rank = counts.iter().max_by_key(|(_, count)| **count);
    let rank = rank.map_or(0, |(rank, _)| *rank);
    let alpha = modules.iter().map(of).find(|(own, _)| *own == rank);
    let alpha = alpha.map_or(0.0, |(_, alpha)| alpha);
    let others = modules.iter().filter(|module| of(module) != (rank, alpha));
    let others: Vec<&Module> = others.collect();
    let patterns = |value: &dyn Fn(&Module) -> Value| {
        let named = others
            .iter()
            .map(|module| (module.name.clone(), value(module)));
        Value::Object(named.collect())
    };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": true,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": targets(config, modules),
        "rank_pattern": patterns(&|module| json!(module.rank())),
        "alpha_pattern": patterns(&|module| json!(module.alpha())),
        "bias": "none",
        "fan_in_fan_out": family == Family::Gpt2,
        "modules_to_save": null,
        "use_rslora": false,
        "use_dora": false,
    })
}

/// A module by its name within a layer, where all layers have it, and by its whole name otherwise.
fn targets(config: &ModelConfig, modules: &[Module]) -> BTreeSet<String> {
    let within = |name: &str| -> Option<String> {
        let (_, rest) = name.split_once(".layers.").or(name.split_once(".h."))?;
        Some(rest.split_once('.')?.1.to_owned())
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for within in modules.iter().filter_map(|module| within(&module.name)) {
        *counts.entry(within).or_insert(0) += 1;
    }
    let target = |module: &Module| {
        let short = within(&module.name);
        let short = short.filter(|short| counts.get(short) == Some(&config.num_layers));
        short.unwrap_or_else(|| module.name.clone())
    };
    modules.iter().map(target).collect()
}
