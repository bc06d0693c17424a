//! Which kernels can normalise rows, and how each is timed.

use super::super::family::{Family, Member, Need};
use super::*;
use crate::gpu::{AdapterClass, Question};

impl Family for Use {
    const OP: &'static str = "rmsnorm";
    const MEMBERS: &'static [Member<Self>] = &[
        // On software adapters a load costs more than what is done with it.
        Member {
            name: SUBGROUP,
            kernels: &[&FORWARD_SUBGROUP, &BACKWARD_SUBGROUP],
            default_for: &[AdapterClass::Software],
            needs: &[
                Need {
                    words: "rows have to be whole quads",
                    met: |used| used.cols.is_multiple_of(4),
                },
                Need {
                    words: "a subgroup keeps rows of at most 1024 columns",
                    met: |used| used.cols <= MOST_KEPT,
                },
            ],
        },
        Member {
            name: PORTABLE,
            kernels: &[
                &FORWARD,
                &FORWARD_QUADS,
                &BACKWARD_INPUT,
                &BACKWARD_INPUT_QUADS,
                &BACKWARD_WEIGHT,
                &BACKWARD_WEIGHT_QUADS,
            ],
            default_for: &[AdapterClass::Gpu, AdapterClass::Software],
            needs: &[],
        },
    ];
    type Recipe = Variant;

    fn question(&self) -> Question {
        Question {
            kind: match self.pass {
                Pass::Forward => "rmsnorm forward",
                Pass::Backward => "rmsnorm backward",
            },
            sizes: vec![self.rows, self.cols],
        }
    }

    fn asked(question: &Question) -> Option<Self> {
        let pass = match question.kind {
            "rmsnorm forward" => Pass::Forward,
            "rmsnorm backward" => Pass::Backward,
            _ => return None,
        };
        let &[rows, cols] = question.sizes.as_slice() else {
            return None;
        };
        Some(Self { rows, cols, pass })
    }

    fn recipe(&self, member: &Member<Self>) -> Variant {
        Variant::named(member.name).expect("a member is a variant")
    }

    fn member_name(recipe: Variant) -> &'static str {
        recipe.name()
    }

    /// Memory holds it up: an element takes as long as some hundred multiply-adds.
    fn flops(&self) -> usize {
        128 * self.rows * self.cols
    }

    fn halved(&self) -> Option<Self> {
        let rows = self.rows / 2;
        (rows > 0).then_some(Self { rows, ..*self })
    }

    fn sample(&self, plan: &mut Plan, recipe: Variant) -> Vec<Tensor> {
        let (rows, cols) = (self.rows, self.cols);
        let input = plan.scratch("input", rows, cols);
        let weight = plan.scratch("weight", 1, cols);
        if self.pass == Pass::Forward {
            forward_by(plan, recipe, input, weight, 1e-5, Elements::Words);
            return vec![input, weight];
        }
        let d_output = plan.scratch("d_output", rows, cols);
        let inv_rms = plan.scratch("inv_rms", 1, rows);
        let [d_input, d_weight] =
            [("d_input", rows), ("d_weight", 1)].map(|(label, rows)| Gradient {
                tensor: plan.scratch(label, rows, cols),
                accumulate: true,
            });
        let gradients = Gradients {
            d_output,
            d_input,
            d_weight: Some(d_weight),
            halves: None,
        };
        let mut sums = Sums::default();
        backward_by(
            plan,
            recipe,
            Saved { input, inv_rms },
            weight,
            gradients,
            &mut sums,
        );
        sums.flush(plan);
        let tensors = [d_input.tensor, d_weight.tensor];
        [input, weight, d_output, inv_rms]
            .into_iter()
            .chain(tensors)
            .collect()
    }
}

impl Variant {
    const ALL: [Self; 2] = [Self::Reloaded, Self::Subgroup];

    fn name(self) -> &'static str {
        match self {
            Self::Reloaded => PORTABLE,
            Self::Subgroup => SUBGROUP,
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Choices, Target};

    fn chosen(target: Target, cols: usize) -> Variant {
        let pass = Pass::Forward;
        choose(
            &mut Plan::new(target),
            &Use {
                rows: 3,
                cols,
                pass,
            },
        )
    }

    #[test]
    fn subgroups_of_eight_on_software_adapters_keep_rows_of_whole_quads_up_to_a_width() {
        use AdapterClass::{Gpu, Software};
        for (class, subgroup_size, cols, want) in [
            (Software, Some(8), 4, Variant::Subgroup),
            (Software, Some(8), 1024, Variant::Subgroup),
            (Software, Some(8), 1028, Variant::Reloaded),
            (Software, Some(8), 126, Variant::Reloaded),
            (Software, Some(4), 128, Variant::Reloaded),
            (Software, None, 128, Variant::Reloaded),
            (Gpu, Some(8), 128, Variant::Reloaded),
        ] {
            let target = Target {
                subgroup_size,
                ..Target::portable(class)
            };
            let got = chosen(target, cols);
            assert_eq!(got, want, "{class:?}, {subgroup_size:?}, {cols} columns");
        }
    }

    #[test]
    fn it_can_be_forced_and_tuned() {
        let target = |choices: Choices| Target {
            subgroup_size: Some(8),
            choices,
            ..Target::portable(AdapterClass::Software)
        };
        let forced = Choices::forced(&["rmsnorm.portable".to_owned()]);
        assert_eq!(chosen(target(forced), 128), Variant::Reloaded);
        let class = "rmsnorm forward 4x128".to_owned();
        let measured = Choices::measured([(class, Use::write(Variant::Reloaded))].into(), None);
        assert_eq!(chosen(target(measured), 128), Variant::Reloaded);
    }
}
