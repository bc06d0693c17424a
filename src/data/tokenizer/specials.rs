//! Finds special tokens in a text, and cuts long texts into chunks that never divide one.

use aho_corasick::{AhoCorasick, MatchKind};

use super::pretokenize::next_cut;

/// The special tokens of a vocabulary, ready to be looked for.
#[derive(Debug)]
pub(super) struct Specials {
    /// Ids of the special tokens, in the order of the automaton's patterns.
    ids: Vec<u32>,
    /// `None` without special tokens.
    automaton: Option<AhoCorasick>,
}

/// A piece of text: either free of special tokens, or one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t str),
    Special { id: u32, text: &'t str },
}

impl<'t> Part<'t> {
    fn text(self) -> &'t str {
        match self {
            Self::Text(text) | Self::Special { text, .. } => text,
        }
    }
}

impl Specials {
    /// Takes each special token's id and text; the texts are not empty and differ.
    pub(super) fn new(specials: &[(u32, String)]) -> Self {
        let automaton = (!specials.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(specials.iter().map(|(_, text)| text))
                .expect("special tokens are far fewer than 2^31 bytes")
        });
        let ids = specials.iter().map(|&(id, _)| id).collect();
        Self { ids, automaton }
    }

    /// Ids of the special tokens.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The parts of a text in order, none of them empty; where several special tokens start at
    /// one place, the longest wins.
    pub(super) fn parts<'t>(&self, text: &'t str) -> impl Iterator<Item = Part<'t>> {
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
            let special = Part::Special {
                id: self.ids[found.pattern().as_usize()],
                text: &text[found.range()],
            };
            at = found.end();
            if before.is_empty() {
                return Some(special);
            }
            waiting = Some(special);
            Some(Part::Text(before))
        })
    }

    /// Cuts a text into chunks of about `target_len` bytes that can be tokenised apart: each cut
    /// is beside a special token, or where pre-tokens allow it.
    pub(super) fn chunks<'t>(
        &self,
        text: &'t str,
        target_len: usize,
    ) -> impl Iterator<Item = &'t str> {
        let mut parts = self.parts(text);
        let mut last = Part::Text("");
        let mut start = 0;
        let mut seen = 0;
        std::iter::from_fn(move || {
            let target = start + target_len;
            while seen < target {
                let Some(part) = parts.next() else { break };
                last = part;
                seen += part.text().len();
            }
            let end = match last {
                Part::Text(part) if target < seen => {
                    let part_start = seen - part.len();
                    part_start + next_cut(part, target.saturating_sub(part_start))
                }
                _ => seen,
            };
            let chunk = &text[start..end];
            start = end;
            (!chunk.is_empty()).then_some(chunk)
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
        let special = |id, text| Part::Special { id, text };
        let found: Vec<_> = specials().parts("<a>y<a><b><a> x <b>").collect();
        let wanted = [
            special(7, "<a>"),
            Part::Text("y"),
            special(8, "<a><b>"),
            special(7, "<a>"),
            special(9, " x "),
            Part::Text("<b>"),
        ];
        assert_eq!(found, wanted);
        assert_eq!(specials().parts("").count(), 0);
        let none = Specials::new(&[]);
        assert_eq!(none.parts("<a>").collect::<Vec<_>>(), [Part::Text("<a>")]);
    }

    #[test]
    fn chunks_keep_special_tokens_whole() {
        let text = "one two<a><b>three x four  five\n<a>".repeat(5);
        let specials = specials();
        let wanted: Vec<_> = specials
            .parts(&text)
            .filter(|part| matches!(part, Part::Special { .. }))
            .collect();
        for target_len in 1..=text.len() + 1 {
            let chunks: Vec<&str> = specials.chunks(&text, target_len).collect();
            assert_eq!(chunks.concat(), text);
            let found: Vec<_> = chunks
                .iter()
                .flat_map(|chunk| specials.parts(chunk))
                .filter(|part| matches!(part, Part::Special { .. }))
                .collect();
            assert_eq!(found, wanted, "target {target_len}");
        }
    }
}
