//! Checks the settings of Dgraph against each other and the others.

use std::fmt::Display;
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

use super::arguments::DgraphArguments;
use super::settings::{AccessConfig, DgraphConfig};
use super::usage::{ConfigError, ShownValue};
use super::validate::{at_most, distinct, unreadable, wrong};
use super::values::{DgraphMode, DqlAccess, Maybe};
use crate::dgraph::client::{
    ClientIdentity, DgraphClient, DgraphSettings, EndpointUrl, Login, SettingsError, TlsSettings,
};
use crate::dgraph::pass_through::PassThroughLimits;

type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// The Dgraph that is kept in step, or none.
pub(super) fn dgraph(
    raw: &DgraphArguments,
    access: &AccessConfig,
    request_timeout: Duration,
    read: ReadFile<'_>,
) -> Result<Option<DgraphConfig>, ConfigError> {
    let mode = match (raw.dgraph_mode, raw.dgraph_alpha.first()) {
        (None | Some(DgraphMode::Embedded), None) => {
            needs_alpha(raw)?;
            return Ok(None);
        }
        (Some(DgraphMode::Embedded), Some(_)) => {
            return Err(wrong(
                "DGRAPH_MODE",
                DgraphMode::Embedded,
                "has no Dgraph, and DGRAPH_ALPHA names one; unset one of them",
            ));
        }
        (Some(mode), None) => {
            return Err(wrong(
                "DGRAPH_MODE",
                mode,
                "needs the alphas of the cluster; name them in DGRAPH_ALPHA",
            ));
        }
        (mode, Some(_)) => mode.unwrap_or(DgraphMode::Independent),
    };
    Ok(Some(DgraphConfig {
        mode,
        client: client(raw, read)?,
        step_blocks: NonZeroU64::new(raw.dgraph_step_blocks).unwrap_or(NonZeroU64::MIN),
        query: query(raw, access, request_timeout)?,
    }))
}

/// What says something about a Dgraph cannot stand where there is none.
fn needs_alpha(raw: &DgraphArguments) -> Result<(), ConfigError> {
    let path = |path: &Maybe<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let set = [
        ("DGRAPH_USER", raw.dgraph_user.clone()),
        ("DGRAPH_PASSWORD_FILE", path(&raw.dgraph_password_file)),
        (
            "DGRAPH_NAMESPACE",
            raw.dgraph_namespace.map(|namespace| namespace.to_string()),
        ),
        ("DGRAPH_AUTH_TOKEN_FILE", path(&raw.dgraph_auth_token_file)),
        ("DGRAPH_CA_FILE", path(&raw.dgraph_ca_file)),
        ("DGRAPH_CERTIFICATE_FILE", path(&raw.dgraph_certificate_file)),
        ("DGRAPH_KEY_FILE", path(&raw.dgraph_key_file)),
        (
            "DGRAPH_QUERY",
            (raw.dgraph_query == DqlAccess::ReadOnly).then(|| "read-only".to_owned()),
        ),
    ];
    match set.into_iter().find_map(|(name, value)| Some((name, value?))) {
        Some((name, value)) => Err(wrong(name, value, "needs a Dgraph; name it in DGRAPH_ALPHA")),
        None => Ok(()),
    }
}

fn query(
    raw: &DgraphArguments,
    access: &AccessConfig,
    request_timeout: Duration,
) -> Result<Option<PassThroughLimits>, ConfigError> {
    if raw.dgraph_query == DqlAccess::Off {
        return Ok(None);
    }
    if access.api_keys.is_empty() {
        return Err(wrong(
            "DGRAPH_QUERY",
            "read-only",
            "answers only to holders of an API key; name keys in API_KEYS_FILE",
        ));
    }
    at_most(
        ("DGRAPH_QUERY_TIMEOUT_MS", raw.dgraph_query_timeout_ms.as_millis()),
        ("LIMIT_REQUEST_TIMEOUT_MS", request_timeout.as_millis()),
    )?;
    Ok(Some(PassThroughLimits {
        body_bytes: raw.dgraph_query_body_bytes,
        answer_bytes: raw.dgraph_query_answer_bytes,
        timeout: raw.dgraph_query_timeout_ms,
        concurrent: raw.dgraph_query_concurrent,
    }))
}

