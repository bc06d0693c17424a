//! Patterns that name parameters.

use super::shapes::Shape;
use crate::config::ConfigError;

/// Refuses patterns of which one matches no parameter.
pub(super) fn expect_matches(shapes: &[Shape], freeze: &[String]) -> Result<(), ConfigError> {
    let matches = |pattern: &&String| shapes.iter().any(|s| matches_pattern(&s.name, pattern));
    match freeze.iter().find(|pattern| !matches(pattern)) {
        None => Ok(()),
        Some(pattern) => {
            let first = shapes
                .iter()
                .filter(|s| !s.name.starts_with("layers.") || s.name.starts_with("layers.0."));
            let names: Vec<&str> = first.map(|shape| shape.name.as_str()).collect();
            Err(ConfigError::Invalid {
                key: "freeze",
                found: freeze.join(","),
                rule: format!(
                    "no parameter has '{pattern}' in its name; there are {}",
                    names.join(", ")
                ),
            })
        }
    }
}

/// Whether `name` contains `pattern`, in which `*` stands for any text. A number at its end is a whole one: `layers.1`
/// is not in `layers.10.ln1.weight`.
pub fn matches_pattern(name: &str, pattern: &str) -> bool {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let last = pattern.split('*').count() - 1;
    let mut rest = name;
    pattern.split('*').enumerate().all(|(index, part)| {
        let ends_in_number = index == last && is_digit(part.as_bytes().last());
        let is_whole = |end: usize| !(ends_in_number && is_digit(rest.as_bytes().get(end)));
        let ends = rest.match_indices(part).map(|(at, _)| at + part.len());
        match ends.into_iter().find(|&end| is_whole(end)) {
            Some(end) => {
                rest = &rest[end..];
                true
            }
            None => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_parts_of_names() {
        assert!(matches_pattern("layers.0.ln1.weight", "ln"));
        assert!(matches_pattern("layers.0.ln1.weight", "layers.*.ln1"));
        assert!(!matches_pattern("layers.0.ln1.weight", "ln2"));
        assert!(!matches_pattern("layers.0.ln1.weight", "ln1*layers"));
        assert!(matches_pattern("layers.1.ln1.weight", "layers.1"));
        assert!(!matches_pattern("layers.10.ln1.weight", "layers.1"));
        assert!(matches_pattern("layers.10.ln1.weight", "layers.1*.ln"));
        assert!(matches_pattern("layers.1.q_proj.11", "*.q_proj.11"));
        assert!(!matches_pattern("layers.1.q_proj.11", "*.q_proj.1"));
    }
}
