//! The host's tables of bindings and params against the shaders themselves, as naga reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gpu_tlm::gpu::{Kernel, Requirement, Role};
use gpu_tlm::kernels;
use gpu_tlm::wgsl::Source;
use naga::{AddressSpace, ScalarKind, StorageAccess, TypeInner};

fn parse(kernel: &Kernel) -> naga::Module {
    naga::front::wgsl::parse_str(&kernel.joined_source()).unwrap_or_else(|e| {
        panic!(
            "{}: {}",
            kernel.label(),
            e.emit_to_string(&kernel.joined_source())
        )
    })
}

#[test]
fn tables_match_the_shaders_bindings() {
    for kernel in kernels::ALL {
        let module = parse(kernel);
        let mut found = Vec::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding else {
                continue;
            };
            assert_eq!(binding.group, 0, "{}", kernel.label());
            let name = variable.name.clone().unwrap();
            let written = match variable.space {
                AddressSpace::Uniform => None,
                AddressSpace::Storage { access } => Some(access.contains(StorageAccess::STORE)),
                AddressSpace::Handle => match &module.types[variable.ty].inner {
                    TypeInner::Image {
                        class: naga::ImageClass::Storage { format, access },
                        ..
                    } => {
                        assert_eq!(
                            *format,
                            naga::StorageFormat::Rgba32Float,
                            "{}",
                            kernel.label()
                        );
                        Some(access.contains(StorageAccess::STORE))
                    }
                    other => panic!("{}: {name} is {other:?}", kernel.label()),
                },
                other => panic!("{}: {name} is in {other:?}", kernel.label()),
            };
            found.push((binding.binding, name, written));
        }
        found.sort();
        let mut wanted = vec![(0, "params".to_owned(), None)];
        wanted.extend(
            kernel
                .bindings
                .iter()
                .zip(1..)
                .map(|(b, number)| (number, b.name.to_owned(), Some(Role::is_written(b.role)))),
        );
        assert_eq!(found, wanted, "{}", kernel.label());
    }
}

#[test]
fn tables_match_the_shaders_params() {
    for kernel in kernels::ALL {
        let module = parse(kernel);
        let (_, params) = module
            .types
            .iter()
            .find(|(_, ty)| ty.name.as_deref() == Some("Params"))
            .unwrap_or_else(|| panic!("{} declares Params", kernel.label()));
        let TypeInner::Struct { members, span } = &params.inner else {
            panic!("{}: Params is a struct", kernel.label())
        };
        let found: Vec<_> = members
            .iter()
            .map(|member| {
                let scalar = match &module.types[member.ty].inner {
                    TypeInner::Scalar(scalar) => match scalar.kind {
                        ScalarKind::Uint => "u32",
                        ScalarKind::Float => "f32",
                        other => panic!("{}: {other:?}", kernel.label()),
                    },
                    other => panic!("{}: {other:?}", kernel.label()),
                };
                (member.name.clone().unwrap(), member.offset as usize, scalar)
            })
            .collect();
        let wanted: Vec<_> = kernel
            .params
            .fields
            .iter()
            .map(|f| (f.name.to_owned(), f.offset, f.scalar))
            .collect();
        assert_eq!(found, wanted, "{}", kernel.label());
        assert_eq!(*span as usize, kernel.params.size, "{}", kernel.label());
    }
}

/// Paths of all shader files below `shaders/`.
fn files_on_disk() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut found = BTreeSet::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let path = path.strip_prefix(&root).unwrap();
                found.insert(path.to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found
}

/// A kernel's own file and its helpers.
fn files_of(kernel: &Kernel) -> Vec<&'static Source> {
    let own = kernels::ALL
        .iter()
        .find(|k| k.source.file == kernel.source.file);
    std::iter::once(&own.unwrap().source)
        .chain(kernel.helpers())
        .collect()
}

#[test]
fn every_shader_file_belongs_to_a_kernel_and_no_two_share_a_name() {
    let on_disk = files_on_disk();
    let in_use = kernels::ALL.iter().flat_map(|kernel| files_of(kernel));
    let in_use: BTreeSet<_> = in_use.map(|file| file.file.to_owned()).collect();
    let idle: Vec<_> = on_disk.difference(&in_use).collect();
    assert!(idle.is_empty(), "in no kernel of kernels::ALL: {idle:?}");
    assert_eq!(on_disk, in_use);
    let names: BTreeSet<_> = on_disk.iter().map(|f| f.rsplit('/').next()).collect();
    assert_eq!(names.len(), on_disk.len());
}

#[test]
fn an_op_of_three_files_has_a_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels");
    let on_disk = files_on_disk();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let op = path.file_stem().unwrap().to_str().unwrap();
        let of_op = |file: &&String| {
            let name = file.rsplit('/').next().unwrap();
            name.starts_with(&format!("{op}_")) || name.starts_with(&format!("{op}."))
        };
        let files: Vec<_> = on_disk.iter().filter(of_op).collect();
        let in_folder = |file: &&String| file.contains('/');
        if files.len() >= 3 {
            assert!(files.iter().all(in_folder), "{op}: {files:?}");
        }
    }
}

