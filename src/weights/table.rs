//! The one table of parameters: name, shape, storage type, role, place, decay and initial
//! distribution.

use std::collections::BTreeMap;

use super::adapters::{self, Adapter};
use super::host::SIZE_BYTES;
use super::packing::{holds, packed, unpacked};
use super::patterns::{expect_matches, matches_pattern};
use super::shapes::{POSITION_EMBEDDINGS, Shape, shapes};
use super::{FlatIds, HostTensor, StorageType};
use crate::config::{ConfigError, ModelConfig, TrainConfig};
use crate::gpu::tensor::{COLUMNS_MULTIPLE, align_words};
use crate::gpu::{Buffers, Device, GpuError, Memory, Plan, Tensor};
use crate::parallel;
use crate::random::{Philox, Stream};

/// Names one parameter of a [`ParameterTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterId(usize);

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with this standard deviation, cut at three of them.
    TruncatedNormal {
        /// Before cutting.
        std: f64,
    },
    /// Uniform in `[-bound, bound)`.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// A vector of ones.
    Ones,
    /// A vector of zeros.
    Zeros,
    /// A matrix of zeros.
    ZeroMatrix,
}

impl Init {
    /// Whether it is that of a vector: a gain or a bias.
    pub(super) fn is_of_vector(self) -> bool {
        matches!(self, Self::Ones | Self::Zeros)
    }
}

/// Whether training changes a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has a gradient, moments and updates.
    Trainable,
    /// It stays as it is, and has none of these.
    Frozen,
}

impl Role {
    fn of(is_frozen: bool) -> Self {
        if is_frozen {
            Self::Frozen
        } else {
            Self::Trainable
        }
    }
}

/// One parameter tensor.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name in checkpoints and messages.
    pub name: String,
    /// Rows; 1 for a gain or a bias.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// How a device stores its elements.
    pub storage: StorageType,
    /// Whether it is trained.
    pub role: Role,
    /// Whether weight decay applies.
    pub decays: bool,
    /// Initial distribution.
    pub init: Init,
    /// Where its rows lie: one part, unless they are more than one binding may cover.
    pub parts: Vec<ParameterPart>,
}

/// Some rows of a parameter in one of the flat buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterPart {
    /// Which buffer.
    pub buffer: usize,
    /// First word in it.
    pub offset: usize,
    /// Number of rows.
    pub rows: usize,
}

impl Parameter {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a file may have more rows than are needed: vectors of positions that nobody reaches.
    pub fn may_be_longer(&self) -> bool {
        self.name == POSITION_EMBEDDINGS
    }

    /// Whether it is the matrix of a linear layer of a block, which an adapter may be beside.
    pub fn is_of_linear(&self) -> bool {
        self.name.starts_with("layers.") && !self.is_vector() && !self.is_of_adapter()
    }

    /// Whether it is a matrix of an adapter.
    pub fn is_of_adapter(&self) -> bool {
        adapters::adapted_name(&self.name).is_some()
    }

    /// Whether it is one row: a gain or a bias.
    pub fn is_vector(&self) -> bool {
        self.init.is_of_vector()
    }

    /// Writes it to the flat buffers `ids`, as a device stores it.
    ///
    /// # Panics
    /// If the tensor has another number of elements: a bug of the caller.
    pub fn write(&self, device: &Device, buffers: &Buffers, ids: &FlatIds, tensor: &HostTensor) {
        assert_eq!(tensor.len(), self.len(), "{}", self.name);
        let mut rest = tensor.bytes();
        for part in &self.parts {
            let (now, later) = rest.split_at(part.rows * self.cols * SIZE_BYTES);
            let id = ids.of(part.buffer);
            if self.storage == StorageType::F32 {
                buffers.write(device, id, part.offset, now);
            } else {
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(now);
                let words = packed(self.storage, &values, self.cols);
                buffers.write(device, id, part.offset, &words);
            }
            rest = later;
        }
    }

    /// Makes sure that a device can hold these values of it, as it stores them.
    ///
    /// # Errors
    /// When one of them would be no finite number there; the error names it and the parameter.
    pub fn expect_fitting(&self, tensor: &HostTensor) -> Result<(), ConfigError> {
        if self.storage == StorageType::F32 {
            return Ok(());
        }
        let values = tensor.to_f32();
        let Some(index) = values.iter().position(|&v| !holds(self.storage, v)) else {
            return Ok(());
        };
        let (row, col) = (index / self.cols, index % self.cols);
        Err(ConfigError::Invalid {
            key: "frozen_type",
            found: self.storage.name().to_owned(),
            rule: format!(
                "it does not hold {:e}, which {} has in row {row}, column {col}; set f32",
                values[index], self.name
            ),
        })
    }

