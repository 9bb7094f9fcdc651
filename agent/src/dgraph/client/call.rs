//! One call to one alpha, and what its failure means.

use std::error::Error;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use prost::Message;
use secrecy::ExposeSecret;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, TimeoutExpired};
use tonic_prost::ProstCodec;

use super::connection;
use super::endpoint_ring::EndpointRing;
use super::error::{DgraphError, SettingsError};
use super::redact::Redactor;
use super::session::AccessToken;
use super::settings::{DgraphSettings, EndpointUrl};
use super::version::{DgraphVersion, MINIMUM_VERSION};
use super::wire;

/// A message that is sent.
pub(super) trait Sent: Message + Clone + 'static {}
impl<T: Message + Clone + 'static> Sent for T {}

/// A message that is received.
pub(super) trait Received: Message + Default + 'static {}
impl<T: Message + Default + 'static> Received for T {}

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Login,
    Query,
    Alter,
    CommitOrAbort,
    CheckVersion,
    AllocateIds,
}

impl Method {
    const fn path(self) -> &'static str {
        match self {
            Self::Login => "/api.Dgraph/Login",
            Self::Query => "/api.Dgraph/Query",
            Self::Alter => "/api.Dgraph/Alter",
            Self::CommitOrAbort => "/api.Dgraph/CommitOrAbort",
            Self::CheckVersion => "/api.Dgraph/CheckVersion",
            Self::AllocateIds => "/api.Dgraph/AllocateIDs",
        }
    }
}

/// Names of metadata.
const ACCESS_TOKEN: &str = "accessjwt";
const AUTH_TOKEN: &str = "auth-token";

/// The alphas and whose turn it is.
#[derive(Debug)]
pub(super) struct Endpoints {
    alphas: Vec<Alpha>,
    ring: Mutex<EndpointRing>,
    auth_token: Option<MetadataValue<Ascii>>,
    redactor: Redactor,
    max_answer_bytes: usize,
}

#[derive(Debug)]
struct Alpha {
    url: EndpointUrl,
    endpoint: Endpoint,
    /// Made by the first call, since making one needs a runtime.
    channel: OnceLock<Channel>,
    /// Known until it fails: it may come back as another one.
    version: Mutex<Option<DgraphVersion>>,
}

