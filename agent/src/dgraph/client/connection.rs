//! How one alpha is reached.

use std::time::Duration;

use secrecy::ExposeSecret;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::error::SettingsError;
use super::settings::{DgraphSettings, EndpointUrl, TlsSettings};

/// A connection that carries calls is asked for a sign of life after so long, and given up after as long
/// again: an alpha whose machine is gone does not hold a call for its whole time.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// How to connect to one alpha.
pub(super) fn endpoint(url: &EndpointUrl, settings: &DgraphSettings) -> Result<Endpoint, SettingsError> {
    let mut endpoint = Endpoint::from_shared(url.as_str().to_owned())
        .map_err(|error| SettingsError::Tls(error.to_string()))?
        .user_agent(concat!("honeygraph/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| SettingsError::Tls(error.to_string()))?
        .connect_timeout(settings.timeouts.connect)
        .http2_keep_alive_interval(SIGN_OF_LIFE)
        .keep_alive_timeout(SIGN_OF_LIFE)
        .tcp_nodelay(true);
    if url.is_tls() {
        endpoint = endpoint
            .tls_config(tls(&settings.tls))
            .map_err(|error| SettingsError::Tls(chain(&error)))?;
    }
    Ok(endpoint)
}

fn tls(settings: &TlsSettings) -> ClientTlsConfig {
    let mut tls = ClientTlsConfig::new();
    tls = match &settings.ca_pem {
        Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
        None => tls.with_native_roots(),
    };
    if let Some(name) = &settings.server_name {
        tls = tls.domain_name(name);
    }
    if let Some(identity) = &settings.identity {
        tls = tls.identity(Identity::from_pem(
            &identity.certificate_pem,
            identity.key_pem.expose_secret(),
        ));
    }
    tls
}

/// An error and what it came from, in one line: a transport error alone says only that there was one.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