    /// Reads it from the flat buffers `ids`, waiting for all submitted work.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(
        &self,
        device: &Device,
        buffers: &Buffers,
        ids: &FlatIds,
    ) -> Result<HostTensor, GpuError> {
        let mut bytes = Vec::with_capacity(self.len() * SIZE_BYTES);
        for part in &self.parts {
            let words = self.storage.words(part.rows, self.cols);
            let words: Vec<u32> = buffers.read(device, ids.of(part.buffer), part.offset, words)?;
            if self.storage == StorageType::F32 {
                bytes.extend_from_slice(bytemuck::cast_slice(&words));
            } else {
                let values = unpacked(self.storage, &words, [part.rows, self.cols]);
                bytes.extend_from_slice(bytemuck::cast_slice(&values));
            }
        }
        Ok(HostTensor::new(bytes))
    }

    /// The shape as checkpoints write it: `[cols]` for a gain or a bias, `[rows, cols]` for a matrix.
    pub fn shape(&self) -> Vec<usize> {
        if self.is_vector() {
            vec![self.cols]
        } else {
            vec![self.rows, self.cols]
        }
    }
}

/// Elements of a part of a matrix that is not stored as f32, however large bindings may be: as f32, which it becomes
/// in front of a product, 128 MiB.
pub const MOST_UNPACKED: usize = 1 << 25;
/// Rows between the starts of two parts, each of which makes some columns of an output.
const PART_ROWS: usize = COLUMNS_MULTIPLE;

/// Every parameter of a model and its place in flat buffers, which parameters, gradients and both
/// moments share.
#[derive(Clone, Debug)]
pub struct ParameterTable {
    config: ModelConfig,
    parameters: Vec<Parameter>,
    /// By the place of the weight that each is beside.
    adapters: BTreeMap<usize, Adapter>,
    buffers: Vec<FlatBuffer>,
}

/// One of the flat buffers, which holds parameters of one role that are stored in one way.
#[derive(Clone, Copy, Debug)]
struct FlatBuffer {
    words: usize,
    role: Role,
    storage: StorageType,
}

impl ParameterTable {
    /// Lays out the parameters of `config` in buffers of at most `max_buffer_words`; a tensor
    /// larger than that is cut between rows. (One of which 128 rows are larger gets a buffer that
    /// the device then refuses by name.)
    ///
    /// `no_decay` holds patterns of names without weight decay: a part of the name, in which `*`
    /// stands for anything.
    pub fn new(config: &ModelConfig, no_decay: &[String], max_buffer_words: usize) -> Self {
        let mut table = Self::empty(config);
        for shape in shapes(config) {
            table.add(shape, no_decay, |_| false);
        }
        table.placed(max_buffer_words)
    }

    /// [`ParameterTable::new`] for `train`, in which some parameters stay as they are, and adapters may be
    /// trained in place of the model's own.
    ///
    /// # Errors
    /// When a pattern matches nothing, nothing is left to train, or the rank of adapters is over the width of
    /// a layer.
    pub fn for_training(
        config: &ModelConfig,
        train: &TrainConfig,
        max_buffer_words: usize,
    ) -> Result<Self, ConfigError> {
        let mut table = Self::empty(config);
        let shapes = shapes(config);
        expect_matches(&shapes, &train.freeze)?;
        let matches = |name: &str| train.freeze.iter().any(|p| matches_pattern(name, p));
        let mut of_adapters = Vec::new();
        if let Some(lora) = &train.lora {
            for index in adapters::targets(&shapes, lora)? {
                let matrices = adapters::matrices(&shapes[index], lora.rank);
                of_adapters.push((index, matrices, lora));
            }
        }
        let is_adapted = train.lora.is_some();
        for shape in shapes {
            table.add(shape, &train.no_decay, |name| is_adapted || matches(name));
        }
        for (weight, matrices, lora) in of_adapters {
            let [a, b] = matrices.map(|shape| table.add(shape, &train.no_decay, |_| false));
            let (scale, alpha) = (lora.scale(), lora.alpha);
            table
                .adapters
                .insert(weight, Adapter { a, b, scale, alpha });
        }
        if table.iter().all(|p| p.role == Role::Frozen) {
            return Err(ConfigError::Invalid {
                key: "freeze",
                found: train.freeze.join(","),
                rule: "nothing would be left to train; freeze less".to_owned(),
            });
        }
        table.store_frozen(train.frozen_type)?;
        Ok(table.placed(max_buffer_words))
    }

