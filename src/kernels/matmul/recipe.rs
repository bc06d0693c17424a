//! How a product is launched, under a name that a plan can be told: the variant, the size of its
//! textures, and when a long k is split.

use std::fmt;
use std::str::FromStr;

use super::{Form, SHORTEST_SPLIT, SUBGROUP_LANES, TEXTURE_SIDE, Variant};
use crate::gpu::{AdapterClass, Plan, Question, Requirement, Target};

/// A variant and its tunables: what a plan's question about a product is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The kernel, and the size of its textures.
    pub variant: Variant,
    /// k is split where the output makes fewer workgroups than this; 1 never splits.
    pub enough_workgroups: usize,
}

impl From<Variant> for Recipe {
    fn from(variant: Variant) -> Self {
        Self {
            variant,
            enough_workgroups: variant.enough_workgroups(),
        }
    }
}

/// `matmul.tiled split 128`, `matmul.texture side 8192 split 8`.
impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.variant.kernel().label())?;
        if let Variant::Texture { side } | Variant::TextureSubgroup { side } = self.variant {
            write!(f, " side {side}")?;
        }
        write!(f, " split {}", self.enough_workgroups)
    }
}

/// A name that no recipe has.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownRecipe;

impl FromStr for Recipe {
    type Err = UnknownRecipe;

    fn from_str(name: &str) -> Result<Self, UnknownRecipe> {
        let words: Vec<&str> = name.split(' ').collect();
        let number = |word: &str| word.parse().ok().filter(|&n: &usize| n > 0);
        let (label, side, split) = match words[..] {
            [label, "split", split] => (label, None, number(split)),
            [label, "side", side, "split", split] => (label, Some(number(side)), number(split)),
            _ => return Err(UnknownRecipe),
        };
        // The sides that launches are written for.
        let side = side.map(|side| side.filter(|s| s % 8 == 0 && *s <= TEXTURE_SIDE));
        let variant = label.strip_prefix("matmul.").unwrap_or_default();
        let variant = match (Variant::named(variant), side) {
            (Some(Variant::Texture { .. }), Some(Some(side))) => Variant::Texture { side },
            (Some(Variant::TextureSubgroup { .. }), Some(Some(side))) => {
                Variant::TextureSubgroup { side }
            }
            (Some(variant @ (Variant::Tiled | Variant::TiledSmall | Variant::Row)), None) => {
                variant
            }
            _ => return Err(UnknownRecipe),
        };
        let enough_workgroups = split.ok_or(UnknownRecipe)?;
        Ok(Self {
            variant,
            enough_workgroups,
        })
    }
}

impl Recipe {
    /// The recipes worth timing for a product of `[m, n, k]` on adapters like `target`, the one that is taken
    /// untimed first; no two launch the same.
    pub fn candidates(target: &Target, form: Form, sizes: [usize; 3]) -> Vec<Self> {
        let [m, n, k] = sizes;
        let default = Variant::for_target(target, form, m);
        let side = TEXTURE_SIDE;
        let textures = [Variant::TextureSubgroup { side }, Variant::Texture { side }];
        let mut all = vec![Self::from(default)];
        let mut add = |variant: Variant, splits: &[usize]| {
            all.extend(splits.iter().map(|&enough_workgroups| Self {
                variant,
                enough_workgroups,
            }));
        };
        match target.class {
            AdapterClass::Gpu => {
                add(Variant::Tiled, &[128, 1]);
                add(Variant::TiledSmall, &[128, 1, 512]);
                add(Variant::Tiled, &[512]);
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
                    add(Variant::Tiled, &[128]);
                }
            }
        }
        add(Variant::Row, &[1]);
        all.retain(|recipe| recipe.variant.obstacle(target, form, m).is_none());
        let mut kept: Vec<Self> = Vec::new();
        for recipe in all {
            let launch = |r: &Self| (r.variant.without_slack(sizes), r.splits(m, n, k));
            if !kept.iter().any(|known| launch(known) == launch(&recipe)) {
                kept.push(recipe);
            }
        }
        kept.truncate(MOST_CANDIDATES);
        kept
    }

    /// Into how many parts k is cut for an output of `[m, n]`, before the limits of a texture.
    pub(super) fn splits(&self, m: usize, n: usize, k: usize) -> usize {
        let (rows, cols) = self.variant.tile();
        let workgroups = m.div_ceil(rows) * n.div_ceil(cols);
        (self.enough_workgroups / workgroups)
            .min(k / SHORTEST_SPLIT)
            .max(1)
    }
}

/// Candidates for one class of shapes at most, so that timing them stays a matter of seconds.
const MOST_CANDIDATES: usize = 8;

