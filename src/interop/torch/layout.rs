//! What a checkpoint's file has where: the pickle, and the storages that it names by their numbers.

use std::io::{self, Write};
use std::path::Path;

use super::archive_writer::ArchiveWriter;
use super::checkpoint::{AdamWGroup, AdamWState, Content, TorchCheckpoint};
use super::pickle::{Dtype, PickleWriter};
use crate::interop::{ElementType, InteropError, TensorInfo};

/// Keys that a checkpoint writes itself.
const OWN_KEYS: [&str; 3] = ["model_state_dict", "optimizer_state_dict", "iteration"];

/// A storage of the archive.
enum Storage {
    Asked(Content, Dtype),
    /// A number of steps.
    Step,
}

/// A checkpoint that is being written.
pub(crate) struct Layout<'a> {
    path: &'a Path,
    checkpoint: &'a TorchCheckpoint<'a>,
    pickle: PickleWriter,
    storages: Vec<Storage>,
}

impl<'a> Layout<'a> {
    pub(crate) fn new(path: &'a Path, checkpoint: &'a TorchCheckpoint<'a>) -> Self {
        Self {
            path,
            checkpoint,
            pickle: PickleWriter::new(),
            storages: Vec::new(),
        }
    }

    /// Writes all of the file. An error of a tensor is an [`InteropError`] within the other one.
    pub(crate) fn write(
        mut self,
        out: &mut impl Write,
        elements: &mut dyn FnMut(Content) -> io::Result<Vec<u8>>,
    ) -> io::Result<()> {
        self.lay_out()?;
        let mut archive = ArchiveWriter::new(out);
        let pickle = std::mem::replace(&mut self.pickle, PickleWriter::new());
        archive.entry("archive/data.pkl", &pickle.finish())?;
        archive.entry("archive/byteorder", b"little")?;
        for (key, storage) in self.storages.iter().enumerate() {
            let bytes = match *storage {
                Storage::Step => self.step().to_le_bytes().to_vec(),
                Storage::Asked(content, dtype) => self.checked(content, dtype, elements)?,
            };
            archive.entry(&format!("archive/data/{key}"), &bytes)?;
        }
        // The version of the archive's layout that torch has written since 1.6.
        archive.entry("archive/version", b"3\n")?;
        archive.finish()
    }

    fn step(&self) -> f32 {
        self.checkpoint
            .optimizer
            .map_or(0.0, |optimizer| optimizer.step as f32)
    }

    /// The elements of a storage, as many as there have to be.
    fn checked(
        &self,
        content: Content,
        dtype: Dtype,
        elements: &mut dyn FnMut(Content) -> io::Result<Vec<u8>>,
    ) -> io::Result<Vec<u8>> {
        let bytes = elements(content)?;
        let (Content::Tensor(index) | Content::ExpAvg(index) | Content::ExpAvgSq(index)) = content;
        let info = &self.checkpoint.tensors[index];
        let wanted = info.shape.iter().product::<usize>() * dtype.width();
        if bytes.len() != wanted {
            let problem = format!("has {} bytes where {wanted} are needed", bytes.len());
            return Err(self.fault(info, problem));
        }
        Ok(bytes)
    }

    fn fault(&self, info: &TensorInfo, problem: String) -> io::Error {
        io::Error::other(InteropError::Tensor {
            path: self.path.to_owned(),
            name: info.name.clone(),
            problem,
        })
    }

    fn unsupported(&self, what: String) -> io::Error {
        io::Error::other(InteropError::Unsupported {
            path: self.path.to_owned(),
            what,
        })
    }

    /// Writes the pickle and lists the storages.
    fn lay_out(&mut self) -> io::Result<()> {
        let checkpoint = self.checkpoint;
        let taken = OWN_KEYS
            .iter()
            .find(|key| checkpoint.metadata.contains_key(**key));
        if let Some(key) = taken {
            return Err(self.unsupported(format!("metadata with the key '{key}'")));
        }
        self.pickle.open_dict();
        self.pickle.text(OWN_KEYS[0])?;
        self.model()?;
        if let Some(optimizer) = checkpoint.optimizer {
            self.pickle.text(OWN_KEYS[1])?;
            self.optimizer(optimizer)?;
        }
        if let Some(iteration) = checkpoint.iteration {
            self.pickle.text(OWN_KEYS[2])?;
            self.pickle.int(iteration.into());
        }
        self.pickle.entries(checkpoint.metadata)?;
        self.pickle.close_dict();
        Ok(())
    }