    /// Has matrices that stay as they are stored as `storage`; gains and biases are too small to matter.
    fn store_frozen(&mut self, storage: StorageType) -> Result<(), ConfigError> {
        if storage == StorageType::F32 {
            return Ok(());
        }
        let invalid = |rule: &str| ConfigError::Invalid {
            key: "frozen_type",
            found: storage.name().to_owned(),
            rule: rule.to_owned(),
        };
        let is_frozen = |p: &&mut Parameter| p.role == Role::Frozen && !p.is_vector();
        let mut frozen = self.parameters.iter_mut().filter(is_frozen).peekable();
        if frozen.peek().is_none() {
            return Err(invalid(
                "every matrix is trained, in f32; leave it out, or set lora_rank or freeze",
            ));
        }
        let multiple = storage.cols_multiple();
        for parameter in frozen {
            if !parameter.cols.is_multiple_of(multiple) {
                let (name, cols) = (&parameter.name, parameter.cols);
                return Err(invalid(&format!(
                    "{name} has rows of {cols}, no multiple of {multiple}; set f16"
                )));
            }
            parameter.storage = storage;
        }
        Ok(())
    }

    fn empty(config: &ModelConfig) -> Self {
        Self {
            config: config.clone(),
            parameters: Vec::new(),
            adapters: BTreeMap::new(),
            buffers: Vec::new(),
        }
    }

    fn add(
        &mut self,
        shape: Shape,
        no_decay: &[String],
        is_frozen: impl Fn(&str) -> bool,
    ) -> ParameterId {
        let Shape {
            name,
            rows,
            cols,
            init,
        } = shape;
        self.parameters.push(Parameter {
            storage: StorageType::F32,
            role: Role::of(is_frozen(&name)),
            decays: !no_decay.iter().any(|p| matches_pattern(&name, p)),
            name,
            rows,
            cols,
            init,
            parts: Vec::new(),
        });
        ParameterId(self.parameters.len() - 1)
    }

    fn placed(mut self, max_buffer_words: usize) -> Self {
        for index in self.in_memory() {
            self.place(index, max_buffer_words);
        }
        self
    }

    /// The adapter beside a weight, if it has one.
    pub fn adapter(&self, weight: ParameterId) -> Option<Adapter> {
        self.adapters.get(&weight.0).copied()
    }

    /// Whether there are adapters, which are all that is trained.
    pub fn is_adapted(&self) -> bool {
        !self.adapters.is_empty()
    }

