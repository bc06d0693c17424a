//! Which kernels can compute an attention, and how each is timed.

use super::super::family::{Family, Member, Need, UNTIMED_NOWHERE};
use super::super::matmul::TEXTURE_SIDE;
use super::super::rope::RopeTable;
use super::*;
use crate::gpu::tensor::HALVES_MULTIPLE;
use crate::gpu::{Elements, Question};

/// The half of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// [`forward`].
    Forward,
    /// [`backward`].
    Backward,
}

/// What decides which kernels can compute an attention.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Its sizes.
    pub shape: AttentionShape,
    /// Which half.
    pub pass: Pass,
    /// What queries, keys and values consist of, and the output.
    pub operands: Elements,
    /// Whether rows hold documents that do not see each other.
    pub documents: bool,
}

/// The kernels count positions once for queries and keys.
const ALL_QUERIES: Need<Use> = Need {
    words: "it takes a query for each key",
    met: |used| used.shape.query_rows == used.shape.key_rows,
};
const ONE_DOCUMENT: Need<Use> = Need {
    words: "it does not tell documents of a row apart",
    met: |used| !used.documents,
};
const TEXELS: Need<Use> = Need {
    words: "a head has to be whole texels",
    met: |used| used.shape.head_dim.is_multiple_of(4),
};
const HALVES: Need<Use> = Need {
    words: "its operands are f16",
    met: |used| used.operands == Elements::Halves,
};
const NO_GAPS: Need<Use> = Need {
    words: "queries have to be a multiple of eight columns",
    met: |used| {
        let cols = used.shape.num_heads * used.shape.head_dim;
        cols.is_multiple_of(HALVES_MULTIPLE)
    },
};
const SIDES: Need<Use> = Need {
    words: "rows and heads have to fit the sides of a texture",
    met: |used| {
        let shape = used.shape;
        shape.batch * shape.key_rows <= TEXTURE_SIDE && shape.qkv_cols() <= 4 * TEXTURE_SIDE
    },
};

/// What a plan's questions call the half of an attention, by what its operands consist of.
fn kind(pass: Pass, operands: Elements, documents: bool) -> &'static str {
    match (pass, operands, documents) {
        (Pass::Forward, Elements::Words, false) => "attention forward",
        (Pass::Backward, Elements::Words, false) => "attention backward",
        (Pass::Forward, Elements::Halves, false) => "attention forward f16",
        (Pass::Backward, Elements::Halves, false) => "attention backward f16",
        (Pass::Forward, Elements::Words, true) => "attention forward of documents",
        (Pass::Backward, Elements::Words, true) => "attention backward of documents",
        (Pass::Forward, Elements::Halves, true) => "attention forward f16 of documents",
        (Pass::Backward, Elements::Halves, true) => "attention backward f16 of documents",
    }
}

