//! Which kernels can compute a product, and how each is timed.

use super::super::family::{Family, Member, Need, UNTIMED_NOWHERE};
use super::{
    COOPERATIVE, COOPERATIVE_8X8, COOPERATIVE_SMALL, COOPERATIVE_SMALL_8X8, Epilogue, FEW, FEW_F16,
    FEW_TEXTURE, Form, Product, ROW, ROW_TEXTURE, ROW_TEXTURE_F16, Recipe, TEXTURE, TEXTURE_SIDE,
    TEXTURE_SUBGROUP, TILED, TILED_F16, TILED_QUADS, TILED_QUADS_F16, TILED_SMALL, Variant,
    matmul_by, takes_any_epilogue,
};
use crate::gpu::{AdapterClass, Elements, Plan, Question, Target, Tensor};

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Nn, Self::Nt, Self::Tn];

    /// What a plan's questions call a product of this form, by what its operands consist of.
    pub fn kind(self, operands: Elements) -> &'static str {
        match (self, operands) {
            (Self::Nn, Elements::Words) => "matmul nn",
            (Self::Nt, Elements::Words) => "matmul nt",
            (Self::Tn, Elements::Words) => "matmul tn",
            (Self::Nn, Elements::Halves) => "matmul nn f16",
            (Self::Nt, Elements::Halves) => "matmul nt f16",
            (Self::Tn, Elements::Halves) => "matmul tn f16",
        }
    }
}

/// What decides which kernels can compute a product.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// How the operands lie in memory.
    pub form: Form,
    /// m, n and k.
    pub sizes: [usize; 3],
    /// What the operands consist of.
    pub operands: Elements,
    /// Whether the output's rows are whole quads.
    pub in_quads: bool,
    /// How the product goes to memory.
    pub epilogue: Epilogue,
}

impl Use {
    /// That of a product.
    pub(super) fn of(product: &Product) -> Self {
        let output = product.output;
        Self {
            form: product.form,
            sizes: product.sizes(),
            operands: product.a.elements,
            in_quads: (output.cols | output.row_stride).is_multiple_of(4),
            epilogue: product.epilogue,
        }
    }
}

/// Textures hold a whole k, which only sums can do without.
const WHOLE_SUMS: Need<Use> = Need {
    words: "its epilogue is for whole sums, and k is longer than a texture's side",
    met: |used| used.epilogue.is_sum() || takes_any_epilogue(used.sizes[2]),
};

const WORDS: Need<Use> = Need {
    words: "its operands are f32",
    met: |used| used.operands == Elements::Words,
};
const HALVES: Need<Use> = Need {
    words: "its operands are f16",
    met: |used| used.operands == Elements::Halves,
};

/// Rows of the left operand up to which the variants for a few rows are worth timing.
const MANY_ROWS: usize = 64;

const LINES: Need<Use> = Need {
    words: "it takes the form nt",
    met: |used| used.form == Form::Nt,
};
/// A longer k would not fit a texture's row of texels.
const SHORT_LINES: Need<Use> = Need {
    words: "a row of an operand is longer than a texture",
    met: |used| used.sizes[2] <= 4 * TEXTURE_SIDE,
};