    /// Places in the table in the order in which parameters lie in memory: those of layers that read the
    /// same input follow each other, so that they can make one product.
    fn in_memory(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.parameters.len()).collect();
        // Up stands behind down in the table, and belongs beside the gate.
        let is_down = |index: usize| self.parameters[index].name.ends_with("ffn.w2.weight");
        order.sort_by_key(|&index| 2 * index + if is_down(index) { 3 } else { 0 });
        order
    }

    fn place(&mut self, index: usize, max_buffer_words: usize) {
        let parameter = &self.parameters[index];
        let (role, storage) = (parameter.role, parameter.storage);
        // Whatever it is stored as, a part is of f32 where a product takes it, and has to be bound there.
        let most = match storage {
            StorageType::F32 => max_buffer_words,
            _ => max_buffer_words.min(MOST_UNPACKED),
        };
        let rows_of_a_part = if align_words(parameter.len()) <= most {
            parameter.rows
        } else {
            let fitting = most / parameter.cols;
            (fitting / PART_ROWS * PART_ROWS).max(PART_ROWS)
        };
        // Right behind the weight with which it makes one matrix; others so that their halves can be bound.
        let continues = ["attn.k_proj.weight", "attn.v_proj.weight", "ffn.w3.weight"]
            .iter()
            .any(|name| parameter.name.ends_with(name));
        let mut parts = Vec::new();
        for first in (0..parameter.rows).step_by(rows_of_a_part) {
            let rows = rows_of_a_part.min(parameter.rows - first);
            let words = align_words(storage.words(rows, parameter.cols));
            let place = |b: &FlatBuffer| match continues {
                true => b.words,
                false => b.words.next_multiple_of(COLUMNS_MULTIPLE),
            };
            let is_alike = |b: &FlatBuffer| (b.role, b.storage) == (role, storage);
            let last = self.buffers.iter().rposition(is_alike);
            let last = last.filter(|&at| place(&self.buffers[at]) + words <= max_buffer_words);
            let buffer = last.unwrap_or_else(|| {
                self.buffers.push(FlatBuffer {
                    words: 0,
                    role,
                    storage,
                });
                self.buffers.len() - 1
            });
            let offset = place(&self.buffers[buffer]);
            parts.push(ParameterPart {
                buffer,
                offset,
                rows,
            });
            self.buffers[buffer].words = offset + words;
        }
        self.parameters[index].parts = parts;
    }

    /// The model that it is of.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter()
    }

    /// Number of elements over all parameters.
    pub fn count(&self) -> usize {
        self.parameters.iter().map(Parameter::len).sum()
    }

    /// Words that a device holds of all parameters: their values, and of those that are trained gradients and both
    /// moments too.
    pub fn device_words(&self) -> usize {
        let words = |p: &Parameter| {
            let values = p.storage.words(p.rows, p.cols);
            match p.role {
                Role::Trainable => 4 * values,
                Role::Frozen => values,
            }
        };
        self.parameters.iter().map(words).sum()
    }

    /// Number of elements over the parameters that are trained.
    pub fn trained_count(&self) -> usize {
        let trained = self.parameters.iter().filter(|p| p.role == Role::Trainable);
        trained.map(Parameter::len).sum()
    }

    /// The parameter of that name.
    ///
    /// # Panics
    /// If there is none: layers ask for names that the table's own constructor made.
    pub fn id(&self, name: &str) -> ParameterId {
        let found = self.parameters.iter().position(|p| p.name == name);
        ParameterId(found.unwrap_or_else(|| panic!("the table has no '{name}'")))
    }

    /// Initial values of one parameter: a pure function of the seed and its place in the table.
    #[allow(clippy::cast_possible_truncation, reason = "draws are rounded to f32")]
    pub fn initial_values(&self, index: usize, seed: u64) -> HostTensor {
        let parameter = &self.parameters[index];
        let values = match parameter.init {
            Init::Ones => vec![1.0; parameter.len()],
            Init::Zeros | Init::ZeroMatrix => vec![0.0; parameter.len()],
            Init::Uniform { bound } => {
                let random = Philox::new(seed, Stream::Init);
                let first = (index as u64) << 40;
                parallel::map_indices(parameter.len(), |i| {
                    ((2.0 * random.uniform(first + i as u64) - 1.0) * bound) as f32
                })
            }
            Init::TruncatedNormal { std } => {
                let random = Philox::new(seed, Stream::Init);
                let first = (index as u64) << 40;
                parallel::map_indices(parameter.len(), |i| {
                    (random.truncated_normal(first + i as u64, 3.0) * std) as f32
                })
            }
        };
        HostTensor::from_f32(&values)
    }

    /// Declares a buffer of `what` for each flat buffer of the table.
    pub fn declare(&self, memory: &mut Memory, what: &str) -> FlatIds {
        self.declare_where(memory, what, |_| true)
    }

    /// Declares a buffer of `what` for each flat buffer of parameters that are trained.
    pub fn declare_trained(&self, memory: &mut Memory, what: &str) -> FlatIds {
        self.declare_where(memory, what, |buffer| buffer.role == Role::Trainable)
    }

    fn declare_where(
        &self,
        memory: &mut Memory,
        what: &str,
        wanted: impl Fn(&FlatBuffer) -> bool,
    ) -> FlatIds {
        let declare = |(i, buffer): (usize, &FlatBuffer)| {
            let label = if i == 0 {
                what.to_owned()
            } else {
                format!("{what} {i}")
            };
            wanted(buffer).then(|| memory.declare(label, buffer.words))
        };
        FlatIds::new(self.buffers.iter().enumerate().map(declare).collect())
    }

    /// The parts of each parameter in `buffers`, as [`ParameterTable::declare`] or
    /// [`ParameterTable::declare_trained`] made them; no part where there is no buffer. The elements of tensors
    /// are as the parameters' are stored.
    pub fn bind(&self, plan: &mut Plan, memory: &Memory, buffers: &FlatIds) -> Vec<Vec<Tensor>> {
        let whole: Vec<Option<Tensor>> = buffers
            .all()
            .map(|id| id.map(|id| plan.persistent(memory, id)))
            .collect();
        let tensor = |part: &ParameterPart, p: &Parameter| {
            let words = p.storage.words(part.rows, p.cols);
            let own = whole[part.buffer]?.slice(part.offset, words);
            Some(p.storage.view(own, part.rows, p.cols))
        };
        let tensors = |p: &Parameter| {
            let parts = p.parts.iter();
            parts.filter_map(|part| tensor(part, p)).collect()
        };
        self.parameters.iter().map(tensors).collect()
    }

    /// Ranges of each flat buffer of trained parameters that share the same decay: `(buffer, first
    /// word, words, decays)`.
    pub fn decay_ranges(&self) -> Vec<(usize, usize, usize, bool)> {
        let mut ranges: Vec<(usize, usize, usize, bool)> = Vec::new();
        let in_memory = self.in_memory();
        let parameters = in_memory.iter().map(|&index| &self.parameters[index]);
        for p in parameters.filter(|p| p.role == Role::Trainable) {
            for part in &p.parts {
                let words = align_words(p.storage.words(part.rows, p.cols));
                match ranges.last_mut() {
                    Some(last) if last.0 == part.buffer && last.3 == p.decays => {
                        last.2 = part.offset + words - last.1;
                    }
                    last => {
                        // The gap before it goes along.
                        let before = last.filter(|last| last.0 == part.buffer);
                        let first = before.map_or(0, |last| last.1 + last.2);
                        let words = part.offset + words - first;
                        ranges.push((part.buffer, first, words, p.decays));
                    }
                }
            }
        }
        ranges
    }
}

