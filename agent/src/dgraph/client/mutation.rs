//! What is written.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::error::DgraphError;
use super::wire;

/// Names a node for as long as the cluster lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u64);

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

impl FromStr for Uid {
    type Err = DgraphError;

    /// Reads a uid as Dgraph writes it: `0x` and hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, DgraphError> {
        text.strip_prefix("0x")
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| DgraphError::Answer(format!("`{text}` is no uid")))
    }
}

/// The node that a fact is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A known one, or one to be: Dgraph takes any uid that was ever allocated.
    Uid(Uid),
    /// A new one, that Dgraph chooses a uid for; the same name in one request is the same node.
    New(String),
    /// Every node that a variable of the query holds; where it holds none, a set makes a new node.
    Variable(&'static str),
}

impl From<Uid> for Node {
    fn from(uid: Uid) -> Self {
        Self::Uid(uid)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => uid.fmt(formatter),
            Self::New(name) => write!(formatter, "_:{name}"),
            Self::Variable(name) => write!(formatter, "uid({name})"),
        }
    }
}

/// A value of a predicate. What the schema says decides how it is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// A time.
    Time(Timestamp),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl Value {
    fn into_wire(self) -> wire::Value {
        wire::Value {
            typed: Some(match self {
                Self::Text(text) => wire::Typed::Text(text),
                Self::Integer(number) => wire::Typed::Integer(number),
                Self::Float(number) => wire::Typed::Float(number),
                Self::Boolean(value) => wire::Typed::Boolean(value),
                Self::Time(time) => wire::Typed::Default(time.to_string()),
            }),
        }
    }
}

/// What stands for every value of a predicate in a deletion.
const EVERY_VALUE: &str = "_STAR_ALL";

/// Facts that are set and deleted together. One fact, or one predicate of a node that is cleared, must not be
/// in both: Dgraph does them in any order, and what stands after it is chance.
///
/// Facts are sent typed, not as text: nothing in a value can be taken for syntax.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mutation(wire::Mutation);

impl Mutation {
    /// Of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for so many facts to set.
    pub fn with_capacity(facts: usize) -> Self {
        let mut mutation = Self::default();
        mutation.0.set.reserve(facts);
        mutation
    }

