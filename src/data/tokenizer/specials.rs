//! Finds special tokens in a text, and cuts long texts into chunks that never divide one.

use aho_corasick::{AhoCorasick, MatchKind};

use super::pretokenize::next_cut;

/// The special tokens of a vocabulary, ready to be looked for.
#[derive(Debug)]
pub struct Specials {
    /// Ids of the special tokens, in the order of the automaton's patterns.
    ids: Vec<u32>,
    texts: Vec<String>,
    /// `None` without special tokens.
    automaton: Option<AhoCorasick>,
}

/// A piece of text: either free of special tokens, or one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t [u8]),
    Special(u32),
}

impl Specials {
    /// Takes each special token's id and text; the texts are not empty and differ.
    pub(crate) fn new(specials: &[(u32, String)]) -> Self {
        let automaton = (!specials.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(specials.iter().map(|(_, text)| text))
                .expect("special tokens are far fewer than 2^31 bytes")
        });
        Self {
            ids: specials.iter().map(|&(id, _)| id).collect(),
            texts: specials.iter().map(|(_, text)| text.clone()).collect(),
            automaton,
        }
    }

    /// Ids of the special tokens.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The parts of a text in order, none of them empty; where several special tokens start at
    /// one place, the longest wins.
    pub(super) fn parts<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = Part<'t>> {
        let mut matches = self
            .automaton
            .iter()
            .flat_map(move |automaton| automaton.find_iter(text));
        let mut at = 0;
        let mut waiting = None;
        std::iter::from_fn(move || {
            if let Some(special) = waiting.take() {
                return Some(special);
            }
            let Some(found) = matches.next() else {
                let rest = &text[at..];
                at = text.len();
                return (!rest.is_empty()).then_some(Part::Text(rest));
            };
            let before = &text[at..found.start()];
            let special = Part::Special(self.ids[found.pattern().as_usize()]);
            at = found.end();
            if before.is_empty() {
                return Some(special);
            }
            waiting = Some(special);
            Some(Part::Text(before))
        })
    }

    /// The first place at or after `from` where a text may be cut and its sides tokenised apart:
    /// where pre-tokens allow it, and within no special token. `None` asks for more text, unless
    /// `is_end` says that there is none.
    pub fn next_cut(&self, text: &str, from: usize, is_end: bool) -> Option<usize> {
        let mut from = from;
        loop {
            let cut = next_cut(text.as_bytes(), from)?;
            if !is_end && text.len() - cut < self.longest() {
                return None;
            }
            if !self.spans(text.as_bytes(), cut) {
                return Some(cut);
            }
            from = cut + 1;
        }
    }

    /// The first place where [`Specials::next_cut`] may find a cut once more text follows.
    pub(crate) fn undecided_from(&self, text: &str) -> usize {
        text.floor_char_boundary(text.len().saturating_sub(self.longest().max(4)))
    }

    /// Cuts a text into chunks of about `target_len` bytes that can be tokenised apart.
    pub fn chunks<'t>(&self, text: &'t str, target_len: usize) -> impl Iterator<Item = &'t str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let cut = self.next_cut(rest, target_len, true);
            let (chunk, after) = rest.split_at(cut.unwrap_or(rest.len()));
            rest = after;
            (!chunk.is_empty()).then_some(chunk)
        })
    }

    /// Length of the longest special token, in bytes.
    fn longest(&self) -> usize {
        self.texts.iter().map(String::len).max().unwrap_or(0)
    }

    /// Whether a special token starts before `cut` and ends after it.
    fn spans(&self, text: &[u8], cut: usize) -> bool {
        self.texts.iter().any(|special| {
            (1..special.len().min(cut + 1))
                .any(|before| text[cut - before..].starts_with(special.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials() -> Specials {
        let texts = ["<a>", "<a><b>", " x "].map(str::to_owned);
        Specials::new(&(7..).zip(texts).collect::<Vec<_>>())
    }

    #[test]
    fn longest_special_token_wins_and_no_part_is_empty() {
        let found: Vec<_> = specials().parts(b"<a>y<a><b><a> x <b>").collect();
        let wanted = [
            Part::Special(7),
            Part::Text(b"y"),
            Part::Special(8),
            Part::Special(7),
            Part::Special(9),
            Part::Text(b"<b>"),
        ];
        assert_eq!(found, wanted);
        assert_eq!(specials().parts(b"").count(), 0);
        let none = Specials::new(&[]);
        assert_eq!(none.parts(b"<a>").collect::<Vec<_>>(), [Part::Text(b"<a>")]);
    }

    #[test]
    fn chunks_keep_special_tokens_whole() {
        let text = "one two<a><b>three x four  five\n<a>".repeat(5);
        let specials = specials();
        let wanted: Vec<_> = specials
            .parts(text.as_bytes())
            .filter(|part| matches!(part, Part::Special(_)))
            .collect();
        for target_len in 1..=text.len() + 1 {
            let chunks: Vec<&str> = specials.chunks(&text, target_len).collect();
            assert_eq!(chunks.concat(), text);
            let found: Vec<_> = chunks
                .iter()
                .flat_map(|chunk| specials.parts(chunk.as_bytes()))
                .filter(|part| matches!(part, Part::Special(_)))
                .collect();
            assert_eq!(found, wanted, "target {target_len}");
        }
    }
}