impl Variant {
    /// The variant of this name, with textures as large as there are.
    pub fn named(name: &str) -> Option<Self> {
        let side = TEXTURE_SIDE;
        let all = [
            Self::Tiled,
            Self::TiledSmall,
            Self::Texture { side },
            Self::TextureSubgroup { side },
            Self::Row,
        ];
        all.into_iter().find(|v| v.kernel().variant == name)
    }

    /// Why a product of `rows` in `form` cannot be computed by it on adapters like `target`.
    pub fn obstacle(self, target: &Target, form: Form, rows: usize) -> Option<String> {
        if self == Self::Row && (rows, form) != (1, Form::Nt) {
            return Some("it takes one row in the form nt".to_owned());
        }
        match self.kernel().requires {
            Requirement::Subgroup(lanes) if target.subgroup_size != Some(lanes) => {
                Some(format!("it needs subgroups of {SUBGROUP_LANES} lanes"))
            }
            _ => None,
        }
    }

    /// The same with the largest textures where its own are no bound for a product of these sizes.
    fn without_slack(self, [m, n, k]: [usize; 3]) -> Self {
        let full = TEXTURE_SIDE;
        let free = |side: usize| k <= side && m.max(n) <= 4 * side;
        match self {
            Self::Texture { side } if free(side) => Self::Texture { side: full },
            Self::TextureSubgroup { side } if free(side) => Self::TextureSubgroup { side: full },
            other => other,
        }
    }
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Nn, Self::Nt, Self::Tn];

    /// What a plan's questions call a product of this form.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Nn => "matmul nn",
            Self::Nt => "matmul nt",
            Self::Tn => "matmul tn",
        }
    }
}

/// The recipe for a product: the variant that is forced where it can compute it, or else what was
/// measured, or else what the adapter's class suggests.
pub(super) fn choose(plan: &mut Plan, form: Form, sizes: [usize; 3]) -> Recipe {
    let kind = form.kind();
    let answer = plan.ask(Question { kind, sizes });
    let target = plan.target();
    let forced = target.choices.forced_variant("matmul");
    if let Some(variant) = forced.and_then(Variant::named) {
        match variant.obstacle(target, form, sizes[0]) {
            None => return variant.into(),
            Some(obstacle) => {
                let name = variant.kernel().label();
                let message = format!("products of {kind} go without {name}: {obstacle}");
                target.choices.warn_once(&message);
            }
        }
    }
    let measured = answer.and_then(|name| name.parse::<Recipe>().ok());
    measured
        .filter(|recipe| recipe.variant.obstacle(target, form, sizes[0]).is_none())
        .unwrap_or_else(|| Variant::for_target(target, form, sizes[0]).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Choices;

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
                for recipe in Recipe::candidates(&target, form, sizes) {
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
            "matmul.cooperative split 8",
        ] {
            assert_eq!(wrong.parse::<Recipe>(), Err(UnknownRecipe), "{wrong}");
        }
    }

    #[test]
    fn candidates_begin_with_the_default_differ_and_can_run() {
        for target in targets() {
            for form in Form::ALL {
                for sizes in SHAPES {
                    let found = Recipe::candidates(&target, form, sizes);
                    let default = Variant::for_target(&target, form, sizes[0]);
                    assert_eq!(found[0], default.into());
                    assert!((2..=MOST_CANDIDATES).contains(&found.len()), "{found:?}");
                    for (i, recipe) in found.iter().enumerate() {
                        let obstacle = recipe.variant.obstacle(&target, form, sizes[0]);
                        assert_eq!(obstacle, None, "{recipe}");
                        assert!(!found[..i].contains(recipe), "{recipe} twice");
                    }
                }
            }
        }
    }

    #[test]
    fn a_choice_that_cannot_run_falls_back_to_the_default() {
        let [_, target, _] = targets();
        let sizes = [2, 64, 64];
        let default = Recipe::from(Variant::for_target(&target, Form::Nt, 2));
        let by = |choices: Choices| {
            let mut plan = Plan::new(Target {
                choices,
                ..target.clone()
            });
            choose(&mut plan, Form::Nt, sizes)
        };
        let answer = |name: &str| {
            let class = Question {
                kind: Form::Nt.kind(),
                sizes,
            }
            .class();
            by(Choices::measured([(class, name.to_owned())].into()))
        };
        assert_eq!(
            answer("matmul.tiled split 7"),
            Recipe {
                variant: Variant::Tiled,
                enough_workgroups: 7
            }
        );
        for unusable in [
            "matmul.row split 1",
            "matmul.texture_subgroup side 8192 split 8",
            "?",
        ] {
            assert_eq!(answer(unusable), default, "{unusable}");
        }
        let forced = |name: &str| by(Choices::forced(&[name.to_owned()]));
        assert_eq!(forced("matmul.tiled"), Variant::Tiled.into());
        assert_eq!(forced("matmul.row"), default);
    }
}
