//! Draws a text from a grammar.

use super::grammar::{Gap, Grammar, Item};
use crate::random::Philox;

impl Grammar {
    /// Text number `index` and its log probability. The n-th choice is the n-th sub-counter's draw.
    pub(super) fn generate(&self, random: &Philox, index: u64) -> (String, f64) {
        let mut writer = Writer {
            grammar: self,
            random,
            index,
            choices: 0,
            held: vec![None; self.slots.len()],
            gap: Gap::None,
            text: String::new(),
            log_probability: 0.0,
        };
        writer.write_rule(0);
        (writer.text, writer.log_probability)
    }
}

struct Writer<'a> {
    grammar: &'a Grammar,
    random: &'a Philox,
    index: u64,
    choices: u32,
    /// The row that each slot holds.
    held: Vec<Option<usize>>,
    gap: Gap,
    text: String,
    log_probability: f64,
}

impl<'a> Writer<'a> {
    fn write_rule(&mut self, rule: usize) {
        let rule = &self.grammar.rules[rule];
        let mut ticket = self.draw(rule.total_weight());
        let drawn = rule.alternatives.iter().find(|alternative| {
            let weight = u64::from(alternative.weight);
            let is_drawn = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            is_drawn
        });
        let alternative = drawn.expect("the ticket is below the sum of the weights");
        self.log_probability += rule.probability(alternative).ln();
        for item in &alternative.items {
            match item {
                Item::Gap(gap) => self.gap = self.gap.max(*gap),
                Item::Text(text) => self.write(text),
                Item::Rule(rule) => self.write_rule(*rule),
                Item::Mention(mention) => {
                    let row = self.row(mention.slot);
                    self.write(self.grammar.value(*mention, row));
                }
            }
        }
    }

    /// The row that a slot holds, drawn if this is its first mention.
    fn row(&mut self, slot: usize) -> usize {
        if let Some(row) = self.held[slot] {
            return row;
        }
        let taken: Vec<usize> = (self.grammar.siblings(slot))
            .filter_map(|sibling| self.held[sibling])
            .collect();
        let free = (0..self.grammar.table_of(slot).rows.len()).filter(|row| !taken.contains(row));
        let free: Vec<usize> = free.collect();
        self.log_probability -= (free.len() as f64).ln();
        let ticket = self.draw(free.len() as u64);
        let row = free[usize::try_from(ticket).expect("the ticket is an index")];
        self.held[slot] = Some(row);
        row
    }

    fn draw(&mut self, n: u64) -> u64 {
        let ticket = self.random.sub_below(self.index, self.choices, n);
        self.choices += 1;
        ticket
    }

    fn write(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push_str(self.gap.text());
        }
        self.text.push_str(text);
        self.gap = Gap::None;
    }
}
