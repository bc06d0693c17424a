//! Reads a grammar from its text; `stories.grammar` explains the notation.

use super::grammar::{Alternative, Column, Gap, Grammar, GrammarError, Item, Mention};
use super::grammar::{Rule, Slot, Table};

const MAX_SLOTS: usize = 64;

impl Grammar {
    /// Reads a grammar and checks that every slot's row can be told from any text that mentions it.
    ///
    /// # Errors
    /// [`GrammarError`] says which line is wrong and what would be right.
    pub fn parse(source: &str) -> Result<Self, GrammarError> {
        let sections = sections(source)?;
        let mut grammar = Grammar {
            tables: Vec::new(),
            slots: Vec::new(),
            rules: Vec::new(),
            entropy: 0.0,
        };
        for section in sections.iter().filter(|s| s.keyword == "table") {
            grammar.add_table(section)?;
        }
        let rules: Vec<&Section> = sections.iter().filter(|s| s.keyword == "rule").collect();
        let names: Vec<&str> = rules.iter().map(|section| section.header).collect();
        if names.is_empty() || grammar.slots.len() > MAX_SLOTS {
            return Err(GrammarError::Size {
                rules: names.len(),
                slots: grammar.slots.len(),
            });
        }
        for section in rules {
            let rule = read_rule(section, &grammar, &names)?;
            grammar.rules.push(rule);
        }
        grammar.entropy = grammar.analyse()?;
        Ok(grammar)
    }

    fn add_table(&mut self, section: &Section) -> Result<(), GrammarError> {
        let (name, slots, fields) = table_header(section.header)
            .ok_or_else(|| section.error("`NAME (SLOTS): FIELDS`", section.header))?;
        let mut rows = Vec::new();
        for &(line, text) in &section.body {
            let values = list(text);
            if values.len() != fields.len() || values.contains(&"") {
                let expected = "as many values as the table has fields, separated by commas";
                return Err(syntax(line, expected, text));
            }
            rows.push(with_capitals(&values));
        }
        if rows.len() < slots.len() {
            return Err(GrammarError::TooFewRows {
                table: name.to_owned(),
                rows: rows.len(),
                slots: slots.len(),
            });
        }
        let columns = with_capitals(&fields).into_iter().enumerate();
        let columns = columns.map(|(i, name)| Column {
            name,
            is_unique: (1..rows.len()).all(|r| rows[..r].iter().all(|row| row[i] != rows[r][i])),
        });
        let table = self.tables.len();
        self.slots.extend(slots.iter().map(|&name| Slot {
            name: name.to_owned(),
            table,
        }));
        self.tables.push(Table {
            columns: columns.collect(),
            rows,
        });
        Ok(())
    }

    fn mention(&self, text: &str, line: usize) -> Result<Mention, GrammarError> {
        let unknown = |kind, name: &str| GrammarError::Unknown {
            line,
            kind,
            name: name.to_owned(),
        };
        let (slot_name, field) = text
            .split_once('.')
            .ok_or_else(|| syntax(line, "`{SLOT.FIELD}`", text))?;
        let slot = (self.slots.iter().position(|slot| slot.name == slot_name))
            .ok_or_else(|| unknown("slot", slot_name))?;
        let column = (self.table_of(slot).columns.iter())
            .position(|column| column.name == field)
            .ok_or_else(|| unknown("field", field))?;
        Ok(Mention { slot, column })
    }
}

/// A header line and the indented lines below it, with their line numbers.
struct Section<'a> {
    keyword: &'a str,
    header: &'a str,
    line: usize,
    body: Vec<(usize, &'a str)>,
}

impl Section<'_> {
    fn error(&self, expected: &'static str, found: &str) -> GrammarError {
        syntax(self.line, expected, found)
    }
}

