//! Checkpoints: one safetensors file with parameters, moments and what a run needs to go on.

mod adapters;
mod error;
mod metadata;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use adapters::{Adapted, Adapters};

use crate::config::ModelConfig;
use crate::data::tokenizer::{TokenRoles, Tokenizer, TokenizerError};
use crate::interop::{self, ForeignModel, InteropError, PeftFolder, shape};
use crate::kernels::loss_scale::LossScale;
use crate::weights::{
    self, AdapterValues, EngineState, HostTensor, Parameter, ParameterTable, Role, WeightsError,
    WeightsFile,
};

pub use adapters::{Base, save_adapters};
pub use error::CheckpointError;
pub use metadata::Metadata;

/// A model in a file or folder, and what a run has noted in it.
#[derive(Debug)]
pub struct Checkpoint {
    weights: Weights,
    metadata: Option<Metadata>,
    /// Tokens that the model sees at most, where that is not its own number.
    context_length: Option<usize>,
}

/// Whose file it is.
#[derive(Debug)]
enum Weights {
    Own(WeightsFile),
    Foreign(Box<ForeignModel>),
    /// Adapters, of a run or of another program.
    Adapted(Box<Adapted>),
}

/// Where a run keeps its tokenizer, in its folder.
pub(crate) const TOKENIZER_FOLDER: &str = "tokenizer";
/// Adapters that may be beside a model, those of one being beside those of another.
const MOST_ADAPTERS: usize = 8;

