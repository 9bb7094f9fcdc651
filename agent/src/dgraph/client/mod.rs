//! Talks to the alphas of a Dgraph cluster, over gRPC; `docs/dgraph.md`, section "Client".
//!
//! One client serves a whole node: it picks an alpha that answers, checks once that it is new enough, logs
//! in where Dgraph wants that, bounds every call in time and every answer in bytes, and says by type what a
//! failure means for the caller. It decides nothing about data.
//!
//! A write that fails with [`DgraphError::outcome_unknown`] may have been committed. Who writes makes every
//! write safe to repeat (a cursor that is read and written in the same transaction) and asks before going on.

mod call;
mod connection;
mod endpoint_ring;
mod error;
mod mutation;
mod query;
mod redact;
#[cfg(test)]
#[path = "tests/scripted_alpha.rs"]
pub(crate) mod scripted_alpha;
mod session;
mod settings;
mod transaction;
mod version;
mod wire;

pub use error::{DgraphError, SettingsError};
#[cfg(test)]
pub(in crate::dgraph) use mutation::Change;
pub use mutation::{Mutation, Node, Uid, Value};
pub use query::{Answer, Query, Reading};
pub use settings::{ClientIdentity, DgraphSettings, DgraphTimeouts, EndpointUrl, Login, TlsSettings};
pub use transaction::{CommitTimestamp, Committed, Transaction};
pub use version::{DgraphVersion, MINIMUM_VERSION};

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures_util::future::join_all;

use call::{Endpoints, Method};
use session::Session;

/// A client of one Dgraph cluster. Cheap to clone; clones share connections and login.
#[derive(Debug, Clone)]
pub struct DgraphClient(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    endpoints: Endpoints,
    session: Session,
    timeouts: DgraphTimeouts,
}

/// What one alpha said of itself.
#[derive(Debug)]
pub struct EndpointHealth {
    /// The alpha.
    pub endpoint: EndpointUrl,
    /// Its version where it takes requests, else why it does not.
    pub outcome: Result<DgraphVersion, DgraphError>,
}

impl DgraphClient {
    /// A client; connects when it is first used, and again whenever a connection breaks.
    pub fn new(settings: DgraphSettings) -> Result<Self, SettingsError> {
        Ok(Self(Arc::new(Shared {
            endpoints: Endpoints::new(&settings)?,
            session: Session::new(settings.login),
            timeouts: settings.timeouts,
        })))
    }

