//! Which kernels are taken, and which are timed.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::family::{AnyFamily, MOST_CANDIDATES, Of, candidates, choose, obstacle};
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