/// The text without comments, as words.
fn words(text: &str) -> BTreeSet<&str> {
    let code = text.lines().map(|l| l.split("//").next().unwrap());
    code.flat_map(|l| l.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .collect()
}

/// Names that a file declares outside of functions.
fn declared(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        for keyword in ["fn", "const", "override", "struct", "alias"] {
            let rest = line.strip_prefix(keyword).and_then(|r| r.strip_prefix(' '));
            let name =
                rest.and_then(|r| r.split(|c: char| !c.is_alphanumeric() && c != '_').next());
            found.extend(name);
        }
        if let Some((_, rest)) = line.split_once("var<") {
            let name = rest.split_once("> ").map(|(_, rest)| rest);
            let end = |c: char| !c.is_alphanumeric() && c != '_';
            found.extend(name.and_then(|r| r.split(end).next()));
        }
    }
    found
}

/// What is wrong with the line that names the helpers of `file`, which `kernel` is joined with.
fn faults_of_naming(kernel: &Kernel, file: &Source) -> Vec<String> {
    let own: BTreeSet<_> = file.joined_with().concat().into_iter().collect();
    let names = declared(file.text);
    let used: BTreeSet<_> = words(file.text).difference(&names).copied().collect();
    let mut faults = Vec::new();
    for helper in kernel.helpers() {
        if helper.file == file.file {
            continue;
        }
        let uses = !declared(helper.text).is_disjoint(&used);
        let named = own.contains(helper.name());
        // A helper may use what those that are joined with it declare.
        let is_joined_with_it = [false, true]
            .iter()
            .any(|&quads| helper.helpers(quads).iter().any(|h| h.file == file.file));
        if named && !uses {
            faults.push(format!(
                "{} names {} and uses none of it",
                file.file, helper.file
            ));
        }
        if uses && !named && !is_joined_with_it {
            faults.push(format!(
                "{} uses {} and does not name it",
                file.file, helper.file
            ));
        }
    }
    faults
}

#[test]
fn a_shader_names_the_helpers_that_it_uses_and_no_other() {
    let mut faults = BTreeSet::new();
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for kernel in kernels::ALL {
        for file in files_of(kernel) {
            faults.extend(faults_of_naming(kernel, file));
            for name in file.joined_with().concat() {
                users.entry(name).or_default().insert(file.file);
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    // What one file uses alone belongs into it.
    let alone: Vec<_> = users.iter().filter(|(_, by)| by.len() < 2).collect();
    assert!(alone.is_empty(), "{alone:#?}");
}

#[test]
fn a_helper_that_is_named_in_vain_or_used_without_a_name_is_found() {
    let kernel = &kernels::softmax::FORWARD;
    assert_eq!(faults_of_naming(kernel, &kernel.source), [""; 0]);
    let text = kernel.source.text;
    let unnamed: &'static str = text.replace(", reduce_max.wgsl", "").leak();
    let unused: &'static str = text.replace("reduce_max(", "max_of(").leak();
    for (text, words) in [
        (unnamed, "uses shared/reduce_max.wgsl and does not name it"),
        (unused, "names shared/reduce_max.wgsl and uses none of it"),
    ] {
        assert_ne!(text, kernel.source.text);
        let source = Source {
            text,
            ..kernel.source
        };
        let faults = faults_of_naming(kernel, &source);
        assert!(faults[0].contains(words), "{faults:?}");
    }
}

#[test]
fn a_kernel_that_requires_lanes_counts_on_as_many() {
    let mut requiring = 0;
    for kernel in kernels::ALL {
        for requirement in kernel.requires {
            if let Requirement::Lanes(lanes) = requirement {
                let constant = format!("const LANES: u32 = {lanes}u;");
                let source = kernel.joined_source();
                assert!(source.contains(&constant), "{}", kernel.label());
                requiring += 1;
            }
        }
    }
    assert!(requiring >= 6, "{requiring} kernels require lanes");
}

#[test]
fn a_kernels_name_is_its_files_name() {
    for kernel in kernels::ALL {
        // A variant for rows of whole quads, for halves or for small matrices has the same source, joined
        // with other files, unless it has one of its own.
        let label = kernel.label();
        let ends = [".quads", ".portable_f16", "_f16", "_8x8"];
        let shared = ends.iter().find_map(|end| label.strip_suffix(end));
        let names = [Some(label.as_str()), shared].map(|own| own.map(|o| format!("{o}.wgsl")));
        let name = kernel.source.name();
        assert!(names.iter().flatten().any(|n| n == name), "{label}: {name}");
    }
}

#[test]
fn every_op_has_a_reference_file_and_no_kernel_is_listed_twice() {
    let labels: BTreeSet<_> = kernels::ALL.iter().map(|k| k.label()).collect();
    assert_eq!(labels.len(), kernels::ALL.len());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in std::fs::read_dir(folder.join("kernels")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        // A folder holds what belongs to the op of its name; two files are of no op.
        assert!(
            entry.file_type().unwrap().is_dir()
                || name == "mod.rs"
                || name == "family.rs"
                || folder.join("reference").join(&name).is_file(),
            "src/reference/{} is missing",
            name.to_string_lossy()
        );
    }
}