impl std::ops::Index<ParameterId> for ParameterTable {
    type Output = Parameter;

    fn index(&self, id: ParameterId) -> &Parameter {
        &self.parameters[id.0]
    }
}

impl ParameterId {
    /// Place in the table.
    pub fn index(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Architecture, Precision, Settings};

    #[test]
    fn tensors_past_a_buffers_end_go_to_the_next_or_are_cut() {
        let config = ModelConfig {
            vocab_size: 200,
            context_length: 8,
            d_model: 16,
            num_layers: 2,
            num_heads: 1,
            num_kv_heads: 1,
            d_ff: 24,
            rope_theta: 1e4,
            norm_eps: 1e-5,
            tie_embeddings: false,
            precision: Precision::F32,
            architecture: Architecture::default(),
        };
        let table = ParameterTable::new(&config, &["ln".to_owned()], 2048);
        assert_eq!(table[table.id("lm_head.weight")].parts.len(), 2);
        assert_eq!(table[table.id("layers.0.ffn.w1.weight")].parts.len(), 1);
        assert!(table.buffers.iter().all(|buffer| buffer.words <= 2048));
        for p in table.iter() {
            assert_eq!(p.parts.iter().map(|part| part.rows).sum::<usize>(), p.rows);
            for part in &p.parts {
                let end = part.offset + part.rows * p.cols;
                assert!(end <= table.buffers[part.buffer].words, "{}", p.name);
            }
        }
        let covered: usize = table.decay_ranges().iter().map(|r| r.2).sum();
        let words: usize = table.buffers.iter().map(|buffer| buffer.words).sum();
        assert_eq!(covered, words);
    }

    fn for_training(settings: Settings) -> Result<ParameterTable, ConfigError> {
        let settings = Settings {
            vocab_size: Some(64),
            d_model: 32,
            num_layers: 2,
            num_heads: 2,
            d_ff: Some(48),
            ..settings
        };
        ParameterTable::for_training(&settings.model(None)?, &settings.train()?, 1 << 25)
    }

    #[test]
    fn with_adapters_nothing_else_is_trained() {
        let table = for_training(Settings {
            lora_rank: 4,
            lora_alpha: Some(6.0),
            lora_targets: vec!["attn.v".to_owned(), "layers.1.ffn.w2".to_owned()],
            ..Settings::default()
        });
        let table = table.unwrap();
        let trained = table.iter().filter(|p| p.role == Role::Trainable);
        let trained: Vec<(&str, usize, usize)> =
            trained.map(|p| (p.name.as_str(), p.rows, p.cols)).collect();
        let wanted = [
            ("layers.0.attn.v_proj.lora_A.weight", 4, 32),
            ("layers.0.attn.v_proj.lora_B.weight", 32, 4),
            ("layers.1.attn.v_proj.lora_A.weight", 4, 32),
            ("layers.1.attn.v_proj.lora_B.weight", 32, 4),
            ("layers.1.ffn.w2.lora_A.weight", 4, 48),
            ("layers.1.ffn.w2.lora_B.weight", 32, 4),
        ];
        assert_eq!(trained, wanted);
        let adapter = table.adapter(table.id("layers.1.ffn.w2.weight")).unwrap();
        assert_eq!(table[adapter.a].name, wanted[4].0);
        assert_eq!(table[adapter.b].name, wanted[5].0);
        assert_eq!(adapter.scale, 1.5);
        assert_eq!(table.adapter(table.id("layers.0.ffn.w2.weight")), None);
    }

