//! Who a connection is, decided before it becomes a WebSocket.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, FORWARDED, HeaderName, ORIGIN, VIA};

use super::source::SourceId;
use crate::config::Secret;

/// Knows the configured sources by their bearer tokens and client certificates.
///
/// A source with neither is accepted from loopback only (`docs/protocol.md`, section 5), directly: not through a
/// proxy on this machine, and not from a web page in a browser on this machine.
pub struct SourceAuthenticator {
    sources: Vec<KnownSource>,
    certified: BTreeSet<SourceId>,
}

/// A certificate that a connection has shown, signed by an authority of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    names: BTreeSet<String>,
}

impl ClientCertificate {
    /// A verified certificate by the DNS names among its subject's alternative names (RFC 5280, section 4.2.1.6).
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self {
            names: names.into_iter().collect(),
        }
    }
}

struct KnownSource {
    id: SourceId,
    token: Secret,
}

/// Sources that cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceAuthenticatorError {
    /// One name twice.
    #[error("source `{0}` is named twice")]
    NameTwice(SourceId),
    /// One token twice.
    #[error("sources `{0}` and `{1}` have the same token")]
    TokenTwice(SourceId, SourceId),
    /// The name that sources without a token share.
    #[error("source `{0}`: this name belongs to sources on loopback without token and certificate")]
    Reserved(SourceId),
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// An `Authorization` header that names no source of ours.
    #[error("unknown bearer token")]
    UnknownToken,
    /// A client certificate that names no source of ours, or several.
    #[error("the client certificate names no single source of HONEYCOMB_CERTIFICATES")]
    UnknownCertificate,
    /// A token of one source and a certificate of another.
    #[error("the bearer token and the client certificate are of different sources")]
    Contradiction,
    /// Neither, and not directly from this machine.
    #[error("a bearer token or client certificate is needed: only direct loopback connections do without")]
    CredentialNeeded,
}

/// Headers that a proxy or a browser adds: with one of these, loopback says nothing about the sender.
const INDIRECT: [HeaderName; 9] = [
    FORWARDED,
    VIA,
    ORIGIN,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("cf-connecting-ip"),
];

impl SourceAuthenticator {
    /// The configured sources: those with a token, and those that prove themselves by a certificate. One may do
    /// either. With none at all only loopback gets in.
    pub fn new(
        with_token: impl IntoIterator<Item = (SourceId, Secret)>,
        certified: impl IntoIterator<Item = SourceId>,
    ) -> Result<Self, SourceAuthenticatorError> {
        let mut sources: Vec<KnownSource> = Vec::new();
        for (id, token) in with_token {
            if id == SourceId::loopback() {
                return Err(SourceAuthenticatorError::Reserved(id));
            }
            for known in &sources {
                if known.id == id {
                    return Err(SourceAuthenticatorError::NameTwice(id));
                }
                if known.token == token {
                    return Err(SourceAuthenticatorError::TokenTwice(known.id.clone(), id));
                }
            }
            sources.push(KnownSource { id, token });
        }
        let certified: BTreeSet<SourceId> = certified.into_iter().collect();
        match certified.get(&SourceId::loopback()) {
            Some(id) => Err(SourceAuthenticatorError::Reserved(id.clone())),
            None => Ok(Self { sources, certified }),
        }
    }

    /// Names the source behind a request. A wrong token or certificate is refused wherever it comes from, also
    /// beside a right one.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
        remote: SocketAddr,
    ) -> Result<SourceId, AuthenticationError> {
        let mut credentials = headers.get_all(AUTHORIZATION).iter();
        let by_token = match (credentials.next(), credentials.next()) {
            (None, _) => None,
            (Some(credential), None) => Some(
                self.source_of(credential.as_bytes())
                    .ok_or(AuthenticationError::UnknownToken)?,
            ),
            (Some(_), Some(_)) => return Err(AuthenticationError::UnknownToken),
        };
        let by_certificate = certificate
            .map(|certificate| self.source_named_by(certificate))
            .transpose()?;
        match (by_token, by_certificate) {
            (Some(one), Some(other)) if one != other => Err(AuthenticationError::Contradiction),
            (Some(source), _) | (None, Some(source)) => Ok(source),
            (None, None) if is_direct_loopback(headers, remote) => Ok(SourceId::loopback()),
            (None, None) => Err(AuthenticationError::CredentialNeeded),
        }
    }

    fn source_named_by(&self, certificate: &ClientCertificate) -> Result<SourceId, AuthenticationError> {
        let mut named = self
            .certified
            .iter()
            .filter(|source| certificate.names.contains(source.as_str()));
        match (named.next(), named.next()) {
            (Some(source), None) => Ok(source.clone()),
            _ => Err(AuthenticationError::UnknownCertificate),
        }
    }

    /// Compares with every token, in a time that says nothing about any of them.
    fn source_of(&self, credential: &[u8]) -> Option<SourceId> {
        let (scheme, token) = credential.split_at_checked(b"Bearer ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return None;
        }
        let mut found = None;
        for known in &self.sources {
            if known.token.matches(token.trim_ascii()) {
                found = Some(known.id.clone());
            }
        }
        found
    }
}

