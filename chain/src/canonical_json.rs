//! Canonical JSON: RFC 8785 (JCS), the bytes every hash is made of.
//!
//! Keys are sorted by UTF-16 code units, numbers are IEEE doubles in ECMAScript's spelling, there is no
//! white space. `docs/protocol.md`, section 2. The general crate for this
//! (`serde_json_canonicalizer`) is the oracle of the property test below; it writes about 80 MB/s, which
//! would make it the slowest stage of a fill, so the 60 lines of the rule stand here.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A JSON value whose numbers are doubles and whose objects are sorted the canonical way.
///
/// Reading one from text keeps the last of doubled keys, as JavaScript does, and fails on lone
/// surrogates and on numbers beyond a double.
#[derive(Debug, Clone, PartialEq)]
pub enum JsonValue {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number; never infinite nor NaN.
    Number(f64),
    /// A string without lone surrogates.
    String(String),
    /// An ordered list.
    Array(Vec<JsonValue>),
    /// Members sorted by [`utf16_order`], each key once.
    Object(Vec<(String, JsonValue)>),
}

impl JsonValue {
    /// Whether this is neither an object nor an array: what a leaf of the state can hold.
    pub const fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// The member `key` of an object.
    pub fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => {
                let found = members
                    .binary_search_by(|(name, _)| utf16_order(name, key))
                    .ok()?;
                members.get(found).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// An object of `members`: sorted, the last of doubled keys kept.
    pub fn object(mut members: Vec<(String, Self)>) -> Self {
        let sorted = members.is_sorted_by(|(left, _), (right, _)| utf16_order(left, right).is_lt());
        if !sorted {
            members.reverse();
            members.sort_by(|(left, _), (right, _)| utf16_order(left, right));
            members.dedup_by(|(later, _), (earlier, _)| later == earlier);
        }
        Self::Object(members)
    }

    /// Appends the canonical text.
    pub fn write_canonical(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => write_number(*number, out),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for (position, item) in items.iter().enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    item.write_canonical(out);
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (position, (key, value)) in members.iter().enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    write_string(key, out);
                    out.push(b':');
                    value.write_canonical(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The canonical text.
    pub fn to_canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        out
    }
}

/// Order of two keys by UTF-16 code units, which differs from the order of their UTF-8 bytes only where
/// one has a character beyond U+FFFF and the other one in U+E000..=U+FFFF.
pub fn utf16_order(left: &str, right: &str) -> Ordering {
    left.bytes().map(utf16_rank).cmp(right.bytes().map(utf16_rank))
}

/// Maps a UTF-8 byte so that comparing mapped bytes compares UTF-16 code units: characters beyond U+FFFF
/// (lead bytes F0..=F4) move before U+E000..=U+FFFF (lead bytes EE and EF).
pub(crate) const fn utf16_rank(byte: u8) -> u8 {
    match byte {
        0xEE | 0xEF => byte + 5,
        0xF0..=0xF4 => byte - 2,
        other => other,
    }
}

/// The inverse of [`utf16_rank`].
pub(crate) const fn utf16_unrank(rank: u8) -> u8 {
    match rank {
        0xEE..=0xF2 => rank + 2,
        0xF3 | 0xF4 => rank - 5,
        other => other,
    }
}

/// Appends a number as ECMAScript writes it.
pub fn write_number(number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(ryu_js::Buffer::new().format(number).as_bytes());
}

/// Whether a JSON string cannot hold the byte as it is.
#[allow(
    clippy::needless_bitwise_bool,
    reason = "without branches many bytes are looked at in one step"
)]
const fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Appends a quoted string with JCS escapes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    write_utf8(text.as_bytes(), out);
}