impl Family for Use {
    const OP: &'static str = "attention";
    const MEMBERS: &'static [Member<Self>] = &[
        Member {
            name: "texture_subgroup",
            kernels: &[
                &FORWARD_TEXTURE_SUBGROUP,
                &BACKWARD_QUERY_TEXTURE_SUBGROUP,
                &BACKWARD_KEY_VALUE_TEXTURE_SUBGROUP,
            ],
            default_for: &[AdapterClass::Software],
            needs: &[ALL_QUERIES, ONE_DOCUMENT, TEXELS, SIDES],
        },
        Member {
            name: "texture",
            kernels: &[
                &FORWARD_TEXTURE,
                &BACKWARD_QUERY_TEXTURE,
                &BACKWARD_KEY_VALUE_TEXTURE,
            ],
            default_for: &[AdapterClass::Software],
            needs: &[ALL_QUERIES, TEXELS, SIDES],
        },
        Member {
            name: PORTABLE_F16,
            kernels: &[&FORWARD_F16, &BACKWARD_QUERY_F16, &BACKWARD_KEY_VALUE_F16],
            default_for: &[AdapterClass::Gpu],
            needs: &[ALL_QUERIES, HALVES, NO_GAPS],
        },
        Member {
            name: "cooperative",
            kernels: &[
                &FORWARD_COOPERATIVE,
                &BACKWARD_QUERY_COOPERATIVE,
                &BACKWARD_KEY_VALUE_COOPERATIVE,
            ],
            default_for: UNTIMED_NOWHERE,
            needs: &[ALL_QUERIES, ONE_DOCUMENT, HALVES, NO_GAPS],
        },
        Member {
            name: "cooperative_8x8",
            kernels: &[
                &FORWARD_COOPERATIVE_8X8,
                &BACKWARD_QUERY_COOPERATIVE_8X8,
                &BACKWARD_KEY_VALUE_COOPERATIVE_8X8,
            ],
            default_for: UNTIMED_NOWHERE,
            needs: &[ALL_QUERIES, ONE_DOCUMENT, HALVES, NO_GAPS],
        },
        Member {
            name: "portable",
            kernels: &[&FORWARD, &BACKWARD_QUERY, &BACKWARD_KEY_VALUE],
            default_for: &[AdapterClass::Gpu, AdapterClass::Software],
            needs: &[ALL_QUERIES],
        },
    ];
    type Recipe = Variant;

    fn question(&self) -> Question {
        let shape = self.shape;
        Question {
            kind: kind(self.pass, self.operands, self.documents),
            sizes: vec![
                shape.batch,
                shape.query_rows,
                shape.key_rows,
                shape.num_heads,
                shape.num_kv_heads,
                shape.head_dim,
            ],
        }
    }

    /// Sequences, queries and keys.
    fn row_sizes(&self) -> &'static [usize] {
        &[0, 1, 2]
    }

    fn asked(question: &Question) -> Option<Self> {
        let passes = [Pass::Forward, Pass::Backward].into_iter();
        let of = |pass| [Elements::Words, Elements::Halves].map(|operands| (pass, operands));
        let all = passes.flat_map(of).flat_map(|(pass, operands)| {
            [false, true].map(|documents| (pass, operands, documents))
        });
        let mut asked = all.filter(|&(pass, operands, documents)| {
            kind(pass, operands, documents) == question.kind
        });
        let (pass, operands, documents) = asked.next()?;
        let &[
            batch,
            query_rows,
            key_rows,
            num_heads,
            num_kv_heads,
            head_dim,
        ] = question.sizes.as_slice()
        else {
            return None;
        };
        let shape = AttentionShape {
            batch,
            query_rows,
            key_rows,
            num_heads,
            num_kv_heads,
            head_dim,
        };
        Some(Self {
            shape,
            pass,
            operands,
            documents,
        })
    }

    fn recipe(&self, member: &Member<Self>) -> Variant {
        Variant::named(member.name).expect("a member is a variant")
    }

    fn member_name(recipe: Variant) -> &'static str {
        recipe.name()
    }

    fn flops(&self) -> usize {
        self.shape.flops(match self.pass {
            Pass::Forward => 2,
            Pass::Backward => 7,
        })
    }

    /// Fewer sequences, or else shorter ones.
    fn halved(&self) -> Option<Self> {
        let mut shape = self.shape;
        if shape.batch > 1 {
            shape.batch /= 2;
        } else if shape.query_rows > 1 {
            shape.query_rows /= 2;
            shape.key_rows = (shape.key_rows / 2).max(shape.query_rows);
        } else {
            return None;
        }
        Some(Self { shape, ..*self })
    }

    /// With the copies that a variant needs. Each row is one document: what it costs at most.
    fn sample(&self, plan: &mut Plan, recipe: Variant) -> Vec<Tensor> {
        let shape = self.shape;
        let width = shape.num_heads * shape.head_dim;
        let queries = shape.batch * shape.query_rows;
        let mut operand = |label, cols| match self.operands {
            Elements::Words => plan.scratch(label, queries, cols),
            Elements::Halves => plan.scratch_halves(label, queries, cols),
        };
        let qkv = shape.qkv(operand("qkv", shape.qkv_cols()));
        let [output, d_output] = ["output", "d_output"].map(|label| operand(label, width));
        let mut operands = vec![qkv.tensor];
        match self.pass {
            Pass::Forward => {
                forward_by(plan, recipe, qkv, shape, None);
            }
            Pass::Backward => {
                let angles = plan.scratch("angles", shape.key_rows, shape.head_dim);
                let heads = shape.batch * shape.num_heads;
                let log_sum_exp = plan.scratch("log_sum_exp", heads, shape.query_rows);
                let saved = Saved {
                    qkv,
                    rotation: Some(RopeTable { angles }),
                    output,
                    log_sum_exp,
                    documents: None,
                };
                backward_by(plan, recipe, saved, d_output, shape);
                operands.extend([angles, output, d_output, log_sum_exp]);
            }
        }
        operands
    }
}

impl Variant {
    const ALL: [Self; 6] = [
        Self::TextureSubgroup,
        Self::Texture,
        Self::StorageF16,
        Self::Cooperative,
        Self::Cooperative8x8,
        Self::Storage,
    ];

    fn name(self) -> &'static str {
        let Kernel { variant, .. } = self.forward_kernel();
        variant
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Target;

    #[test]
    fn the_default_suits_the_class_the_lanes_and_the_shape() {
        use AdapterClass::{Gpu, Software};
        let shape = AttentionShape {
            batch: 8,
            query_rows: 128,
            key_rows: 128,
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: 32,
        };
        let odd = AttentionShape {
            head_dim: 30,
            ..shape
        };
        let long = AttentionShape { batch: 65, ..shape };
        for (class, lanes, shape, want) in [
            (Gpu, None, shape, Variant::Storage),
            (Gpu, Some(8), shape, Variant::Storage),
            (Software, Some(8), shape, Variant::TextureSubgroup),
            (Software, Some(4), shape, Variant::Texture),
            (Software, None, shape, Variant::Texture),
            (Software, Some(8), odd, Variant::Storage),
            (Software, Some(8), long, Variant::Storage),
        ] {
            let target = Target {
                subgroup_size: lanes,
                ..Target::portable(class)
            };
            for pass in [Pass::Forward, Pass::Backward] {
                let operands = Elements::Words;
                let used = Use {
                    shape,
                    pass,
                    operands,
                    documents: false,
                };
                let got = choose(&mut Plan::new(target.clone()), &used);
                assert_eq!(got, want, "{class:?} {lanes:?} {shape:?} {pass:?}");
            }
        }
    }

    #[test]
    fn a_question_is_asked_again_as_it_was() {
        let sizes = vec![2, 3, 3, 4, 2, 6];
        for kind in [
            "attention forward",
            "attention backward",
            "attention forward f16",
            "attention backward f16",
            "attention forward of documents",
            "attention backward f16 of documents",
        ] {
            let (kind, sizes) = (kind, sizes.clone());
            let question = Question { kind, sizes };
            assert_eq!(Use::asked(&question).unwrap().question(), question);
        }
        let used = Use::asked(&Question {
            kind: "attention forward",
            sizes,
        });
        for variant in Variant::ALL {
            let read = used.unwrap().parse(&Use::write(variant));
            assert_eq!(read, Some(variant));
        }
    }
}