/// Whether a request comes from this machine itself, with no proxy and no browser in between.
pub(crate) fn is_direct_loopback(headers: &HeaderMap, remote: SocketAddr) -> bool {
    let address: IpAddr = remote.ip().to_canonical();
    address.is_loopback() && INDIRECT.iter().all(|name| !headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SourceId {
        text.parse().unwrap()
    }

    fn secret(text: &str) -> Secret {
        format!("{text}-padded-to-sixteen").parse().unwrap()
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_token_names_its_source_and_nothing_else_does() {
        let authenticator = SourceAuthenticator::new(
            [(id("one"), secret("secret-1")), (id("two"), secret("secret-2"))],
            [],
        )
        .unwrap();
        let far: SocketAddr = "203.0.113.5:4000".parse().unwrap();
        let near: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let ask = |pairs: &[(&'static str, &str)], remote| {
            authenticator.authenticate(&headers(pairs), None, remote)
        };
        assert_eq!(
            ask(&[("authorization", "Bearer secret-2-padded-to-sixteen")], far),
            Ok(id("two"))
        );
        assert_eq!(
            ask(&[("authorization", "bearer  secret-1-padded-to-sixteen")], near),
            Ok(id("one"))
        );
        for wrong in [
            "Bearer secret-3-padded-to-sixteen",
            "Bearer ",
            "Basic secret-1-padded-to-sixteen",
            "secret-1-padded-to-sixteen",
            "Bearer secret-1-padded-to-sixteenx",
        ] {
            for remote in [near, far] {
                assert_eq!(
                    ask(&[("authorization", wrong)], remote),
                    Err(AuthenticationError::UnknownToken),
                    "{wrong}"
                );
            }
        }
        assert_eq!(ask(&[], far), Err(AuthenticationError::CredentialNeeded));
        assert_eq!(ask(&[], near), Ok(SourceId::loopback()));
        assert_eq!(
            ask(&[], "[::ffff:127.0.0.1]:1".parse().unwrap()),
            Ok(SourceId::loopback())
        );
        for header in ["x-forwarded-for", "forwarded", "origin", "via"] {
            assert_eq!(
                ask(&[(header, "127.0.0.1")], near),
                Err(AuthenticationError::CredentialNeeded),
                "{header}"
            );
        }
    }

    #[test]
    fn a_certificate_names_one_source_and_must_not_contradict_a_token() {
        let tokens = [(id("one"), secret("secret-1")), (id("both"), secret("secret-2"))];
        let authenticator = SourceAuthenticator::new(tokens, [id("two"), id("both")]).unwrap();
        let ask = |names: &[&str], token: Option<&str>, remote: &str| {
            let certificate = ClientCertificate::new(names.iter().map(|name| (*name).to_owned()));
            let token = token.map(|token| format!("Bearer {token}-padded-to-sixteen"));
            let pairs: Vec<_> = token
                .iter()
                .map(|token| ("authorization", token.as_str()))
                .collect();
            authenticator.authenticate(&headers(&pairs), Some(&certificate), remote.parse().unwrap())
        };
        let (far, near) = ("203.0.113.5:4000", "127.0.0.1:4000");
        assert_eq!(ask(&["two"], None, far), Ok(id("two")));
        assert_eq!(ask(&["elsewhere.example", "two"], None, far), Ok(id("two")));
        assert_eq!(ask(&["both"], Some("secret-2"), far), Ok(id("both")));
        for remote in [far, near] {
            for names in [&[][..], &["one"], &["three"], &["TWO"], &["*"], &["two", "both"]] {
                let refused = Err(AuthenticationError::UnknownCertificate);
                assert_eq!(ask(names, None, remote), refused, "{names:?}");
                assert_eq!(ask(names, Some("secret-1"), remote), refused, "{names:?}");
            }
            assert_eq!(
                ask(&["two"], Some("secret-1"), remote),
                Err(AuthenticationError::Contradiction)
            );
            assert_eq!(
                ask(&["two"], Some("secret-3"), remote),
                Err(AuthenticationError::UnknownToken)
            );
        }
    }

    #[test]
    fn sources_must_differ() {
        let refused = |sources: [(SourceId, &str); 2]| {
            SourceAuthenticator::new(sources.map(|(id, text)| (id, secret(text))), [])
                .err()
                .unwrap()
        };
        assert_eq!(
            refused([(id("a"), "x"), (id("a"), "y")]),
            SourceAuthenticatorError::NameTwice(id("a"))
        );
        assert_eq!(
            refused([(id("a"), "x"), (id("b"), "x")]),
            SourceAuthenticatorError::TokenTwice(id("a"), id("b"))
        );
        assert_eq!(
            refused([(id("loopback"), "x"), (id("b"), "y")]),
            SourceAuthenticatorError::Reserved(id("loopback"))
        );
        assert_eq!(
            SourceAuthenticator::new([], [id("loopback")]).err(),
            Some(SourceAuthenticatorError::Reserved(id("loopback")))
        );
    }
}