impl Endpoints {
    pub(super) fn new(settings: &DgraphSettings) -> Result<Self, SettingsError> {
        if settings.endpoints.is_empty() {
            return Err(SettingsError::NoEndpoint);
        }
        let alphas = settings
            .endpoints
            .iter()
            .map(|url| {
                Ok(Alpha {
                    url: url.clone(),
                    endpoint: connection::endpoint(url, settings)?,
                    channel: OnceLock::new(),
                    version: Mutex::new(None),
                })
            })
            .collect::<Result<Vec<Alpha>, SettingsError>>()?;
        let auth_token = match &settings.auth_token {
            Some(token) => {
                let mut value: MetadataValue<Ascii> = token
                    .expose_secret()
                    .parse()
                    .map_err(|_| SettingsError::AuthToken)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let password = settings.login.as_ref().map(|login| login.password.clone());
        Ok(Self {
            ring: Mutex::new(EndpointRing::new(alphas.len())),
            alphas,
            auth_token,
            redactor: Redactor::new(settings.auth_token.clone().into_iter().chain(password)),
            max_answer_bytes: settings.max_answer_bytes,
        })
    }

    /// The alphas.
    pub(super) fn indexes(&self) -> Range<usize> {
        0..self.alphas.len()
    }

    /// The alpha whose turn it is.
    pub(super) fn choose(&self) -> usize {
        lock(&self.ring).choose(Instant::now())
    }

    pub(super) fn url(&self, index: usize) -> &EndpointUrl {
        &self.alpha(index).url
    }

    /// Checks an alpha's version where it is not known.
    pub(super) async fn ensure_version(&self, index: usize, within: Duration) -> Result<(), DgraphError> {
        let known = *lock(&self.alpha(index).version);
        if known.is_none() {
            self.check(index, within).await?;
        }
        Ok(())
    }

    /// Asks an alpha for its version, which it tells only when it takes requests.
    pub(super) async fn check(&self, index: usize, within: Duration) -> Result<DgraphVersion, DgraphError> {
        let answer: wire::Version = self
            .send(index, Method::CheckVersion, wire::Check {}, within, None)
            .await?;
        let alpha = self.alpha(index);
        let version = DgraphVersion::from_tag(&answer.tag)
            .filter(|version| *version >= MINIMUM_VERSION)
            .ok_or_else(|| DgraphError::TooOld {
                endpoint: alpha.url.clone(),
                found: self.redactor.clean(&answer.tag),
            })?;
        *lock(&alpha.version) = Some(version);
        Ok(version)
    }

    /// One call, bounded in time.
    pub(super) async fn send<A: Sent, B: Received>(
        &self,
        index: usize,
        method: Method,
        message: A,
        within: Duration,
        token: Option<&AccessToken>,
    ) -> Result<B, DgraphError> {
        let alpha = self.alpha(index);
        let mut request = tonic::Request::new(message);
        request.set_timeout(within);
        if let Some(token) = token {
            request.metadata_mut().insert(ACCESS_TOKEN, token.value.clone());
        }
        if let Some(token) = &self.auth_token {
            request.metadata_mut().insert(AUTH_TOKEN, token.clone());
        }
        let channel = alpha.channel.get_or_init(|| alpha.endpoint.connect_lazy());
        let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(self.max_answer_bytes);
        let call = async {
            grpc.ready()
                .await
                .map_err(|error| Status::unavailable(connection::chain(&error)))?;
            let path = PathAndQuery::from_static(method.path());
            grpc.unary(request, path, ProstCodec::<A, B>::default()).await
        };
        let answer = match timeout(within, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if status.code() == Code::OutOfRange => Err(DgraphError::AnswerTooLarge {
                endpoint: alpha.url.clone(),
                limit: self.max_answer_bytes,
            }),
            Ok(Err(status)) => Err(meaning(&status, &alpha.url, within, &self.redactor)),
            Err(_) => Err(DgraphError::TimedOut {
                endpoint: alpha.url.clone(),
                after: within,
            }),
        };
        match &answer {
            Err(error) if error.is_of_endpoint() => {
                *lock(&alpha.version) = None;
                lock(&self.ring).failed(index, Instant::now());
            }
            _ => lock(&self.ring).succeeded(index),
        }
        answer
    }

    fn alpha(&self, index: usize) -> &Alpha {
        // There is at least one, and indexes come from here.
        &self.alphas[index.min(self.alphas.len() - 1)]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Texts of Dgraph's (25.4) for what it gives no code of its own. They come as `Unknown`.
const ABORTED: [&str; 2] = ["Transaction has been aborted", "Transaction conflict"];
const TIMED_OUT: &str = "context deadline exceeded";
const AWAY: [&str; 6] = [
    "server is not ready to accept requests",
    "server is in draining mode",
    "429 Too Many Requests",
    "No connection exists",
    "Unhealthy connection",
    "No healthy connection",
];
const TOKEN_NOT_TAKEN: [&str; 5] = [
    // A step of an open transaction, with a token that has expired.
    "No namespace in the metadata of context",
    "Token is expired",
    "unable to parse jwt token",
    "no accessJwt available",
    "invalid username or password",
];

/// What a failed call means.
fn meaning(status: &Status, endpoint: &EndpointUrl, within: Duration, redactor: &Redactor) -> DgraphError {
    let says = |texts: &[&str]| texts.iter().any(|text| status.message().contains(text));
    let code = status.code();
    let endpoint = endpoint.clone();
    if code == Code::Aborted || says(&ABORTED) {
        return DgraphError::Aborted;
    }
    if code == Code::DeadlineExceeded || says(&[TIMED_OUT]) || timed_out_here(status) {
        return DgraphError::TimedOut {
            endpoint,
            after: within,
        };
    }
    let cause = status.source().map(connection::chain).unwrap_or_default();
    let message = redactor.clean(&format!("{} {cause}", status.message()));
    if code == Code::Unauthenticated || says(&TOKEN_NOT_TAKEN) {
        return DgraphError::Unauthenticated {
            endpoint,
            reason: message,
        };
    }
    // A status with a cause was made here, by the connection.
    let lost = matches!(code, Code::Unavailable | Code::Cancelled) || status.source().is_some();
    if lost || says(&AWAY) {
        return DgraphError::Unavailable {
            endpoint,
            reason: message,
        };
    }
    DgraphError::Refused { endpoint, message }
}

/// Whether the transport's own clock ended the call.
fn timed_out_here(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        if cause.is::<TimeoutExpired>() {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(status: &Status) -> DgraphError {
        let redactor = Redactor::new(["hunter2".into()]);
        meaning(
            status,
            &"http://alpha".parse().unwrap(),
            Duration::from_secs(1),
            &redactor,
        )
    }

    #[test]
    fn a_conflict_is_known_by_code_or_text() {
        for status in [
            Status::aborted("Transaction has been aborted. Please retry"),
            Status::unknown("Transaction has been aborted. Please retry"),
            Status::failed_precondition("Transaction conflict"),
        ] {
            assert_eq!(meant(&status), DgraphError::Aborted, "{status}");
        }
    }

    #[test]
    fn what_is_away_is_not_a_refusal() {
        for status in [
            Status::unavailable("tcp connect error"),
            Status::unknown("Please retry again, server is not ready to accept requests"),
            Status::unknown("rpc error: No connection exists"),
            Status::unknown("429 Too Many Requests. Please throttle your requests"),
        ] {
            assert!(
                matches!(meant(&status), DgraphError::Unavailable { .. }),
                "{status}"
            );
        }
        for status in [
            Status::deadline_exceeded("x"),
            Status::unknown("rpc error: code = DeadlineExceeded desc = context deadline exceeded"),
        ] {
            assert!(matches!(meant(&status), DgraphError::TimedOut { .. }), "{status}");
        }
        for status in [
            Status::unauthenticated("no accessJwt available"),
            Status::unknown("No namespace in the metadata of context"),
            Status::unknown("extracting namespace from JWT: unable to parse jwt token: Token is expired"),
        ] {
            assert!(
                matches!(meant(&status), DgraphError::Unauthenticated { .. }),
                "{status}"
            );
        }
        for status in [
            Status::unknown("while lexing { at line 1"),
            Status::permission_denied("unauthorized to mutate"),
        ] {
            assert!(matches!(meant(&status), DgraphError::Refused { .. }), "{status}");
        }
    }

    #[test]
    fn a_refusal_does_not_repeat_a_secret() {
        let error = meant(&Status::unknown("Provided auth token [hunter2] does not match"));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
