//! The WebSocket listener for honeycomb sources (port 4000).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderName, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{debug, info, warn};

use super::authenticator::{ClientCertificate, SourceAuthenticator};
use super::queue::EventSender;
use super::session;
use super::sessions::{CommandError, Sessions};
use super::settings::IngestSettings;
use super::source::{SourceCommand, SourceCursor, SourceId};
use super::tls::is_bad_certificate;

/// Pause after a failed accept: it fails when the process is out of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Most headers of an upgrade request.
const MOST_HEADERS: usize = 64;

/// Ends a connection that did not become a WebSocket.
const CLOSE: (HeaderName, &str) = (CONNECTION, "close");

/// Says where a source stood when it was last heard.
type CursorOf = dyn Fn(&SourceId) -> Option<SourceCursor> + Send + Sync;

/// What all sessions share.
pub(super) struct Shared {
    pub(super) settings: IngestSettings,
    pub(super) sessions: Sessions,
    pub(super) events: EventSender,
    pub(super) cursors: Box<CursorOf>,
    authenticator: SourceAuthenticator,
}

/// The ingest side of the node: serves sources, and carries commands to them.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

/// One accepted connection; what it holds is given back when its last part ends.
#[derive(Clone)]
struct Connection {
    remote: SocketAddr,
    certificate: Option<ClientCertificate>,
    ended: CancellationToken,
    _counted: Arc<(OwnedSemaphorePermit, TaskTrackerToken)>,
}

impl Ingest {
    /// `cursors` says where a source stood when it was last heard; it is asked once a session. `events`
    /// is bounded, and a session reads nothing from its socket while there is no room.
    pub fn new(
        settings: IngestSettings,
        authenticator: SourceAuthenticator,
        cursors: impl Fn(&SourceId) -> Option<SourceCursor> + Send + Sync + 'static,
        events: EventSender,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                sessions: Sessions::default(),
                events,
                cursors: Box::new(cursors),
                authenticator,
            }),
        }
    }

    /// Tells a connected source something.
    pub fn send(&self, source: &SourceId, command: SourceCommand) -> Result<(), CommandError> {
        self.shared.sessions.send(source, command)
    }

    /// Serves until `shutdown`, and returns when the last session has ended.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.shared.settings.connections));
        let tracker = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
                debug!(%remote, "too many connections");
                continue;
            };
            let connection = Connection {
                remote,
                certificate: None,
                ended: shutdown.child_token(),
                _counted: Arc::new((permit, tracker.token())),
            };
            let shared = Arc::clone(&self.shared);
            tracker.spawn(handshake(shared, stream, connection));
        }
        tracker.close();
        tracker.wait().await;
        info!("ingest stopped");
    }
}

/// Speaks TLS, if that is set, and HTTP until the connection has become a WebSocket, or was refused.
async fn handshake(shared: Arc<Shared>, stream: TcpStream, mut connection: Connection) {
    let (remote, ended) = (connection.remote, connection.ended.clone());
    let talk = async {
        let Some(tls) = &shared.settings.tls else {
            return speak_http(Arc::clone(&shared), stream, connection).await;
        };
        match timeout(shared.settings.header_timeout, tls.accept(stream)).await {
            Ok(Ok((stream, certificate))) => {
                connection.certificate = certificate;
                speak_http(Arc::clone(&shared), stream, connection).await;
            }
            Ok(Err(error)) if is_bad_certificate(&error) => warn!(%remote, %error, "source refused"),
            Ok(Err(error)) => debug!(%remote, %error, "TLS handshake failed"),
            Err(elapsed) => debug!(%remote, error = %elapsed, "TLS handshake failed"),
        }
    };
    tokio::select! {
        biased;
        () = ended.cancelled() => {}
        () = talk => {}
    }
}

async fn speak_http(
    shared: Arc<Shared>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Connection,
) {
    let (remote, header_timeout) = (connection.remote, shared.settings.header_timeout);
    let router = Router::new()
        .fallback(upgrade)
        .layer(Extension(connection))
        .with_state(shared);
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    if let Err(error) = http.await {
        debug!(%remote, %error, "handshake failed");
    }
}

async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    let remote = connection.remote;
    let certificate = connection.certificate.as_ref();
    let source = match shared
        .authenticator
        .authenticate(request.headers(), certificate, remote)
    {
        Ok(source) => source,
        Err(error) => {
            warn!(%remote, %error, "source refused");
            let body = Json(serde_json::json!({ "error": error.to_string() }));
            let headers = [(WWW_AUTHENTICATE, "Bearer"), CLOSE];
            return (StatusCode::UNAUTHORIZED, headers, body).into_response();
        }
    };
    let most = shared.settings.message_bytes;
    match socket {
        Err(rejection) => ([CLOSE], rejection).into_response(),
        Ok(socket) => socket
            .max_message_size(most)
            .max_frame_size(most)
            .on_failed_upgrade(move |error| debug!(%remote, %error, "upgrade failed"))
            .on_upgrade(async move |socket| {
                let ended = connection.ended.clone();
                session::run(&shared, socket, source, ended).await;
                drop(connection);
            }),
    }
}