fn sections(source: &str) -> Result<Vec<Section<'_>>, GrammarError> {
    let mut sections: Vec<Section> = Vec::new();
    for (line_idx, text) in source.lines().enumerate() {
        let line = line_idx + 1;
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        if text.starts_with(' ') {
            let section = (sections.last_mut())
                .ok_or_else(|| syntax(line, "`table` or `rule` before its lines", text))?;
            section.body.push((line, text.trim()));
            continue;
        }
        let (keyword, header) = text.split_once(' ').unwrap_or((text, ""));
        if !matches!(keyword, "table" | "rule") || header.trim().is_empty() {
            return Err(syntax(
                line,
                "`table NAME (SLOTS): FIELDS` or `rule NAME`",
                text,
            ));
        }
        sections.push(Section {
            keyword,
            header: header.trim(),
            line,
            body: Vec::new(),
        });
    }
    Ok(sections)
}

/// `NAME (SLOT, ...): FIELD, ...`
fn table_header(header: &str) -> Option<(&str, Vec<&str>, Vec<&str>)> {
    let (name, rest) = header.split_once(" (")?;
    let (slots, fields) = rest.split_once("):")?;
    Some((name, list(slots), list(fields)))
}

fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).collect()
}

/// Every word twice: as it is, and with a capital letter.
fn with_capitals(words: &[&str]) -> Vec<String> {
    let both = |word: &&str| [(*word).to_owned(), capitalised(word)];
    words.iter().flat_map(both).collect()
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

fn read_rule(section: &Section, grammar: &Grammar, names: &[&str]) -> Result<Rule, GrammarError> {
    let mut bodies: Vec<(usize, u32, String)> = Vec::new();
    for &(line, text) in &section.body {
        if let Some((weight, body)) = text.split_once('|') {
            let weight = (weight.trim().parse().ok())
                .filter(|&weight| weight > 0)
                .ok_or_else(|| syntax(line, "a whole number above 0 before the bar", text))?;
            bodies.push((line, weight, body.trim().to_owned()));
        } else if let Some((_, _, body)) = bodies.last_mut() {
            *body = format!("{body} {text}");
        } else {
            return Err(syntax(line, "`WEIGHT | TEXT`", text));
        }
    }
    if bodies.is_empty() {
        return Err(section.error("an alternative below the rule's name", section.header));
    }
    let alternatives = bodies.into_iter().map(|(line, weight, body)| {
        let items = read_items(&body, line, grammar, names)?;
        Ok(Alternative { weight, items })
    });
    Ok(Rule {
        alternatives: alternatives.collect::<Result<_, _>>()?,
    })
}

/// The items of an alternative of the next rule; `names` are those of all rules.
fn read_items(
    body: &str,
    line: usize,
    grammar: &Grammar,
    names: &[&str],
) -> Result<Vec<Item>, GrammarError> {
    let later = grammar.rules.len() + 1;
    let mut items = Vec::new();
    let mut rest = body;
    while let Some(first) = rest.chars().next() {
        let (item, after) = match first {
            ' ' => (Item::Gap(Gap::Space), &rest[1..]),
            '/' => (Item::Gap(Gap::Line), &rest[1..]),
            '{' => {
                let (name, after) = enclosed(rest, '}', line)?;
                (Item::Mention(grammar.mention(name, line)?), after)
            }
            '<' => {
                let (name, after) = enclosed(rest, '>', line)?;
                let found = (later..names.len()).find(|&rule| names[rule] == name);
                let rule = found.ok_or_else(|| GrammarError::Unknown {
                    line,
                    kind: "rule",
                    name: name.to_owned(),
                })?;
                (Item::Rule(rule), after)
            }
            _ => {
                let end = rest.find(['{', '<', '/']).unwrap_or(rest.len());
                let text = rest[..end].trim_end();
                (Item::Text(text.to_owned()), &rest[text.len()..])
            }
        };
        items.push(item);
        rest = after;
    }
    Ok(items)
}

/// What stands between the first character and `close`, and what follows.
fn enclosed(text: &str, close: char, line: usize) -> Result<(&str, &str), GrammarError> {
    text[1..]
        .split_once(close)
        .ok_or_else(|| syntax(line, "a closing bracket", text))
}

fn syntax(line: usize, expected: &'static str, found: &str) -> GrammarError {
    GrammarError::Syntax {
        line,
        expected,
        found: found.to_owned(),
    }
}
