//! Who may call what changes something.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::Node;
use super::error::ApiError;
use crate::config::Secret;
use crate::ingest::is_direct_loopback;

/// Proof that a call may change something: it has an API key, or none is configured and it comes from this
/// machine itself.
#[derive(Debug)]
pub(crate) struct Authorized(());

impl FromRequestParts<Arc<Node>> for Authorized {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, ApiError> {
        authorize(parts, &node.settings.api_keys, "API_KEY or API_KEYS_FILE").map(Self)
    }
}

/// Proof that a caller has an API key, wherever it calls from.
#[derive(Debug)]
pub(crate) struct KeyHolder(());

impl FromRequestParts<Arc<Node>> for KeyHolder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, ApiError> {
        check(parts, &node.settings.api_keys).map(Self)
    }
}

/// Proof that a call may use the admin API.
#[derive(Debug)]
pub(crate) struct Admin(());

impl FromRequestParts<Arc<Node>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, ApiError> {
        authorize(parts, node.settings.admin_token.as_slice(), "ADMIN_TOKEN").map(Self)
    }
}

fn authorize(parts: &Parts, keys: &[Secret], setting: &'static str) -> Result<(), ApiError> {
    if keys.is_empty() {
        let remote = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let is_here = remote.is_some_and(|ConnectInfo(remote)| is_direct_loopback(&parts.headers, *remote));
        return if is_here {
            Ok(())
        } else {
            Err(ApiError::LoopbackOnly { setting })
        };
    }
    check(parts, keys)
}

/// Whether a call has one of these keys.
fn check(parts: &Parts, keys: &[Secret]) -> Result<(), ApiError> {
    let candidate = bearer(&parts.headers).ok_or(ApiError::Unauthorized)?;
    // All keys are compared, so that the time says nothing about which one is right.
    let matching = keys.iter().filter(|key| key.matches(candidate)).count();
    if matching > 0 {
        Ok(())
    } else {
        Err(ApiError::Unauthorized)
    }
}

/// The bearer token of a request that has exactly one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut credentials = headers.get_all(AUTHORIZATION).iter();
    let credential = match (credentials.next(), credentials.next()) {
        (Some(credential), None) => credential.as_bytes(),
        _ => return None,
    };
    let (scheme, token) = credential.split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| token.trim_ascii())
}
