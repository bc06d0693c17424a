//! Finds special tokens in a text, and cuts long texts into chunks that never divide one.

use rustc_hash::FxHashSet;

use super::finder::{Finder, Part};
use super::normalize::{self, base};
use super::rules::{Rules, SpecialToken};

/// The special tokens of a vocabulary, ready to be looked for, and the rules by which a text is
/// cut between them.
#[derive(Debug)]
pub struct Specials {
    tokens: Vec<SpecialToken>,
    ids: Vec<u32>,
    rules: Rules,
    /// Those that are looked for in a text as it is written, and then those that are looked for
    /// in what is left, where that makes a difference.
    written: Option<Finder>,
    normalized: Option<Finder>,
    /// Characters within a token that is looked for in normalised text, by their bases: no text is
    /// cut before one.
    inner: FxHashSet<char>,
}

impl Specials {
    /// Takes each special token's id and text, in GPT-2's rules; the texts are not empty and
    /// differ.
    pub(crate) fn new(specials: &[(u32, String)]) -> Self {
        let control = |(id, text): &(u32, String)| SpecialToken::control(*id, text.clone());
        Self::with_rules(specials.iter().map(control).collect(), Rules::default())
    }

    /// Takes the special tokens, whose ids rise and whose texts are not empty and differ.
    pub(super) fn with_rules(mut tokens: Vec<SpecialToken>, rules: Rules) -> Self {
        if rules.normalizes {
            for token in tokens.iter_mut().filter(|token| token.is_normalized) {
                let text = normalize::nfc(token.text.as_bytes());
                token.text = String::from_utf8_lossy(&text).into_owned();
            }
        }
        let is_first = |token: &&SpecialToken| !token.is_normalized;
        let is_second = |token: &&SpecialToken| token.is_normalized;
        // Without normal forms and with all of one kind, their order is nothing to see.
        let is_staged = rules.normalizes || tokens.iter().any(|token| !token.is_normalized);
        let second = tokens.iter().filter(is_second);
        let inner_chars = second.flat_map(|token| token.text.chars().skip(1));
        let (written, normalized, inner) = if is_staged {
            (
                Finder::new(tokens.iter().filter(is_first)),
                Finder::new(tokens.iter().filter(is_second)),
                inner_chars.map(base).collect(),
            )
        } else {
            (Finder::new(tokens.iter()), None, FxHashSet::default())
        };
        Self {
            ids: tokens.iter().map(|token| token.id).collect(),
            tokens,
            rules,
            written,
            normalized,
            inner,
        }
    }

    /// The special tokens, by rising ids.
    pub(super) fn tokens(&self) -> &[SpecialToken] {
        &self.tokens
    }

    /// Ids of the special tokens.
    pub(super) fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    /// Ids of the tokens that are looked for in what others leave over, if any.
    pub(super) fn late_ids(&self) -> &[u32] {
        self.normalized.as_ref().map_or(&[], |finder| finder.ids())
    }

    /// The parts of a text in order, none of them empty; where several special tokens start at
    /// one place, the longest wins. Text between them is not normalised and may hold tokens of
    /// the second kind.
    pub(super) fn parts<'t>(&self, text: &'t [u8]) -> impl Iterator<Item = Part<'t>> {
        Finder::parts(self.written.as_ref(), text)
    }

    /// Calls `on_part` with the parts of a text as they are encoded: text is normalised, and
    /// holds no special token.
    pub(super) fn for_each_part(&self, text: &[u8], mut on_part: impl FnMut(Part<'_>)) {
        let is_plain = !self.rules.normalizes && self.normalized.is_none();
        for part in self.parts(text) {
            match part {
                Part::Text(text) if !is_plain => {
                    let text = if self.rules.normalizes {
                        normalize::nfc(text)
                    } else {
                        text.into()
                    };
                    Finder::parts(self.normalized.as_ref(), &text).for_each(&mut on_part);
                }
                part => on_part(part),
            }
        }
    }

    /// The first place at or after `from` where a text may be cut and its sides tokenised apart:
    /// where pre-tokens allow it, and within no special token. `None` asks for more text, unless
    /// `is_end` says that there is none.
    pub fn next_cut(&self, text: &str, from: usize, is_end: bool) -> Option<usize> {
        let mut from = from;
        loop {
            let cut = self.rules.split.next_cut(text.as_bytes(), from)?;
            if !is_end && text.len() - cut < self.longest() {
                return None;
            }
            let normalizes = self.rules.normalizes;
            if (!normalizes || self.normal_forms_part(text, cut))
                && !self.spans(text.as_bytes(), cut)
            {
                return Some(cut);
            }
            from = cut + 1;
        }
    }

    /// Whether normal forms, and the tokens that are looked for in them, allow a cut.
    fn normal_forms_part(&self, text: &str, cut: usize) -> bool {
        let (before, after) = text.split_at(cut);
        let sides = before.chars().next_back().zip(after.chars().next());
        // The character after it may go on with a mark, but its base stays.
        sides.is_none_or(|(before, after)| {
            normalize::may_cut(before, after) && !self.inner.contains(&after)
        })
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
        let lens = self.tokens.iter().map(|token| token.text.len());
        lens.max().unwrap_or(0)
    }

    /// Whether a special token starts before `cut` and ends after it.
    fn spans(&self, text: &[u8], cut: usize) -> bool {
        self.tokens.iter().any(|special| {
            let special = special.text.as_bytes();
            (1..special.len().min(cut + 1)).any(|before| text[cut - before..].starts_with(special))
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

    /// Parts as the encoder gets them, ids in brackets.
    fn shown(specials: &Specials, text: &str) -> String {
        let mut shown = String::new();
        specials.for_each_part(text.as_bytes(), |part| match part {
            Part::Text(text) => shown.push_str(&String::from_utf8_lossy(text)),
            Part::Special(id) => shown.push_str(&format!("[{id}]")),
        });
        shown
    }

    /// The first is found as it is written, the others in normalised text.
    fn staged(normalizes: bool) -> Specials {
        let tokens = ["<a>", "x<", "é>"];
        let tokens = (1..).zip(tokens).map(|(id, text)| SpecialToken {
            is_normalized: id > 1,
            ..SpecialToken::control(id, text.to_owned())
        });
        let rules = Rules {
            normalizes,
            ..Rules::default()
        };
        Specials::with_rules(tokens.collect(), rules)
    }

    #[test]
    fn tokens_of_the_second_kind_are_found_in_what_the_first_leave() {
        assert_eq!(
            shown(&staged(false), "x<a>x<b e\u{301}>"),
            "x[1][2]b e\u{301}>"
        );
        assert_eq!(shown(&staged(true), "x<a>x<b e\u{301}>"), "x[1][2]b [3]");
        // The mark joins the bracket before the second kind is looked for, not before the first.
        assert_eq!(shown(&staged(true), "<a>\u{338}x<\u{338}"), "[1]\u{338}x≮");
    }

    #[test]
    fn cuts_change_no_part_where_texts_are_normalised() {
        let piece = "<a>|x<|e\u{301}?>|[\u{338}\u{301}\u{323}éx<> .]|[a-c]{1,2}";
        let specials = staged(true);
        let pieces = format!("({piece}){{0,12}}");
        proptest::proptest!(|(text in &*pieces, target_len in 1..6usize)| {
            let chunks = specials.chunks(&text, target_len);
            let parts: String = chunks.map(|chunk| shown(&specials, chunk)).collect();
            proptest::prop_assert_eq!(parts, shown(&specials, &text), "{:?}", text);
        });
        assert!(specials.chunks("ab ab ab", 1).count() > 2);
    }
}
