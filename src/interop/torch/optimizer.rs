//! The state of an Adam optimizer, as `torch.optim.AdamW` and the optimizer of the CS336 course keep it.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value};

use super::contents::Source;
use super::pickle::{Id, Node};
use super::problem::Problem;
use super::view::View;
use crate::interop::{ElementType, TensorInfo};

/// Names of the number of steps; the second ones are those of the course's handout.
const STEP: [&str; 2] = ["step", "t"];
/// Names of the mean of gradients.
const EXP_AVG: [&str; 2] = ["exp_avg", "m"];
/// Names of the mean of squared gradients.
const EXP_AVG_SQ: [&str; 2] = ["exp_avg_sq", "v"];
/// Most entries of the state of one parameter.
const MOST_ENTRIES: usize = 64;

/// The state of an optimizer.
#[derive(Clone, Debug)]
pub struct OptimizerState {
    /// Groups of parameters with common hyperparameters.
    pub groups: Vec<ParameterGroup>,
    /// The parameters of all groups, in the order of the groups and of each one's `params`.
    pub parameters: Vec<OptimizerParameter>,
}

/// A group of parameters.
#[derive(Clone, Debug)]
pub struct ParameterGroup {
    /// `lr`, `betas`, `eps`, `weight_decay` and whatever else the file has but `params`.
    pub settings: Map<String, Value>,
    /// Which of [`OptimizerState::parameters`] are the group's.
    pub parameters: std::ops::Range<usize>,
}

/// A parameter of an optimizer.
#[derive(Clone, Debug)]
pub struct OptimizerParameter {
    /// Its number in the file.
    pub index: u64,
    /// Which of [`OptimizerState::groups`] it belongs to.
    pub group: usize,
    /// None before its first step, and for optimizers other than Adam.
    pub moments: Option<Moments>,
    /// Entries of its state that are not read, such as `momentum_buffer` or `max_exp_avg_sq`.
    pub unread: Vec<String>,
}

/// What Adam keeps of a parameter.
#[derive(Clone, Debug)]
pub struct Moments {
    /// As it is in the file: of torch, the number of steps that were made. The optimizer of the course
    /// leaves to its author whether it counts from 0 or 1.
    pub step: f64,
    /// Running mean of the gradient.
    pub exp_avg: Moment,
    /// Running mean of the squared gradient.
    pub exp_avg_sq: Moment,
}

/// A tensor of an optimizer's state, read by [`super::TorchFile::read_moment`].
#[derive(Clone, Debug)]
pub struct Moment {
    /// Its name is its place in the file, such as `optimizer.state.3.exp_avg`.
    pub info: TensorInfo,
    pub(crate) view: View,
}

/// Reads the dict `id` of `state` and `param_groups`.
pub(crate) fn read(source: &Source<'_>, id: Id) -> Result<OptimizerState, Problem> {
    let graph = source.graph;
    let damaged = |problem: &str| Problem::damaged(format!("its optimizer {problem}"));
    let states = graph.get(id, "state").and_then(|id| graph.dict(id));
    let states = states.ok_or_else(|| damaged("has a state that is no dict"))?;
    // Keys of other kinds are no parameter's.
    let by_index: FxHashMap<i64, Id> = states
        .iter()
        .filter_map(|(key, value)| Some((graph.int(*key)?, *value)))
        .collect();
    let groups = graph.get(id, "param_groups");
    let groups = groups.and_then(|id| graph.sequence(id));
    let groups = groups.ok_or_else(|| damaged("has param_groups that are no list"))?;
    let mut seen = FxHashSet::default();
    let mut state = OptimizerState {
        groups: Vec::new(),
        parameters: Vec::new(),
    };
    for (group, dict) in groups.iter().enumerate() {
        let params = graph.get(*dict, "params").and_then(|id| graph.sequence(id));
        let params = params
            .ok_or_else(|| damaged(&format!("has no list of params in its group {group}")))?;
        let start = state.parameters.len();
        for id in params {
            let index = graph.int(*id).and_then(|index| u64::try_from(index).ok());
            let index = index.ok_or_else(|| {
                damaged(&format!(
                    "has params in its group {group} that are no indices"
                ))
            })?;
            if !seen.insert(index) {
                return Err(damaged(&format!("has its parameter {index} twice")));
            }
            let entry = graph.int(*id).and_then(|index| by_index.get(&index));
            let (moments, unread) = match entry {
                Some(entry) => parameter(source, index, *entry)?,
                None => (None, Vec::new()),
            };
            state.parameters.push(OptimizerParameter {
                index,
                group,
                moments,
                unread,
            });
        }
        state.groups.push(ParameterGroup {
            settings: settings(source, group, *dict)?,
            parameters: start..state.parameters.len(),
        });
    }
    Ok(state)
}