impl Checkpoint {
    /// Opens a checkpoint, or a model of another program in any format that is read.
    ///
    /// # Errors
    /// When it is missing, damaged, or of no format that is known.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::open_beside(path, None)
    }

    /// [`Checkpoint::open`], where the model that adapters are of is `base`, if it does not lie where they say.
    ///
    /// # Errors
    /// As there.
    pub fn open_beside(path: &Path, base: Option<&Path>) -> Result<Self, CheckpointError> {
        Self::open_within(path, base, MOST_ADAPTERS)
    }

    fn open_within(path: &Path, base: Option<&Path>, most: usize) -> Result<Self, CheckpointError> {
        let adapted = |adapters: Adapters, metadata| {
            let Some(most) = most.checked_sub(1) else {
                return Err(CheckpointError::TooDeep {
                    path: path.to_owned(),
                    most: MOST_ADAPTERS,
                });
            };
            let base_path =
                base.map_or_else(|| adapters.base_path(), |base| Ok(base.to_owned()))?;
            let adapted = Adapted {
                adapters,
                base: Box::new(Self::open_within(&base_path, None, most)?),
                base_path,
            };
            Ok(Self {
                weights: Weights::Adapted(Box::new(adapted)),
                metadata,
                context_length: None,
            })
        };
        let unreadable = |error| match error {
            InteropError::Unreadable { path, source } => {
                WeightsError::Unreadable { path, source }.into()
            }
            other => CheckpointError::Interop(other),
        };
        let of = |weights, metadata| Self {
            weights,
            metadata,
            context_length: None,
        };
        match interop::kind_of(path).map_err(unreadable)? {
            interop::Kind::Safetensors => {
                let weights = WeightsFile::open(path)?;
                let metadata = weights.metadata().and_then(Metadata::from_map);
                if let Some(noted) = metadata {
                    return match &noted.base {
                        Some(base) => adapted(Adapters::of_run(weights, &noted, base), Some(noted)),
                        None => Ok(of(Weights::Own(weights), Some(noted))),
                    };
                }
            }
            interop::Kind::Peft => {
                let folder = PeftFolder::open(path)?;
                let opened = adapted(Adapters::Peft(folder), None)?;
                return Ok(opened);
            }
            _ => {}
        }
        let foreign = interop::open(path).map_err(unreadable)?;
        Ok(of(Weights::Foreign(Box::new(foreign)), None))
    }

    /// The model of another program, if it is one.
    pub fn foreign(&self) -> Option<&ForeignModel> {
        match &self.weights {
            Weights::Own(_) | Weights::Adapted(_) => None,
            Weights::Foreign(model) => Some(model),
        }
    }

    /// The model that it holds adapters of, if it holds adapters.
    pub fn base(&self) -> Option<&Checkpoint> {
        match &self.weights {
            Weights::Adapted(adapted) => Some(&adapted.base),
            _ => None,
        }
    }

    /// Where that model was opened.
    pub fn base_path(&self) -> Option<&Path> {
        match &self.weights {
            Weights::Adapted(adapted) => Some(&adapted.base_path),
            _ => None,
        }
    }

    /// What is known of the keys of a [`ModelConfig`].
    ///
    /// # Errors
    /// When a run's config is none of a model.
    pub fn known(&self) -> Result<Map<String, Value>, CheckpointError> {
        match &self.weights {
            Weights::Foreign(model) => Ok(model.known()),
            Weights::Adapted(adapted) if self.metadata.is_none() => adapted.base.known(),
            Weights::Own(_) | Weights::Adapted(_) => Ok(self.model()?.shape_keys()),
        }
    }

    /// Holds keys of a [`ModelConfig`] against those of the model, and adds them where the file of another program
    /// does not tell them; see [`ForeignModel::give`].
    ///
    /// # Errors
    /// When the model has another value.
    pub fn give(&mut self, keys: &Map<String, Value>) -> Result<(), CheckpointError> {
        let path = self.path();
        match &mut self.weights {
            Weights::Foreign(model) => Ok(model.give(keys)?),
            Weights::Adapted(adapted) if self.metadata.is_none() => adapted.base.give(keys),
            Weights::Own(_) | Weights::Adapted(_) => {
                Ok(shape::expect(&path, &self.known()?, keys)?)
            }
        }
    }

    /// Lets the model see at most `tokens` tokens, for less memory than all that it could see.
    ///
    /// # Errors
    /// When the model is none that can be built.
    pub fn limit_context(&mut self, tokens: usize) -> Result<(), CheckpointError> {
        let key = "context_length";
        let own = self.known()?.get(key).and_then(Value::as_u64);
        let own = own.and_then(|own| usize::try_from(own).ok());
        let limited = own.map_or(tokens, |own| own.min(tokens));
        match &mut self.weights {
            Weights::Foreign(model) => {
                let one = Map::from_iter([(key.to_owned(), limited.into())]);
                model.give(&one)?;
            }
            Weights::Adapted(adapted) if self.metadata.is_none() => {
                adapted.base.limit_context(tokens)?;
            }
            Weights::Own(_) | Weights::Adapted(_) => self.context_length = Some(limited),
        }
        self.model().map(|_| ())
    }

    /// Hash of the tokenizer that the model was trained with, if that is known.
    pub fn tokenizer_hash(&self) -> Option<String> {
        match (&self.metadata, &self.weights) {
            (Some(noted), _) => noted.tokenizer_hash.clone(),
            (None, Weights::Own(_)) => None,
            (None, Weights::Adapted(adapted)) => adapted.base.tokenizer_hash(),
            // One of a kind that is not supported has no hash.
            (None, Weights::Foreign(model)) => {
                let own = model.tokenizer().ok().flatten();
                own.map(|(tokenizer, _)| tokenizer.hash())
            }
        }
    }

    /// Checks that all parameters of a model of `config` are there, and in a file of another program nothing else
    /// but what is no weight: gives these.
    ///
    /// # Errors
    /// When one is missing, of another shape or type, or too many.
    pub fn check(&self, config: &ModelConfig) -> Result<Vec<String>, CheckpointError> {
        match &self.weights {
            Weights::Own(_) => Ok(Vec::new()),
            Weights::Foreign(model) => Ok(model.check(config)?),
            Weights::Adapted(adapted) => {
                if let Adapters::Peft(folder) = &adapted.adapters {
                    folder.check(config)?;
                }
                adapted.base.check(config)
            }
        }
    }

    /// A parameter of a model of `config`; with adapters, the sum of theirs and the model's that they are of.
    ///
    /// # Errors
    /// When it is missing, of another shape or type, or damaged.
    pub fn read(
        &self,
        config: &ModelConfig,
        parameter: &Parameter,
    ) -> Result<HostTensor, CheckpointError> {
        match &self.weights {
            Weights::Own(file) => Ok(file.read("", parameter)?),
            Weights::Foreign(model) => Ok(model.read(config, parameter)?),
            Weights::Adapted(adapted) => adapted.merged(config, parameter),
        }
    }

    /// The adapters of a model of `config`, each with the weight that it is beside; none of a model that has none.
    ///
    /// # Errors
    /// When one is damaged or does not fit the model.
    pub fn adapters(
        &self,
        config: &ModelConfig,
    ) -> Result<Vec<(Parameter, AdapterValues)>, CheckpointError> {
        let Weights::Adapted(adapted) = &self.weights else {
            return Ok(Vec::new());
        };
        let table = ParameterTable::new(config, &[], usize::MAX);
        let mut all = Vec::new();
        for weight in table.iter().filter(|p| p.is_of_linear()) {
            if let Some(values) = adapted.adapters.read(config, weight)? {
                all.push((weight.clone(), values));
            }
        }
        Ok(all)
    }

    /// The file or folder.
    pub fn path(&self) -> PathBuf {
        match &self.weights {
            Weights::Own(file) => file.path().to_owned(),
            Weights::Foreign(model) => model.path().to_owned(),
            Weights::Adapted(adapted) => adapted.adapters.path().to_owned(),
        }
    }

    /// The metadata of one of our own checkpoints, if it is one.
    pub fn noted(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// The metadata of one of our own checkpoints.
    ///
    /// # Errors
    /// When there is none, as in a file of bare weights.
    pub fn metadata(&self) -> Result<&Metadata, CheckpointError> {
        self.metadata
            .as_ref()
            .ok_or_else(|| CheckpointError::NoRun { path: self.path() })
    }

    /// The shape of the model.
    ///
    /// # Errors
    /// When the file does not tell it, or it is none that can be built.
    pub fn model(&self) -> Result<ModelConfig, CheckpointError> {
        let mut model = match &self.weights {
            Weights::Foreign(model) => model.config()?,
            Weights::Adapted(adapted) if self.metadata.is_none() => adapted.base.model()?,
            Weights::Own(_) | Weights::Adapted(_) => {
                let config = Value::Object(self.metadata()?.config.clone());
                serde_json::from_value(config).map_err(|e| CheckpointError::Config {
                    path: self.path(),
                    reason: e.to_string(),
                })?
            }
        };
        model.context_length = self.context_length.unwrap_or(model.context_length);
        model = model.normalised();
        let bad = |source| CheckpointError::BadModel {
            path: self.path(),
            source,
        };
        model.check().map_err(bad)?;
        Ok(model)
    }

    /// Checks that the checkpoint is of `model`.
    ///
    /// # Errors
    /// When a key of the model differs; the error names it and both values.
    pub fn expect_model(&self, model: &ModelConfig) -> Result<(), CheckpointError> {
        let value = |m: &ModelConfig| serde_json::to_value(m).unwrap_or_default();
        let (found, wanted) = (value(&self.model()?), value(model));
        // A width of heads that follows from others is in neither.
        let objects = [&found, &wanted].into_iter().filter_map(Value::as_object);
        let mut keys = objects.flat_map(Map::keys);
        match keys.find(|key| wanted[*key] != found[*key]) {
            None => Ok(()),
            Some(key) => Err(CheckpointError::OtherModel {
                path: self.path(),
                key: key.clone(),
                found: found[key].to_string(),
                wanted: wanted[key].to_string(),
            }),
        }
    }

    /// Checks that the checkpoint's tokenizer is `hash`, where both are known.
    ///
    /// # Errors
    /// When they differ.
    pub fn expect_tokenizer(&self, hash: Option<&str>) -> Result<(), CheckpointError> {
        let found = self.tokenizer_hash();
        let found = found.as_deref();
        match (found, hash) {
            (Some(found), Some(given)) if found != given => Err(CheckpointError::OtherTokenizer {
                path: self.path(),
                found: found.chars().take(12).collect(),
                given: given.chars().take(12).collect(),
            }),
            _ => Ok(()),
        }
    }

    fn loss_scale(&self) -> Option<LossScale> {
        let file = self.own_file()?;
        let text = file.metadata()?.get(LOSS_SCALE)?;
        serde_json::from_str(text).ok()
    }

    /// The file of a run.
    fn own_file(&self) -> Option<&WeightsFile> {
        match &self.weights {
            Weights::Own(file) => Some(file),
            Weights::Foreign(_) => None,
            Weights::Adapted(adapted) => match &adapted.adapters {
                Adapters::Own { file, .. } => Some(file),
                Adapters::Peft(_) => None,
            },
        }
    }

    /// What an engine of `table` starts from: the model's parameters, and new adapters, if the table has some, as
    /// `seed` has them.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or damaged.
    pub fn initial_state(
        &self,
        table: &ParameterTable,
        seed: u64,
    ) -> Result<EngineState, CheckpointError> {
        let read = |(index, p)| self.initial_value(table, index, p, seed);
        let parameters = table.iter().enumerate().map(read);
        Ok(EngineState {
            parameters: parameters.collect::<Result<_, _>>()?,
            moments: None,
            loss_scale: None,
        })
    }

    /// [`Checkpoint::initial_state`] of one parameter.
    ///
    /// # Errors
    /// As there.
    pub fn initial_value(
        &self,
        table: &ParameterTable,
        index: usize,
        parameter: &Parameter,
        seed: u64,
    ) -> Result<HostTensor, CheckpointError> {
        match parameter.is_of_adapter() {
            true => Ok(table.initial_values(index, seed)),
            false => self.read(table.config(), parameter),
        }
    }

    /// What an engine of `table` goes on from, moments included.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or damaged.
    pub fn state(&self, table: &ParameterTable) -> Result<EngineState, CheckpointError> {
        let parameters = table.iter().map(|p| self.value(table.config(), p));
        let (moments, loss_scale) = self.progress(table)?;
        Ok(EngineState {
            parameters: parameters.collect::<Result<_, _>>()?,
            moments: Some(moments),
            loss_scale,
        })
    }

    /// [`Checkpoint::state`] of one parameter: adapters and the model that they are of apart.
    ///
    /// # Errors
    /// As there.
    pub fn value(
        &self,
        config: &ModelConfig,
        parameter: &Parameter,
    ) -> Result<HostTensor, CheckpointError> {
        match &self.weights {
            Weights::Adapted(adapted) if !parameter.is_of_adapter() => {
                adapted.of_base(config, parameter)
            }
            _ => match self.own_file() {
                Some(file) => Ok(file.read("", parameter)?),
                None => Err(CheckpointError::NoRun { path: self.path() }),
            },
        }
    }

    /// [`Checkpoint::state`] without the parameters.
    ///
    /// # Errors
    /// As there.
    pub fn progress(&self, table: &ParameterTable) -> Result<Progress, CheckpointError> {
        let moments = [self.moments(table, MOMENT1)?, self.moments(table, MOMENT2)?];
        Ok((moments, self.loss_scale()))
    }

    /// Both moments of AdamW of a model of `config`, if the file has them of all parameters, the iterations that are
    /// done, and the settings that it notes.
    ///
    /// # Errors
    /// When a tensor is missing, of another shape, or damaged.
    pub fn stored_moments(&self, config: &ModelConfig) -> Result<Stored, CheckpointError> {
        let table = ParameterTable::new(config, &[], usize::MAX);
        match &self.weights {
            Weights::Own(_) => {
                let moments = match self.has_all_moments(&table) {
                    true => Some([
                        self.moments(&table, MOMENT1)?,
                        self.moments(&table, MOMENT2)?,
                    ]),
                    false => None,
                };
                let noted = self.metadata.as_ref();
                let iteration = noted.map_or(0, |noted| noted.iteration);
                let settings = noted.map(|noted| noted.config.clone());
                Ok((moments, iteration, settings.unwrap_or_default()))
            }
            // Those of adapters are of no parameter of the model.
            Weights::Adapted(_) => Ok((None, 0, Map::new())),
            Weights::Foreign(model) => {
                let stored = model.moments(&table)?;
                let iteration = stored.as_ref().map(|stored| stored.steps);
                let iteration = iteration.or(model.iteration()).unwrap_or(0);
                let (moments, settings) = stored.map(|s| (s.moments, s.settings)).unzip();
                Ok((moments, iteration, settings.unwrap_or_default()))
            }
        }
    }

    /// The tokenizer that came with the model, and the roles of its tokens, if one did; of a model that a run has
    /// trained, that of the run, where it is still there.
    ///
    /// # Errors
    /// When it is damaged or of a kind that is not supported.
    pub fn tokenizer(&self) -> Result<Option<(Tokenizer, TokenRoles)>, TokenizerError> {
        match self.tokenizer_of_files()? {
            Some(own) => Ok(Some(own)),
            None => self.tokenizer_of_run(),
        }
    }

    /// [`Checkpoint::tokenizer`] from the model's own files alone.
    ///
    /// # Errors
    /// As there.
    pub fn tokenizer_of_files(&self) -> Result<Option<(Tokenizer, TokenRoles)>, TokenizerError> {
        match &self.weights {
            Weights::Own(_) => Ok(None),
            Weights::Foreign(model) => model.tokenizer(),
            Weights::Adapted(adapted) => adapted.base.tokenizer(),
        }
    }

    /// The tokenizer that the run has noted or kept in its folder, unless it is another one by now.
    fn tokenizer_of_run(&self) -> Result<Option<(Tokenizer, TokenRoles)>, TokenizerError> {
        let Some(noted) = &self.metadata else {
            return Ok(None);
        };
        let path = self.path();
        let folder = path.parent().and_then(Path::parent);
        let kept = folder.map(|folder| folder.join(TOKENIZER_FOLDER));
        let key = noted.config.get("tokenizer").and_then(Value::as_str);
        for path in key.map(PathBuf::from).into_iter().chain(kept) {
            if !path.exists() {
                continue;
            }
            let (tokenizer, roles) = Tokenizer::load_with_roles(&path)?;
            if noted.tokenizer_hash == Some(tokenizer.hash()) {
                return Ok(Some((tokenizer, roles)));
            }
        }
        Ok(None)
    }

    /// Not so where a part of the model was trained.
    fn has_all_moments(&self, table: &ParameterTable) -> bool {
        let has = |file: &WeightsFile| {
            let mut names = table.iter().map(|p| format!("{MOMENT1}{}", p.name));
            names.all(|name| file.has(&name))
        };
        self.own_file().is_some_and(has)
    }

    fn has_moments(&self) -> bool {
        let file = self.own_file();
        file.is_some_and(|file| file.has_any(MOMENT1))
    }

    fn moments(
        &self,
        table: &ParameterTable,
        prefix: &str,
    ) -> Result<Vec<HostTensor>, CheckpointError> {
        let file = self.own_file().filter(|_| self.has_moments());
        let file = file.ok_or_else(|| CheckpointError::NoMoments { path: self.path() })?;
        let trained = table.iter().filter(|p| p.role == Role::Trainable);
        Ok(trained
            .map(|p| file.read(prefix, p))
            .collect::<Result<_, _>>()?)
    }
}