fn client(raw: &DgraphArguments, read: ReadFile<'_>) -> Result<DgraphSettings, ConfigError> {
    let mut settings = DgraphSettings::new(distinct(&raw.dgraph_alpha));
    settings.login = login(raw, read)?;
    if let Some(path) = &raw.dgraph_auth_token_file {
        settings.auth_token = Some(secret_line("DGRAPH_AUTH_TOKEN_FILE", path, read)?);
    }
    settings.tls = tls(raw, read)?;
    // What no client can be made of is found here, not at the first call.
    match DgraphClient::new(settings.clone()) {
        Ok(_) => Ok(settings),
        Err(error) => Err(match (&error, &raw.dgraph_auth_token_file) {
            (SettingsError::AuthToken, Some(path)) => wrong(
                "DGRAPH_AUTH_TOKEN_FILE",
                path.display(),
                "holds characters that cannot be sent; use visible ASCII",
            ),
            _ => ConfigError {
                variable: "DGRAPH_ALPHA".to_owned(),
                value: ShownValue::Nothing,
                problem: error.to_string(),
            },
        }),
    }
}

fn login(raw: &DgraphArguments, read: ReadFile<'_>) -> Result<Option<Login>, ConfigError> {
    match (&raw.dgraph_user, &raw.dgraph_password_file) {
        (Some(user), Some(path)) => Ok(Some(Login {
            user: user.clone(),
            password: secret_line("DGRAPH_PASSWORD_FILE", path, read)?,
            namespace: raw.dgraph_namespace.unwrap_or_default(),
        })),
        (Some(user), None) => Err(needs("DGRAPH_USER", user, "DGRAPH_PASSWORD_FILE")),
        (None, Some(path)) => Err(needs("DGRAPH_PASSWORD_FILE", path.display(), "DGRAPH_USER")),
        (None, None) => match raw.dgraph_namespace {
            Some(namespace) => Err(needs("DGRAPH_NAMESPACE", namespace, "DGRAPH_USER")),
            None => Ok(None),
        },
    }
}

fn tls(raw: &DgraphArguments, read: ReadFile<'_>) -> Result<TlsSettings, ConfigError> {
    let authority = ("DGRAPH_CA_FILE", &raw.dgraph_ca_file);
    let certificate = ("DGRAPH_CERTIFICATE_FILE", &raw.dgraph_certificate_file);
    let key = ("DGRAPH_KEY_FILE", &raw.dgraph_key_file);
    let has_tls = raw.dgraph_alpha.iter().any(EndpointUrl::is_tls);
    for (variable, path) in [authority, certificate, key] {
        if let (Some(path), false) = (path, has_tls) {
            return Err(needs(
                variable,
                path.display(),
                "an alpha that is https://host:port in DGRAPH_ALPHA",
            ));
        }
    }
    let ca_pem = match authority.1 {
        Some(path) => Some(certificates(authority.0, path, read)?),
        None => None,
    };
    let identity = match (certificate.1, key.1) {
        (Some(certificate_path), Some(key_path)) => Some(ClientIdentity {
            certificate_pem: certificates(certificate.0, certificate_path, read)?,
            key_pem: {
                let text = text(key.0, key_path, read)?;
                PrivateKeyDer::from_pem_slice(text.as_bytes())
                    .map_err(|_| wrong(key.0, key_path.display(), "holds no private key (PEM)"))?;
                text.into_bytes().into()
            },
        }),
        (Some(path), None) => return Err(needs(certificate.0, path.display(), key.0)),
        (None, Some(path)) => return Err(needs(key.0, path.display(), certificate.0)),
        (None, None) => None,
    };
    Ok(TlsSettings {
        ca_pem,
        server_name: None,
        identity,
    })
}

fn certificates(variable: &str, path: &Path, read: ReadFile<'_>) -> Result<Vec<u8>, ConfigError> {
    let text = text(variable, path, read)?;
    let mut found = CertificateDer::pem_slice_iter(text.as_bytes());
    if found.next().is_some_and(|first| first.is_ok()) && found.all(|other| other.is_ok()) {
        Ok(text.into_bytes())
    } else {
        Err(wrong(variable, path.display(), "holds no certificate (PEM)"))
    }
}

/// A file that holds one secret; the end of its line does not belong to it.
fn secret_line(variable: &str, path: &Path, read: ReadFile<'_>) -> Result<SecretString, ConfigError> {
    let text = text(variable, path, read)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.contains(['\r', '\n']) {
        let problem = "must hold one line, and nothing else";
        return Err(wrong(variable, path.display(), problem));
    }
    Ok(secret.into())
}

fn text(variable: &str, path: &Path, read: ReadFile<'_>) -> Result<String, ConfigError> {
    read(path).map_err(|error| unreadable(variable, path, &error))
}

fn needs(variable: &str, value: impl Display, other: &str) -> ConfigError {
    wrong(variable, value, format!("needs {other} too"))
}