fn settings(source: &Source<'_>, group: usize, dict: Id) -> Result<Map<String, Value>, Problem> {
    let name = format!("optimizer.param_groups.{group}");
    let mut settings = Map::new();
    for (key, value) in source.graph.dict(dict).unwrap_or_default() {
        let key = source.graph.text(*key).ok_or_else(|| {
            Problem::damaged(format!("its entry '{name}' has a key that is no text"))
        })?;
        if key != "params" {
            let value = source.json(&format!("{name}.{key}"), *value)?;
            settings.insert(key.to_owned(), value);
        }
    }
    Ok(settings)
}

/// The moments of a parameter, and the names of what is no part of them.
fn parameter(
    source: &Source<'_>,
    index: u64,
    entry: Id,
) -> Result<(Option<Moments>, Vec<String>), Problem> {
    let name = format!("optimizer.state.{index}");
    let pairs = source.graph.dict(entry).unwrap_or_default();
    if pairs.len() > MOST_ENTRIES {
        return Err(Problem::unsupported(format!(
            "'{name}' with {} entries",
            pairs.len()
        )));
    }
    let find = |names: [&str; 2]| {
        let mut found = names.iter();
        found.find_map(|key| Some((format!("{name}.{key}"), source.graph.get(entry, key)?)))
    };
    let found = (find(EXP_AVG), find(EXP_AVG_SQ), find(STEP));
    let known = |key: &str| {
        [STEP, EXP_AVG, EXP_AVG_SQ]
            .iter()
            .any(|names| names.contains(&key))
    };
    let mut unread = Vec::new();
    let keys = pairs.iter().filter_map(|(key, _)| source.graph.text(*key));
    for key in keys.filter(|key| !known(key)) {
        source.budget.take(&name, key.len())?;
        unread.push(key.to_owned());
    }
    let (avg, avg_sq, step) = match found {
        (None, None, _) => return Ok((None, unread)),
        (Some(avg), Some(avg_sq), Some(step)) => (avg, avg_sq, step),
        _ => {
            return Err(Problem::damaged(format!(
                "its entry '{name}' lacks one of 'step', 'exp_avg' and 'exp_avg_sq'"
            )));
        }
    };
    let (exp_avg, exp_avg_sq) = (moment(source, avg)?, moment(source, avg_sq)?);
    if exp_avg.info.shape != exp_avg_sq.info.shape {
        return Err(Problem::tensor(
            &exp_avg_sq.info.name,
            format!(
                "has the shape {:?}, unlike the first moment with {:?}",
                exp_avg_sq.info.shape, exp_avg.info.shape
            ),
        ));
    }
    let moments = Moments {
        step: count(source, &step.0, step.1)?,
        exp_avg,
        exp_avg_sq,
    };
    Ok((Some(moments), unread))
}

fn moment(source: &Source<'_>, (name, id): (String, Id)) -> Result<Moment, Problem> {
    let Node::Tensor(raw) = source.graph.node(id) else {
        let found = source.graph.type_name(id);
        return Err(Problem::tensor(
            &name,
            format!("is no tensor but a {found}"),
        ));
    };
    let view = source.view(&name, raw)?;
    let element_type = view.dtype.element_type();
    if matches!(element_type, ElementType::Other(_)) {
        let found = view.dtype.name();
        return Err(Problem::tensor(
            &name,
            format!("is of {found} and not of floats"),
        ));
    }
    Ok(Moment {
        info: TensorInfo {
            name,
            element_type,
            shape: view.shape.clone(),
        },
        view,
    })
}

/// A number of steps, which torch keeps as a tensor and did keep as an integer.
fn count(source: &Source<'_>, name: &str, id: Id) -> Result<f64, Problem> {
    let value = match source.graph.node(id) {
        Node::Tensor(raw) => source.scalar(name, raw)?,
        Node::Int(_) | Node::Float(_) => Some(source.json(name, id)?),
        _ => None,
    };
    let count = value.and_then(|value| value.as_f64());
    count
        .filter(|count| *count >= 0.0)
        .ok_or_else(|| Problem::tensor(name, "is no number of steps"))
}
