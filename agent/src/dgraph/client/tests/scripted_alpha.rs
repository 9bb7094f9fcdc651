//! An alpha that answers what a test tells it to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use prost::Message;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::settings::EndpointUrl;
use super::wire;

/// A call as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: &'static str,
    pub(crate) access_token: Option<String>,
    pub(crate) auth_token: Option<String>,
    /// As its `Debug` shows it.
    pub(crate) message: String,
}

#[derive(Default)]
struct Script {
    version: String,
    held: bool,
    expired: HashSet<String>,
    queries: VecDeque<Result<wire::Response, Status>>,
    logins: VecDeque<Result<wire::Response, Status>>,
    refusals: HashMap<&'static str, Status>,
    seen: Vec<Seen>,
    login_kinds: Vec<String>,
}

/// The alpha; it ends with the test's runtime.
pub(crate) struct ScriptedAlpha {
    url: EndpointUrl,
    script: Arc<Mutex<Script>>,
}

impl ScriptedAlpha {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script {
            version: "v25.4.0".into(),
            ..Script::default()
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let service = Answering(Arc::clone(&script));
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpIncoming::from(listener)),
        );
        Self { url, script }
    }

    /// The address of an alpha that is no more.
    pub(crate) async fn gone() -> EndpointUrl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap()
    }

    pub(crate) fn url(&self) -> EndpointUrl {
        self.url.clone()
    }

    pub(crate) fn set_version(&self, tag: &str) {
        self.script.lock().unwrap().version = tag.to_owned();
    }

    /// Answers no query any more.
    pub(crate) fn hold(&self) {
        self.script.lock().unwrap().held = true;
    }

    /// Refuses every call that shows this token.
    pub(super) fn set_expired(&self, access: &str) {
        self.script.lock().unwrap().expired.insert(access.to_owned());
    }

    /// The next query that is not refused is answered so.
    pub(super) fn answer_next(&self, answer: Result<wire::Response, Status>) {
        self.script.lock().unwrap().queries.push_back(answer);
    }

    /// The same for a good answer of one snapshot, by its JSON.
    pub(crate) fn answer_next_with(&self, json: &str) {
        self.answer_next(Ok(wire::Response {
            json: json.to_owned().into(),
            txn: Some(wire::TxnContext {
                start_ts: 7,
                ..wire::TxnContext::default()
            }),
            ..wire::Response::default()
        }));
    }

    /// The query after those that have an answer is refused so.
    pub(crate) fn refuse_after(&self, status: Status) {
        self.answer_next(Err(status));
    }

    pub(super) fn answer_login(&self, answer: Result<wire::Response, Status>) {
        self.script.lock().unwrap().logins.push_back(answer);
    }

    pub(crate) fn refuse_next(&self, method: &'static str, status: Status) {
        self.script.lock().unwrap().refusals.insert(method, status);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    pub(crate) fn all(&self, method: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.method == method);
        seen
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.all(method).len()
    }

    pub(crate) fn last(&self, method: &str) -> Seen {
        self.all(method).pop().unwrap()
    }

    /// What each login showed: `password`, or the refresh token.
    pub(super) fn logins(&self) -> Vec<String> {
        self.script.lock().unwrap().login_kinds.clone()
    }
}

#[derive(Clone)]
struct Answering(Arc<Mutex<Script>>);

impl NamedService for Answering {
    const NAME: &'static str = "api.Dgraph";
}

type Answered = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Service<http::Request<Body>> for Answering {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answered;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answered {
        match request.uri().path() {
            "/api.Dgraph/CheckVersion" => self.answer("CheckVersion", request, |script, _: wire::Check| {
                Ok(wire::Version {
                    tag: script.version.clone(),
                })
            }),
            "/api.Dgraph/Login" => self.answer("Login", request, |script, login: wire::LoginRequest| {
                script.login_kinds.push(if login.refresh_token.is_empty() {
                    assert_eq!(login.password, "hunter2");
                    "password".to_owned()
                } else {
                    login.refresh_token
                });
                script.logins.pop_front().unwrap()
            }),
            "/api.Dgraph/Query" => self.answer("Query", request, |script, asked: wire::Request| {
                let standard = wire::Response {
                    txn: Some(wire::TxnContext {
                        start_ts: 7,
                        commit_ts: if asked.commit_now { 8 } else { 0 },
                        ..wire::TxnContext::default()
                    }),
                    ..wire::Response::default()
                };
                script.queries.pop_front().unwrap_or(Ok(standard))
            }),
            "/api.Dgraph/Alter" => self.answer("Alter", request, |_, _: wire::Operation| {
                Ok(wire::Payload::default())
            }),
            "/api.Dgraph/CommitOrAbort" => {
                self.answer("CommitOrAbort", request, |_, context: wire::TxnContext| {
                    Ok(wire::TxnContext {
                        commit_ts: if context.aborted { 0 } else { context.start_ts + 1 },
                        ..context
                    })
                })
            }
            other => panic!("{other}"),
        }
    }
}

impl Answering {
    fn answer<A: Message + std::fmt::Debug + Default + 'static, B: Message + Default + 'static>(
        &self,
        method: &'static str,
        request: http::Request<Body>,
        handle: impl FnOnce(&mut Script, A) -> Result<B, Status> + Clone + Send + 'static,
    ) -> Answered {
        let script = Arc::clone(&self.0);
        let serve = service_fn(move |request: tonic::Request<A>| {
            let mut script = script.lock().unwrap();
            let held = script.held && method == "Query";
            let answer = script.take(method, request, handle.clone());
            async move {
                if held {
                    pending::<()>().await;
                }
                ready(answer.map(tonic::Response::new)).await
            }
        });
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<B, A>::default());
            Ok(grpc.unary(serve, request).await)
        })
    }
}

impl Script {
    fn take<A: Message + std::fmt::Debug, B>(
        &mut self,
        method: &'static str,
        request: tonic::Request<A>,
        handle: impl FnOnce(&mut Self, A) -> Result<B, Status>,
    ) -> Result<B, Status> {
        let text = |metadata: &MetadataMap, name| {
            let value = metadata.get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let access_token = text(request.metadata(), "accessjwt");
        let auth_token = text(request.metadata(), "auth-token");
        let expired = access_token
            .as_ref()
            .is_some_and(|token| self.expired.contains(token));
        let message = request.into_inner();
        self.seen.push(Seen {
            method,
            access_token,
            auth_token,
            message: format!("{message:?}"),
        });
        if expired {
            return Err(Status::unauthenticated(
                "unable to parse jwt token: Token is expired",
            ));
        }
        match self.refusals.remove(method) {
            Some(status) => Err(status),
            None => handle(self, message),
        }
    }
}
