//! Which tensor each parameter of an optimizer is.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;

use super::names::unwrapped;
use super::optimizer::{OptimizerParameter, OptimizerState};
use super::problem::Problem;
use crate::interop::TensorInfo;

/// Most groups, where the shapes have to tell them apart.
const MOST_GROUPS: usize = 16;
/// Most states that are looked at: of each tensor, how many parameters of each group may lie before it.
const MOST_STATES: usize = 1 << 20;

/// For each tensor of `own`, which are the parameters of the model in their order, its number among those of
/// the optimizer.
pub(crate) fn matched(
    infos: &[TensorInfo],
    own: &[usize],
    optimizer: &OptimizerState,
) -> Result<Vec<usize>, Problem> {
    if let Some(names) = names(optimizer) {
        return by_name(infos, own, optimizer, &names);
    }
    let (there, wanted) = (optimizer.parameters.len(), own.len());
    let tensors: Vec<&TensorInfo> = own.iter().map(|index| &infos[*index]).collect();
    let matched = by_order(&tensors, optimizer)?;
    if there > wanted {
        return Err(Problem::damaged(format!(
            "its optimizer has {there} parameters where the model has {wanted}"
        )));
    }
    Ok(matched)
}

/// The names that the groups give all parameters, as torch does since 2.6 where it was told them.
fn names(optimizer: &OptimizerState) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for group in &optimizer.groups {
        let listed = group.settings.get("param_names")?.as_array()?;
        if listed.len() != group.parameters.len() {
            return None;
        }
        names.extend(listed.iter().filter_map(Value::as_str).map(unwrapped));
    }
    (names.len() == optimizer.parameters.len()).then_some(names)
}

fn by_name(
    infos: &[TensorInfo],
    own: &[usize],
    optimizer: &OptimizerState,
    names: &[String],
) -> Result<Vec<usize>, Problem> {
    let numbers = names.iter().enumerate().map(|(at, name)| (&**name, at));
    let numbers: FxHashMap<&str, usize> = numbers.collect();
    let mut matched = Vec::new();
    for index in own {
        let info = &infos[*index];
        let number = numbers.get(&*info.name).copied();
        let number = number
            .ok_or_else(|| Problem::tensor(&info.name, "is no parameter of the optimizer"))?;
        if !fits(info, &optimizer.parameters[number]) {
            return Err(misfit(info, optimizer, &[number]));
        }
        matched.push(number);
    }
    let known: FxHashSet<usize> = matched.iter().copied().collect();
    if let Some(number) = (0..names.len()).find(|number| !known.contains(number)) {
        return Err(Problem::damaged(format!(
            "its optimizer has a parameter '{}', which is none of the model's, or twice",
            names[number]
        )));
    }
    Ok(matched)
}

/// How a state was come to.
struct Step {
    /// Number of ways to it, where two stand for any more.
    ways: u8,
    /// The group of the last parameter that was taken.
    group: usize,
}

/// Goes through the tensors and notes at each how many parameters of each group may have been taken. With
/// one group there is one way at most.
fn by_order(tensors: &[&TensorInfo], optimizer: &OptimizerState) -> Result<Vec<usize>, Problem> {
    if optimizer.groups.len() > MOST_GROUPS {
        return Err(ambiguous(optimizer));
    }
    let mut states = 0;
    let start = Step { ways: 1, group: 0 };
    let mut levels = vec![BTreeMap::from([(vec![0; optimizer.groups.len()], start)])];
    for (at, tensor) in tensors.iter().enumerate() {
        let mut next: BTreeMap<Vec<usize>, Step> = BTreeMap::new();
        for (taken, step) in &levels[at] {
            for (group, number) in candidates(optimizer, taken) {
                if fits(tensor, &optimizer.parameters[number]) {
                    let mut taken = taken.clone();
                    taken[group] += 1;
                    let entry = next.entry(taken).or_insert(Step { ways: 0, group });
                    entry.ways = (entry.ways + step.ways).min(2);
                }
            }
        }
        if next.is_empty() {
            let numbers = levels[at]
                .keys()
                .flat_map(|taken| candidates(optimizer, taken));
            let mut numbers: Vec<usize> = numbers.map(|(_, number)| number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            return Err(misfit(tensor, optimizer, &numbers));
        }
        states += next.len();
        if states > MOST_STATES {
            return Err(ambiguous(optimizer));
        }
        levels.push(next);
    }
    let lens = optimizer.groups.iter().map(|group| group.parameters.len());
    let mut taken: Vec<usize> = lens.collect();
    let mut matched = Vec::new();
    for level in levels.iter().skip(1).rev() {
        // Where the optimizer has more parameters than the model has tensors there is no such state.
        let Some(step) = level.get(&taken) else {
            return Ok(Vec::new());
        };
        if step.ways > 1 {
            return Err(ambiguous(optimizer));
        }
        taken[step.group] -= 1;
        matched.push(optimizer.groups[step.group].parameters.start + taken[step.group]);
    }
    matched.reverse();
    Ok(matched)
}

/// The next parameter of each group that has one, after those that were taken.
fn candidates<'a>(
    optimizer: &'a OptimizerState,
    taken: &'a [usize],
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let next = optimizer.groups.iter().zip(taken).enumerate();
    next.filter_map(|(group, (entry, taken))| {
        let number = entry.parameters.start + taken;
        (number < entry.parameters.end).then_some((group, number))
    })
}

/// Whether a parameter can be a tensor. One without moments can be any.
fn fits(tensor: &TensorInfo, parameter: &OptimizerParameter) -> bool {
    let moments = parameter.moments.as_ref();
    moments.is_none_or(|moments| moments.exp_avg.info.shape == tensor.shape)
}

fn ambiguous(optimizer: &OptimizerState) -> Problem {
    Problem::unsupported(format!(
        "an optimizer of {} groups whose parameters the shapes alone do not tell apart",
        optimizer.groups.len()
    ))
}

fn misfit(tensor: &TensorInfo, optimizer: &OptimizerState, numbers: &[usize]) -> Problem {
    let next = numbers.iter().take(4).map(|number| {
        let parameter = &optimizer.parameters[*number];
        let shape = parameter
            .moments
            .as_ref()
            .map(|moments| &moments.exp_avg.info.shape);
        format!(
            "{} with moments of the shape {:?}",
            parameter.index,
            shape.map_or(&[][..], |s| s)
        )
    });
    let next: Vec<String> = next.collect();
    let found = match next.is_empty() {
        true => format!(
            "has no parameter left: it has {}",
            optimizer.parameters.len()
        ),
        false => format!("has as its next parameter {}", next.join(" or ")),
    };
    Problem::tensor(
        &tensor.name,
        format!(
            "has the shape {:?}, but the optimizer {found}",
            tensor.shape
        ),
    )
}
