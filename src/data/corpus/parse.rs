//! Finds every way in which a grammar yields a given text, and its probability.

use super::grammar::{Gap, Grammar, Item, Mention};

impl Grammar {
    /// The log probability of `text`, or none where no derivation yields it.
    pub fn log_probability(&self, text: &str) -> Option<f64> {
        let derivations = self.derivations(text);
        let largest = derivations.iter().copied().reduce(f64::max)?;
        let sum: f64 = derivations
            .iter()
            .map(|log_p| (log_p - largest).exp())
            .sum();
        Some(largest + sum.ln())
    }

    /// The log probabilities of all derivations of `text`.
    ///
    /// An unambiguous grammar has at most one.
    pub fn derivations(&self, text: &str) -> Vec<f64> {
        let mut parser = Parser {
            grammar: self,
            held: vec![None; self.slots.len()],
            found: Vec::new(),
        };
        let state = State {
            rest: text,
            is_start: true,
            gap: Gap::None,
            log_probability: 0.0,
        };
        parser.parse(Some(&Frame::new(&[Item::Rule(0)], None)), state);
        parser.found
    }
}

struct Parser<'a> {
    grammar: &'a Grammar,
    held: Vec<Option<usize>>,
    found: Vec<f64>,
}

/// What is left of an alternative, and of those that it stands in.
#[derive(Clone, Copy)]
struct Frame<'f> {
    items: &'f [Item],
    next: Option<&'f Frame<'f>>,
}

impl<'f> Frame<'f> {
    fn new(items: &'f [Item], next: Option<&'f Frame<'f>>) -> Self {
        Self { items, next }
    }
}

#[derive(Clone, Copy)]
struct State<'t> {
    rest: &'t str,
    is_start: bool,
    gap: Gap,
    log_probability: f64,
}

impl State<'_> {
    /// The state after reading the pending gap and `text`, or none if something else stands there.
    fn read(self, text: &str) -> Option<Self> {
        let gap = if self.is_start { "" } else { self.gap.text() };
        let rest = self.rest.strip_prefix(gap)?.strip_prefix(text)?;
        Some(State {
            rest,
            is_start: false,
            gap: Gap::None,
            ..self
        })
    }

    fn times(self, probability: f64) -> Self {
        State {
            log_probability: self.log_probability + probability.ln(),
            ..self
        }
    }
}

impl Parser<'_> {
    fn parse(&mut self, frame: Option<&Frame>, state: State) {
        let Some(&Frame { items, next }) = frame else {
            if state.rest.is_empty() {
                self.found.push(state.log_probability);
            }
            return;
        };
        let Some((item, items)) = items.split_first() else {
            return self.parse(next, state);
        };
        let after = Frame::new(items, next);
        match item {
            Item::Gap(gap) => {
                let gap = state.gap.max(*gap);
                self.parse(Some(&after), State { gap, ..state });
            }
            Item::Text(text) => {
                if let Some(state) = state.read(text) {
                    self.parse(Some(&after), state);
                }
            }
            Item::Mention(mention) => self.parse_mention(*mention, &after, state),
            Item::Rule(rule) => {
                let rule = &self.grammar.rules[*rule];
                for alternative in &rule.alternatives {
                    let inside = Frame::new(&alternative.items, Some(&after));
                    self.parse(Some(&inside), state.times(rule.probability(alternative)));
                }
            }
        }
    }

    fn parse_mention(&mut self, mention: Mention, after: &Frame, state: State) {
        let grammar = self.grammar;
        if let Some(row) = self.held[mention.slot] {
            if let Some(state) = state.read(grammar.value(mention, row)) {
                self.parse(Some(after), state);
            }
            return;
        }
        let rows = 0..grammar.table_of(mention.slot).rows.len();
        let is_free = |row: &usize| {
            let mut held = grammar.siblings(mention.slot).map(|slot| self.held[slot]);
            held.all(|other| other != Some(*row))
        };
        let free: Vec<usize> = rows.filter(is_free).collect();
        let state = state.times(1.0 / free.len() as f64);
        for row in free {
            if let Some(state) = state.read(grammar.value(mention, row)) {
                self.held[mention.slot] = Some(row);
                self.parse(Some(after), state);
                self.held[mention.slot] = None;
            }
        }
    }
}
