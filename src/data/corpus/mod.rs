//! The built-in corpus: short children's stories from a grammar whose entropy is known exactly.
//!
//! Every story's probability is known, and so is the loss that no model can pass: the mean of
//! `-log p` over the stories it is judged by.
//!
//! A corpus is a sequence of stories, each followed by [`END_OF_STORY`] and a newline. Both are certain
//! once the story's text is, so they add nothing to the entropy.

mod ambiguity;
mod entropy;
mod generate;
mod grammar;
mod parse;
mod source;

use std::io::{self, Write};
use std::ops::Range;

pub use grammar::{Grammar, GrammarError};

use crate::random::{Philox, Stream};

/// What follows every story: the special token of the corpus.
pub const END_OF_STORY: &str = "<|endoftext|>";

const STORIES: &str = include_str!("stories.grammar");

/// One story, without its ending mark.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    /// The text, without a newline at its end.
    pub text: String,
    /// The natural logarithm of the probability of exactly this text.
    pub log_probability: f64,
}

/// What was written: how much, and how well it could be predicted at best.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CorpusSummary {
    /// Stories written.
    pub stories: u64,
    /// Bytes written, ending marks included.
    pub size_bytes: u64,
    /// Minus the sum of the stories' log probabilities.
    pub nats: f64,
}

/// The stories of one seed.
///
/// Story `index` is a pure function of the seed and the index, so disjoint ranges of indices give
/// independent sets for training and validation. A short story may still occur in both.
#[derive(Clone, Debug)]
pub struct StoryCorpus {
    grammar: Grammar,
    random: Philox,
}

impl StoryCorpus {
    /// The corpus of `seed`.
    ///
    /// # Panics
    /// If the built-in grammar is malformed, which a test excludes.
    pub fn new(seed: u64) -> Self {
        Self {
            grammar: Grammar::parse(STORIES).expect("the built-in grammar is well formed"),
            random: Philox::new(seed, Stream::Corpus),
        }
    }

    /// The grammar that the stories come from.
    pub fn grammar(&self) -> &Grammar {
        &self.grammar
    }

    /// Story number `index`.
    pub fn story(&self, index: u64) -> Story {
        let (text, log_probability) = self.grammar.generate(&self.random, index);
        Story {
            text,
            log_probability,
        }
    }

    /// The log probability of a story's text, or none where no derivation yields it.
    pub fn log_probability(&self, text: &str) -> Option<f64> {
        self.grammar.log_probability(text)
    }

    /// The expectation of `-log p` over all stories, in nats.
    pub fn entropy_per_story(&self) -> f64 {
        self.grammar.entropy()
    }

    /// Minus the sum of the log probabilities of a range of stories, in nats.
    ///
    /// No model that knows the grammar perfectly does better on these stories in expectation; divided
    /// by their number of tokens it is the floor of the loss.
    pub fn floor_nats(&self, stories: Range<u64>) -> f64 {
        stories
            .map(|index| -self.story(index).log_probability)
            .sum()
    }

    /// The shortest range of stories from `first` whose text has at least `size_bytes` bytes.
    pub fn range_for_bytes(&self, first: u64, size_bytes: u64) -> Range<u64> {
        let (mut end, mut reached) = (first, 0);
        while reached < size_bytes {
            reached += (self.story(end).text.len() + END_OF_STORY.len() + 1) as u64;
            end += 1;
        }
        first..end
    }

    /// As many stories from `first` as are needed for at least `size_bytes` bytes, and their range.
    pub fn text_for_bytes(&self, first: u64, size_bytes: u64) -> (String, Range<u64>) {
        let stories = self.range_for_bytes(first, size_bytes);
        (self.text(stories.clone()), stories)
    }

    /// A range of stories as one text, each with its ending mark and a newline.
    pub fn text(&self, stories: Range<u64>) -> String {
        stories
            .map(|index| self.story(index).text + END_OF_STORY + "\n")
            .collect()
    }

    /// Writes the bytes of [`StoryCorpus::text`], one story at a time.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_text(
        &self,
        stories: Range<u64>,
        mut out: impl Write,
    ) -> io::Result<CorpusSummary> {
        let mut summary = CorpusSummary::default();
        for index in stories {
            let story = self.story(index);
            let text = story.text + END_OF_STORY + "\n";
            out.write_all(text.as_bytes())?;
            summary.stories += 1;
            summary.size_bytes += text.len() as u64;
            summary.nats -= story.log_probability;
        }
        out.flush()?;
        Ok(summary)
    }
}