    /// Waits between attempts of a step that met a conflict: 10 ms doubling to 2 s, with jitter, 10 times.
    pub fn conflict_backoff() -> ExponentialBuilder {
        ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(10))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(10)
            .with_jitter()
    }

    /// Asks, without a transaction of one's own. Tries every alpha before it gives up.
    pub async fn query(&self, query: &Query, reading: Reading) -> Result<Answer, DgraphError> {
        let response: wire::Response = self
            .call_any(Method::Query, &query.read_only(reading), self.0.timeouts.query)
            .await?;
        Ok(Answer(response.json))
    }

    /// Asks several questions of one snapshot: all answers hold exactly the same commits. Tries every alpha before
    /// it gives up, from the first question on.
    pub async fn query_together<const N: usize>(
        &self,
        queries: &[Query; N],
        reading: Reading,
    ) -> Result<[Answer; N], DgraphError> {
        for _ in 1..self.0.endpoints.indexes().len() {
            let answers = self.snapshot(queries, reading).await;
            if !asks_another(&answers) {
                return answers;
            }
        }
        self.snapshot(queries, reading).await
    }

    /// Asks and writes in one request and one transaction, which is committed at once: the cheapest way to
    /// write what depends on what stands there. A mutation's condition names variables of the query.
    ///
    /// Not tried on a second alpha: see [`DgraphError::outcome_unknown`].
    pub async fn write(
        &self,
        query: Option<&Query>,
        mutations: Vec<Mutation>,
    ) -> Result<Committed, DgraphError> {
        let endpoint = self.0.endpoints.choose();
        let mut request = query.map(Query::in_transaction).unwrap_or_default();
        request.mutations = mutations.into_iter().map(Mutation::into_wire).collect();
        request.commit_now = true;
        let response: wire::Response = self
            .call(endpoint, Method::Query, &request, self.0.timeouts.mutation)
            .await?;
        Committed::read(response)
    }

    /// Opens a transaction of several steps. Nothing is sent before its first step.
    pub fn begin(&self) -> Transaction {
        Transaction::new(self.clone(), self.0.endpoints.choose())
    }

    /// Adds to the schema, or changes it; builds what indexes the change needs before it returns.
    pub async fn alter(&self, schema: &str) -> Result<(), DgraphError> {
        self.operation(wire::Operation {
            schema: schema.to_owned(),
            ..wire::Operation::default()
        })
        .await
    }

    /// Removes every node and the whole schema of every namespace, users too. Where access control is on, only a
    /// guardian of the root namespace may. Leases of uids stay.
    pub async fn drop_all(&self) -> Result<(), DgraphError> {
        self.operation(wire::Operation {
            drop_all: true,
            ..wire::Operation::default()
        })
        .await
    }

    /// Removes a predicate from every node of the namespace and from its schema.
    pub async fn drop_predicate(&self, predicate: &str) -> Result<(), DgraphError> {
        self.operation(wire::Operation {
            drop_attr: predicate.to_owned(),
            ..wire::Operation::default()
        })
        .await
    }

    /// Takes uids that no one else will be given. They are never given back: a cluster has 2^64 of them.
    /// Where access control is on, only a guardian of the root namespace may.
    pub async fn allocate_uids(&self, count: u64) -> Result<RangeInclusive<Uid>, DgraphError> {
        let request = wire::AllocateIdsRequest {
            how_many: count,
            lease_type: wire::LEASE_OF_UIDS,
        };
        let endpoint = self.0.endpoints.choose();
        let lease: wire::AllocateIdsResponse = self
            .call(endpoint, Method::AllocateIds, &request, self.0.timeouts.query)
            .await?;
        Ok(Uid(lease.start)..=Uid(lease.end))
    }

    /// Asks every alpha at once whether it takes requests, and of which version it is.
    pub async fn health(&self) -> Vec<EndpointHealth> {
        join_all(self.0.endpoints.indexes().map(async |index| EndpointHealth {
            endpoint: self.0.endpoints.url(index).clone(),
            outcome: self.0.endpoints.check(index, self.0.timeouts.query).await,
        }))
        .await
    }

    async fn operation(&self, operation: wire::Operation) -> Result<(), DgraphError> {
        let endpoint = self.0.endpoints.choose();
        let _: wire::Payload = self
            .call(endpoint, Method::Alter, &operation, self.0.timeouts.alter)
            .await?;
        Ok(())
    }

    /// Calls one alpha; logs in again, once, where it does not take the token.
    async fn call<A: call::Sent, B: call::Received>(
        &self,
        endpoint: usize,
        method: Method,
        message: &A,
        within: Duration,
    ) -> Result<B, DgraphError> {
        let Shared {
            endpoints, session, ..
        } = &*self.0;
        endpoints.ensure_version(endpoint, self.0.timeouts.query).await?;
        let login = |request: wire::LoginRequest| {
            endpoints.send(endpoint, Method::Login, request, self.0.timeouts.query, None)
        };
        let token = session.token(login).await?;
        let answer = endpoints
            .send(endpoint, method, message.clone(), within, token.as_ref())
            .await;
        match (answer, token) {
            // Access is checked before anything is done, so nothing was.
            (Err(DgraphError::Unauthenticated { .. }), Some(stale)) => {
                let token = session.renew(&stale, login).await?;
                endpoints
                    .send(endpoint, method, message.clone(), within, Some(&token))
                    .await
            }
            (answer, _) => answer,
        }
    }

    /// Calls alphas in turn until one answers, whatever it says.
    async fn call_any<A: call::Sent, B: call::Received>(
        &self,
        method: Method,
        message: &A,
        within: Duration,
    ) -> Result<B, DgraphError> {
        for _ in 1..self.0.endpoints.indexes().len() {
            let answer = self
                .call(self.0.endpoints.choose(), method, message, within)
                .await;
            if !asks_another(&answer) {
                return answer;
            }
        }
        self.call(self.0.endpoints.choose(), method, message, within)
            .await
    }

    /// Asks one alpha several questions of one snapshot.
    async fn snapshot<const N: usize>(
        &self,
        queries: &[Query; N],
        reading: Reading,
    ) -> Result<[Answer; N], DgraphError> {
        let endpoint = self.0.endpoints.choose();
        let mut snapshot = wire::TxnContext::default();
        let mut answers = [const { Answer::empty() }; N];
        for (query, answer) in queries.iter().zip(&mut answers) {
            let mut request = query.read_only(reading);
            request.start_ts = snapshot.start_ts;
            request.hash.clone_from(&snapshot.hash);
            let response: wire::Response = self
                .call(endpoint, Method::Query, &request, self.0.timeouts.query)
                .await?;
            let context = response.txn.unwrap_or_default();
            let is_other = snapshot.start_ts != 0 && context.start_ts != snapshot.start_ts;
            if context.start_ts == 0 || is_other {
                return Err(DgraphError::Answer(format!(
                    "it is of snapshot {}, not {}",
                    context.start_ts, snapshot.start_ts
                )));
            }
            snapshot = context;
            *answer = Answer(response.json);
        }
        Ok(answers)
    }
}

/// Whether another alpha may answer what this one did not.
fn asks_another<T>(answer: &Result<T, DgraphError>) -> bool {
    match answer {
        Err(error) if error.is_of_endpoint() => {
            tracing::debug!(%error, "asking another alpha");
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