impl Family for Use {
    const OP: &'static str = "matmul";
    const MEMBERS: &'static [Member<Self>] = &[
        Member {
            name: "row",
            kernels: &[&ROW],
            default_for: &[AdapterClass::Software],
            needs: &[
                Need {
                    words: "it takes one row in the form nt",
                    met: |used| (used.sizes[0], used.form) == (1, Form::Nt),
                },
                WORDS,
            ],
        },
        Member {
            name: "texture_subgroup",
            kernels: &[&TEXTURE_SUBGROUP],
            default_for: &[AdapterClass::Software],
            needs: &[
                Need {
                    words: "it stores whole quads of columns",
                    met: |used| used.in_quads,
                },
                Need {
                    words: "it rotates whole quads of a head, by angles that fit a texture",
                    met: |used| used.epilogue.fits_quads(),
                },
                WHOLE_SUMS,
            ],
        },
        Member {
            name: "texture",
            kernels: &[&TEXTURE],
            default_for: &[AdapterClass::Software],
            needs: &[WHOLE_SUMS],
        },
        Member {
            name: "tiled_quads",
            kernels: &[&TILED_QUADS],
            default_for: &[AdapterClass::Gpu],
            needs: &[WORDS],
        },
        Member {
            name: "tiled",
            kernels: &[&TILED],
            default_for: &[AdapterClass::Gpu],
            needs: &[WORDS],
        },
        Member {
            name: "tiled_small",
            kernels: &[&TILED_SMALL],
            default_for: &[],
            needs: &[WORDS],
        },
        Member {
            name: "tiled_quads_f16",
            kernels: &[&TILED_QUADS_F16],
            default_for: &[AdapterClass::Gpu],
            needs: &[HALVES],
        },
        Member {
            name: "tiled_f16",
            kernels: &[&TILED_F16],
            default_for: &[AdapterClass::Gpu],
            needs: &[HALVES],
        },
        Member {
            name: "cooperative",
            kernels: &[&COOPERATIVE],
            default_for: UNTIMED_NOWHERE,
            needs: &[HALVES],
        },
        Member {
            name: "cooperative_small",
            kernels: &[&COOPERATIVE_SMALL],
            default_for: UNTIMED_NOWHERE,
            needs: &[HALVES],
        },
        Member {
            name: "cooperative_8x8",
            kernels: &[&COOPERATIVE_8X8],
            default_for: UNTIMED_NOWHERE,
            needs: &[HALVES],
        },
        Member {
            name: "cooperative_small_8x8",
            kernels: &[&COOPERATIVE_SMALL_8X8],
            default_for: UNTIMED_NOWHERE,
            needs: &[HALVES],
        },
        Member {
            name: "few",
            kernels: &[&FEW],
            default_for: &[],
            needs: &[WORDS, LINES],
        },
        Member {
            name: "few_f16",
            kernels: &[&FEW_F16],
            default_for: &[],
            needs: &[HALVES, LINES],
        },
        Member {
            name: "few_texture",
            kernels: &[&FEW_TEXTURE, &ROW_TEXTURE, &ROW_TEXTURE_F16],
            default_for: &[],
            needs: &[LINES, SHORT_LINES],
        },
    ];
    type Recipe = Recipe;

    fn question(&self) -> Question {
        Question {
            kind: self.form.kind(self.operands),
            sizes: self.sizes.to_vec(),
        }
    }

    /// The gradient of a weight sums over rows.
    fn row_sizes(&self) -> &'static [usize] {
        match self.form {
            Form::Nn | Form::Nt => &[0],
            Form::Tn => &[2],
        }
    }

    fn asked(question: &Question) -> Option<Self> {
        let of = |operands| Form::ALL.map(|form| (form, operands));
        let all = of(Elements::Words).into_iter().chain(of(Elements::Halves));
        let mut asked = all.filter(|(form, operands)| form.kind(*operands) == question.kind);
        let (form, operands) = asked.next()?;
        let sizes: [usize; 3] = question.sizes.as_slice().try_into().ok()?;
        Some(Self {
            form,
            sizes,
            operands,
            in_quads: sizes[1].is_multiple_of(4),
            epilogue: Epilogue::Store,
        })
    }

    fn recipe(&self, member: &Member<Self>) -> Recipe {
        let variant = Variant::named(member.name).expect("a member is a variant");
        variant.into()
    }

    fn fitted(recipe: Recipe, target: &Target) -> Recipe {
        Recipe::fitted(recipe.variant, target)
    }

    fn member_name(recipe: Recipe) -> &'static str {
        recipe.variant.kernel().variant
    }

    fn write(recipe: Recipe) -> String {
        recipe.to_string()
    }

    fn parse(&self, text: &str) -> Option<Recipe> {
        text.parse().ok()
    }

    fn worth_timing(&self, target: &Target) -> Vec<Recipe> {
        let [m, n, k] = self.sizes;
        let enough = target.enough_workgroups();
        let many = 4 * enough;
        let side = TEXTURE_SIDE;
        let textures = [Variant::TextureSubgroup { side }, Variant::Texture { side }];
        let mut all = Vec::new();
        let mut add = |variant: Variant, splits: &[usize]| {
            all.extend(splits.iter().map(|&enough_workgroups| Recipe {
                variant,
                enough_workgroups,
            }));
        };
        match target.class {
            AdapterClass::Gpu => {
                add(Variant::TiledQuads, &[enough, 1, many]);
                add(Variant::Tiled, &[enough, 1]);
                add(Variant::TiledSmall, &[enough, 1, many]);
                add(Variant::Tiled, &[many]);
                add(Variant::Cooperative, &[enough, 1, many]);
                add(Variant::CooperativeSmall, &[enough, 1, many]);
                add(Variant::Cooperative8x8, &[enough, 1, many]);
                add(Variant::CooperativeSmall8x8, &[enough]);
                add(Variant::TiledQuadsF16, &[enough, 1]);
                add(Variant::TiledF16, &[enough]);
                add(textures[1], &[8]);
                // For GPUs whose subgroups happen to have its lanes.
                add(textures[0], &[8]);
            }
            AdapterClass::Software => {
                for variant in textures {
                    add(variant, &[8, 1, 32]);
                }
                // Sides over which the operands are cut: smaller textures stay in a CPU's caches.
                for side in [64, 512, 2048].into_iter().filter(|side| 8 * side >= k) {
                    add(Variant::TextureSubgroup { side }, &[8]);
                    add(Variant::Texture { side }, &[8]);
                }
                // A tile is computed whole, and a lane's loads are dear: seconds for more.
                if m * n * k <= 1 << 20 {
                    add(Variant::Tiled, &[enough]);
                }
            }
        }
        add(Variant::Row, &[1]);
        if m <= MANY_ROWS && target.class == AdapterClass::Gpu {
            all.splice(0..0, [Variant::Few, Variant::FewF16].map(Recipe::from));
        }
        all
    }

    fn launch_alike(&self, one: Recipe, other: Recipe) -> bool {
        let [m, n, k] = self.sizes;
        let launch = |r: Recipe| (r.variant.without_slack(self.sizes), r.splits(m, n, k));
        launch(one) == launch(other)
    }

    fn flops(&self) -> usize {
        let [m, n, k] = self.sizes;
        2 * m.saturating_mul(n).saturating_mul(k)
    }

    /// The larger one of m and n is halved, and only then k: k decides about splits, and m and n only
    /// have to fill the adapter. Whole quads stay whole quads, which some variants need.
    fn halved(&self) -> Option<Self> {
        const SHORTEST: usize = 512;
        let mut sizes = self.sizes;
        let larger = usize::from(sizes[1] > sizes[0]);
        let halved = if sizes[larger] >= 2 * SHORTEST {
            larger
        } else {
            2
        };
        let before = sizes[halved];
        let half = before.div_ceil(2);
        sizes[halved] = if before.is_multiple_of(4) {
            half.next_multiple_of(4)
        } else {
            half
        };
        (sizes[halved] < before).then_some(Self { sizes, ..*self })
    }

    /// The product with everything that its variant needs: copies of both operands, which a real plan
    /// may share among products, and sums of splits.
    fn sample(&self, plan: &mut Plan, recipe: Recipe) -> Vec<Tensor> {
        let [m, n, k] = self.sizes;
        let form = self.form;
        let (a_rows, a_cols) = if form == Form::Tn { (k, m) } else { (m, k) };
        let (b_rows, b_cols) = if form == Form::Nt { (n, k) } else { (k, n) };
        let a = plan.scratch_of(self.operands, "a", a_rows, a_cols);
        let b = plan.scratch_of(self.operands, "b", b_rows, b_cols);
        let output = plan.scratch("output", m, n);
        let product = Product {
            form,
            a,
            b,
            output,
            epilogue: self.epilogue,
        };
        matmul_by(plan, recipe, product);
        vec![a, b]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::super::family::{
        AnyFamily, MOST_CANDIDATES, Of, candidates, choose, obstacle,
    };
    use super::super::UnknownRecipe;
    use super::*;
    use crate::gpu::limits::{LimitValues, WORKGROUP_MEMORY};
    use crate::gpu::{Choices, Reason, Vendor};
    use crate::kernels::SUBGROUP_LANES;

    fn targets() -> [Target; 3] {
        let with_subgroups = Target {
            subgroup_size: Some(SUBGROUP_LANES),
            ..Target::portable(AdapterClass::Software)
        };
        [
            Target::portable(AdapterClass::Gpu),
            Target::portable(AdapterClass::Software),
            with_subgroups,
        ]
    }

    const SHAPES: [[usize; 3]; 6] = [
        [1, 1024, 128],
        [16, 128, 128],
        [1024, 344, 128],
        [128, 128, 1024],
        [10_000, 512, 448],
        [4096, 4096, 4096],
    ];

    #[test]
    fn a_recipe_is_read_back_from_its_name() {
        for target in targets() {
            for (form, sizes) in Form::ALL.into_iter().zip(SHAPES) {
                for recipe in candidates(&target, &used(form, sizes)) {
                    assert_eq!(recipe.to_string().parse(), Ok(recipe));
                }
            }
        }
        for wrong in [
            "",
            "matmul.tiled",
            "matmul.tiled split 0",
            "matmul.tiled side 64 split 8",
            "matmul.texture split 8",
            "matmul.texture side 12 split 8",
            "matmul.texture side 16384 split 8",
            "matmul.unheard_of split 8",
        ] {
            assert_eq!(wrong.parse::<Recipe>(), Err(UnknownRecipe), "{wrong}");
        }
    }

    fn used(form: Form, sizes: [usize; 3]) -> Use {
        let (kind, sizes) = (form.kind(Elements::Words), sizes.to_vec());
        Use::asked(&Question { kind, sizes }).unwrap()
    }

    #[test]
    fn the_default_suits_the_class_and_can_run() {
        let [gpu, plain, subgroups] = targets();
        let roomy = Target {
            limits: gpu.limits.clone().with(WORKGROUP_MEMORY, 32 << 10),
            ..gpu.clone()
        };
        let other_lanes = Target {
            subgroup_size: Some(4),
            ..plain.clone()
        };
        for (target, form, sizes, want) in [
            (&roomy, Form::Nt, [1, 64, 64], "tiled_quads"),
            (&gpu, Form::Nt, [1, 64, 64], "tiled"),
            (&gpu, Form::Nn, [64, 64, 64], "tiled"),
            (&plain, Form::Nt, [1, 64, 64], "row"),
            (&plain, Form::Nn, [1, 64, 64], "texture"),
            (&plain, Form::Nt, [2, 64, 64], "texture"),
            (&subgroups, Form::Nt, [2, 64, 64], "texture_subgroup"),
            (&subgroups, Form::Nt, [2, 63, 64], "texture"),
            (&other_lanes, Form::Nt, [2, 64, 64], "texture"),
        ] {
            let mut plan = Plan::new(target.clone());
            let recipe = choose(&mut plan, &used(form, sizes));
            assert_eq!(Use::member_name(recipe), want, "{form:?} {sizes:?}");
            let chosen = plan.chosen().first().unwrap();
            assert_eq!(chosen.reason, Reason::Default);
        }
    }

    #[test]
    fn candidates_begin_with_the_default_differ_and_can_run() {
        for target in targets() {
            for form in Form::ALL {
                for sizes in SHAPES {
                    let used = used(form, sizes);
                    let found = candidates(&target, &used);
                    let default = choose(&mut Plan::new(target.clone()), &used);
                    assert_eq!(found[0], default);
                    assert!((2..=MOST_CANDIDATES).contains(&found.len()), "{found:?}");
                    for (i, recipe) in found.iter().enumerate() {
                        assert_eq!(obstacle(&target, &used, *recipe), None, "{recipe}");
                        assert!(!found[..i].contains(recipe), "{recipe} twice");
                    }
                }
            }
        }
    }

    #[test]
    fn a_measured_gpu_has_splits_of_its_size() {
        let target = Target {
            choices: Choices::measured(BTreeMap::new(), Some(132)),
            ..Target::portable(AdapterClass::Gpu)
        };
        let used = used(Form::Tn, [768, 768, 8192]);
        let found = candidates(&target, &used);
        let default = choose(&mut Plan::new(target.clone()), &used);
        assert_eq!(default.to_string(), "matmul.tiled split 264");
        assert_eq!(found[0], default);
        let names: Vec<String> = found.iter().map(Recipe::to_string).collect();
        for name in [
            "matmul.tiled split 1",
            "matmul.tiled split 1056",
            "matmul.tiled_small split 264",
            "matmul.texture side 8192 split 8",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} of {names:?}");
        }
        assert_eq!(default.splits(768, 768, 8192), 264 / 36);
        let forced = Target {
            choices: Choices::forced(&["matmul.tiled".to_owned()]),
            ..target
        };
        let forced = choose(&mut Plan::new(forced), &used);
        assert_eq!(forced, Variant::Tiled.into());
    }

    #[test]
    fn a_large_product_is_cut_to_a_short_one_of_its_kind() {
        const MOST: usize = 1 << 29;
        let of = |sizes: [usize; 3]| {
            let (kind, sizes) = (Form::Nt.kind(Elements::Words), sizes.to_vec());
            let cut = Of::<Use>::NEW.within(&Question { kind, sizes }, MOST);
            cut.unwrap().sizes
        };
        assert_eq!(of([1024, 344, 128]), [1024, 344, 128]);
        assert_eq!(of([448, 10_000, 512]), [448, 628, 512]);
        assert_eq!(of([512, 512, 65_536]), [512, 512, 1024]);
        let huge = of([1 << 20; 3]);
        assert!(2 * huge.iter().product::<usize>() <= MOST);
    }

    /// Else a class would go without the variant that computes it best, or be given one that cannot.
    #[test]
    fn a_cut_question_has_the_members_of_the_whole_one() {
        for target in targets() {
            for form in Form::ALL {
                for sizes in [
                    [448, 10_000, 512],
                    [1, 50_256, 768],
                    [10_000, 512, 448],
                    [2048; 3],
                    // No whole quads, and cut it has some.
                    [512, 4095, 512],
                ] {
                    let whole = used(form, sizes).question();
                    let cut = Of::<Use>::NEW.within(&whole, 1 << 24).unwrap();
                    assert_ne!(cut, whole);
                    let of = |sample: &Question| Of::<Use>::NEW.candidates(&target, &whole, sample);
                    assert_eq!(of(&cut)[0], of(&whole)[0]);
                    let label = |r: &String| r.split(' ').next().unwrap().to_owned();
                    let found: BTreeSet<_> = of(&cut).iter().map(label).collect();
                    let wanted: BTreeSet<_> = of(&whole).iter().map(label).collect();
                    assert_eq!(found, wanted, "{cut:?}");
                }
            }
        }
    }

    /// Who times a kernel with matrices checks it first, so what is taken untimed must have none.
    #[test]
    fn matrices_are_candidates_where_a_device_has_them_and_never_the_default() {
        let amd = Vendor::Amd.pci_id();
        for (matrix_sides, vendor, matrices) in [
            (vec![], 0, vec![]),
            (vec![16], 0, vec!["cooperative", "cooperative_small"]),
            (vec![16], amd, vec!["cooperative_small"]),
            (vec![8], 0, vec!["cooperative_8x8", "cooperative_small_8x8"]),
        ] {
            let target = Target {
                matrix_sides,
                vendor,
                limits: LimitValues::floor().with(WORKGROUP_MEMORY, 32 << 10),
                ..Target::portable(AdapterClass::Gpu)
            };
            for form in Form::ALL {
                let question = Question {
                    kind: form.kind(Elements::Halves),
                    sizes: vec![1024; 3],
                };
                let asked = Use::asked(&question).unwrap();
                let recipes = candidates(&target, &asked);
                let name = |recipe: &Recipe| recipe.variant.kernel().variant;
                assert_eq!(name(&recipes[0]), "tiled_quads_f16");
                let with: BTreeSet<_> = recipes.iter().map(name).collect();
                let with: Vec<_> = with.into_iter().filter(|n| n.contains("coop")).collect();
                assert_eq!(with, matrices);
                let chosen = choose(&mut Plan::new(target.clone()), &asked);
                assert_eq!(name(&chosen), "tiled_quads_f16");
                for recipe in recipes {
                    assert_eq!(recipe.to_string().parse(), Ok(recipe));
                }
            }
        }
    }

    #[test]
    fn a_choice_that_cannot_run_falls_back_to_the_default() {
        let [_, target, _] = targets();
        let used = used(Form::Nt, [2, 64, 64]);
        let default = choose(&mut Plan::new(target.clone()), &used);
        let by = |choices: Choices| {
            let mut plan = Plan::new(Target {
                choices,
                ..target.clone()
            });
            let recipe = choose(&mut plan, &used);
            (recipe, plan.chosen().first().unwrap().reason)
        };
        let answer = |name: &str| {
            let class = used.question().class();
            by(Choices::measured([(class, name.to_owned())].into(), None))
        };
        let tiled = Recipe {
            variant: Variant::Tiled,
            enough_workgroups: 7,
        };
        assert_eq!(answer("matmul.tiled split 7"), (tiled, Reason::Measured));
        for unusable in [
            "matmul.row split 1",
            "matmul.texture_subgroup side 8192 split 8",
            "?",
        ] {
            assert_eq!(answer(unusable), (default, Reason::Default), "{unusable}");
        }
        let forced = |name: &str| by(Choices::forced(&[name.to_owned()]));
        let tiled = Variant::Tiled.into();
        assert_eq!(forced("matmul.tiled"), (tiled, Reason::Forced));
        assert_eq!(forced("matmul.row"), (default, Reason::Default));
    }

    #[test]
    fn every_variant_is_a_member_under_its_kernels_name() {
        for member in Use::MEMBERS {
            let variant = Variant::named(member.name).unwrap();
            assert_eq!(member.label(), variant.kernel().label());
            assert!(std::ptr::eq(member.kernels[0], variant.kernel()));
        }
    }
}
