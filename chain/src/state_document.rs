//! Full state documents: `[n+1, state]`, written and read leaf by leaf.

use std::io::Read;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::block_number::BlockNumber;
use crate::canonical_json::{JsonValue, utf16_order, write_string};
use crate::content_id::{ContentHasher, ContentId};
use crate::path::{PathKey, PathKeyError};
use crate::state::{Leaf, MemoryState};

/// Writes the canonical document of a state whose leaves are pushed in key order, holding one path.
#[derive(Debug)]
pub struct StateDocumentWriter {
    open: Vec<String>,
    /// Whether the innermost open object has a member already.
    has_member: bool,
    out: Vec<u8>,
}

impl StateDocumentWriter {
    /// Starts the document of the state after block `covered` (the document says `covered + 1`).
    pub fn new(covered: BlockNumber) -> Self {
        Self {
            open: Vec::new(),
            has_member: false,
            out: format!("[{},{{", covered.next()).into_bytes(),
        }
    }

    /// Appends a leaf; its key is higher than the one before.
    pub fn push(&mut self, key: &PathKey, leaf: &Leaf) -> Result<(), PathKeyError> {
        let path = key.to_path()?.0;
        let (name, parents) = path.split_last().ok_or_else(|| PathKeyError(Vec::new()))?;
        let shared = self
            .open
            .iter()
            .zip(parents)
            .take_while(|(open, parent)| open == parent)
            .count();
        while self.open.len() > shared {
            self.open.pop();
            self.out.push(b'}');
            self.has_member = true;
        }
        for parent in &parents[shared..] {
            self.member(parent);
            self.out.push(b'{');
            self.open.push(parent.clone());
            self.has_member = false;
        }
        self.member(name);
        leaf.value().write_canonical(&mut self.out);
        Ok(())
    }

    /// Takes the text written so far, so that it need not be held whole.
    pub fn take_text(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Closes the document and gives the text that was not taken yet.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.resize(self.out.len() + self.open.len(), b'}');
        self.out.extend_from_slice(b"}]");
        self.out
    }

    fn member(&mut self, name: &str) {
        if self.has_member {
            self.out.push(b',');
        }
        write_string(name, &mut self.out);
        self.out.push(b':');
        self.has_member = true;
    }
}

/// The content id of the state document after block `covered`.
pub fn state_content_id(covered: BlockNumber, state: &MemoryState) -> Result<ContentId, PathKeyError> {
    let mut writer = StateDocumentWriter::new(covered);
    let mut hasher = ContentHasher::new();
    for (key, leaf) in state.iter() {
        writer.push(key, leaf)?;
        hasher.update(&writer.take_text());
    }
    hasher.update(&writer.finish());
    Ok(hasher.finish())
}

/// Reads a state document from a stream, handing over leaf by leaf as they stand in it; holds one path. That is key order,
/// but for the items of arrays: those come by number.
///
/// Gives the block the document covers. Fails where it is malformed, its keys are not in canonical order,
/// or `emit` says so.
pub fn read_state_document(
    reader: impl Read,
    mut emit: impl FnMut(PathKey, Leaf) -> Result<(), String>,
) -> Result<BlockNumber, StateDocumentError> {
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let number = DocumentSeed { emit: &mut emit }
        .deserialize(&mut deserializer)
        .and_then(|number| deserializer.end().map(|()| number))
        .map_err(|error| StateDocumentError(error.to_string()))?;
    number
        .previous()
        .ok_or_else(|| StateDocumentError("the document covers no block".to_owned()))
}

/// A document that is no state document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a state document: {0}")]
pub struct StateDocumentError(pub String);

type Emit<'emit> = &'emit mut dyn FnMut(PathKey, Leaf) -> Result<(), String>;

struct DocumentSeed<'emit> {
    emit: Emit<'emit>,
}

impl<'de> DeserializeSeed<'de> for DocumentSeed<'_> {
    type Value = BlockNumber;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<BlockNumber, D::Error> {
        deserializer.deserialize_tuple(2, self)
    }
}

impl<'de> Visitor<'de> for DocumentSeed<'_> {
    type Value = BlockNumber;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a state document [n+1, {...}]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<BlockNumber, A::Error> {
        let number = access
            .next_element()?
            .ok_or_else(|| serde::de::Error::custom("empty document"))?;
        let mut key = PathKey::root();
        access
            .next_element_seed(NodeSeed {
                key: &mut key,
                emit: self.emit,
            })?
            .ok_or_else(|| serde::de::Error::custom("document without a state"))?;
        if access.next_element::<JsonValue>()?.is_some() {
            return Err(serde::de::Error::custom("document with more than two members"));
        }
        Ok(number)
    }
}

struct NodeSeed<'emit> {
    key: &'emit mut PathKey,
    emit: Emit<'emit>,
}

