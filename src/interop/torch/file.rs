//! A checkpoint that has been opened.

use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;
use serde_json::{Map, Value};

use super::archive::Archive;
use super::contents::{Contents, Source};
use super::optimizer::{Moment, OptimizerState};
use super::pickle::{self, Budget, Pickle};
use super::problem::Problem;
use super::storages::Storages;
use super::view::View;
use super::{legacy, matching};
use crate::data::positional::PositionalFile;
use crate::interop::{InteropError, TensorInfo, TensorSource};

/// Longest pickle, in bytes; that of a large model has a few hundred thousand.
const MOST_PICKLE: u32 = 1 << 26;

/// A file of `torch.save` with a model and perhaps its optimizer.
///
/// The file is a dict with the model's state dict as `model_state_dict`, `model` or `state_dict`, the
/// optimizer's as `optimizer_state_dict` or `optimizer`, and the number of steps as `iteration`, `step`,
/// `iter`, `iter_num` or `global_step`; or it is a state dict itself. No code of the file is run: it may name
/// what tensors need, and nothing else.
///
/// Names of tensors come without the `_orig_mod.` of `torch.compile` and the `module.` of data-parallel
/// wrappers. Buffers are among the tensors.
#[derive(Debug)]
pub struct TorchFile {
    path: PathBuf,
    file: PositionalFile,
    contents: Contents,
}

impl TorchFile {
    /// Opens the file at `path` and checks where all of its tensors lie.
    ///
    /// # Errors
    /// When it is missing, damaged, or holds what is not supported.
    pub fn open(path: &Path) -> Result<Self, InteropError> {
        let at = |problem: Problem| problem.at(path);
        let file = PositionalFile::open(path).map_err(|e| at(e.into()))?;
        let (storages, pickle) = parts(&file).map_err(at)?;
        let source = Source {
            file: &file,
            storages: &storages,
            graph: &pickle.graph,
            budget: Budget::default(),
        };
        let contents = source.contents(pickle.root).map_err(at)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            contents,
        })
    }

    /// The optimizer's state, if the file has one.
    pub fn optimizer(&self) -> Option<&OptimizerState> {
        self.contents.optimizer.as_ref()
    }

    /// The number of steps that have been made, if the file says so.
    pub fn iteration(&self) -> Option<u64> {
        self.contents.iteration
    }

    /// Everything else, such as `config`. Tuples are arrays; infinite floats are `"inf"` and `"-inf"`, and
    /// those that are no number `"nan"`; tensors of one element are numbers, larger ones a text.
    pub fn metadata(&self) -> &Map<String, Value> {
        &self.contents.metadata
    }

    /// For each tensor the first one that has the same elements of the same storage: an earlier one where
    /// tensors are tied, otherwise itself.
    pub fn tied(&self) -> Vec<usize> {
        let mut first: FxHashMap<&View, usize> = FxHashMap::default();
        let views = self.contents.views.iter().enumerate();
        views
            .map(|(index, view)| match view.len {
                0 => index,
                _ => *first.entry(view).or_insert(index),
            })
            .collect()
    }

    /// For each tensor, which of [`OptimizerState::parameters`] it is, if it is any; tied tensors are the
    /// same one.
    ///
    /// An optimizer numbers its parameters. Where its groups name them, as `param_names`, the names decide.
    /// Otherwise the numbers of each group rise in the order of `model.parameters()`, which is that of the
    /// state dict without the buffers and without the repetitions of tied tensors; where there are several
    /// groups, the shapes have to tell which tensor belongs to which. `is_parameter` says which tensors are
    /// no buffers.
    ///
    /// # Errors
    /// When there is no optimizer; when a parameter fits no tensor or the other way round, with the first
    /// tensor that does not fit; and when more than one assignment would fit.
    pub fn match_optimizer(
        &self,
        is_parameter: impl Fn(&TensorInfo) -> bool,
    ) -> Result<Vec<Option<usize>>, InteropError> {
        let tied = self.tied();
        let infos = &self.contents.infos;
        let own = (0..infos.len()).filter(|i| tied[*i] == *i && is_parameter(&infos[*i]));
        let own: Vec<usize> = own.collect();
        let optimizer = self
            .optimizer()
            .ok_or_else(|| Problem::damaged("it holds no optimizer's state"));
        let matched = optimizer.and_then(|optimizer| matching::matched(infos, &own, optimizer));
        let matched = matched.map_err(|problem| problem.at(&self.path))?;
        let mut all = vec![None; infos.len()];
        for (index, parameter) in own.iter().zip(matched) {
            all[*index] = Some(parameter);
        }
        Ok(tied.iter().map(|first| all[*first]).collect())
    }

    /// The elements of a tensor of the optimizer's state as they are stored, row-major without gaps, little
    /// end first.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged there.
    pub fn read_moment(&self, moment: &Moment) -> Result<Vec<u8>, InteropError> {
        let bytes = moment.view.read(&self.file, &moment.info.name);
        bytes.map_err(|problem| problem.at(&self.path))
    }
}

impl TensorSource for TorchFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.contents.infos
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, InteropError> {
        let contents = &self.contents;
        let bytes = contents.views[index].read(&self.file, &contents.infos[index].name);
        bytes.map_err(|problem| problem.at(&self.path))
    }
}

/// The storages and the pickle of a file in either format.
fn parts(file: &PositionalFile) -> Result<(Storages, Pickle), Problem> {
    match *file.start(4)? {
        [b'P', b'K', 3, 4] => {
            let archive = Archive::read(file)?;
            if let Some(order) = archive.contents(file, "byteorder", 64)?
                && order != b"little"
            {
                return Err(Problem::unsupported("a file from a big-endian machine"));
            }
            let pickle = archive.contents(file, "data.pkl", MOST_PICKLE.into())?;
            let pickle = pickle
                .ok_or_else(|| Problem::damaged("its zip archive has no entry 'data.pkl'"))?;
            Ok((Storages::Archive(archive), pickle::run(&pickle)?))
        }
        [0x80, ..] => {
            let (pickle, places) = legacy::read(file, MOST_PICKLE as usize)?;
            Ok((Storages::Listed(places), pickle))
        }
        _ => Err(Problem::damaged(
            "it starts neither as a zip archive nor as a pickle",
        )),
    }
}
