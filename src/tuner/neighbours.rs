//! Answers of neighbouring classes: what runs of seconds take in place of timing their own.

use super::{Findings, Tuned};
use crate::gpu::{Question, Target};
use crate::kernels::FAMILIES;

/// What is taken for `question`, whose own class was not timed, where a class that differs from it in
/// numbers of rows alone was: the answer of the nearest one that has the same default, or else the
/// default, which no answer speaks against. `None` where there is no such class.
pub(super) fn answer(target: &Target, question: &Question, known: &Findings) -> Option<Tuned> {
    let mut families = FAMILIES.into_iter();
    let (family, rows) = families.find_map(|f| Some((f, f.row_sizes(question)?)))?;
    let default = family.candidates(target, question, question).swap_remove(0);
    let own: Vec<usize> = question
        .sizes
        .iter()
        .map(|n| n.next_power_of_two())
        .collect();
    let near = known.iter().filter_map(|(class, tuned)| {
        let sizes = sizes(class, question.kind)?;
        let distance = distance(&own, &sizes, rows)?;
        Some((distance, sizes, class, tuned))
    });
    let near: Vec<_> = near.collect();
    if near.is_empty() {
        return None;
    }
    let alike = near
        .into_iter()
        .filter(|(.., tuned)| tuned.default() == default);
    // Of two that are equally near the one with more rows.
    let nearest = alike.min_by(|(d1, s1, ..), (d2, s2, ..)| d1.cmp(d2).then_with(|| s2.cmp(s1)));
    Some(match nearest {
        Some((.., class, tuned)) => Tuned {
            choice: tuned.choice.clone(),
            candidates: Vec::new(),
            as_for: Some(class.clone()),
        },
        None => Tuned {
            choice: default,
            candidates: Vec::new(),
            as_for: None,
        },
    })
}

/// The sizes of a class of this kind.
fn sizes(class: &str, kind: &str) -> Option<Vec<usize>> {
    let (found, sizes) = class.rsplit_once(' ')?;
    let sizes = sizes.split('x').map(|n| n.parse().ok());
    sizes.collect::<Option<_>>().filter(|_| found == kind)
}

/// How often rows have to be doubled or halved from one class to the other; `None` where they differ in
/// more than rows.
fn distance(own: &[usize], other: &[usize], rows: &[usize]) -> Option<u32> {
    let mut sum = 0;
    if own.len() != other.len() {
        return None;
    }
    for (index, (own, other)) in own.iter().zip(other).enumerate() {
        let doublings = own.checked_ilog2()?.abs_diff(other.checked_ilog2()?);
        if doublings > 0 && !rows.contains(&index) {
            return None;
        }
        sum += doublings;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::Candidate;
    use super::*;
    use crate::gpu::AdapterClass;

    const DEFAULT: &str = "matmul.tiled split 128";
    const SMALL: &str = "matmul.tiled_small split 128";

    fn tuned(default: &str, choice: &str) -> Tuned {
        let candidate = |name: &str| Candidate {
            name: name.to_owned(),
            ms: 1.0,
        };
        Tuned {
            choice: choice.to_owned(),
            candidates: [default, choice].map(candidate).into(),
            as_for: None,
        }
    }

    fn known(answers: &[(&str, &str)]) -> Findings {
        let answers = answers.iter();
        let found = answers.map(|(class, choice)| ((*class).to_owned(), tuned(DEFAULT, choice)));
        found.collect()
    }

    fn asked(
        class: AdapterClass,
        kind: &'static str,
        sizes: &[usize],
        known: &Findings,
    ) -> Option<Tuned> {
        let sizes = sizes.to_vec();
        answer(&Target::portable(class), &Question { kind, sizes }, known)
    }

    #[test]
    fn the_nearest_number_of_rows_answers() {
        let known = known(&[
            ("matmul nt 64x512x128", "matmul.tiled split 1"),
            ("matmul nt 1024x512x128", SMALL),
        ]);
        for (rows, of, choice) in [
            (1, 64, "matmul.tiled split 1"),
            (100, 64, "matmul.tiled split 1"),
            (250, 1024, SMALL),
            (500, 1024, SMALL),
            (9000, 1024, SMALL),
        ] {
            let found = asked(AdapterClass::Gpu, "matmul nt", &[rows, 400, 128], &known).unwrap();
            assert_eq!(found.choice, choice, "{rows}");
            assert_eq!(found.as_for, Some(format!("matmul nt {of}x512x128")));
        }
    }

    #[test]
    fn what_differs_in_more_than_rows_is_no_neighbour() {
        let known = known(&[
            ("matmul nt 64x512x128", SMALL),
            ("matmul tn 128x512x1024", SMALL),
            ("attention forward 8x128x128x4x4x32", "attention.texture"),
        ]);
        let found = |kind, sizes: &[usize]| asked(AdapterClass::Gpu, kind, sizes, &known).is_some();
        assert!(found("matmul nt", &[16, 512, 128]));
        assert!(!found("matmul nt", &[64, 1024, 128]));
        assert!(!found("matmul nt", &[64, 512, 64]));
        assert!(!found("matmul nn", &[64, 512, 128]));
        assert!(!found("matmul nt f16", &[64, 512, 128]));
        // A gradient of a weight has its rows in k.
        assert!(found("matmul tn", &[128, 512, 64]));
        assert!(!found("matmul tn", &[64, 512, 1024]));
        assert!(found("attention forward", &[1, 16, 16, 4, 4, 32]));
        assert!(!found("attention forward", &[8, 128, 128, 8, 4, 32]));
        assert!(!found("attention backward", &[8, 128, 128, 4, 4, 32]));
    }

    /// The product of one row has a kernel of its own on software adapters, which was not in the race.
    #[test]
    fn an_answer_holds_only_against_the_default_that_it_has_beaten() {
        let texture = "matmul.texture side 8192 split 8";
        let other = "matmul.texture side 8192 split 1";
        let known: Findings = [("matmul nt 64x512x128".to_owned(), tuned(texture, other))].into();
        let found = |rows| {
            asked(
                AdapterClass::Software,
                "matmul nt",
                &[rows, 512, 128],
                &known,
            )
        };
        assert_eq!(found(2).unwrap().choice, other);
        let one = found(1).unwrap();
        assert_eq!(
            (one.choice.as_str(), one.as_for),
            ("matmul.row split 1", None)
        );
    }
}