    /// Facts in it.
    pub fn len(&self) -> usize {
        self.0.set.len() + self.0.del.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets the value of a predicate; adds one where the predicate is a list.
    pub fn set(&mut self, node: impl Into<Node>, predicate: &str, value: impl Into<Value>) {
        let quad = quad(&node.into(), predicate, value.into().into_wire());
        self.0.set.push(quad);
    }

    /// Links a node to another; adds a link where the predicate is a list.
    pub fn link(&mut self, node: impl Into<Node>, predicate: &str, to: impl Into<Node>) {
        self.0.set.push(wire::NQuad {
            subject: node.into().to_string(),
            predicate: predicate.to_owned(),
            object_id: to.into().to_string(),
            object_value: None,
        });
    }

    /// Takes one value out of a list.
    pub fn delete(&mut self, node: impl Into<Node>, predicate: &str, value: impl Into<Value>) {
        let quad = quad(&node.into(), predicate, value.into().into_wire());
        self.0.del.push(quad);
    }

    /// Takes one link away.
    pub fn unlink(&mut self, node: impl Into<Node>, predicate: &str, to: impl Into<Node>) {
        self.0.del.push(wire::NQuad {
            subject: node.into().to_string(),
            predicate: predicate.to_owned(),
            object_id: to.into().to_string(),
            object_value: None,
        });
    }

    /// Takes every value of a predicate away.
    pub fn clear(&mut self, node: impl Into<Node>, predicate: &str) {
        let every = wire::Value {
            typed: Some(wire::Typed::Default(EVERY_VALUE.to_owned())),
        };
        self.0.del.push(quad(&node.into(), predicate, every));
    }

    /// Writes only where a variable of the query holds exactly so many nodes.
    #[must_use]
    pub fn only_if_found(mut self, variable: &'static str, nodes: u32) -> Self {
        self.0.cond = format!("@if(eq(len({variable}), {nodes}))");
        self
    }

    pub(super) fn into_wire(self) -> wire::Mutation {
        self.0
    }
}

/// One change of a mutation, for those who look at what would be written.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq)]
pub(in crate::dgraph) enum Change {
    /// [`Mutation::set`].
    Set(Value),
    /// [`Mutation::link`].
    Link(String),
    /// [`Mutation::delete`].
    Delete(Value),
    /// [`Mutation::unlink`].
    Unlink(String),
    /// [`Mutation::clear`].
    Clear,
}

#[cfg(test)]
impl Mutation {
    /// Node, predicate and change, in the order in which Dgraph does them.
    pub(in crate::dgraph) fn changes(&self) -> impl Iterator<Item = (&str, &str, Change)> {
        let deleted = self.0.del.iter().map(|quad| match typed(quad) {
            None => (quad, Change::Unlink(quad.object_id.clone())),
            Some(Value::Text(text)) if text == EVERY_VALUE => (quad, Change::Clear),
            Some(value) => (quad, Change::Delete(value)),
        });
        let set = self.0.set.iter().map(|quad| match typed(quad) {
            None => (quad, Change::Link(quad.object_id.clone())),
            Some(value) => (quad, Change::Set(value)),
        });
        deleted
            .chain(set)
            .map(|(quad, change)| (quad.subject.as_str(), quad.predicate.as_str(), change))
    }
}

#[cfg(test)]
fn typed(quad: &wire::NQuad) -> Option<Value> {
    Some(match quad.object_value.clone()?.typed? {
        wire::Typed::Text(text) => Value::Text(text),
        wire::Typed::Integer(number) => Value::Integer(number),
        wire::Typed::Float(number) => Value::Float(number),
        wire::Typed::Boolean(value) => Value::Boolean(value),
        // Times are sent as texts without a type.
        wire::Typed::Default(text) => text.parse().map_or(Value::Text(text), Value::Time),
    })
}

fn quad(node: &Node, predicate: &str, value: wire::Value) -> wire::NQuad {
    wire::NQuad {
        subject: node.to_string(),
        predicate: predicate.to_owned(),
        object_id: String::new(),
        object_value: Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_as_dgraph_names_them() {
        assert_eq!(Node::from(Uid(255)).to_string(), "0xff");
        assert_eq!(Node::New("block".into()).to_string(), "_:block");
        assert_eq!(Node::Variable("cursor").to_string(), "uid(cursor)");
    }

    #[test]
    fn uids_are_read_as_they_are_written() {
        for uid in [Uid(0), Uid(1), Uid(u64::MAX)] {
            assert_eq!(uid.to_string().parse::<Uid>().unwrap(), uid);
        }
        for text in ["", "1", "0x", "0xg", "0x10000000000000000"] {
            assert!(text.parse::<Uid>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_mutation_holds_what_was_put_in() {
        let mut mutation = Mutation::new();
        assert!(mutation.is_empty());
        mutation.set(Uid(1), "name", "a\"b\n<c> .");
        mutation.set(Uid(1), "time", Value::Time(Timestamp::UNIX_EPOCH));
        mutation.link(Node::New("x".into()), "of", Uid(1));
        mutation.clear(Uid(2), "name");
        assert_eq!(mutation.len(), 4);
        let wire = mutation.only_if_found("cursor", 1).into_wire();
        assert_eq!(wire.cond, "@if(eq(len(cursor), 1))");
        let typed = |quad: &wire::NQuad| quad.object_value.clone().and_then(|value| value.typed);
        assert_eq!(typed(&wire.set[0]), Some(wire::Typed::Text("a\"b\n<c> .".into())));
        assert_eq!(
            typed(&wire.set[1]),
            Some(wire::Typed::Default("1970-01-01T00:00:00Z".into()))
        );
        assert_eq!(wire.set[2].object_id, "0x1");
        assert_eq!(
            typed(&wire.del[0]),
            Some(wire::Typed::Default("_STAR_ALL".into()))
        );
    }
}
