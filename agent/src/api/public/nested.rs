//! Leaves of the state as the nested object that they spell.

use honeygraph_chain::{JsonValue, Path, PathKey};

/// Deepest nesting of an answer, in levels: what every JSON reader reads, ours included.
pub(super) const MAX_DEPTH: usize = 100;

/// An object that is built leaf by leaf, in key order.
#[derive(Debug, Default)]
pub(super) struct Nested {
    members: Vec<(String, Nested)>,
    leaf: Option<JsonValue>,
}

/// A leaf that lies deeper than [`MAX_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooDeep;

impl Nested {
    /// Adds a leaf at a path below the top; an empty path is the top itself.
    pub(super) fn add(&mut self, below: &[String], leaf: JsonValue) -> Result<(), TooDeep> {
        if below.len() > MAX_DEPTH {
            return Err(TooDeep);
        }
        let mut place = self;
        for segment in below {
            // Leaves come in key order: a member is the last one or a new one.
            let is_last = place.members.last().is_some_and(|(name, _)| name == segment);
            if !is_last {
                place.members.push((segment.clone(), Self::default()));
            }
            let Some((_, member)) = place.members.last_mut() else {
                return Ok(());
            };
            place = member;
        }
        place.leaf = Some(leaf);
        Ok(())
    }

    /// The value; none if there is no leaf at all.
    pub(super) fn into_value(self) -> Option<JsonValue> {
        if self.leaf.is_some() {
            return self.leaf;
        }
        if self.members.is_empty() {
            return None;
        }
        let members = self.members.into_iter();
        let members = members.filter_map(|(name, member)| Some((name, member.into_value()?)));
        Some(JsonValue::object(members.collect()))
    }
}

/// The segments of `key` below `above`.
pub(super) fn segments_below(key: &PathKey, above: usize) -> Option<Vec<String>> {
    let Path(mut segments) = key.to_path().ok()?;
    (segments.len() >= above).then(|| segments.split_off(above))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        Path::from_slashed(text).0
    }

    #[test]
    fn leaves_spell_a_nested_object() {
        let mut nested = Nested::default();
        nested.add(&path("a/b"), JsonValue::Number(1.0)).unwrap();
        nested.add(&path("a/c"), JsonValue::Null).unwrap();
        nested.add(&path("d"), JsonValue::Bool(true)).unwrap();
        let text = nested.into_value().unwrap().to_canonical();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"a":{"b":1,"c":null},"d":true}"#
        );
    }

    #[test]
    fn the_top_may_be_a_leaf_or_nothing() {
        let mut nested = Nested::default();
        nested.add(&[], JsonValue::Null).unwrap();
        assert_eq!(nested.into_value(), Some(JsonValue::Null));
        assert_eq!(Nested::default().into_value(), None);
    }

    #[test]
    fn what_lies_too_deep_is_left_out() {
        let mut nested = Nested::default();
        let deep = vec![String::new(); MAX_DEPTH + 1];
        assert_eq!(nested.add(&deep, JsonValue::Null), Err(TooDeep));
        assert_eq!(nested.into_value(), None);
    }
}
