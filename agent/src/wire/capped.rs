//! Lists that never hold more than a given number of items, however long the list that was sent is.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first `MAX` items of a list. Items beyond are skipped while reading, without being kept; how many
/// there were is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped<T, const MAX: usize> {
    items: Vec<T>,
    sent: usize,
}

impl<T, const MAX: usize> Capped<T, MAX> {
    /// The items that were kept.
    pub fn as_slice(&self) -> &[T] {
        &self.items
    }

    /// The items that were kept, owned.
    pub fn into_vec(self) -> Vec<T> {
        self.items
    }

    /// How many items the sender put into the list.
    pub const fn sent(&self) -> usize {
        self.sent
    }

    /// Whether items were left out.
    pub const fn is_cut(&self) -> bool {
        self.sent > self.items.len()
    }
}

impl<T, const MAX: usize> Default for Capped<T, MAX> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            sent: 0,
        }
    }
}

impl<T, const MAX: usize> FromIterator<T> for Capped<T, MAX> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        let kept: Vec<T> = items.by_ref().take(MAX).collect();
        let sent = kept.len() + items.count();
        Self { items: kept, sent }
    }
}

impl<T: Serialize, const MAX: usize> Serialize for Capped<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Capped<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MAX: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
            type Value = Capped<T, MAX>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX {
                    let Some(item) = list.next_element()? else {
                        let sent = items.len();
                        return Ok(Capped { items, sent });
                    };
                    items.push(item);
                }
                let mut sent = items.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    sent += 1;
                }
                Ok(Capped { items, sent })
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let list: Capped<u8, 3> = serde_json::from_str("[1,2,3,4,{\"any\":1}]").unwrap();
        assert_eq!(list.as_slice(), [1, 2, 3]);
        assert_eq!(list.sent(), 5);
        assert!(list.is_cut());
    }

    #[test]
    fn a_list_that_fits_is_whole() {
        let list: Capped<u8, 3> = serde_json::from_str("[1,2,3]").unwrap();
        assert!(!list.is_cut());
        assert_eq!((1..=3).collect::<Capped<u8, 3>>(), list);
        assert!((1..=4).collect::<Capped<u8, 3>>().is_cut());
    }
}
