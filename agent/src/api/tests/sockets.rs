//! A router on a real listener.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::{Listeners, ServeLimits, serve, serve_node};

const LIMITS: ServeLimits = ServeLimits {
    connections: 2,
    connections_per_address: 2,
    exempt: Vec::new(),
    head_timeout: Duration::from_secs(10),
    stall_timeout: Duration::from_secs(10),
    shutdown_timeout: Duration::from_secs(10),
};

async fn start(
    router: Router,
    limits: ServeLimits,
) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
    (address, shutdown, serving)
}

async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_caller_is_known_by_its_connection() {
    let node = Fixture::new();
    let (address, shutdown, serving) = start(node.public(), LIMITS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = "POST /api/sync/sync-from/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    shutdown.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn the_answer_under_way_is_finished_before_the_listener_ends() {
    let (begun, under_way) = tokio::sync::oneshot::channel();
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let held = Arc::new(Mutex::new(Some((begun, wait))));
    let router = Router::new().route(
        "/",
        axum::routing::get(async move || {
            let (begun, wait) = held.lock().unwrap().take().unwrap();
            begun.send(()).unwrap();
            wait.await.unwrap();
            "finished"
        }),
    );
    let (address, shutdown, serving) = start(router, LIMITS).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    under_way.await.unwrap();
    shutdown.cancel();
    go_on.send(()).unwrap();
    assert!(read_answer(&mut stream).await.ends_with("finished"));
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_answer_that_never_ends_does_not_hold_up_the_shutdown() {
    let (begun, mut under_way) = tokio::sync::mpsc::channel(1);
    let router = Router::new().route(
        "/",
        axum::routing::get(async move || {
            begun.send(()).await.unwrap();
            std::future::pending::<&'static str>().await
        }),
    );
    let limits = ServeLimits {
        shutdown_timeout: Duration::from_millis(10),
        ..LIMITS
    };
    let (address, shutdown, serving) = start(router, limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    under_way.recv().await.unwrap();
    shutdown.cancel();
    serving.await.unwrap();
    assert_eq!(read_answer(&mut stream).await, "");
}

#[tokio::test]
async fn a_caller_that_sends_no_request_is_dropped() {
    let limits = ServeLimits {
        head_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let (address, shutdown, serving) = start(Router::new(), limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
    assert!(!read_answer(&mut stream).await.contains(" 200 "));
    shutdown.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed() {
    let node = Fixture::new();
    let (address, shutdown, serving) = start(node.public(), LIMITS).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Asked and answered, so it is known to be accepted.
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        open.push(stream);
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    let mut nothing = Vec::new();
    // Closed, or reset: either way without an answer.
    let _ = third.read_to_end(&mut nothing).await;
    assert_eq!(nothing, b"");
    shutdown.cancel();
    serving.await.unwrap();
}

/// A connection from an address of this machine on which a call was answered.
#[cfg(target_os = "linux")]
async fn answered(from: &str, to: SocketAddr) -> Option<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    let mut first = [0; 12];
    // One that is closed may be so before it is written to.
    let asked = stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let is_answered = asked.is_ok() && stream.read_exact(&mut first).await.is_ok();
    is_answered.then_some(stream)
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn one_address_does_not_take_every_connection() {
    let node = Fixture::new();
    let limits = ServeLimits {
        connections: 8,
        connections_per_address: 2,
        exempt: vec!["127.0.0.3/32".parse().unwrap()],
        ..LIMITS
    };
    let (address, shutdown, serving) = start(node.public(), limits).await;
    let mut open = Vec::new();
    for (from, expected) in [
        ("127.0.0.1:0", true),
        ("127.0.0.1:0", true),
        ("127.0.0.1:0", false),
        ("127.0.0.2:0", true),
        ("127.0.0.3:0", true),
        ("127.0.0.3:0", true),
        ("127.0.0.3:0", true),
    ] {
        let stream = answered(from, address).await;
        assert_eq!(stream.is_some(), expected, "{from} after {}", open.len());
        open.push(stream);
    }
    shutdown.cancel();
    drop(open);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_caller_that_takes_no_answer_is_dropped() {
    let (held, dropped) = tokio::sync::oneshot::channel::<()>();
    let held = Arc::new(Mutex::new(Some(held)));
    let router = Router::new().route(
        "/",
        axum::routing::get(async move || {
            let held = held.lock().unwrap().take();
            let pieces = std::iter::repeat_with(move || {
                let _until_the_answer_is_dropped = &held;
                Ok::<_, std::io::Error>(Bytes::from_static(&[0; 1 << 13]))
            });
            Body::from_stream(futures_util::stream::iter(pieces))
        }),
    );
    let limits = ServeLimits {
        stall_timeout: Duration::from_millis(50),
        ..LIMITS
    };
    let (address, shutdown, serving) = start(router, limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    // Nothing is read: the endless answer ends all the same.
    assert!(dropped.await.is_err());
    shutdown.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_node_serves_three_listeners_and_stops_them() {
    let node = Fixture::new();
    let mut addresses = Vec::new();
    let mut bind = async || {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        listener
    };
    let listeners = Listeners {
        public: bind().await,
        admin: bind().await,
        metrics: bind().await,
    };
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve_node(
        Arc::clone(&node.node),
        listeners,
        Duration::from_secs(10),
        shutdown.clone(),
    ));
    for (address, path, status) in [
        (addresses[0], "/health", "200"),
        (addresses[1], "/status", "401"),
        (addresses[2], "/readyz", "200"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
    }
    shutdown.cancel();
    serving.await.unwrap();
    for address in addresses {
        assert!(TcpStream::connect(address).await.is_err());
    }
}
