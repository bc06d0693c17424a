//! Examples of instruction data: token ids of which some are an answer, and rows that are made of them.

use std::path::{Path, PathBuf};

use super::dataset::{Batch, DatasetError};
use crate::kernels::cross_entropy::IGNORED;

/// A conversation, or a prompt with its completion, as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// All of it.
    pub tokens: Vec<u32>,
    /// For each token whether it is part of an answer: the loss is over these alone.
    pub is_answer: Vec<bool>,
}

/// Examples in rows of one length.
#[derive(Debug)]
pub struct ExampleRows {
    path: PathBuf,
    examples: Vec<Example>,
    /// For each row the places of its examples, in order.
    rows: Vec<Vec<usize>>,
    context_length: usize,
}

/// Rows with room left that an example is tried to be put into.
const OPEN_ROWS: usize = 32;

impl ExampleRows {
    /// The examples of the file `path` in rows of `context_length` tokens: one in each, or with `packed` as many as
    /// fit, the next of the file into the first row that has room among the last few. One that is longer is cut;
    /// one of which no answer is left is left out.
    ///
    /// # Errors
    /// When a token is not below `vocab_size`, or no example is left.
    pub fn new(
        path: &Path,
        mut examples: Vec<Example>,
        vocab_size: usize,
        context_length: usize,
        packed: bool,
    ) -> Result<Self, DatasetError> {
        let all = examples.len();
        for (number, example) in (1..).zip(&examples) {
            let mut tokens = example.tokens.iter();
            if let Some(&token) = tokens.find(|&&token| token as usize >= vocab_size) {
                return Err(DatasetError::OutsideOfVocabulary {
                    path: path.to_owned(),
                    number,
                    token,
                    vocab_size,
                });
            }
        }
        let is_long = |example: &&mut Example| example.tokens.len() > context_length + 1;
        let mut cut = 0;
        for example in examples.iter_mut().filter(is_long) {
            example.tokens.truncate(context_length + 1);
            example.is_answer.truncate(context_length + 1);
            cut += 1;
        }
        examples.retain(Example::has_target);
        let left_out = all - examples.len();
        if examples.is_empty() {
            return Err(DatasetError::NoAnswers {
                path: path.to_owned(),
                examples: all,
                context_length,
            });
        }
        if cut > 0 {
            tracing::warn!(
                "{}: {cut} of {all} examples are longer than context_length + 1 = {} tokens and were cut; {left_out} \
                 of all have no answer left and were left out",
                path.display(),
                context_length + 1
            );
        } else if left_out > 0 {
            tracing::warn!(
                "{}: {left_out} of {all} examples have no answer and were left out",
                path.display()
            );
        }
        let rows = match packed {
            false => (0..examples.len()).map(|place| vec![place]).collect(),
            true => pack(&examples, context_length),
        };
        Ok(Self {
            path: path.to_owned(),
            examples,
            rows,
            context_length,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tokens of a row.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row: never.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Examples that are left.
    pub fn examples(&self) -> usize {
        self.examples.len()
    }

    /// Tokens that are targets.
    pub fn answers(&self) -> usize {
        self.examples
            .iter()
            .map(|example| example.targets().count())
            .sum()
    }

    /// The rows `rows`, filled up with a token that no target follows. Documents are told apart.
    pub fn batch(&self, rows: &[usize]) -> Batch {
        let mut batch = Batch::default();
        let mut starts = Vec::with_capacity(rows.len() * self.context_length);
        for &row in rows {
            let end = batch.tokens.len() + self.context_length;
            let mut first = 0u32;
            for &place in &self.rows[row] {
                let example = &self.examples[place];
                let len = example.tokens.len() - 1;
                batch.tokens.extend_from_slice(&example.tokens[..len]);
                let targets = example.tokens[1..].iter().zip(&example.is_answer[1..]);
                batch.targets.extend(
                    targets.map(|(&token, &is_answer)| if is_answer { token } else { IGNORED }),
                );
                starts.resize(batch.tokens.len(), first);
                first += u32::try_from(len).unwrap_or(u32::MAX);
            }
            batch.tokens.resize(end, 0);
            batch.targets.resize(end, IGNORED);
            starts.resize(end, first);
        }
        batch.documents = Some(starts);
        batch
    }
}

impl Example {
    /// The tokens that count where they follow another.
    fn targets(&self) -> impl Iterator<Item = &bool> {
        self.is_answer
            .iter()
            .skip(1)
            .filter(|is_answer| **is_answer)
    }

    fn has_target(&self) -> bool {
        self.targets().next().is_some()
    }
}

/// Rows of examples whose inputs are together at most `context_length` tokens.
fn pack(examples: &[Example], context_length: usize) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut room: Vec<usize> = Vec::new();
    for (place, example) in examples.iter().enumerate() {
        let len = example.tokens.len() - 1;
        let open = rows.len().saturating_sub(OPEN_ROWS);
        let fitting = (open..rows.len()).find(|&row| room[row] >= len);
        let row = fitting.unwrap_or_else(|| {
            rows.push(Vec::new());
            room.push(context_length);
            rows.len() - 1
        });
        rows[row].push(place);
        room[row] -= len;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(len: u32, answers: &[usize]) -> Example {
        Example {
            tokens: (0..len).collect(),
            is_answer: (0..len as usize).map(|i| answers.contains(&i)).collect(),
        }
    }

    fn rows(examples: &[Example], packed: bool) -> Result<ExampleRows, DatasetError> {
        ExampleRows::new(Path::new("data.jsonl"), examples.to_vec(), 50, 8, packed)
    }

    #[test]
    fn each_example_has_a_row_of_its_own_filled_up_by_what_counts_for_nothing() {
        let rows = rows(&[example(4, &[2, 3]), example(9, &[8])], false).unwrap();
        assert_eq!((rows.len(), rows.answers()), (2, 3));
        let batch = rows.batch(&[1, 0]);
        assert_eq!(
            batch.tokens,
            [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 0, 0, 0, 0, 0]
        );
        let mut targets = [IGNORED; 16];
        (targets[7], targets[9], targets[10]) = (8, 2, 3);
        assert_eq!(batch.targets, targets);
        assert_eq!(batch.documents.unwrap()[8..], [0, 0, 0, 3, 3, 3, 3, 3]);
    }

    #[test]
    fn packed_rows_hold_what_fits_and_know_where_each_begins() {
        let four = [
            example(4, &[3]),
            example(7, &[1]),
            example(3, &[1]),
            example(4, &[2]),
        ];
        let rows = rows(&four, true).unwrap();
        assert_eq!(rows.rows, [vec![0, 2, 3], vec![1]]);
        let batch = rows.batch(&[0]);
        assert_eq!(batch.tokens, [0, 1, 2, 0, 1, 0, 1, 2]);
        let none = IGNORED;
        assert_eq!(batch.targets, [none, none, 3, 1, none, none, 2, none]);
        assert_eq!(batch.documents.unwrap(), [0, 0, 0, 3, 3, 5, 5, 5]);
    }

    #[test]
    fn what_is_too_long_is_cut_and_what_has_no_answer_is_left_out() {
        let long = rows(
            &[example(20, &[3]), example(20, &[12]), example(5, &[0])],
            false,
        )
        .unwrap();
        assert_eq!((long.len(), long.answers()), (1, 1));
        assert_eq!(long.batch(&[0]).tokens, [0, 1, 2, 3, 4, 5, 6, 7]);
        let error = rows(&[example(20, &[12]), example(1, &[0])], false)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("none of the 2 examples of 'data.jsonl' has an answer"),
            "{error}"
        );
        let error = rows(&[example(4, &[1]), example(60, &[1])], false)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("example 2 of 'data.jsonl'") && error.contains("token 50"),
            "{error}"
        );
    }
}