    fn model(&mut self) -> io::Result<()> {
        let checkpoint = self.checkpoint;
        self.pickle.open_ordered_dict();
        let mut keys = Vec::new();
        for (index, info) in checkpoint.tensors.iter().enumerate() {
            self.pickle.text(&info.name)?;
            let tied = checkpoint.tied.iter().find(|(later, _)| *later == index);
            let key = match tied {
                Some((_, earlier)) => {
                    let other = checkpoint
                        .tensors
                        .get(*earlier)
                        .filter(|_| *earlier < index);
                    if other.is_none_or(|other| {
                        (other.element_type, &other.shape) != (info.element_type, &info.shape)
                    }) {
                        let problem = format!("is tied to tensor {earlier}, which is unlike it");
                        return Err(self.fault(info, problem));
                    }
                    keys[*earlier]
                }
                None => self.storage(Content::Tensor(index), info.element_type)?,
            };
            keys.push(key);
            self.tensor(key, info)?;
        }
        self.pickle.close_dict();
        Ok(())
    }

    /// Lists a storage and gives its number.
    fn storage(&mut self, content: Content, element_type: ElementType) -> io::Result<usize> {
        let dtype = Dtype::of_floats(element_type).ok_or_else(|| {
            self.unsupported(format!("a tensor of {element_type:?} in a PyTorch file"))
        })?;
        self.storages.push(Storage::Asked(content, dtype));
        Ok(self.storages.len() - 1)
    }

    fn tensor(&mut self, key: usize, info: &TensorInfo) -> io::Result<()> {
        let dtype = match self.storages[key] {
            Storage::Asked(_, dtype) => dtype,
            Storage::Step => Dtype::F32,
        };
        self.pickle.tensor(&key.to_string(), dtype, &info.shape)
    }

    fn optimizer(&mut self, optimizer: &AdamWState) -> io::Result<()> {
        let tensors = self.checkpoint.tensors;
        let parameters = optimizer.groups.iter().flat_map(|group| &group.parameters);
        self.pickle.open_dict();
        self.pickle.text("state")?;
        self.pickle.open_dict();
        for (number, index) in parameters.enumerate() {
            let info = tensors.get(*index).ok_or_else(|| {
                self.unsupported(format!("a parameter {index} of {} tensors", tensors.len()))
            })?;
            self.pickle.int(number as i128);
            self.pickle.open_dict();
            // Each has a step of its own, since torch counts it up in its place.
            self.pickle.text("step")?;
            self.storages.push(Storage::Step);
            let key = (self.storages.len() - 1).to_string();
            self.pickle.tensor(&key, Dtype::F32, &[])?;
            for (name, content) in [
                ("exp_avg", Content::ExpAvg(*index)),
                ("exp_avg_sq", Content::ExpAvgSq(*index)),
            ] {
                self.pickle.text(name)?;
                let key = self.storage(content, optimizer.element_type)?;
                self.tensor(key, info)?;
            }
            self.pickle.close_dict();
        }
        self.pickle.close_dict();
        self.pickle.text("param_groups")?;
        self.pickle.open_list();
        let mut first = 0;
        for group in &optimizer.groups {
            self.group(group, first)?;
            first += group.parameters.len();
        }
        self.pickle.close_list();
        self.pickle.close_dict();
        Ok(())
    }

    /// A group whose parameters have the numbers from `first` on. It has the keys of `torch.optim.AdamW` in
    /// 1.13 and in 2.15, which replace those of the optimizer that loads them.
    fn group(&mut self, group: &AdamWGroup, first: usize) -> io::Result<()> {
        let tensors = self.checkpoint.tensors;
        let pickle = &mut self.pickle;
        pickle.open_dict();
        for (key, value) in [
            ("lr", group.lr),
            ("eps", group.eps),
            ("weight_decay", group.weight_decay),
        ] {
            pickle.text(key)?;
            pickle.float(value);
        }
        pickle.text("betas")?;
        pickle.float_pair(group.betas);
        for (key, value) in [
            ("amsgrad", Some(false)),
            ("foreach", None),
            ("maximize", Some(false)),
            ("capturable", Some(false)),
            ("differentiable", Some(false)),
            ("fused", None),
            ("decoupled_weight_decay", Some(true)),
        ] {
            pickle.text(key)?;
            match value {
                Some(value) => pickle.bool(value),
                None => pickle.none(),
            }
        }
        pickle.text("params")?;
        pickle.open_list();
        for number in first..first + group.parameters.len() {
            pickle.int(number as i128);
        }
        pickle.close_list();
        // Torch has known these since 2.6; they say which tensor a parameter is.
        pickle.text("param_names")?;
        pickle.open_list();
        for index in &group.parameters {
            pickle.text(tensors.get(*index).map_or("", |info| &info.name))?;
        }
        pickle.close_list();
        pickle.close_dict();
        Ok(())
    }
}
