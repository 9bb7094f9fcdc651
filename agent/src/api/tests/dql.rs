//! Questions that are handed on to Dgraph, which here is an alpha that answers by script.

use honeygraph_chain::fork::BlockReference;
use serde_json::json;
use tonic::Status;

use super::*;
use crate::config::DgraphMode;
use crate::dgraph::client::scripted_alpha::ScriptedAlpha;
use crate::dgraph::client::{DgraphSettings, EndpointUrl, Query};
use crate::dgraph::job::Jobs;
use crate::dgraph::pass_through::{PassThrough, PassThroughLimits};
use crate::dgraph::status::{ProjectionMismatch, ProjectionStatus};

const QUESTION: &str = "{ q(func: eq(block.number, 5)) { uid } }";
const CURSOR: &str = "{ cursor(func: uid(0x7)) { appliedBlock appliedHash stateBlock } }";

/// A node that hands questions on, and what its projection's runner would have.
struct World {
    fixture: Fixture,
    projection: watch::Sender<ProjectionStatus>,
}

impl World {
    fn new(alpha: EndpointUrl) -> Self {
        Self::with(alpha, |_| {})
    }

    fn with(alpha: EndpointUrl, change: impl FnOnce(&mut PassThroughLimits)) -> Self {
        let mut limits = PassThroughLimits {
            body_bytes: 2_000,
            answer_bytes: 4_000,
            timeout: Duration::from_secs(20),
            concurrent: 2,
        };
        change(&mut limits);
        let (projection, status) = ProjectionStatus::channel();
        let settings = DgraphSettings::new(vec![alpha]);
        let pass_through = PassThrough::new(settings, limits, status.clone()).unwrap();
        let dgraph = DgraphView {
            mode: DgraphMode::Shared,
            jobs: Jobs::default(),
            status,
            pass_through: Some(pass_through),
        };
        projection.send_modify(|status| status.cursor_query = Some(Query::new(CURSOR)));
        Self {
            fixture: Fixture::beside(with_key(), Some(dgraph)),
            projection,
        }
    }

    async fn ask(&self, question: &Value) -> Answer {
        let request = keyed(request(Method::POST, "/api/query/dql", Some(question)));
        send(self.fixture.public(), request).await
    }

    async fn ask_simply(&self) -> Answer {
        self.ask(&json!({"query": QUESTION})).await
    }
}

fn with_key() -> ApiSettings {
    ApiSettings {
        api_keys: vec![KEY.parse().unwrap()],
        ..api_settings()
    }
}

fn keyed(request: Request<Body>) -> Request<Body> {
    with_header(request, "authorization", &format!("Bearer {KEY}"))
}

fn hash() -> ContentId {
    ContentId::of(b"block 5")
}

fn cursor() -> String {
    json!({"cursor": [{"appliedBlock": 5, "appliedHash": hash(), "stateBlock": 3}]}).to_string()
}

#[tokio::test]
async fn an_answer_says_at_which_block_dgraph_stood() {
    let alpha = ScriptedAlpha::start().await;
    let world = World::new(alpha.url());
    // Numbers beyond what a double holds, and the order of members, come through.
    let data = r#"{"q":[{"z":18446744073709551615,"a":0.10}]}"#;
    alpha.answer_next_with(&cursor());
    alpha.answer_next_with(data);
    let answer = world
        .ask(&json!({"query": QUESTION, "variables": {"$a": "x"}}))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        answer.body,
        format!(
            r#"{{"appliedBlock":5,"appliedHash":"{}","stateBlock":3,"data":{data}}}"#,
            hash()
        )
    );
    assert_eq!(answer.header("honeygraph-block"), "5");
    assert_eq!(answer.header("honeygraph-hash"), hash().to_string());

    // While the state is replaced it is true at no block.
    alpha.answer_next_with(&json!({"cursor": [{"appliedBlock": 6, "appliedHash": hash()}]}).to_string());
    alpha.answer_next_with("");
    let path: String = url::form_urlencoded::Serializer::new("/api/query/dql?".to_owned())
        .append_pair("query", QUESTION)
        .append_pair("variables", r#"{"$a":"x"}"#)
        .finish();
    let path = path.replacen("?&", "?", 1);
    let answer = send(world.fixture.public(), keyed(request(Method::GET, &path, None))).await;
    assert_eq!(
        answer.good(),
        json!({"appliedBlock": 6, "appliedHash": hash(), "data": {}})
    );
}

