//! Every compute pipeline that plans use, written to a folder as the backends get it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Error;
use crate::check;
use crate::files;
use crate::gpu::translate::{ShaderFormat, Translated, translate};
use crate::gpu::{AdapterClass, Constant, Dispatch, Kernel, Requirement, Vendor};

/// A kernel with values of its `override` constants: what a device compiles.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// The values, by name; constants that are not named keep the shader's defaults.
    pub constants: Vec<Constant>,
    /// The classes of adapters whose plans use it.
    pub classes: Vec<AdapterClass>,
}

impl Pipeline {
    /// `<kernel>[.<variant>][-<constants>]`, for instance `sum_partials-accumulate_1`.
    pub fn name(&self) -> String {
        let mut name = self.kernel.label();
        for constant in &self.constants {
            name.push_str(&format!(
                "-{}_{}",
                constant.name.to_lowercase(),
                constant.value
            ));
        }
        name
    }

    /// Writes the pipeline's shader in the language `format`.
    ///
    /// # Errors
    /// When naga cannot translate it.
    pub fn translate(&self, format: ShaderFormat) -> Result<Translated, Error> {
        Ok(translate(self.kernel, &self.constants, format)?)
    }
}

/// The pipelines of every row of the check, each once, sorted by name.
///
/// Training and decoding use no other: `pipelines_of_a_training_plan_are_among_the_checks_own`.
pub fn pipelines() -> Vec<Pipeline> {
    let mut found = BTreeMap::new();
    for row in check::all_rows().iter().filter(|row| !row.is_large()) {
        for class in row.classes() {
            if let Some(plan) = row.plan(class) {
                collect(&mut found, class, plan.all_dispatches());
            }
        }
    }
    found.into_values().collect()
}

/// Adds the pipelines of `dispatches` to `found`, by name.
pub fn collect(
    found: &mut BTreeMap<String, Pipeline>,
    class: AdapterClass,
    dispatches: &[Dispatch],
) {
    for dispatch in dispatches {
        let mut constants = dispatch.constants.clone();
        constants.sort_by_key(|constant| constant.name);
        let pipeline = Pipeline {
            kernel: dispatch.kernel,
            constants,
            classes: Vec::new(),
        };
        let known = found.entry(pipeline.name()).or_insert(pipeline);
        if !known.classes.contains(&class) {
            known.classes.push(class);
        }
    }
}

/// Writes every pipeline's shader and `manifest.json` to `folder`, but for those that the language cannot
/// express, of which the manifest gives the reasons; gives the number of shaders.
///
/// # Errors
/// When a shader cannot be translated or a file not be written.
pub fn write_all(folder: &Path, format: ShaderFormat) -> Result<usize, Error> {
    let write = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        files::write(&path, content).map_err(crate::error::io("write", path))
    };
    files::create_folder(folder).map_err(crate::error::io("create", folder))?;
    let pipelines = pipelines();
    let mut entries = Vec::new();
    let mut left_out = Vec::new();
    for pipeline in &pipelines {
        if let Some(reason) = format.obstacle(pipeline.kernel) {
            left_out.push(json!({ "pipeline": pipeline.name(), "reason": reason }));
            continue;
        }
        let shader = pipeline.translate(format)?;
        let file = format!("{}.{}", pipeline.name(), format.extension());
        write(&file, &shader.code)?;
        entries.push(describe(pipeline, &shader, &file));
    }
    let count = entries.len();
    let manifest = json!({ "shaders": entries, "left_out": left_out });
    write("manifest.json", format!("{manifest:#}\n").as_bytes())?;
    Ok(count)
}

fn describe(pipeline: &Pipeline, shader: &Translated, file: &str) -> Value {
    let kernel = pipeline.kernel;
    let constants: Map<String, Value> = pipeline
        .constants
        .iter()
        .map(|constant| (constant.name.to_owned(), constant.value.into()))
        .collect();
    let storage = kernel
        .bindings
        .iter()
        .map(|binding| (binding.name, format!("{:?}", binding.role)));
    let bindings: Vec<Value> = std::iter::once(("params", "Uniform".to_owned()))
        .chain(storage)
        .zip(&shader.places)
        .enumerate()
        .map(|(number, ((name, role), place))| {
            json!({ "binding": number, "name": name, "role": role, "place": place })
        })
        .collect();
    let fields: Vec<Value> = kernel
        .params
        .fields
        .iter()
        .map(|f| json!({ "name": f.name, "offset": f.offset, "type": f.scalar }))
        .collect();
    let classes: Vec<_> = pipeline.classes.iter().map(AdapterClass::name).collect();
    json!({
        "file": file,
        "matrices": kernel.matrix_side(),
        "not_on_amd": kernel.requires.contains(&Requirement::NotOn(Vendor::Amd)),
        "kernel": kernel.name,
        "variant": kernel.variant,
        "constants": constants,
        "classes": classes,
        "entry_point": shader.entry_point,
        "workgroup_size": shader.workgroup_size,
        "workgroup_bytes": shader.workgroup_bytes,
        "bindings": bindings,
        "params": { "size": kernel.params.size, "fields": fields },
    })
}