impl NodeSeed<'_> {
    fn leaf<E: serde::de::Error>(self, value: JsonValue) -> Result<(), E> {
        if *self.key == PathKey::root() {
            return Err(E::custom("the state is not an object"));
        }
        let leaf = Leaf::try_from(value).map_err(E::custom)?;
        (self.emit)(self.key.clone(), leaf).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a state")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.leaf(JsonValue::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        self.leaf(JsonValue::Bool(value))
    }

    #[allow(clippy::cast_precision_loss, reason = "every number is a double (section 2)")]
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.leaf(JsonValue::Number(value as f64))
    }

    #[allow(clippy::cast_precision_loss, reason = "every number is a double (section 2)")]
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.leaf(JsonValue::Number(value as f64))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.leaf(JsonValue::Number(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        self.leaf(JsonValue::String(value.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut last: Option<String> = None;
        while let Some(name) = access.next_key::<String>()? {
            if last.is_some_and(|last| utf16_order(&last, &name).is_ge()) {
                let place = self.key.child(&name);
                return Err(serde::de::Error::custom(format!(
                    "member {place:?} is out of canonical order"
                )));
            }
            let mut child = self.key.child(&name);
            access.next_value_seed(NodeSeed {
                key: &mut child,
                emit: &mut *self.emit,
            })?;
            last = Some(name);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let mut index = 0_u64;
        loop {
            let mut child = self.key.child(&index.to_string());
            let seed = NodeSeed {
                key: &mut child,
                emit: &mut *self.emit,
            };
            if access.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }
}

impl MemoryState {
    /// Reads a whole state document into memory, with the block it covers.
    pub fn from_document(reader: impl Read) -> Result<(BlockNumber, Self), StateDocumentError> {
        let mut state = Self::default();
        let covered = read_state_document(reader, |key, leaf| {
            state.set(key, Some(leaf));
            Ok(())
        })?;
        Ok((covered, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, HashedBlock};
    use crate::operation::{Operation, Operations};
    use crate::path::{MAX_DEPTH, Path};

    #[test]
    fn a_document_round_trips_leaf_by_leaf() {
        let text =
            "[8,{\"a\":{\"b\":{\"c\":1},\"d\":null},\"e\":\"x\",\"\u{1f600}\":{\"y\":true},\"\u{ff5e}\":2}]";
        let (covered, state) = MemoryState::from_document(text.as_bytes()).unwrap();
        assert_eq!(covered.get(), 7);
        assert_eq!(
            state_content_id(covered, &state).unwrap(),
            ContentId::of(text.as_bytes())
        );
    }

    #[test]
    fn an_array_is_an_object_keyed_by_index() {
        let items: Vec<_> = (0..11).map(|item| item.to_string()).collect();
        let text = format!(r#"[8,{{"a":[{}],"b":1}}]"#, items.join(","));
        let (_, state) = MemoryState::from_document(text.as_bytes()).unwrap();
        assert_eq!(state.iter().count(), 12);
        let ten = PathKey::from(&Path::from_slashed("a/10"));
        let found = state.iter().find(|(key, _)| **key == ten).unwrap();
        assert_eq!(*found.1.value(), JsonValue::Number(10.0));
    }

    #[test]
    fn the_deepest_state_that_the_rules_allow_can_be_read_back() {
        let deepest = Operation::Put {
            path: Path(vec!["x".to_owned(); MAX_DEPTH]),
            data: JsonValue::Bool(true),
        };
        let operations = Operations::new(vec![deepest, Operation::WriteMarker]).unwrap();
        let mut state = MemoryState::default();
        state.apply(&operations).unwrap();
        let number = BlockNumber::default().next();
        let mut writer = StateDocumentWriter::new(number);
        for (key, leaf) in state.iter() {
            writer.push(key, leaf).unwrap();
        }
        let document = writer.finish();
        assert_eq!(
            MemoryState::from_document(document.as_slice()).unwrap(),
            (number, state)
        );
        // So can the block, at whichever depth its data starts.
        let nested = format!(
            "{}{}",
            r#"{"x":"#.repeat(MAX_DEPTH),
            "[]".to_owned() + &"}".repeat(MAX_DEPTH)
        );
        let put = Operation::Put {
            path: Path::default(),
            data: serde_json::from_str(&nested).unwrap(),
        };
        let block = HashedBlock::from(Block {
            number,
            previous_hash: ContentId::of(b""),
            operations: Operations::new(vec![put, Operation::WriteMarker]).unwrap(),
        });
        assert!(MemoryState::default().apply(&block.block().operations).is_ok());
        assert!(HashedBlock::from_canonical(block.bytes().to_vec()).is_ok());
    }

    #[test]
    fn malformed_documents_are_refused() {
        for text in [
            "",
            "[8]",
            "[8,1]",
            "[8,{},1]",
            "[0,{}]",
            "[8,{\"b\":1,\"a\":2}]",
            "[8,{\"a\":1,\"a\":2}]",
            "[8,{\"a\":[{\"c\":1,\"b\":2}]}]",
            "[8,{}] x",
            "[-1,{}]",
        ] {
            assert!(MemoryState::from_document(text.as_bytes()).is_err(), "{text}");
        }
    }
}
