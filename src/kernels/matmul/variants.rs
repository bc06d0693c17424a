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
#[path = "variants_tests.rs"]
mod tests;