#[tokio::test]
async fn nothing_that_is_asked_can_write() {
    let alpha = ScriptedAlpha::start().await;
    let world = World::new(alpha.url());
    let hostile = [
        "upsert { query { q(func: has(x)) { v as uid } } mutation { delete { uid(v) * * . } } }",
        "mutation { set { _:a <name> \"x\" . } }",
        "{ set { _:a <name> \"x\" . } }",
        "{ delete { <0x1> * * . } }",
        "name: string @index(exact) .",
        "{ \"drop_all\": true }",
    ];
    for text in hostile {
        alpha.answer_next_with(&cursor());
        alpha.answer_next_with("{}");
        world.ask(&json!({"query": text})).await.good();
    }
    let seen = alpha.seen();
    assert_eq!(seen.len(), 1 + 2 * hostile.len());
    for call in seen {
        if call.method == "CheckVersion" {
            continue;
        }
        assert_eq!(call.method, "Query");
        for part in ["read_only: true", "mutations: []", "commit_now: false"] {
            assert!(call.message.contains(part), "{}", call.message);
        }
    }
}

#[tokio::test]
async fn only_holders_of_a_key_may_ask() {
    let alpha = ScriptedAlpha::start().await;
    let world = World::new(alpha.url());
    let body = json!({"query": QUESTION});
    for remote in ["127.0.0.1:1", "192.0.2.1:1"] {
        let call = || from(remote, Method::POST, "/api/query/dql", Some(&body));
        let wrong = with_header(call(), "authorization", "Bearer wrong-key-of-the-node");
        for call in [
            call(),
            wrong,
            from(remote, Method::GET, "/api/query/dql?query=x", None),
        ] {
            let answer = send(world.fixture.public(), call).await;
            answer.error(StatusCode::UNAUTHORIZED);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
    // Without any key configured nobody may, loopback included.
    let mut fixture = Fixture::beside(api_settings(), world.fixture.node.dgraph.clone());
    let unauthorized = fixture.post("/api/query/dql", &body).await;
    unauthorized.error(StatusCode::UNAUTHORIZED);
    assert!(alpha.seen().is_empty());

    // Off, it says so.
    let off = world.fixture.node.dgraph.clone().map(|dgraph| DgraphView {
        pass_through: None,
        ..dgraph
    });
    for dgraph in [None, off] {
        fixture = Fixture::beside(with_key(), dgraph);
        let call = keyed(request(Method::POST, "/api/query/dql", Some(&body)));
        let error = send(fixture.public(), call).await.error(StatusCode::NOT_FOUND);
        assert!(error.contains("DGRAPH_QUERY"), "{error}");
    }
}

fn many_variables() -> Value {
    let variables = (0..101).map(|number| (format!("${number}"), Value::from("")));
    json!({"query": QUESTION, "variables": variables.collect::<serde_json::Map<_, _>>()})
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_told() {
    let alpha = ScriptedAlpha::start().await;
    let world = World::with(alpha.url(), |limits| limits.answer_bytes = 300);
    for body in [
        json!({}),
        json!({"query": ""}),
        json!({"query": 5}),
        json!({"query": QUESTION, "variables": {"a": "x"}}),
        json!({"query": QUESTION, "variables": {"$a": 5}}),
        json!({"query": QUESTION, "variables": []}),
        json!({"query": QUESTION, "mutation": "x"}),
        json!([]),
        many_variables(),
    ] {
        world.ask(&body).await.error(StatusCode::BAD_REQUEST);
    }
    for path in [
        "/api/query/dql",
        "/api/query/dql?query=x&variables=5",
        "/api/query/dql?query=%20",
    ] {
        let call = keyed(request(Method::GET, path, None));
        send(world.fixture.public(), call)
            .await
            .error(StatusCode::BAD_REQUEST);
    }
    let call = keyed(request(Method::PUT, "/api/query/dql", None));
    send(world.fixture.public(), call)
        .await
        .error(StatusCode::METHOD_NOT_ALLOWED);
    let long = "x".repeat(2_001);
    world
        .ask(&json!({"query": long}))
        .await
        .error(StatusCode::PAYLOAD_TOO_LARGE);
    let call = keyed(request(
        Method::GET,
        &format!("/api/query/dql?query={long}"),
        None,
    ));
    send(world.fixture.public(), call)
        .await
        .error(StatusCode::PAYLOAD_TOO_LARGE);
    assert!(alpha.seen().is_empty(), "nothing of it is Dgraph's concern");

    alpha.answer_next_with(&cursor());
    alpha.refuse_after(Status::unknown(
        "while lexing { at line 1; token eyJhbGciOiJIUzI1NiJ9.e30.x",
    ));
    let error = world.ask_simply().await.error(StatusCode::BAD_REQUEST);
    assert!(
        error.contains("while lexing") && !error.contains("eyJ"),
        "{error}"
    );
    assert!(!error.contains("127.0.0.1"), "{error}");

    alpha.answer_next_with(&cursor());
    alpha.answer_next_with(&format!("\"{}\"", "x".repeat(400)));
    let error = world.ask_simply().await.error(StatusCode::BAD_REQUEST);
    assert!(error.contains("300 bytes"), "{error}");
}

#[tokio::test]
async fn a_dgraph_that_does_not_answer_is_not_an_error_of_the_node() {
    let check = |answer: &Answer, words: &str| {
        let error = answer.error(StatusCode::SERVICE_UNAVAILABLE);
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("127.0.0.1"), "{error}");
        assert_eq!(answer.header("retry-after"), "1");
    };
    let gone = World::new(ScriptedAlpha::gone().await);
    check(&gone.ask_simply().await, "answer from the log");

    let alpha = ScriptedAlpha::start().await;
    let world = World::new(alpha.url());
    alpha.refuse_next("Query", Status::unauthenticated("no accessJwt available"));
    check(&world.ask_simply().await, "login");
    alpha.answer_next_with("not JSON");
    alpha.answer_next_with("{}");
    check(&world.ask_simply().await, "cannot be read");
    alpha.answer_next_with(r#"{"cursor":[{"appliedBlock":-1,"appliedHash":"x"}]}"#);
    alpha.answer_next_with("{}");
    check(&world.ask_simply().await, "cannot be read");
    // A Dgraph that was wiped, and one that was not found yet.
    alpha.answer_next_with(r#"{"cursor":[]}"#);
    alpha.answer_next_with("{}");
    check(&world.ask_simply().await, "holds no blocks");
    world.projection.send_modify(|status| status.cursor_query = None);
    check(&world.ask_simply().await, "holds no blocks");

    let old = ScriptedAlpha::start().await;
    old.set_version("v24.0.0");
    check(&World::new(old.url()).ask_simply().await, "25.4.0");

    let slow = ScriptedAlpha::start().await;
    let world = World::with(slow.url(), |limits| limits.timeout = Duration::from_millis(50));
    slow.hold();
    check(&world.ask_simply().await, "50 ms");
}

#[tokio::test]
async fn questions_have_places_of_their_own() {
    let alpha = ScriptedAlpha::start().await;
    let world = World::with(alpha.url(), |limits| limits.concurrent = 1);
    // A place is taken until the last byte of an answer.
    alpha.answer_next_with(&cursor());
    alpha.answer_next_with("{}");
    let call = keyed(request(
        Method::POST,
        "/api/query/dql",
        Some(&json!({"query": QUESTION})),
    ));
    let unread = world.fixture.public().oneshot(call).await.unwrap();
    assert_eq!(unread.status(), StatusCode::OK);
    let busy = world.ask_simply().await;
    busy.error(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(busy.header("retry-after"), "1");
    // Other calls have theirs.
    world.fixture.get("/api/query/head").await.good();
    drop(unread);
    alpha.answer_next_with(&cursor());
    alpha.answer_next_with("{}");
    world.ask_simply().await.good();
}

#[tokio::test]
async fn the_status_says_how_far_dgraph_is() {
    let world = World::new(ScriptedAlpha::gone().await);
    let status = world.fixture.get("/api/sync/status").await.good();
    assert_eq!(status["dgraph"], json!({"mode": "shared", "connected": false}));
    world.projection.send_modify(|status| {
        status.reached(
            BlockReference {
                number: at(HEAD - 7),
                hash: hash(),
            },
            Some(at(HEAD - 9)),
        );
        status.from = Some(at(2));
        status.mismatch = Some(ProjectionMismatch {
            block: at(3),
            log_hash: Some(hash()),
            dgraph_hash: None,
        });
        status.last_error = Some("dgraph is not available".to_owned());
    });
    let expected = json!({
        "mode": "shared", "connected": true, "fromBlock": at(2), "appliedBlock": at(HEAD - 7), "appliedHash": hash(),
        "stateBlock": at(HEAD - 9), "lagBlocks": 7, "mismatch": {"block": at(3), "logHash": hash()},
        "lastError": "dgraph is not available",
    });
    let status = world.fixture.get("/api/sync/status").await.good();
    assert_eq!(status["dgraph"], expected);
    let admin = with_header(
        request(Method::GET, "/status", None),
        "authorization",
        &format!("Bearer {TOKEN}"),
    );
    let router = crate::api::admin::router(Arc::clone(&world.fixture.node));
    assert_eq!(send(router, admin).await.good()["sync"]["dgraph"], expected);

    let embedded = Fixture::new().get("/api/sync/status").await.good();
    assert_eq!(embedded.get("dgraph"), None);
}
