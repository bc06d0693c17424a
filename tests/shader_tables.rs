//! The host's tables of bindings and params against the shaders themselves, as naga reads them.

use std::collections::BTreeSet;
use std::path::Path;

use gpu_tlm::gpu::{Kernel, Role};
use gpu_tlm::kernels;
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

#[test]
fn every_shader_file_belongs_to_a_kernel() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut on_disk = BTreeSet::new();
    for folder in ["", "shared/"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".wgsl") {
                on_disk.insert(format!("{folder}{name}"));
            }
        }
    }
    let mut in_tables = BTreeSet::new();
    for kernel in kernels::ALL {
        in_tables.insert(kernel.source.file.to_owned());
        in_tables.extend(kernel.shared.iter().map(|s| s.file.to_owned()));
    }
    assert_eq!(on_disk, in_tables);
}

#[test]
fn a_kernels_name_is_its_files_name() {
    for kernel in kernels::ALL {
        // The variant for rows of whole quads has the same source, joined with another file.
        let label = kernel.label();
        let own = label.strip_suffix(".quads").unwrap_or(&label);
        assert_eq!(kernel.source.file, format!("{own}.wgsl"));
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
