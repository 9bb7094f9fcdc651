//! Probes and metrics: up in every operator, also in one that waits to lead.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::metrics::Metrics;

/// The pages `/livez`, `/readyz` and `/metrics`.
pub fn router(metrics: Metrics) -> Router {
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(async || "ok"))
        .route("/metrics", get(metrics_page))
        .with_state(metrics)
}

/// Serves them until `shutdown`.
pub async fn serve(listener: TcpListener, metrics: Metrics, shutdown: CancellationToken) {
    let server = axum::serve(listener, router(metrics));
    let ended = server
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await;
    if let Err(error) = ended {
        error!(%error, "probes and metrics are no longer served");
    }
}

async fn metrics_page(State(metrics): State<Metrics>) -> Response {
    match metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn probes_and_metrics_are_served() {
        for page in ["/livez", "/readyz", "/metrics"] {
            let request = Request::get(page).body(Body::empty()).expect("a request");
            let answer = router(Metrics::default())
                .oneshot(request)
                .await
                .expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK, "{page}");
        }
    }
}
