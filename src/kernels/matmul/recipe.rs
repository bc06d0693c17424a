//! How a product is launched, under a name that a plan can be told: the variant, the size of its
//! textures, and when a long k is split.

use std::fmt;
use std::str::FromStr;

use super::{SHORTEST_SPLIT, TEXTURE_SIDE, Variant};
use crate::gpu::{ENOUGH_WORKGROUPS, Target};

/// A variant and its tunables: what a plan's question about a product is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The kernel, and the size of its textures.
    pub variant: Variant,
    /// k is split where the output makes fewer workgroups than this; 1 never splits.
    pub enough_workgroups: usize,
}

/// As plans launch it on a GPU of which nothing was measured.
impl From<Variant> for Recipe {
    fn from(variant: Variant) -> Self {
        Self {
            variant,
            enough_workgroups: variant.enough_workgroups(ENOUGH_WORKGROUPS),
        }
    }
}

impl Recipe {
    /// The variant as it suits adapters like `target`.
    pub(super) fn fitted(variant: Variant, target: &Target) -> Self {
        Self {
            variant,
            enough_workgroups: variant.enough_workgroups(target.enough_workgroups()),
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
        let variant = Variant::named(variant).ok_or(UnknownRecipe)?;
        let variant = match (variant, side) {
            (Variant::Texture { .. }, Some(Some(side))) => Variant::Texture { side },
            (Variant::TextureSubgroup { .. }, Some(Some(side))) => {
                Variant::TextureSubgroup { side }
            }
            (Variant::Texture { .. } | Variant::TextureSubgroup { .. }, _) | (_, Some(_)) => {
                return Err(UnknownRecipe);
            }
            (variant, None) => variant,
        };
        let enough_workgroups = split.ok_or(UnknownRecipe)?;
        Ok(Self {
            variant,
            enough_workgroups,
        })
    }
}

impl Recipe {
    /// Into how many parts k is cut for an output of `[m, n]`, before the limits of a texture.
    pub(super) fn splits(&self, m: usize, n: usize, k: usize) -> usize {
        let (rows, cols) = self.variant.tile();
        let workgroups = m.div_ceil(rows) * n.div_ceil(cols);
        (self.enough_workgroups / workgroups)
            .min(k / SHORTEST_SPLIT)
            .max(1)
    }
}

impl Variant {
    /// The variant of this name, with textures as large as there are.
    pub fn named(name: &str) -> Option<Self> {
        let side = TEXTURE_SIDE;
        let all = [
            Self::Tiled,
            Self::TiledQuads,
            Self::TiledSmall,
            Self::TiledF16,
            Self::TiledQuadsF16,
            Self::Cooperative,
            Self::CooperativeSmall,
            Self::Cooperative8x8,
            Self::CooperativeSmall8x8,
            Self::Texture { side },
            Self::TextureSubgroup { side },
            Self::Row,
            Self::Few,
            Self::FewF16,
            Self::FewTexture,
        ];
        all.into_iter().find(|v| v.kernel().variant == name)
    }

    /// The same with the largest textures where its own are no bound for a product of these sizes.
    pub(super) fn without_slack(self, [m, n, k]: [usize; 3]) -> Self {
        let full = TEXTURE_SIDE;
        let free = |side: usize| k <= side && m.max(n) <= 4 * side;
        match self {
            Self::Texture { side } if free(side) => Self::Texture { side: full },
            Self::TextureSubgroup { side } if free(side) => Self::TextureSubgroup { side: full },
            other => other,
        }
    }
}
