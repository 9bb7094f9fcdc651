//! Where Dgraph is and how it is talked to.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use secrecy::{SecretSlice, SecretString};
use url::Url;

use super::error::SettingsError;

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct DgraphSettings {
    /// Alphas of one cluster, at least one; they are used in turn.
    pub endpoints: Vec<EndpointUrl>,
    /// For the endpoints that are `https`.
    pub tls: TlsSettings,
    /// Where access control (ACL) is on.
    pub login: Option<Login>,
    /// `--security token` of the alphas: wanted for changes of the schema.
    pub auth_token: Option<SecretString>,
    /// Time limits.
    pub timeouts: DgraphTimeouts,
    /// Largest answer that is read, in bytes.
    pub max_answer_bytes: usize,
}

impl DgraphSettings {
    /// Settings for alphas without TLS and access control.
    pub fn new(endpoints: Vec<EndpointUrl>) -> Self {
        Self {
            endpoints,
            tls: TlsSettings::default(),
            login: None,
            auth_token: None,
            timeouts: DgraphTimeouts::default(),
            max_answer_bytes: 64 << 20,
        }
    }
}

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// User, as `groot`.
    pub user: String,
    /// Password.
    pub password: SecretString,
    /// Namespace; 0 is the root one.
    pub namespace: u64,
}

/// How an `https` endpoint is known, and this client to it.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// Certificates of the authorities that are trusted, as PEM; the machine's own where there are none.
    pub ca_pem: Option<Vec<u8>>,
    /// The name that the certificate must be for, where it is not the host of the endpoint.
    pub server_name: Option<String>,
    /// Shown to alphas that ask for a client certificate.
    pub identity: Option<ClientIdentity>,
}

/// A client certificate.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// The certificate and those above it, as PEM.
    pub certificate_pem: Vec<u8>,
    /// Its private key, as PEM.
    pub key_pem: SecretSlice<u8>,
}

/// Time limits of calls, each for the whole call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DgraphTimeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// A query, a login, a question for health or version.
    pub query: Duration,
    /// A mutation or a commit.
    pub mutation: Duration,
    /// A change of the schema: indexes may have to be built.
    pub alter: Duration,
}

impl Default for DgraphTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            query: Duration::from_secs(10),
            mutation: Duration::from_mins(1),
            alter: Duration::from_mins(10),
        }
    }
}

/// Port of an alpha's gRPC service unless one is named.
const DEFAULT_PORT: u16 = 9080;

/// Address of one alpha: `http://host:9080` or `https://host:9080`. Never carries a user or password.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl(Url);

impl EndpointUrl {
    /// Whether the alpha is reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// As text, without a `/` at its end.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for EndpointUrl {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let refuse = |problem| {
            let shown = text.rsplit_once('@').map_or(text, |(_, after)| after);
            SettingsError::Endpoint {
                text: shown.to_owned(),
                problem,
            }
        };
        let mut url = Url::parse(text).map_err(|_| refuse("write it as http://host:9080"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(refuse("write it as http://host:9080 or https://host:9080"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("a user and password have settings of their own"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it ends with the port"));
        }
        // `Url` leaves out the port that its scheme has, which is not the one that a bare host means here.
        let names_port = text
            .trim_end_matches('/')
            .rsplit(':')
            .next()
            .is_some_and(|end| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()));
        if url.port().is_none() && !names_port {
            url.set_port(Some(DEFAULT_PORT))
                .map_err(|()| refuse("it takes no port"))?;
        }
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        for (text, shown) in [
            ("http://127.0.0.1:9080", "http://127.0.0.1:9080"),
            ("http://alpha/", "http://alpha:9080"),
            ("https://alpha.example", "https://alpha.example:9080"),
            ("https://alpha.example:443", "https://alpha.example"),
            ("http://[::1]:9081", "http://[::1]:9081"),
            ("http://[::1]", "http://[::1]:9080"),
        ] {
            let endpoint: EndpointUrl = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_and_a_password_is_not_repeated() {
        for text in [
            "",
            "alpha:9080",
            "ftp://alpha",
            "http://alpha/query",
            "http://alpha?x=1",
            "http://",
        ] {
            assert!(text.parse::<EndpointUrl>().is_err(), "{text}");
        }
        for text in [
            "http://groot:hunter2@alpha:9080",
            "ftp://groot:hunter2@alpha",
            "groot:hunter2@alpha",
        ] {
            let error = text.parse::<EndpointUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn settings_do_not_show_their_secrets() {
        let mut settings = DgraphSettings::new(vec!["http://alpha".parse().unwrap()]);
        settings.auth_token = Some("hunter2".into());
        settings.login = Some(Login {
            user: "groot".into(),
            password: "hunter3".into(),
            namespace: 0,
        });
        settings.tls.identity = Some(ClientIdentity {
            certificate_pem: Vec::new(),
            key_pem: b"hunter4".to_vec().into(),
        });
        let shown = format!("{settings:?}");
        assert!(shown.contains("groot"));
        assert!(
            !shown.contains("hunter") && !shown.contains(&format!("{:?}", b"hunter4")),
            "{shown}"
        );
    }
}
