//! URLs of peers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The base URL of a peer, a honeycomb node or an IPFS gateway: `http` or `https`, a host, no credentials,
/// no query, no fragment, normalised without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerUrl(Url);

/// Scheme, host and port of a URL, exactly: what our own configuration trusts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerOrigin {
    scheme: String,
    host: Host<String>,
    port: u16,
}

/// Text that is no base URL of a peer: `ALLOWED` says what would be, the variant what is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerUrlError {
    /// Longer than any URL we keep.
    #[error("it has {bytes} bytes, and at most {max} are allowed", max = PeerUrl::MAX_BYTES)]
    TooLong {
        /// Its bytes, once normalised.
        bytes: usize,
    },
    /// No URL at all.
    #[error("it is no URL ({0})")]
    Malformed(#[from] url::ParseError),
    /// Another scheme, or no host.
    #[error("it starts neither with http:// nor with https:// and a host")]
    NotHttp,
    /// A name or a password before the host.
    #[error("it has a user name or a password")]
    Credentials,
    /// A `?` or `#` part.
    #[error("it has a `?` or `#` part")]
    QueryOrFragment,
}

impl PeerUrl {
    /// Longest URL, in bytes, before and after it is normalised.
    pub const MAX_BYTES: usize = 512;

    /// What it may be.
    pub const ALLOWED: &str = "an http:// or https:// address of at most 512 bytes without credentials, query and \
        fragment, such as https://node.example:3030";

    /// Scheme, host and port. A peer's URL has all three.
    pub fn origin(&self) -> Option<PeerOrigin> {
        PeerOrigin::of(&self.0)
    }

    /// The base itself.
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// The URL of a call: the base, then `segments`, then `query`. Both are escaped.
    pub fn call(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

impl PeerOrigin {
    /// The origin of a URL that has a host and a port.
    pub fn of(url: &Url) -> Option<Self> {
        Some(Self {
            scheme: url.scheme().to_owned(),
            host: url.host()?.to_owned(),
            port: url.port_or_known_default()?,
        })
    }
}

impl FromStr for PeerUrl {
    type Err = PeerUrlError;

    fn from_str(text: &str) -> Result<Self, PeerUrlError> {
        if text.len() > Self::MAX_BYTES {
            return Err(PeerUrlError::TooLong { bytes: text.len() });
        }
        let mut url = Url::parse(text)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(PeerUrlError::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(PeerUrlError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(PeerUrlError::QueryOrFragment);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        // Escaping makes text longer.
        if url.as_str().len() > Self::MAX_BYTES {
            let bytes = url.as_str().len();
            return Err(PeerUrlError::TooLong { bytes });
        }
        Ok(Self(url))
    }
}

impl TryFrom<String> for PeerUrl {
    type Error = PeerUrlError;

    fn try_from(text: String) -> Result<Self, PeerUrlError> {
        text.parse()
    }
}

impl From<PeerUrl> for String {
    fn from(url: PeerUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<PeerUrl, PeerUrlError> {
        text.parse()
    }

    #[test]
    fn spellings_of_one_address_are_equal() {
        let plain = parse("http://node.example:80").unwrap();
        for same in [
            "http://node.example",
            "HTTP://NODE.example/",
            "http://node.example:80///",
        ] {
            assert_eq!(parse(same).unwrap(), plain, "{same}");
        }
        assert_eq!(plain.to_string(), "http://node.example");
        assert_eq!(
            parse("http://2130706433").unwrap().to_string(),
            "http://127.0.0.1"
        );
        assert_ne!(parse("https://node.example").unwrap().origin(), plain.origin());
        assert_ne!(parse("http://node.example:81").unwrap().origin(), plain.origin());
    }

    #[test]
    fn what_is_no_base_url_is_refused() {
        assert_eq!(parse("ftp://node.example"), Err(PeerUrlError::NotHttp));
        assert_eq!(parse("data:text/plain,x"), Err(PeerUrlError::NotHttp));
        assert_eq!(parse("http://user@node.example"), Err(PeerUrlError::Credentials));
        assert_eq!(parse("http://:word@node.example"), Err(PeerUrlError::Credentials));
        assert_eq!(
            parse("http://node.example/?a=1"),
            Err(PeerUrlError::QueryOrFragment)
        );
        assert_eq!(
            parse("http://node.example/#a"),
            Err(PeerUrlError::QueryOrFragment)
        );
        assert!(matches!(parse("http://"), Err(PeerUrlError::Malformed(_))));
        assert!(matches!(
            parse("node.example:3030/x y"),
            Err(PeerUrlError::NotHttp | PeerUrlError::Malformed(_))
        ));
        let long = format!("http://node.example/{}", "a".repeat(600));
        assert!(matches!(parse(&long), Err(PeerUrlError::TooLong { .. })));
        let grows = format!("http://node.example/{}", "ä".repeat(200));
        assert!(matches!(parse(&grows), Err(PeerUrlError::TooLong { .. })));
    }

    #[test]
    fn calls_stand_below_the_base_and_are_escaped() {
        let base = parse("http://node.example/graph/").unwrap();
        assert_eq!(
            base.call(&["api", "a/b?c"], &[("from", "1 2")]).as_str(),
            "http://node.example/graph/api/a%2Fb%3Fc?from=1+2"
        );
        let root = parse("http://node.example").unwrap();
        assert_eq!(root.call(&["health"], &[]).as_str(), "http://node.example/health");
    }

    proptest! {
        #[test]
        fn normalised_text_is_read_back(text in "(http|https)://[a-z]{1,9}(:[0-9]{1,5})?(/[a-zA-Z0-9%./]{0,9}){0,3}") {
            if let Ok(url) = parse(&text) {
                prop_assert_eq!(parse(&url.to_string()).unwrap(), url);
            }
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
