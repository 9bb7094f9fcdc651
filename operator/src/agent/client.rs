//! The HTTP client for agents.

use std::time::Duration;

use bytes::BytesMut;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use url::Url;

use super::AgentStatus;

/// Longest wait for an answer: an agent answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer that is read. A status with a thousand peers has about 200 kB.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Asks agents. Cheap to clone; connections are kept and shared.
#[derive(Debug, Clone)]
pub struct AgentClient {
    http: reqwest::Client,
}

impl AgentClient {
    /// A client that follows no redirects and asks no proxy.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new() -> Result<Self, AgentError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            // Agents answer without TLS on their admin port, and the image has no authorities.
            .tls_certs_only([])
            .user_agent(concat!("honeygraph-operator/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(AgentError::unreachable)?;
        Ok(Self { http })
    }

    /// Asks the agent whose admin listener is at `base` where it stands.
    ///
    /// # Errors
    /// As [`AgentError`] says.
    pub async fn status(&self, base: &Url, token: &SecretString) -> Result<AgentStatus, AgentError> {
        let url = base.join("status").map_err(|error| AgentError::Unreadable {
            reason: error.to_string(),
        })?;
        let answer = self
            .http
            .get(url)
            .bearer_auth(token.expose_secret())
            .send()
            .await
            .map_err(AgentError::unreachable)?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(AgentError::Unauthorized),
            StatusCode::SERVICE_UNAVAILABLE => return Err(AgentError::NotYet),
            status => {
                return Err(AgentError::Unreadable {
                    reason: format!("status {}", status.as_u16()),
                });
            }
        }
        let body = read(answer).await?;
        serde_json::from_slice(&body).map_err(|error| AgentError::Unreadable {
            reason: error.to_string(),
        })
    }
}

/// Reads a body up to [`MAX_ANSWER_BYTES`].
async fn read(mut answer: reqwest::Response) -> Result<BytesMut, AgentError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(AgentError::unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(AgentError::Unreadable {
                reason: format!("more than {MAX_ANSWER_BYTES} bytes"),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Why an agent's status is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AgentError {
    /// No connection, or no answer in time.
    #[error("no answer ({reason})")]
    Unreachable {
        /// The cause, without the address.
        reason: String,
    },
    /// It knows another token: asking again does not help before the token arrives there.
    #[error("it refuses the admin token")]
    Unauthorized,
    /// It says itself that it cannot answer yet.
    #[error("it is not able to answer yet")]
    NotYet,
    /// What it says is no status.
    #[error("its answer cannot be read ({reason})")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

impl AgentError {
    fn unreachable(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let reason = if error.is_timeout() {
            "timed out".to_owned()
        } else {
            // The last cause says most: "connection refused" rather than "error sending request".
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        };
        Self::Unreachable { reason }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::Router;
    use axum::body::Body;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use futures_util::stream;

    use super::*;

    const TOKEN: &str = "a-token-of-the-test";

    /// Asks an agent that answers as told.
    async fn ask(router: Router) -> Result<AgentStatus, AgentError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let client = AgentClient::new().expect("a client");
        let base = Url::parse(&format!("http://{address}/")).expect("an address");
        let answer = client.status(&base, &SecretString::from(TOKEN)).await;
        server.abort();
        answer
    }

    fn answers(answer: impl IntoResponse + Clone + Send + Sync + 'static) -> Router {
        Router::new().route("/status", get(async move || answer))
    }

    #[tokio::test]
    async fn a_status_is_read_with_the_token() {
        let router = Router::new().route(
            "/status",
            get(async |headers: HeaderMap| -> Response {
                if headers["authorization"] == format!("Bearer {TOKEN}").as_str() {
                    r#"{"sessionId": "s", "network": "dlux", "sync": {"head": 5}}"#.into_response()
                } else {
                    StatusCode::UNAUTHORIZED.into_response()
                }
            }),
        );
        let status = ask(router).await.expect("a status");
        assert_eq!((status.session_id.as_str(), status.sync.head), ("s", Some(5)));
    }

    #[tokio::test]
    async fn never_is_told_from_not_yet() {
        assert_eq!(
            ask(answers(StatusCode::UNAUTHORIZED)).await,
            Err(AgentError::Unauthorized)
        );
        assert_eq!(
            ask(answers(StatusCode::SERVICE_UNAVAILABLE)).await,
            Err(AgentError::NotYet)
        );
    }

    #[tokio::test]
    async fn what_is_no_status_is_unreadable() {
        for answer in ["", "<html>", "{}"] {
            assert!(
                matches!(ask(answers(answer)).await, Err(AgentError::Unreadable { .. })),
                "{answer}"
            );
        }
        let elsewhere = (StatusCode::FOUND, [("location", "/other")]);
        assert!(matches!(
            ask(answers(elsewhere)).await,
            Err(AgentError::Unreadable { .. })
        ));
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut_off() {
        let endless = Router::new().route(
            "/status",
            get(async || {
                let chunk = vec![b' '; 1 << 16];
                Body::from_stream(stream::repeat_with(move || {
                    Ok::<_, std::io::Error>(chunk.clone())
                }))
            }),
        );
        assert!(matches!(ask(endless).await, Err(AgentError::Unreadable { .. })));
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_unreachable() {
        let client = AgentClient::new().expect("a client");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let base = Url::parse(&format!("http://{}/", listener.local_addr().expect("an address")))
            .expect("an address");
        drop(listener);
        let answer = client.status(&base, &SecretString::from(TOKEN)).await;
        let Err(error @ AgentError::Unreachable { .. }) = answer else {
            panic!("{answer:?}");
        };
        assert!(!error.to_string().contains(TOKEN));
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_never_answers_is_unreachable() {
        let silent = Router::new().route("/status", get(async || pending::<StatusCode>().await));
        assert_eq!(
            ask(silent).await,
            Err(AgentError::Unreachable {
                reason: "timed out".to_owned()
            })
        );
    }
}
