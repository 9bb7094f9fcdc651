use std::sync::atomic::{AtomicUsize, Ordering};

use axum::response::Redirect;
use axum::routing::get;
use honeygraph_chain::peer::LocalFault;
use reqwest::dns::{Addrs, Name, Resolving};

use super::*;

/// A node that counts how often it is asked.
async fn counting() -> (PeerUrl, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let router = Router::new().fallback(get(move || async move {
        counter.fetch_add(1, Ordering::SeqCst);
        r#"{"head":9,"fork":"main"}"#
    }));
    (serve(router).await, asked)
}

fn port_of(url: &PeerUrl) -> u16 {
    url.as_url().port_or_known_default().unwrap()
}

fn is_refused<T>(result: &Result<T, FetchError>) -> bool {
    matches!(result, Err(FetchError::Local(LocalFault::AddressRefused(_))))
}

#[tokio::test]
async fn the_configured_port_is_asked_and_another_one_is_not() {
    let (configured, asked) = counting().await;
    let (stranger, never_asked) = counting().await;
    let client = client(&configured);
    assert!(client.head(&configured).await.is_ok());
    assert!(is_refused(&client.head(&stranger).await));
    assert!(is_refused(&client.peers(&stranger).await));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(never_asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_not_asked() {
    let (peer, asked) = counting().await;
    let by_name: PeerUrl = format!("http://localhost:{}", port_of(&peer)).parse().unwrap();
    assert!(is_refused(&client(&peer).head(&by_name).await));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// Every name is this machine.
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _: Name) -> Resolving {
        let found: Addrs = Box::new([SocketAddr::from(([127, 0, 0, 1], 0))].into_iter());
        Box::pin(async move { Ok(found) })
    }
}

#[tokio::test]
async fn names_are_judged_by_what_they_resolve_to_unless_they_are_configured() {
    let (peer, asked) = counting().await;
    let named: PeerUrl = format!("http://mine.example:{}", port_of(&peer)).parse().unwrap();
    let strangers: PeerUrl = format!("http://other.example:{}", port_of(&peer))
        .parse()
        .unwrap();
    let client = PeerClient::with_resolver(
        &"tester".parse().unwrap(),
        AddressGuard::new([&named]),
        timeouts(),
        Arc::new(Loopback),
    )
    .unwrap();
    assert!(client.head(&named).await.is_ok());
    assert!(is_refused(&client.head(&strangers).await));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (target, asked) = counting().await;
    let location = target.call(&["api", "sync", "status"], &[]).to_string();
    let redirecting =
        serve(Router::new().fallback(get(move || async move { Redirect::temporary(&location) }))).await;
    // Not even to an address that is ours.
    let guard = AddressGuard::new([&redirecting, &target]);
    let client = PeerClient::new(&"tester".parse().unwrap(), guard, timeouts()).unwrap();
    assert_eq!(
        client.head(&redirecting).await,
        Err(FetchError::Peer(PeerFault::UnexpectedStatus { status: 307 }))
    );
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// Names the node that [`no_proxy_of_the_environment_is_used`] asks from a process of its own.
const ASKED_PEER: &str = "HONEYGRAPH_TEST_ASKED_PEER";

#[tokio::test]
async fn no_proxy_of_the_environment_is_used() {
    if let Ok(peer) = std::env::var(ASKED_PEER) {
        let peer: PeerUrl = peer.parse().unwrap();
        assert!(client(&peer).head(&peer).await.is_ok());
        return;
    }
    let (peer, asked) = counting().await;
    let (proxy, used) = counting().await;
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "peers::client::tests::guarding::no_proxy_of_the_environment_is_used",
        ])
        .env(ASKED_PEER, peer.to_string())
        .env_remove("no_proxy")
        .env_remove("NO_PROXY");
    for variable in ["http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
        child.env(variable, proxy.to_string());
    }
    assert!(child.status().await.unwrap().success());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(used.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn literal_addresses_in_disguise_are_refused() {
    let (peer, asked) = counting().await;
    let client = client(&"http://configured.example".parse().unwrap());
    for host in [
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "2130706433",
        "0x7f.1",
        "127.0.0.1",
    ] {
        let url: PeerUrl = format!("http://{host}:{}", port_of(&peer)).parse().unwrap();
        assert!(is_refused(&client.head(&url).await), "{host}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
