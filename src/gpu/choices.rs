//! What a plan leaves to measurement: which kernel computes an op at a class of shapes. The answers
//! are names, since this module knows no kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Device, Plan};

/// An op at a shape, of which a plan asks how it is computed best.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The op and its form, for instance `matmul nt`.
    pub kind: &'static str,
    /// The sizes that decide: m, n and k of a product.
    pub sizes: Vec<usize>,
}

impl Question {
    /// The class of shapes that has one answer: the sizes rounded up to powers of two, for instance
    /// `matmul nt 1024x512x128`.
    pub fn class(&self) -> String {
        let rounded = self.sizes.iter().map(|n| n.next_power_of_two().to_string());
        format!("{} {}", self.kind, rounded.collect::<Vec<_>>().join("x"))
    }
}

/// What a plan took for an op at a class of shapes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chosen {
    /// The question's class, for instance `matmul nt 1024x512x128`.
    pub class: String,
    /// The kernel, and what it is launched with.
    pub recipe: String,
    /// Why that one.
    pub reason: Reason,
    /// The kernels that could not be taken, each with what stands in the way.
    pub left_out: Vec<(String, String)>,
}

/// Why a plan took what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It was asked for.
    Forced,
    /// It was the fastest when it was timed.
    Measured,
    /// It suits the adapter's class.
    Default,
}

impl Reason {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Measured => "measured",
            Self::Default => "default",
        }
    }
}

/// Answers to the questions of plans; a clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Names of variants that take every op that they can.
    forced: Vec<String>,
    /// Answers by class.
    chosen: BTreeMap<String, String>,
    /// Workgroups that the adapter computes at once, where that was measured.
    units: Option<usize>,
    /// What has been said already.
    said: Mutex<BTreeSet<String>>,
}

impl Choices {
    /// Measured answers by class, and how many workgroups the adapter computes at once, where that is
    /// known.
    pub fn measured(chosen: BTreeMap<String, String>, units: Option<usize>) -> Self {
        Self::new(Vec::new(), chosen, units)
    }

    /// Variants, such as `matmul.texture`, that take every op that they can compute.
    pub fn forced(names: &[String]) -> Self {
        Self::new(names.to_vec(), BTreeMap::new(), None)
    }

    fn new(forced: Vec<String>, chosen: BTreeMap<String, String>, units: Option<usize>) -> Self {
        let said = Mutex::default();
        Self {
            shared: Arc::new(Shared {
                forced,
                chosen,
                units,
                said,
            }),
        }
    }

    /// What was forced, without what was measured.
    pub fn untimed(&self) -> Self {
        Self::forced(&self.shared.forced)
    }

    /// The answers by class.
    pub fn chosen(&self) -> &BTreeMap<String, String> {
        &self.shared.chosen
    }

    /// Workgroups of 256 lanes that the adapter computes at once, each as fast as alone; `None` where it
    /// was not measured.
    pub fn units(&self) -> Option<usize> {
        self.shared.units
    }

    /// The variant that is forced on `op`, by its name without the op's.
    pub fn forced_variant(&self, op: &str) -> Option<&str> {
        let names = self.shared.forced.iter();
        let of_op = |name: &str| Some(name.split_once('.').filter(|(o, _)| *o == op)?.1.len());
        let mut found = names.filter_map(|name| Some(&name[name.len() - of_op(name)?..]));
        found.next()
    }

    /// Warns that a forced variant cannot be had, once for each message.
    pub fn warn_once(&self, message: &str) {
        let mut said = self
            .shared
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if said.insert(message.to_owned()) {
            tracing::warn!("{message}");
        }
    }
}

impl Plan {
    /// The name that the target's choices have for what `question` asks, if any.
    pub fn ask(&mut self, question: Question) -> Option<String> {
        let chosen = self.target().choices.chosen();
        let answer = chosen.get(&question.class()).cloned();
        self.questions.insert(question);
        answer
    }

    /// Notes what was taken, for people who want to know.
    pub fn note_chosen(&mut self, chosen: Chosen) {
        self.chosen.insert(chosen);
    }

    /// What was taken, each once, in the order of the classes.
    pub fn chosen(&self) -> &BTreeSet<Chosen> {
        &self.chosen
    }

    /// What was asked, each once.
    pub fn questions(&self) -> &BTreeSet<Question> {
        &self.questions
    }
}

/// What a measurement holds for: another adapter, driver or use of it is measured anew.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// The adapter's name.
    pub adapter: String,
    /// Numbers of its vendor and of the device, as the driver gives them.
    pub ids: [u32; 2],
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// Class whose kernels are planned, features in use, and whether shaders are guarded.
    pub mode: String,
}

impl Device {
    /// What times measured on this device hold for.
    pub fn identity(&self) -> Identity {
        let [features, _] = self.optional_features();
        Identity {
            adapter: self.info.name.clone(),
            ids: [self.info.vendor, self.info.device],
            backend: self.backend(),
            driver: self.driver(),
            mode: format!(
                "{}{}, {}",
                self.class().name(),
                if self.checked { ", checked" } else { "" },
                features.join(", ")
            ),
        }
    }

    /// The same device, whose plans take these answers.
    pub fn with_choices(&self, choices: Choices) -> Self {
        let mut same = self.clone();
        same.choices = choices;
        same
    }

    /// The answers that its plans take.
    pub fn choices(&self) -> &Choices {
        &self.choices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_one_class_round_up_to_the_same_powers_of_two() {
        let class = |sizes: [usize; 3]| {
            let (kind, sizes) = ("matmul nt", sizes.to_vec());
            Question { kind, sizes }.class()
        };
        assert_eq!(class([1024, 344, 1]), "matmul nt 1024x512x1");
        assert_eq!(class([513, 257, 1]), class([1024, 512, 1]));
        assert_ne!(class([1024, 512, 1]), class([1025, 512, 1]));
    }

    #[test]
    fn a_forced_variant_belongs_to_its_op_alone() {
        let names = ["matmul.texture", "attention.portable"].map(str::to_owned);
        let choices = Choices::forced(&names);
        assert_eq!(choices.forced_variant("matmul"), Some("texture"));
        assert_eq!(choices.forced_variant("attention"), Some("portable"));
        assert_eq!(choices.forced_variant("mat"), None);
        assert_eq!(Choices::default().forced_variant("matmul"), None);
    }
}
