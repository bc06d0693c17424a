//! Names of tensors without what wrappers put before them.

/// What `torch.compile` puts before the name of whatever module it wraps.
const COMPILED: &str = "_orig_mod.";
/// What `DataParallel` and `DistributedDataParallel` put before all names.
const PARALLEL: &str = "module.";

/// `name` as the model alone would have it.
pub(crate) fn unwrapped(name: &str) -> String {
    let mut rest = name;
    while let Some(inner) = [COMPILED, PARALLEL]
        .iter()
        .find_map(|prefix| rest.strip_prefix(prefix))
    {
        rest = inner;
    }
    // A part of a model can be compiled alone.
    let mut name = rest.to_owned();
    while name.contains("._orig_mod.") {
        name = name.replace("._orig_mod.", ".");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_wrappers_put_before_them() {
        for (wrapped, name) in [
            ("lm_head.weight", "lm_head.weight"),
            ("_orig_mod.lm_head.weight", "lm_head.weight"),
            ("module.lm_head.weight", "lm_head.weight"),
            ("_orig_mod.module.lm_head.weight", "lm_head.weight"),
            ("module._orig_mod.lm_head.weight", "lm_head.weight"),
            ("layers.0._orig_mod.ln1.weight", "layers.0.ln1.weight"),
            ("a._orig_mod._orig_mod.b", "a.b"),
            // A part that is really called so.
            ("layers.module.weight", "layers.module.weight"),
            ("my_orig_mod.weight", "my_orig_mod.weight"),
            ("_orig_mod.", ""),
        ] {
            assert_eq!(unwrapped(wrapped), name, "{wrapped}");
        }
    }
}
