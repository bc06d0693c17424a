//! The entropy of a grammar, computed from its weights and tables alone.

use std::collections::BTreeMap;

use super::grammar::{Grammar, GrammarError, Item, Mention, Rule};

/// Which slots a text has mentioned so far, one bit a slot. What they hold does not matter: rows are
/// equally likely, and their number depends on how many slots are drawn, not on which rows.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Mentioned {
    drawn: u64,
    identified: u64,
}

/// The probability of each state that a text can be in at one point.
type States = BTreeMap<Mentioned, f64>;

impl Grammar {
    /// The entropy in nats: the sum over all choices of their entropy times how often they come up.
    pub(super) fn analyse(&self) -> Result<f64, GrammarError> {
        let mut entropy = 0.0;
        let start = States::from([(Mentioned::default(), 1.0)]);
        let end = self.walk_rule(0, &start, &mut entropy);
        let unidentified = end
            .keys()
            .fold(0, |bits, s| bits | (s.drawn & !s.identified));
        match (0..self.slots.len()).find(|slot| unidentified >> slot & 1 == 1) {
            Some(slot) => Err(GrammarError::Unidentified {
                slot: self.slots[slot].name.clone(),
            }),
            None => Ok(entropy),
        }
    }

    fn walk_rule(&self, rule: usize, states: &States, entropy: &mut f64) -> States {
        let rule = &self.rules[rule];
        *entropy += states.values().sum::<f64>() * choice_entropy(rule);
        let mut after = States::new();
        for alternative in &rule.alternatives {
            let probability = rule.probability(alternative);
            let mut inside: States = states.iter().map(|(&s, p)| (s, p * probability)).collect();
            for item in &alternative.items {
                inside = match item {
                    Item::Gap(_) | Item::Text(_) => inside,
                    Item::Mention(mention) => self.walk_mention(*mention, &inside, entropy),
                    Item::Rule(rule) => self.walk_rule(*rule, &inside, entropy),
                };
            }
            merge(&mut after, inside);
        }
        after
    }

    fn walk_mention(&self, mention: Mention, states: &States, entropy: &mut f64) -> States {
        let bit = 1 << mention.slot;
        let table = self.table_of(mention.slot);
        let mut after = States::new();
        for (&state, &probability) in states {
            let mut next = state;
            if state.drawn & bit == 0 {
                let is_drawn = |&slot: &usize| state.drawn >> slot & 1 == 1;
                let taken = self.siblings(mention.slot).filter(is_drawn).count();
                *entropy += probability * ((table.rows.len() - taken) as f64).ln();
                next.drawn |= bit;
            }
            if table.columns[mention.column].is_unique {
                next.identified |= bit;
            }
            merge(&mut after, States::from([(next, probability)]));
        }
        after
    }
}

fn merge(states: &mut States, more: States) {
    for (state, probability) in more {
        *states.entry(state).or_default() += probability;
    }
}

fn choice_entropy(rule: &Rule) -> f64 {
    let probabilities = rule.alternatives.iter().map(|a| rule.probability(a));
    -probabilities.map(|p| p * p.ln()).sum::<f64>()
}
