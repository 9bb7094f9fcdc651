//! Asks a running node whether it is ready: the health check of a container, which needs no other program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};

use super::say;

/// Longest wait for the whole answer. A probe that is asked often must not pile up.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Most of an answer that is read and shown.
const SHOWN_BYTES: usize = 4_096;

/// Asks `/readyz` at the listener of probes and metrics, and says what it answers.
pub(super) fn health(listener: SocketAddr) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    say(runtime.block_on(readiness(listener))?);
    Ok(ExitCode::SUCCESS)
}

/// The body of `/readyz` of a node that is ready; an error where it is not, or does not answer.
async fn readiness(listener: SocketAddr) -> anyhow::Result<String> {
    let url = format!("http://{}/readyz", reachable(listener));
    let client = Client::builder()
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .no_proxy()
        // The node's own listener has no TLS, and its image may have no authorities.
        .tls_certs_only([])
        .build()?;
    let answer = client
        .get(&url)
        .send()
        .await
        .context("the node does not answer; does it run, with this METRICS_LISTEN?")?;
    let status = answer.status();
    let body = shown(answer).await?;
    anyhow::ensure!(status == StatusCode::OK, "{url} answers {status}: {body}");
    Ok(body)
}

/// Where a listener of this machine is reached: one on all addresses on loopback.
pub(super) fn reachable(listener: SocketAddr) -> SocketAddr {
    let address = match listener.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listener.port())
}

/// The start of a body.
async fn shown(mut answer: Response) -> anyhow::Result<String> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        body.extend_from_slice(&piece);
        if body.len() >= SHOWN_BYTES {
            body.truncate(SHOWN_BYTES);
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    /// A node's probe listener that answers like this.
    async fn probes(status: StatusCode, body: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/readyz", get(async move || (status, body)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    #[tokio::test]
    async fn a_ready_node_is_healthy_also_when_it_listens_everywhere() {
        let address = probes(StatusCode::OK, "{\"ready\":true}".to_owned()).await;
        assert_eq!(readiness(address).await.unwrap(), "{\"ready\":true}");
        let everywhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
        assert_eq!(readiness(everywhere).await.unwrap(), "{\"ready\":true}");
    }

    #[tokio::test]
    async fn a_node_that_is_not_ready_is_not_healthy_and_the_answer_says_why() {
        let body = "{\"ready\":false,\"mode\":\"anchor\"}".to_owned();
        let address = probes(StatusCode::SERVICE_UNAVAILABLE, body).await;
        let error = readiness(address).await.unwrap_err().to_string();
        assert!(
            error.ends_with("/readyz answers 503 Service Unavailable: {\"ready\":false,\"mode\":\"anchor\"}"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_node_that_does_not_run_is_not_healthy() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = readiness(address).await.unwrap_err().to_string();
        assert!(
            error.contains("does it run, with this METRICS_LISTEN?"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_long_answer_is_cut() {
        let address = probes(StatusCode::OK, "x".repeat(10 * SHOWN_BYTES)).await;
        assert_eq!(readiness(address).await.unwrap().len(), SHOWN_BYTES);
    }

    #[test]
    fn all_addresses_are_reached_on_loopback() {
        for (listener, expected) in [
            ("0.0.0.0:9100", "127.0.0.1:9100"),
            ("[::]:9100", "[::1]:9100"),
            ("192.0.2.7:9100", "192.0.2.7:9100"),
        ] {
            let reached = reachable(listener.parse().unwrap());
            assert_eq!(reached, expected.parse().unwrap());
        }
    }
}
