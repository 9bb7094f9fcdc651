//! The description of the public API, generated from its code.

use std::sync::LazyLock;

use axum::Json;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

/// What the description says besides the calls.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Honeygraph public API", description = "A verified read replica of one honeycomb network."),
    tags(
        (name = "node", description = "The node itself"),
        (name = "sync", description = "Blocks, gaps and agreement"),
        (name = "peers", description = "Other nodes"),
        (name = "checkpoints", description = "Checkpoints and their documents"),
        (name = "query", description = "Blocks and state")
    ),
    // What a list of responses names that several calls share is not found from the calls.
    components(schemas(super::dql::DqlAnswer))
)]
struct Base;

pub(super) fn base() -> OpenApi {
    let mut api = Base::openapi();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("api_key", scheme);
    api
}

/// The description of the public API.
pub fn openapi() -> OpenApi {
    let super::Calls { quick, dql, long } = super::calls();
    let (_, mut api) = quick.split_for_parts();
    let (_, long) = long.split_for_parts();
    let (_, dql) = dql.split_for_parts();
    api.merge(dql);
    api.merge(long);
    // A parameter that spans segments is spelled with a star in routes and without in descriptions.
    let paths = std::mem::take(&mut api.paths.paths);
    api.paths.paths = paths
        .into_iter()
        .map(|(path, item)| (path.replace("{*", "{"), item))
        .collect();
    api
}

/// The description of this API.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses(
    (status = 200, description = "OpenAPI description", body = serde_json::Value)
))]
pub(super) async fn document() -> Json<&'static OpenApi> {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(openapi);
    Json(&DOCUMENT)
}
