//! Decides whether a grammar can yield one text in two ways.

use std::collections::{BTreeSet, VecDeque};

use super::grammar::{Gap, Grammar, Item};

impl Grammar {
    /// A piece of text after which two derivations have said the same and can go on alike, or none if
    /// no text has two derivations.
    ///
    /// The proof walks two derivations in step, letter by letter, from every choice of the grammar until
    /// they differ. It lets slots change between mentions, so it looks at more derivations than there
    /// are: none found means that there is none. That a text tells what its slots hold is checked when
    /// the grammar is read.
    pub fn ambiguity(&self) -> Option<String> {
        let mut search = Search {
            grammar: self,
            lone_seen: BTreeSet::new(),
            pairs_seen: BTreeSet::new(),
            lone: VecDeque::new(),
            pairs: VecDeque::new(),
        };
        let start = Point {
            stack: vec![],
            gap: "",
            rest: "",
        };
        let mut first = Vec::new();
        for alternative in 0..self.rules[0].alternatives.len() {
            let mut inside = start.clone();
            inside.stack.push((0, alternative, 0));
            search.expand(inside, None, &mut first);
        }
        search.branch(&first).or_else(|| search.run())
    }
}

/// A point within a derivation: the piece that is being written and what comes after it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point<'a> {
    /// (rule, alternative, next item), the innermost last.
    stack: Vec<(usize, usize, usize)>,
    gap: &'static str,
    rest: &'a str,
}

impl Point<'_> {
    fn next_char(&self) -> Option<char> {
        self.gap.chars().chain(self.rest.chars()).next()
    }

    fn advance(&mut self) {
        if self.gap.is_empty() {
            let mut chars = self.rest.chars();
            chars.next();
            self.rest = chars.as_str();
        } else {
            self.gap = "";
        }
    }

    /// Nothing is left to write.
    fn is_end(&self) -> bool {
        self.stack.is_empty() && self.rest.is_empty()
    }
}

struct Search<'a> {
    grammar: &'a Grammar,
    lone_seen: BTreeSet<Point<'a>>,
    pairs_seen: BTreeSet<(Point<'a>, Point<'a>)>,
    lone: VecDeque<Point<'a>>,
    /// Two derivations that have written the same, and what they have written since they parted.
    pairs: VecDeque<(Point<'a>, Point<'a>, String)>,
}

impl<'a> Search<'a> {
    fn run(&mut self) -> Option<String> {
        loop {
            if let Some((left, right, written)) = self.pairs.pop_front() {
                if let Some(found) = self.step(left, right, written) {
                    return Some(found);
                }
            } else {
                let mut point = self.lone.pop_front()?;
                (point.gap, point.rest) = ("", "");
                let next = self.next_points(point);
                if let Some(found) = self.branch(&next) {
                    return Some(found);
                }
            }
        }
    }

    /// Follows each of the points that one derivation can go on to, and each two of them as a pair.
    fn branch(&mut self, points: &[Point<'a>]) -> Option<String> {
        for (i, point) in points.iter().enumerate() {
            if !point.is_end() && self.lone_seen.insert(point.clone()) {
                self.lone.push_back(point.clone());
            }
            for other in &points[..i] {
                if let Some(found) = self.pair(other.clone(), point.clone(), String::new()) {
                    return Some(found);
                }
            }
        }
        None
    }

    fn pair(&mut self, left: Point<'a>, right: Point<'a>, written: String) -> Option<String> {
        if left == right {
            return Some(written);
        }
        if left.next_char() == right.next_char() {
            let key = (left.clone(), right.clone());
            if self.pairs_seen.insert(key) {
                self.pairs.push_back((left, right, written));
            }
        }
        None
    }

    /// Writes one letter on both sides.
    fn step(
        &mut self,
        mut left: Point<'a>,
        mut right: Point<'a>,
        mut written: String,
    ) -> Option<String> {
        written.extend(left.next_char());
        left.advance();
        right.advance();
        let (left_next, right_next) = (self.next_points(left), self.next_points(right));
        for left in &left_next {
            for right in &right_next {
                if let Some(found) = self.pair(left.clone(), right.clone(), written.clone()) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The point itself while it has text to write, else all points that it can go on to.
    fn next_points(&self, point: Point<'a>) -> Vec<Point<'a>> {
        if !point.rest.is_empty() {
            return vec![point];
        }
        let mut next = Vec::new();
        self.expand(point, Some(Gap::None), &mut next);
        next
    }

    /// Goes on to the next text; `gap` is what has to be written before it, none at the start.
    fn expand(&self, mut point: Point<'a>, mut gap: Option<Gap>, next: &mut Vec<Point<'a>>) {
        while let Some((rule, alternative, item_idx)) = point.stack.pop() {
            let items = &self.grammar.rules[rule].alternatives[alternative].items;
            let Some(item) = items.get(item_idx) else {
                continue;
            };
            point.stack.push((rule, alternative, item_idx + 1));
            let values: BTreeSet<&str> = match item {
                Item::Gap(more) => {
                    gap = gap.map(|gap| gap.max(*more));
                    continue;
                }
                Item::Rule(rule) => {
                    for alternative in 0..self.grammar.rules[*rule].alternatives.len() {
                        let mut inside = point.clone();
                        inside.stack.push((*rule, alternative, 0));
                        self.expand(inside, gap, next);
                    }
                    return;
                }
                Item::Text(text) => BTreeSet::from([text.as_str()]),
                Item::Mention(mention) => {
                    let rows = 0..self.grammar.table_of(mention.slot).rows.len();
                    rows.map(|row| self.grammar.value(*mention, row)).collect()
                }
            };
            let gap = gap.unwrap_or(Gap::None).text();
            next.extend(values.into_iter().map(|rest| Point {
                stack: point.stack.clone(),
                gap,
                rest,
            }));
            return;
        }
        next.push(point);
    }
}
