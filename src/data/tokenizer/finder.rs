//! Looks for tokens in a text by their own texts.

use aho_corasick::{AhoCorasick, MatchKind};

use super::rules::SpecialToken;

/// Looks for some of the special tokens.
#[derive(Debug)]
pub(super) struct Finder {
    automaton: AhoCorasick,
    /// Ids in the order of the automaton's patterns.
    ids: Vec<u32>,
}

/// A piece of text: either free of special tokens, or one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t [u8]),
    Special(u32),
}

impl Finder {
    /// Takes the tokens, whose texts are not empty and differ; `None` where there are none.
    pub(super) fn new<'s>(tokens: impl Iterator<Item = &'s SpecialToken> + Clone) -> Option<Self> {
        tokens.clone().next()?;
        Some(Self {
            ids: tokens.clone().map(|token| token.id).collect(),
            automaton: AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(tokens.map(|token| &token.text))
                .expect("special tokens are far fewer than 2^31 bytes"),
        })
    }

    /// Ids of the tokens.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The parts of a text with regard to the tokens that `finder` looks for, if there is one;
    /// none of them is empty, and of tokens that start at one place the longest wins.
    pub(super) fn parts<'f, 't>(
        finder: Option<&'f Finder>,
        text: &'t [u8],
    ) -> impl Iterator<Item = Part<'t>> + use<'f, 't> {
        let mut matches = finder.into_iter().flat_map(move |finder| {
            let found = finder.automaton.find_iter(text);
            found.map(|found| (found.range(), finder.ids[found.pattern().as_usize()]))
        });
        let mut at = 0;
        let mut waiting = None;
        std::iter::from_fn(move || {
            if let Some(special) = waiting.take() {
                return Some(special);
            }
            let Some((found, id)) = matches.next() else {
                let rest = &text[at..];
                at = text.len();
                return (!rest.is_empty()).then_some(Part::Text(rest));
            };
            let before = &text[at..found.start];
            at = found.end;
            if before.is_empty() {
                return Some(Part::Special(id));
            }
            waiting = Some(Part::Special(id));
            Some(Part::Text(before))
        })
    }
}
