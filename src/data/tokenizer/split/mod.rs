//! The ways in which models cut text into pre-tokens, across which no merge reaches.
//!
//! Each is a regular expression in the models' files. Here they are matched by hand: each branch
//! decides by the class of the next characters, so no branch is ever tried twice.

mod gpt2;
mod llama3;
mod smollm;

use super::classes::{Class, char_start, class_at, is_continuation};

/// Length in bytes of the first pre-token of a text that is not empty, as GPT-2 cuts it.
pub(super) use gpt2::first_len as gpt2_len;

/// How a text is cut into pre-tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Split {
    /// GPT-2: words, numbers, and runs of anything else, each with a space before it.
    #[default]
    Gpt2,
    /// SmolLM and StarCoder: every digit alone, and what lies between as in GPT-2.
    Smollm,
    /// Llama 3: as GPT-4 does, numbers in groups of up to three digits.
    Llama3,
    /// Qwen2 and Qwen3: as Llama 3, every digit alone.
    Qwen2,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gpt2, Self::Smollm, Self::Llama3, Self::Qwen2];

    /// Its name, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Smollm => "smollm",
            Self::Llama3 => "llama3",
            Self::Qwen2 => "qwen2",
        }
    }

    /// Calls `work` with each pre-token's length, and with the text from there on.
    #[inline]
    pub(super) fn for_each<'t>(self, text: &'t [u8], work: impl FnMut(usize, &'t [u8])) {
        // One loop each, so that a loop asks nothing about its split.
        match self {
            Self::Gpt2 => for_each_by(gpt2::first_len, text, work),
            Self::Smollm => for_each_by(smollm::first_len, text, work),
            Self::Llama3 => for_each_by(llama3::first_len::<3>, text, work),
            Self::Qwen2 => for_each_by(llama3::first_len::<1>, text, work),
        }
    }

    /// The first place at or after `from`, and after the start, where a text of whole characters
    /// may be cut without changing its pre-tokens, or `None` where there is none before its end.
    pub(super) fn next_cut(self, text: &[u8], from: usize) -> Option<usize> {
        let may_cut = match self {
            Self::Gpt2 => gpt2::may_cut,
            Self::Smollm => smollm::may_cut,
            Self::Llama3 => llama3::may_cut::<3>,
            Self::Qwen2 => llama3::may_cut::<1>,
        };
        let mut at = from.max(1);
        while is_continuation(*text.get(at)?) {
            at += 1;
        }
        let mut before = Char::at(text, char_start(text, at))?;
        loop {
            let after = Char::at(text, at)?;
            if may_cut(before, after) {
                return Some(at);
            }
            at += after.len;
            before = after;
        }
    }
}

#[inline]
fn for_each_by<'t>(
    first_len: impl Fn(&[u8]) -> usize,
    text: &'t [u8],
    mut work: impl FnMut(usize, &'t [u8]),
) {
    let mut rest = text;
    while !rest.is_empty() {
        let len = first_len(rest);
        work(len, rest);
        rest = &rest[len..];
    }
}

/// What is asked of a character beside a cut.
#[derive(Clone, Copy)]
struct Char {
    class: Class,
    /// Its first byte, which is all of it in ASCII.
    byte: u8,
    len: usize,
}

impl Char {
    fn at(text: &[u8], at: usize) -> Option<Self> {
        let (class, len) = class_at(text, at)?;
        let byte = text[at];
        Some(Self { class, byte, len })
    }

    /// Whether it ends a line: the two characters that the patterns of Llama 3 and Qwen2 name.
    fn is_line_end(self) -> bool {
        is_line_end(self.byte)
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// The pre-tokens of a text, in order; together they are the text.
#[cfg(test)]
fn pretokens(split: Split, text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut at = 0;
    split.for_each(text.as_bytes(), |len, _| {
        found.push(&text[at..at + len]);
        at += len;
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts a text at each place that is allowed, and at all of them.
    fn check_cuts(split: Split, text: &str) {
        let whole = pretokens(split, text);
        let mut from = 0;
        while let Some(cut) = split.next_cut(text.as_bytes(), from) {
            let (left, right) = text.split_at(cut);
            let parts = [pretokens(split, left), pretokens(split, right)].concat();
            assert_eq!(parts, whole, "{split:?} {left:?} {right:?}");
            from = cut + 1;
        }
    }

    #[test]
    fn cutting_where_allowed_changes_no_pretoken() {
        for split in Split::ALL {
            let cases = gpt2::CASES.iter().chain(smollm::CASES);
            for case in cases.chain(llama3::CASES).chain(llama3::QWEN2_CASES) {
                check_cuts(split, &case.concat());
            }
        }
        let piece = "[a-zA-Zé語]|[0-9²]|[ \n\r\t\u{3000}]|'(s|T|rE|ll|x|ſ)?|[!?👍\u{301}\u{11DE0}]";
        let pieces = format!("({piece}){{0,30}}");
        proptest::proptest!(|(text in &*pieces)| {
            Split::ALL.into_iter().for_each(|split| check_cuts(split, &text));
        });
    }

    #[test]
    fn cuts_are_found_in_every_kind_of_text() {
        let (gpt2, smollm) = (Split::Gpt2, Split::Smollm);
        let (llama3, qwen2) = (Split::Llama3, Split::Qwen2);
        for (splits, text, from, cut) in [
            (&Split::ALL[..], "ab cd", 0, Some(2)),
            (&Split::ALL[..], "ab cd", 3, None),
            (&Split::ALL[..], "ab12", 1, Some(2)),
            (&Split::ALL[..], "'s", 0, None),
            (&Split::ALL[..], "語、語", 1, Some(3)),
            (&[gpt2, smollm], "語、語", 4, Some(6)),
            (&[llama3, qwen2], "語、語", 4, None),
            (&Split::ALL[..], "    ", 0, None),
            (&Split::ALL[..], " a", 0, None),
            (&Split::ALL[..], "aaaa", 2, None),
            (&Split::ALL[..], "", 0, None),
            (&[gpt2, llama3], "1111", 1, None),
            (&[smollm, qwen2], "1111", 1, Some(1)),
            (&[smollm], "  1", 0, Some(2)),
            (&[gpt2, llama3, qwen2], "  1", 0, None),
            (&[gpt2, smollm], "!\n\na", 0, Some(1)),
            (&[gpt2, smollm], "!\n\na", 2, None),
            (&[llama3, qwen2], "!\n\na", 0, Some(3)),
            (&[llama3, qwen2], "! a", 0, Some(1)),
        ] {
            for split in splits {
                let found = split.next_cut(text.as_bytes(), from);
                assert_eq!(found, cut, "{split:?} {text:?} {from}");
            }
        }
    }
}
