//! What is what in a file: the model's tensors, the optimizer's state, the iteration, and the rest.

use rustc_hash::FxHashSet;
use serde_json::{Map, Value};

use super::names::unwrapped;
use super::optimizer::{self, OptimizerState};
use super::pickle::{Budget, Dtype, Graph, Id, Node, RawTensor, ToJson, float};
use super::problem::Problem;
use super::storages::Storages;
use super::view::View;
use crate::data::positional::PositionalFile;
use crate::interop::TensorInfo;

/// Keys of a model, the best one first.
const MODEL_KEYS: [&str; 3] = ["model_state_dict", "model", "state_dict"];
/// Keys of an optimizer.
const OPTIMIZER_KEYS: [&str; 2] = ["optimizer_state_dict", "optimizer"];
/// Keys of the number of steps that have been made.
const ITERATION_KEYS: [&str; 5] = ["iteration", "step", "iter", "iter_num", "global_step"];
/// Keys that an error repeats.
const MOST_KEYS_SHOWN: usize = 12;

/// A file's pickle and what is needed to look at its tensors.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a PositionalFile,
    pub(crate) storages: &'a Storages,
    pub(crate) graph: &'a Graph,
    /// What all metadata may still become.
    pub(crate) budget: Budget,
}

/// What a file holds.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) infos: Vec<TensorInfo>,
    pub(crate) views: Vec<View>,
    pub(crate) optimizer: Option<OptimizerState>,
    pub(crate) iteration: Option<u64>,
    pub(crate) metadata: Map<String, Value>,
}

impl Source<'_> {
    /// The tensor `raw`, checked.
    pub(crate) fn view(&self, name: &str, raw: &RawTensor) -> Result<View, Problem> {
        View::check(self.file, self.storages, self.graph, name, raw)
    }

    /// The only element of a tensor that has one.
    pub(crate) fn scalar(&self, name: &str, raw: &RawTensor) -> Result<Option<Value>, Problem> {
        if raw.shape.iter().any(|size| *size != 1) {
            return Ok(None);
        }
        let view = self.view(name, raw)?;
        let bytes = view.read(self.file, name)?;
        let dtype = view.dtype;
        Ok(match dtype {
            Dtype::Bool => Some(Value::from(bytes[0] != 0)),
            _ => dtype
                .int(&bytes)
                .map(Value::from)
                .or_else(|| dtype.float(&bytes).map(float)),
        })
    }

    /// A value as JSON.
    pub(crate) fn json(&self, name: &str, id: Id) -> Result<Value, Problem> {
        let mut to_json = ToJson::new(self.graph, &self.budget, |raw| self.scalar(name, raw));
        to_json.value(name, id)
    }

    /// Finds everything in the object `root`.
    pub(crate) fn contents(&self, root: Id) -> Result<Contents, Problem> {
        let graph = self.graph;
        let pairs = graph.dict(root).ok_or_else(|| {
            let found = graph.type_name(root);
            Problem::damaged(format!("it holds a {found} where a dict is needed"))
        })?;
        // The key and the value of the first of `keys` that is there and fits.
        let find = |keys: &[&'static str], fits: &dyn Fn(Id) -> bool| {
            let there = |key: &&'static str| Some((*key, graph.get(root, key)?));
            let mut there = keys.iter().filter_map(there);
            there.find(|(_, id)| fits(*id))
        };
        let model = find(&MODEL_KEYS, &|id| self.has_tensors(id));
        let optimizer = find(&OPTIMIZER_KEYS, &|id| {
            graph.get(id, "param_groups").is_some() && graph.get(id, "state").is_some()
        });
        let iteration = find(&ITERATION_KEYS, &|id| self.count(id).is_some());
        let is_bare = model.is_none();
        let bare = || self.has_tensors(root).then_some(root);
        let Some(dict) = model.map(|(_, id)| id).or_else(bare) else {
            return Err(self.no_model(pairs));
        };
        let (infos, views) = self.tensors(dict, is_bare)?;
        let used = [model, optimizer, iteration].map(|found| found.map(|(key, _)| key));
        let mut metadata = Map::new();
        for (key, value) in pairs {
            let is_tensor = matches!(graph.node(*value), Node::Tensor(_));
            let is_used = used
                .iter()
                .flatten()
                .any(|used| graph.text(*key) == Some(used));
            if is_used || (is_bare && is_tensor) {
                continue;
            }
            let name = graph.text(*key).unwrap_or("a key that is no text");
            let text = match self.json(name, *key)? {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let value = self.json(&text, *value)?;
            metadata.insert(text, value);
        }
        Ok(Contents {
            infos,
            views,
            optimizer: optimizer
                .map(|(_, id)| optimizer::read(self, id))
                .transpose()?,
            iteration: iteration.and_then(|(_, id)| self.count(id)),
            metadata,
        })
    }

    /// Whether `id` is a dict with tensors as its values.
    fn has_tensors(&self, id: Id) -> bool {
        let pairs = self.graph.dict(id).unwrap_or_default();
        pairs
            .iter()
            .any(|(_, value)| matches!(self.graph.node(*value), Node::Tensor(_)))
    }

    /// A number of steps.
    fn count(&self, id: Id) -> Option<u64> {
        match self.graph.node(id) {
            Node::Int(number) => u64::try_from(*number).ok(),
            Node::Tensor(raw) => self.scalar("of the iteration", raw).ok()??.as_u64(),
            _ => None,
        }
    }

    fn no_model(&self, pairs: &[(Id, Id)]) -> Problem {
        let keys = pairs.iter().filter_map(|(key, _)| self.graph.text(*key));
        let keys: Vec<String> = keys
            .take(MOST_KEYS_SHOWN)
            .map(|key| format!("'{key:.40}'"))
            .collect();
        Problem::damaged(format!(
            "it has neither tensors nor a dict of them as '{}', but: {}",
            MODEL_KEYS.join("', '"),
            keys.join(", ")
        ))
    }

    /// The tensors of a state dict. A bare one is the whole file, with whatever else is in it.
    fn tensors(&self, dict: Id, is_bare: bool) -> Result<(Vec<TensorInfo>, Vec<View>), Problem> {
        let (mut infos, mut views) = (Vec::new(), Vec::new());
        let mut names = FxHashSet::default();
        for (key, value) in self.graph.dict(dict).unwrap_or_default() {
            let key = self.graph.text(*key);
            let (Some(key), Node::Tensor(raw)) = (key, self.graph.node(*value)) else {
                let key = key.unwrap_or("a key that is no text");
                // What a module keeps beside its tensors.
                if is_bare || key.ends_with("_extra_state") {
                    continue;
                }
                let found = self.graph.type_name(*value);
                return Err(Problem::tensor(key, format!("is no tensor but a {found}")));
            };
            let name = unwrapped(key);
            if !names.insert(name.clone()) {
                return Err(Problem::tensor(&name, "is there twice"));
            }
            let view = self.view(&name, raw)?;
            infos.push(TensorInfo {
                name,
                element_type: view.dtype.element_type(),
                shape: view.shape.clone(),
            });
            views.push(view);
        }
        Ok((infos, views))
    }
}