    #[test]
    fn frozen_matrices_alone_are_held_in_less_and_a_value_that_does_not_fit_is_named() {
        let table = for_training(Settings {
            freeze: ["ln1", "q_proj", "embed"].map(str::to_owned).to_vec(),
            frozen_type: StorageType::F16,
            ..Settings::default()
        });
        let table = table.unwrap();
        let held = table.iter().filter(|p| p.storage == StorageType::F16);
        let held: Vec<&str> = held.map(|p| p.name.as_str()).collect();
        let wanted = [
            "token_embeddings",
            "layers.0.attn.q_proj",
            "layers.1.attn.q_proj",
        ];
        assert_eq!(held, wanted.map(|name| format!("{name}.weight")));
        // A buffer for each role and type.
        let kinds = table.buffers.iter().map(|b| (b.role, b.storage));
        let (f16, f32) = (StorageType::F16, StorageType::F32);
        let all = [
            (Role::Frozen, f16),
            (Role::Frozen, f32),
            (Role::Trainable, f32),
        ];
        assert_eq!(kinds.collect::<Vec<_>>(), all);
        let message = "key 'frozen_type' is f16, but it does not hold 7e4, which \
                       layers.1.attn.q_proj.weight has in row 0, column 31; set f32";
        for (name, refused) in [("layers.1.ln1", None), (wanted[2], Some(message))] {
            let index = table.iter().position(|p| p.name.starts_with(name)).unwrap();
            let parameter = table.iter().nth(index).unwrap();
            let given = table.initial_values(index, 0);
            parameter.expect_fitting(&given).unwrap();
            let mut values = given.to_f32();
            values[31] = 7e4;
            let error = parameter.expect_fitting(&HostTensor::from_f32(&values));
            assert_eq!(error.map_err(|e| e.to_string()).err().as_deref(), refused);
        }
    }

    #[test]
    fn patterns_that_match_nothing_are_errors_that_name_what_there_is() {
        let patterns = |patterns: &[&str]| patterns.iter().map(|&p| p.to_owned()).collect();
        let lora = |rank, targets: &[&str]| Settings {
            lora_rank: rank,
            lora_targets: patterns(targets),
            ..Settings::default()
        };
        let freeze = |names: &[&str]| Settings {
            freeze: patterns(names),
            ..Settings::default()
        };
        let held = |names: &[&str], frozen_type| Settings {
            frozen_type,
            ..freeze(names)
        };
        for (settings, wanted) in [
            (
                lora(4, &["q_proj", "gate"]),
                "no linear layer has 'gate' in its name; a layer has attn.q_proj, ",
            ),
            (lora(4, &["ln1"]), "no linear layer has 'ln1' in its name"),
            (
                lora(4, &["embeddings"]),
                "no linear layer has 'embeddings' in its name",
            ),
            (lora(4, &[]), "no layer would be trained"),
            (
                lora(33, &["ffn"]),
                "layers.0.ffn.w1 is a matrix of 48 x 32, whose rank is not higher than 32",
            ),
            (
                freeze(&["ln1", "bias"]),
                "no parameter has 'bias' in its name; there are token_embeddings.weight, ",
            ),
            (freeze(&["weight"]), "nothing would be left to train"),
            (held(&[], StorageType::F16), "every matrix is trained"),
            (held(&["ln1"], StorageType::F16), "every matrix is trained"),
            (
                held(&["w1", "w2"], StorageType::Q8_0),
                "layers.0.ffn.w2.weight has rows of 48, no multiple of 32; set f16",
            ),
        ] {
            let error = for_training(settings).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        for targets in [&["all-linear"][..], &["attn", "ffn"]] {
            let table = for_training(lora(8, targets)).unwrap();
            let trained = table.iter().filter(|p| p.role == Role::Trainable);
            assert_eq!(trained.count(), 2 * 2 * 7);
        }
    }
}
