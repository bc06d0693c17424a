//! What a grammar is: tables of things, slots that hold one of them, and rules of weighted text.

/// A probabilistic grammar without recursion, whose texts agree with themselves.
///
/// A text begins with the first rule. A rule is replaced by one of its alternatives, drawn by weight.
/// A slot is drawn from the rows of its table that no other slot holds, when a text first mentions it,
/// and every later mention repeats it.
#[derive(Clone, Debug)]
pub struct Grammar {
    pub(super) tables: Vec<Table>,
    pub(super) slots: Vec<Slot>,
    pub(super) rules: Vec<Rule>,
    pub(super) entropy: f64,
}

impl Grammar {
    /// The expectation of `-log p` over all texts, in nats.
    pub fn entropy(&self) -> f64 {
        self.entropy
    }

    /// What a mention says when its slot holds `row`.
    pub(super) fn value(&self, mention: Mention, row: usize) -> &str {
        &self.table_of(mention.slot).rows[row][mention.column]
    }

    pub(super) fn table_of(&self, slot: usize) -> &Table {
        &self.tables[self.slots[slot].table]
    }

    /// The slots that draw from the same table as `slot`, itself included.
    pub(super) fn siblings(&self, slot: usize) -> impl Iterator<Item = usize> {
        let table = self.slots[slot].table;
        (0..self.slots.len()).filter(move |&other| self.slots[other].table == table)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Each field twice: as it is, and under its capitalised name with capitalised values.
    pub(super) columns: Vec<Column>,
    /// `[rows, columns]`
    pub(super) rows: Vec<Vec<String>>,
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// No value occurs twice, so a mention tells which row it is.
    pub(super) is_unique: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) table: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) alternatives: Vec<Alternative>,
}

impl Rule {
    pub(super) fn total_weight(&self) -> u64 {
        self.alternatives.iter().map(|a| u64::from(a.weight)).sum()
    }

    /// The probability of an alternative of this rule.
    pub(super) fn probability(&self, alternative: &Alternative) -> f64 {
        f64::from(alternative.weight) / self.total_weight() as f64
    }
}

#[derive(Clone, Debug)]
pub(super) struct Alternative {
    pub(super) weight: u32,
    pub(super) items: Vec<Item>,
}

#[derive(Clone, Debug)]
pub(super) enum Item {
    Gap(Gap),
    Text(String),
    Mention(Mention),
    Rule(usize),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Mention {
    pub(super) slot: usize,
    pub(super) column: usize,
}

/// What goes between two pieces of text; of several in a row the largest counts.
///
/// A gap is written with the piece that follows it, so that empty alternatives leave no double space
/// and a text has none at its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    None,
    Space,
    Line,
}

impl Gap {
    pub(super) fn text(self) -> &'static str {
        match self {
            Gap::None => "",
            Gap::Space => " ",
            Gap::Line => "\n",
        }
    }
}

/// Why a grammar's source was refused.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum GrammarError {
    /// A line is not of the form expected there.
    #[error("line {line}: expected {expected}, found `{found}`")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A name is used that is not defined, or not yet.
    #[error("line {line}: no {kind} named `{name}`; a rule uses only rules further down")]
    Unknown {
        /// Counted from 1.
        line: usize,
        /// What the name should stand for.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A table has fewer rows than slots.
    #[error("table `{table}` has {rows} rows for {slots} slots; add rows")]
    TooFewRows {
        /// The table's name.
        table: String,
        /// Its rows.
        rows: usize,
        /// The slots that hold one each.
        slots: usize,
    },
    /// A text can mention a slot without telling which row it holds.
    #[error(
        "slot `{slot}` can be mentioned without a field that tells its rows apart; mention one"
    )]
    Unidentified {
        /// The slot's name.
        slot: String,
    },
    /// The source has no rules, or more slots than the analysis handles.
    #[error("a grammar has at least one rule and at most 64 slots; this has {rules} and {slots}")]
    Size {
        /// Rules found.
        rules: usize,
        /// Slots found.
        slots: usize,
    },
}