/// [`write_string`] for bytes that are known to be UTF-8.
pub(crate) fn write_utf8(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    if bytes
        .iter()
        .fold(false, |found, &byte| found | needs_escape(byte))
    {
        write_escaped(bytes, out);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn write_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0C => b'f',
            b'\r' => b'r',
            _ => b'u',
        };
        out.extend_from_slice(&bytes[clean_from..at]);
        clean_from = at + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]);
        }
    }
    out.extend_from_slice(&bytes[clean_from..]);
}

impl Serialize for JsonValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            // A whole number is written without a fraction, as JavaScript does.
            #[allow(clippy::cast_possible_truncation, reason = "the range was checked")]
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
                serializer.serialize_i64(*number as i64)
            }
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = JsonValue;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON value")
            }

            fn visit_unit<E>(self) -> Result<JsonValue, E> {
                Ok(JsonValue::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<JsonValue, E> {
                Ok(JsonValue::Bool(value))
            }

            #[allow(clippy::cast_precision_loss, reason = "every number is a double (section 2)")]
            fn visit_i64<E>(self, value: i64) -> Result<JsonValue, E> {
                Ok(JsonValue::Number(value as f64))
            }

            #[allow(clippy::cast_precision_loss, reason = "every number is a double (section 2)")]
            fn visit_u64<E>(self, value: u64) -> Result<JsonValue, E> {
                Ok(JsonValue::Number(value as f64))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<JsonValue, E> {
                if value.is_finite() {
                    Ok(JsonValue::Number(value))
                } else {
                    Err(E::custom("number is not finite"))
                }
            }

            fn visit_str<E>(self, value: &str) -> Result<JsonValue, E> {
                Ok(JsonValue::String(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<JsonValue, E> {
                Ok(JsonValue::String(value))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<JsonValue, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(JsonValue::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<JsonValue, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(JsonValue::object(members))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(serde_json::from_str::<JsonValue>(text).unwrap().to_canonical()).unwrap()
    }

    #[test]
    fn every_number_is_a_double() {
        assert_eq!(
            canonical("[12345678901234567890,-0,-0.0,1e21,18446744073709551615,9007199254740993,5e-324]"),
            "[12345678901234567000,0,0,1e+21,18446744073709552000,9007199254740992,5e-324]"
        );
        assert!(serde_json::from_str::<JsonValue>("1e400").is_err());
    }

    #[test]
    fn keys_are_sorted_by_code_units_and_the_last_double_wins() {
        assert_eq!(
            canonical("{\"\u{ff5e}\":1,\"\u{1f600}\":2,\"a\":3,\"a\":4}"),
            "{\"a\":4,\"\u{1f600}\":2,\"\u{ff5e}\":1}"
        );
    }

    #[test]
    fn lone_surrogates_are_refused() {
        assert!(serde_json::from_str::<JsonValue>(r#""\ud800""#).is_err());
    }

    #[test]
    fn deep_nesting_is_refused_not_a_stack_overflow() {
        let deep = "[".repeat(100_000);
        assert!(serde_json::from_str::<JsonValue>(&deep).is_err());
    }

    /// Any JSON value, with keys that sort differently by bytes and by code units.
    pub(crate) fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::hash_map(
                    "[a-c\u{e000}\u{ffff}\u{10000}\u{1f600}é\"\\\\\u{1}]{0,3}",
                    inner,
                    0..6
                )
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn equals_the_general_crate(value in any_json()) {
            let text = serde_json::to_string(&value).unwrap();
            let expected = serde_json_canonicalizer::to_string(&value).unwrap();
            prop_assert_eq!(canonical(&text), expected);
        }

        #[test]
        fn utf16_order_is_the_order_of_code_units(left in any::<String>(), right in any::<String>()) {
            prop_assert_eq!(utf16_order(&left, &right), left.encode_utf16().cmp(right.encode_utf16()));
        }

        #[test]
        fn a_rank_is_reversible(byte in any::<u8>()) {
            if byte <= 0xF4 {
                prop_assert_eq!(utf16_unrank(utf16_rank(byte)), byte);
            }
        }
    }
}
