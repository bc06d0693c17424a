//! What a tokenizer does with a text apart from its vocabulary: tokens that are found whole, and
//! the way in which the rest is cut.

use super::split::Split;

/// A token that stands for itself: it is found in a text as a whole, and no merge makes it of
/// what is beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// Its id.
    pub id: u32,
    /// The text that it stands for.
    pub text: String,
    /// Whether it steers the model rather than being text; programs that show texts leave it out.
    pub is_control: bool,
    /// Whether it is looked for after the others, in what is left of the text between them, and
    /// where texts are normalised, after that.
    pub is_normalized: bool,
}

impl SpecialToken {
    /// A token that steers the model, and that is found in a text as it is written.
    pub fn control(id: u32, text: String) -> Self {
        Self {
            id,
            text,
            is_control: true,
            is_normalized: false,
        }
    }
}

/// What is done with a text before its pre-tokens are merged, and how they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) split: Split,
    /// Texts become normal form C before they are cut.
    pub(super) normalizes: bool,
    /// A pre-token that is in the vocabulary is taken as it is, whatever merges would make of it.
    pub(super) ignores_merges: bool,
}