/// Both moments of what is trained, and the loss scale of mixed precision.
pub type Progress = ([Vec<HostTensor>; 2], Option<LossScale>);

/// Moments, iterations that are done, and settings of a run.
pub type Stored = (Option<[Vec<HostTensor>; 2]>, u64, Map<String, Value>);

/// Key of the loss scale's state in a file's metadata.
const LOSS_SCALE: &str = "loss_scale";
/// Prefixes of the moments' names in a file.
const MOMENT1: &str = "optimizer.moment1.";
const MOMENT2: &str = "optimizer.moment2.";

/// Writes a checkpoint of `state`, whose parameters are those of `table` that a checkpoint holds: to a temporary file that is synced
/// and renamed, so that a crash leaves the one before whole.
///
/// # Errors
/// When the disk fails.
pub fn save(
    path: &Path,
    table: &ParameterTable,
    state: &EngineState,
    metadata: &Metadata,
) -> Result<(), CheckpointError> {
    let named = |prefix: &'static str, tensors, trained_only: bool| {
        let trained_only = trained_only || table.is_adapted();
        let wanted = move |p: &&Parameter| !trained_only || p.role == Role::Trainable;
        let parameters = table.iter().filter(wanted).zip(tensors);
        parameters.map(move |(p, tensor)| (format!("{prefix}{}", p.name), p.shape(), tensor))
    };
    let [moment1, moment2]: [&[HostTensor]; 2] = match &state.moments {
        Some([first, second]) => [first, second],
        None => [&[], &[]],
    };
    let tensors = named("", &state.parameters[..], false)
        .chain(named(MOMENT1, moment1, true))
        .chain(named(MOMENT2, moment2, true));
    let mut map = metadata.to_map();
    if let Some(text) = state
        .loss_scale
        .and_then(|s| serde_json::to_string(&s).ok())
    {
        map.insert(LOSS_SCALE.to_owned(), text);
    }
    weights::write(path, tensors, map).map_err(|source| CheckpointError::Unwritable {
        path: path.to_owned(),
        source,
    })
}
