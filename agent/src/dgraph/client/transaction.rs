//! Transactions of several steps.

use std::collections::{BTreeSet, HashMap};

use super::call::Method;
use super::error::DgraphError;
use super::mutation::{Mutation, Uid};
use super::query::{Answer, Query};
use super::{DgraphClient, wire};

/// When a transaction was committed, in the cluster's own order: a later commit has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitTimestamp(pub u64);

/// A write that was committed, or found nothing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    /// What the query of the same request found.
    pub answer: Answer,
    /// Uids of the new nodes, by the names they were given.
    pub uids: HashMap<String, Uid>,
    /// When.
    pub at: CommitTimestamp,
}

impl Committed {
    pub(super) fn read(response: wire::Response) -> Result<Self, DgraphError> {
        let at = response.txn.unwrap_or_default().commit_ts;
        Ok(Self {
            answer: Answer(response.json),
            uids: read_uids(response.uids)?,
            at: CommitTimestamp(at),
        })
    }
}

fn read_uids(uids: HashMap<String, String>) -> Result<HashMap<String, Uid>, DgraphError> {
    uids.into_iter()
        .map(|(name, uid)| Ok((name, uid.parse()?)))
        .collect()
}

/// A transaction of several steps, all with one alpha. Sees what stood when its first step was done, and
/// what it wrote itself.
///
/// A step that fails ends it: nothing of it can be committed any more. One that is dropped without a commit
/// is aborted by Dgraph after some minutes; [`Transaction::abort`] does it at once.
#[derive(Debug)]
#[must_use = "nothing is written without a commit"]
pub struct Transaction {
    client: DgraphClient,
    endpoint: usize,
    start_ts: u64,
    hash: String,
    keys: BTreeSet<String>,
    predicates: BTreeSet<String>,
    wrote: bool,
    failed: bool,
}

impl Transaction {
    pub(super) fn new(client: DgraphClient, endpoint: usize) -> Self {
        Self {
            client,
            endpoint,
            start_ts: 0,
            hash: String::new(),
            keys: BTreeSet::new(),
            predicates: BTreeSet::new(),
            wrote: false,
            failed: false,
        }
    }

    /// Asks.
    pub async fn query(&mut self, query: &Query) -> Result<Answer, DgraphError> {
        let response = self.step(query.in_transaction()).await?;
        Ok(Answer(response.json))
    }

    /// Writes, to be committed later. The mutations' conditions name variables of the query.
    pub async fn write(
        &mut self,
        query: Option<&Query>,
        mutations: Vec<Mutation>,
    ) -> Result<(Answer, HashMap<String, Uid>), DgraphError> {
        let mut request = query.map(Query::in_transaction).unwrap_or_default();
        request.mutations = mutations.into_iter().map(Mutation::into_wire).collect();
        self.wrote = true;
        let response = self.step(request).await?;
        Ok((Answer(response.json), read_uids(response.uids)?))
    }

    /// Makes all writes stand at once. Without any there is nothing to do: `None`.
    pub async fn commit(mut self) -> Result<Option<CommitTimestamp>, DgraphError> {
        if self.failed {
            self.abort().await;
            return Err(DgraphError::Aborted);
        }
        if !self.wrote {
            return Ok(None);
        }
        let context = self.context(false);
        let done: wire::TxnContext = self
            .client
            .call(
                self.endpoint,
                Method::CommitOrAbort,
                &context,
                self.client.0.timeouts.mutation,
            )
            .await?;
        if done.aborted {
            return Err(DgraphError::Aborted);
        }
        Ok(Some(CommitTimestamp(done.commit_ts)))
    }

    /// Gives all writes up. Where Dgraph cannot be told, it finds out by itself after some minutes.
    pub async fn abort(mut self) {
        if self.start_ts == 0 || !self.wrote {
            return;
        }
        let context = self.context(true);
        let timeout = self.client.0.timeouts.query;
        let answer: Result<wire::TxnContext, _> = self
            .client
            .call(self.endpoint, Method::CommitOrAbort, &context, timeout)
            .await;
        if let Err(error) = answer {
            tracing::debug!(%error, "a dgraph transaction could not be aborted");
        }
    }

    async fn step(&mut self, mut request: wire::Request) -> Result<wire::Response, DgraphError> {
        if self.failed {
            return Err(DgraphError::Aborted);
        }
        request.start_ts = self.start_ts;
        request.hash.clone_from(&self.hash);
        let within = if request.mutations.is_empty() {
            self.client.0.timeouts.query
        } else {
            self.client.0.timeouts.mutation
        };
        // Stays so where this future is dropped in the middle.
        self.failed = true;
        let response: wire::Response = self
            .client
            .call(self.endpoint, Method::Query, &request, within)
            .await?;
        let context = response.txn.clone().unwrap_or_default();
        if self.start_ts != 0 && context.start_ts != self.start_ts {
            return Err(DgraphError::Answer(format!(
                "it is of transaction {}, not {}",
                context.start_ts, self.start_ts
            )));
        }
        self.start_ts = context.start_ts;
        self.hash = context.hash;
        self.keys.extend(context.keys);
        self.predicates.extend(context.preds);
        self.failed = false;
        Ok(response)
    }

    fn context(&mut self, aborted: bool) -> wire::TxnContext {
        wire::TxnContext {
            start_ts: self.start_ts,
            hash: std::mem::take(&mut self.hash),
            keys: std::mem::take(&mut self.keys).into_iter().collect(),
            preds: std::mem::take(&mut self.predicates).into_iter().collect(),
            aborted,
            ..wire::TxnContext::default()
        }
    }
}
