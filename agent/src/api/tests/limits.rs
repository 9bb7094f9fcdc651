//! What callers may ask at once.

use std::num::NonZeroU32;

use super::*;
use crate::api::work::Weight;

#[tokio::test]
async fn an_address_that_sends_too_many_requests_is_told_to_wait() {
    let mut settings = api_settings();
    settings.limits.rate_per_address = NonZeroU32::new(2).unwrap();
    let node = Fixture::with(settings);
    let router = node.public();
    let ask = |remote: &str, headers: &[(&'static str, &str)]| {
        let request = from(remote, Method::GET, "/health", None);
        let request = headers.iter().fold(request, |request, (name, value)| {
            with_header(request, name, value)
        });
        send(router.clone(), request)
    };
    ask("192.0.2.1:1", &[]).await.good();
    ask("192.0.2.1:2", &[]).await.good();
    let refused = ask("192.0.2.1:3", &[]).await;
    refused.error(StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), "1");
    // What a caller says of itself raises no limit, and uses up nobody else's.
    let claims = [
        ("x-forwarded-for", "198.51.100.7"),
        ("x-honeygraph-peer", "alive"),
    ];
    ask("192.0.2.1:4", &claims)
        .await
        .error(StatusCode::TOO_MANY_REQUESTS);
    ask("198.51.100.7:1", &[]).await.good();
}

#[tokio::test]
async fn more_requests_than_places_are_told_to_come_back() {
    let mut settings = api_settings();
    settings.limits.concurrent_requests = 2;
    let node = Fixture::with(settings);
    let router = node.public();
    let (id, document) = chain().genesis.clone();
    // An answer keeps its place until its last byte was taken.
    let mut open = Vec::new();
    for _ in 0..2 {
        let request = request(Method::GET, &format!("/api/checkpoints/{id}"), None);
        open.push(router.clone().oneshot(request).await.unwrap());
    }
    let refused = send(router.clone(), request(Method::GET, "/health", None)).await;
    refused.error(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.header("retry-after"), "1");
    let body = open
        .pop()
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, document);
    send(router.clone(), request(Method::GET, "/health", None))
        .await
        .good();
    drop(open);
    let both = [0, 1].map(|_| send(router.clone(), request(Method::GET, "/health", None)));
    assert!(
        futures_util::future::join_all(both)
            .await
            .iter()
            .all(|answer| answer.status == StatusCode::OK)
    );
}

#[tokio::test]
async fn work_that_nobody_waits_for_keeps_others_waiting_until_it_is_done() {
    let mut settings = api_settings();
    settings.limits.request_timeout = Duration::from_millis(50);
    let node = Fixture::with(settings);
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let mut abandoned = 0;
    // Calls that take all places and whose callers go away at once.
    loop {
        let (begun, has_begun) = std::sync::mpsc::channel();
        let wait = Arc::clone(&wait);
        let call = node.node.read_with(Weight::Heavy, move |_| {
            begun.send(()).unwrap();
            let _ = wait.lock().unwrap().recv();
            Ok(())
        });
        assert!(call.now_or_never().is_none());
        // Where there was no place the call is gone with its caller.
        if has_begun.recv().is_err() {
            break;
        }
        abandoned += 1;
        assert!(abandoned < 1_000, "nothing bounds the work");
    }
    let path = format!("/api/sync/blocks?from={}&to={}", at(0), at(9));
    node.get(&path).await.error(StatusCode::SERVICE_UNAVAILABLE);
    // Calls that read little are answered all the same.
    node.get("/api/sync/status").await.good();
    drop(go_on);
    loop {
        let answer = node.get(&path).await;
        if answer.status == StatusCode::OK {
            break;
        }
        answer.error(StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_ended() {
    let mut settings = api_settings();
    settings.limits.request_timeout = Duration::from_millis(5);
    let node = Fixture::with(settings);
    *node.sync.never_answers.lock().unwrap() = true;
    let answer = node.get("/api/sync/consensus/1").await;
    let error = answer.error(StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.contains("within 5 ms"), "{error}");
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_panic_is_a_500_without_its_text() {
    use axum::routing::get;
    let router = Router::new()
        .route("/", get(async || -> &'static str { panic!("secret reason") }))
        .layer(tower_http::catch_panic::CatchPanicLayer::custom(
            crate::api::limits::panicked,
        ));
    let answer = send(router, request(Method::GET, "/", None)).await;
    let error = answer.error(StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!error.contains("secret"), "{error}");
}
