//! The login, kept for as long as Dgraph takes it.

use std::future::Future;

use prost::Message;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tonic::metadata::{Ascii, MetadataValue};

use super::error::DgraphError;
use super::settings::Login;
use super::wire;

/// What a call shows that someone is logged in.
#[derive(Debug, Clone)]
pub(super) struct AccessToken {
    /// Never printed: it is marked as sensitive.
    pub(super) value: MetadataValue<Ascii>,
    generation: u64,
}

struct Tokens {
    access: AccessToken,
    refresh: SecretString,
}

/// The login of a client, and the tokens it got.
pub(super) struct Session {
    login: Option<Login>,
    tokens: Mutex<Option<Tokens>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(login: Option<Login>) -> Self {
        Self {
            login,
            tokens: Mutex::new(None),
        }
    }

    /// The token to show; logs in for the first. `None` where there is no login.
    pub(super) async fn token<F: Future<Output = Result<wire::Response, DgraphError>>>(
        &self,
        send: impl Fn(wire::LoginRequest) -> F,
    ) -> Result<Option<AccessToken>, DgraphError> {
        let Some(login) = &self.login else {
            return Ok(None);
        };
        let mut tokens = self.tokens.lock().await;
        if tokens.is_none() {
            *tokens = Some(read(&send(by_password(login)).await?, 0)?);
        }
        Ok(tokens.as_ref().map(|tokens| tokens.access.clone()))
    }

    /// A token in place of one that is not taken any more. Of several callers one gets it for all.
    pub(super) async fn renew<F: Future<Output = Result<wire::Response, DgraphError>>>(
        &self,
        stale: &AccessToken,
        send: impl Fn(wire::LoginRequest) -> F,
    ) -> Result<AccessToken, DgraphError> {
        let mut tokens = self.tokens.lock().await;
        if let Some(newer) = tokens
            .as_ref()
            .filter(|tokens| tokens.access.generation > stale.generation)
        {
            return Ok(newer.access.clone());
        }
        let generation = stale.generation + 1;
        let refreshed = match tokens.take() {
            Some(old) => send(by_refresh_token(&old.refresh)).await.ok(),
            None => None,
        };
        let answer = match (refreshed, &self.login) {
            (Some(answer), _) => answer,
            (None, Some(login)) => send(by_password(login)).await?,
            (None, None) => return Ok(stale.clone()),
        };
        let new = read(&answer, generation)?;
        let access = new.access.clone();
        *tokens = Some(new);
        Ok(access)
    }
}

fn by_password(login: &Login) -> wire::LoginRequest {
    wire::LoginRequest {
        userid: login.user.clone(),
        password: login.password.expose_secret().to_owned(),
        namespace: login.namespace,
        ..wire::LoginRequest::default()
    }
}

fn by_refresh_token(token: &SecretString) -> wire::LoginRequest {
    wire::LoginRequest {
        refresh_token: token.expose_secret().to_owned(),
        ..wire::LoginRequest::default()
    }
}

fn read(answer: &wire::Response, generation: u64) -> Result<Tokens, DgraphError> {
    let unreadable = || DgraphError::Answer("the login's answer holds no token".to_owned());
    let jwt = wire::Jwt::decode(answer.json.as_ref()).map_err(|_| unreadable())?;
    let mut value: MetadataValue<Ascii> = jwt.access_jwt.parse().map_err(|_| unreadable())?;
    if value.is_empty() {
        return Err(unreadable());
    }
    value.set_sensitive(true);
    Ok(Tokens {
        access: AccessToken { value, generation },
        refresh: jwt.refresh_jwt.into(),
    })
}
