//! The merges of any format, checked one after another.

use rustc_hash::FxHashSet;

use super::super::{Merge, alphabet};
use super::vocabulary::Vocabulary;

/// The merges of a file so far.
#[derive(Default)]
pub(in super::super) struct Merges {
    list: Vec<Merge>,
    known: FxHashSet<u32>,
    pairs: FxHashSet<(u32, u32)>,
}

impl Merges {
    /// Adds the merge of two tokens, given their bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn push(
        &mut self,
        vocabulary: &Vocabulary,
        left: &[u8],
        right: &[u8],
    ) -> Result<(), String> {
        let (left_id, right_id) = (self.part(vocabulary, left)?, self.part(vocabulary, right)?);
        let joined = [left, right].concat();
        let product = vocabulary.learnt_id(&joined).ok_or_else(|| {
            let shown = alphabet::text_from_bytes(&joined);
            format!("makes {shown:?}, which is not in the vocabulary")
        })?;
        if !self.pairs.insert((left_id, right_id)) {
            return Err("is there twice".to_owned());
        }
        self.known.insert(product);
        self.list.push(Merge {
            left: left_id,
            right: right_id,
            product,
        });
        Ok(())
    }

    /// The token that a merge joins. Merges that were made of ranks, such as Llama 3's, may join
    /// what only later ones make.
    fn part(&self, vocabulary: &Vocabulary, bytes: &[u8]) -> Result<u32, String> {
        let joins_any = vocabulary.joins_any();
        vocabulary
            .learnt_id(bytes)
            .filter(|&id| joins_any || vocabulary.is_byte(id) || self.known.contains(&id))
            .ok_or_else(|| {
                let shown = alphabet::text_from_bytes(bytes);
                let problem = if joins_any {
                    "not in the vocabulary"
                } else {
                    "neither a byte nor made by an earlier merge"
                };
                format!("joins {shown:?}, which is {problem}")
            })
    }

    /// All of them, in order.
    pub(super) fn into_list(self) -> Vec<Merge> {
        self.list
    }
}
