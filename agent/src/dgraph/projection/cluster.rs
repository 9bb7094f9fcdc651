//! What a projection asks of a Dgraph cluster: little enough for a model to do the same.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use backon::ExponentialBuilder;
use jiff::Timestamp;
use serde::Deserialize;

use super::mark::Mark;
use super::region::NETWORK_NODE;
use super::schema::predicate as p;
use crate::dgraph::client::{DgraphClient, DgraphError, Mutation, Query, Reading, Uid, Value};

/// A Dgraph cluster, as far as a projection uses it.
pub trait Cluster: Clone + Send + Sync + 'static {
    /// What stands in the network node now.
    fn network_node(&self) -> impl Future<Output = Result<NetworkNode, DgraphError>> + Send;

    /// Writes, in one transaction, only where the network node is as expected; tells what stood there.
    fn write_where(
        &self,
        expected: &Expected,
        mutation: Mutation,
    ) -> impl Future<Output = Result<Attempt, DgraphError>> + Send;

    /// Adds to the schema.
    fn alter(&self, schema: &str) -> impl Future<Output = Result<(), DgraphError>> + Send;

    /// Takes a predicate away from every node of the namespace and from its schema.
    fn drop_predicate(&self, predicate: &str) -> impl Future<Output = Result<(), DgraphError>> + Send;

    /// Takes uids that no one else will be given.
    fn allocate_uids(
        &self,
        count: u64,
    ) -> impl Future<Output = Result<RangeInclusive<Uid>, DgraphError>> + Send;

    /// Waits between attempts that met another writer.
    fn backoff(&self) -> ExponentialBuilder {
        DgraphClient::conflict_backoff()
    }
}

/// What came of a conditional write that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whether it was written.
    pub applied: bool,
    /// The network node before.
    pub stood: NetworkNode,
}

/// The network node: everything that writers agree on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkNode {
    /// The network's name.
    pub network: Option<String>,
    /// Version of the schema.
    pub schema_version: Option<u32>,
    /// Key of the hash that names nodes of the state.
    pub uid_key: Option<String>,
    /// Number of the last block.
    pub applied_block: Option<i64>,
    /// Hash of the last block.
    pub applied_hash: Option<String>,
    /// Number of the lowest block from which all stand there.
    pub applied_from: Option<i64>,
    /// Who wrote the last step, and the step's own mark.
    pub applied_by: Option<String>,
    /// Block of the state that stands there.
    pub state_block: Option<i64>,
    /// Block of the state that replaces it.
    pub state_to: Option<i64>,
    /// What is replaced already.
    pub state_after: Option<String>,
    /// Who claimed the next steps.
    pub claimed_by: Option<String>,
    /// Up to which block.
    pub claimed_to: Option<i64>,
    /// Until when.
    pub claimed_until: Option<Timestamp>,
}

impl NetworkNode {
    /// The mark of the step that was written last.
    pub fn mark(&self) -> Option<Mark> {
        self.applied_by.clone().map(Mark::from_text)
    }
}

/// Every predicate of [`NetworkNode`].
const OF_NETWORK_NODE: [&str; 13] = [
    p::NETWORK,
    p::SCHEMA_VERSION,
    p::UID_KEY,
    p::APPLIED_BLOCK,
    p::APPLIED_HASH,
    p::APPLIED_FROM,
    p::APPLIED_BY,
    p::STATE_BLOCK,
    p::STATE_TO,
    p::STATE_AFTER,
    p::CLAIMED_BY,
    p::CLAIMED_TO,
    p::CLAIMED_UNTIL,
];

/// What has to stand in the network node for a write to be done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected(Vec<(&'static str, Option<Value>)>);

impl Expected {
    /// Asks that a predicate has a value, or none.
    pub fn push(&mut self, predicate: &'static str, value: Option<Value>) {
        self.0.push((predicate, value));
    }

    /// What is asked, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<&Value>)> {
        self.0
            .iter()
            .map(|(predicate, value)| (*predicate, value.as_ref()))
    }

    /// The question whose variable `c` holds the network node where it is as expected.
    fn query(&self) -> Query {
        let mut declared = Vec::new();
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        for (place, (predicate, value)) in self.0.iter().enumerate() {
            let Some(value) = value else {
                conditions.push(format!("NOT has({predicate})"));
                continue;
            };
            let (kind, text) = match value {
                Value::Text(text) => ("string", text.clone()),
                Value::Integer(number) => ("int", number.to_string()),
                Value::Float(number) => ("float", number.to_string()),
                Value::Boolean(value) => ("bool", value.to_string()),
                Value::Time(time) => ("string", time.to_string()),
            };
            let variable = format!("$v{place}");
            declared.push(format!("{variable}: {kind}"));
            conditions.push(format!("eq({predicate}, {variable})"));
            values.push((variable, text));
        }
        let mut text = String::new();
        if !declared.is_empty() {
            let _ = write!(text, "query q({}) ", declared.join(", "));
        }
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" @filter({})", conditions.join(" AND "))
        };
        let _ = write!(
            text,
            "{{ c as found(func: uid({NETWORK_NODE})){filter} {{ uid }} {} }}",
            stands()
        );
        values
            .into_iter()
            .fold(Query::new(text), |query, (variable, value)| {
                query.with(&variable, value)
            })
    }
}

/// The part of a question that reads the network node.
fn stands() -> String {
    format!(
        "stands(func: uid({NETWORK_NODE})) {{ {} }}",
        OF_NETWORK_NODE.join(" ")
    )
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    found: Vec<serde::de::IgnoredAny>,
    #[serde(default)]
    stands: Vec<NetworkNode>,
}

impl Cluster for DgraphClient {
    async fn network_node(&self) -> Result<NetworkNode, DgraphError> {
        let query = Query::new(format!("{{ {} }}", stands()));
        let found: Found = self.query(&query, Reading::Strict).await?.read()?;
        Ok(found.stands.into_iter().next().unwrap_or_default())
    }

    async fn write_where(&self, expected: &Expected, mutation: Mutation) -> Result<Attempt, DgraphError> {
        let query = expected.query();
        let committed = self
            .write(Some(&query), vec![mutation.only_if_found("c", 1)])
            .await?;
        let found: Found = committed.answer.read()?;
        Ok(Attempt {
            applied: !found.found.is_empty(),
            stood: found.stands.into_iter().next().unwrap_or_default(),
        })
    }

    async fn alter(&self, schema: &str) -> Result<(), DgraphError> {
        Self::alter(self, schema).await
    }

    async fn drop_predicate(&self, predicate: &str) -> Result<(), DgraphError> {
        Self::drop_predicate(self, predicate).await
    }

    async fn allocate_uids(&self, count: u64) -> Result<RangeInclusive<Uid>, DgraphError> {
        Self::allocate_uids(self, count).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_becomes_a_question() {
        let mut expected = Expected::default();
        expected.push(p::NETWORK, Some("spkcc".into()));
        expected.push(p::STATE_BLOCK, None);
        expected.push(p::APPLIED_BLOCK, Some(5.into()));
        let asked = Query::new(format!(
            "query q($v0: string, $v2: int) {{ c as found(func: uid(0x3fffffffffffffff)) \
             @filter(eq(network, $v0) AND NOT has(stateBlock) AND eq(appliedBlock, $v2)) {{ uid }} {} }}",
            stands()
        ))
        .with("$v0", "spkcc")
        .with("$v2", "5");
        assert_eq!(expected.query(), asked);
    }

    #[test]
    fn the_node_is_read_by_the_names_of_the_schema() {
        let node: NetworkNode = serde_json::from_value(serde_json::json!({
            p::NETWORK: "spkcc", p::SCHEMA_VERSION: 1, p::UID_KEY: "k", p::APPLIED_BLOCK: 2,
            p::APPLIED_HASH: "h", p::APPLIED_FROM: 1, p::APPLIED_BY: "w", p::STATE_BLOCK: 3, p::STATE_TO: 4,
            p::STATE_AFTER: "0x", p::CLAIMED_BY: "w", p::CLAIMED_TO: 5,
            p::CLAIMED_UNTIL: "2026-11-24T08:34:00.123Z",
        }))
        .unwrap();
        let expected = NetworkNode {
            network: Some("spkcc".into()),
            schema_version: Some(1),
            uid_key: Some("k".into()),
            applied_block: Some(2),
            applied_hash: Some("h".into()),
            applied_from: Some(1),
            applied_by: Some("w".into()),
            state_block: Some(3),
            state_to: Some(4),
            state_after: Some("0x".into()),
            claimed_by: Some("w".into()),
            claimed_to: Some(5),
            claimed_until: Some("2026-11-24T08:34:00.123Z".parse().unwrap()),
        };
        assert_eq!(node, expected);
    }
}
