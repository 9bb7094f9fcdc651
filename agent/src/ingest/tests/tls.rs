//! TLS and client certificates over real sockets.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::client_async;

use super::*;

/// Signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, PEM.
struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn sign(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.insert_extended_key_usage(usage);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn client(&self, names: &[&str]) -> Identity {
        self.sign(names, ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }
}

/// A node that speaks TLS, and the authority of its certificate.
struct TlsNode {
    node: Node,
    authority: Authority,
}

impl TlsNode {
    async fn start(client_authorities: Option<&Authority>) -> Self {
        Self::start_with(client_authorities, settings()).await
    }

    async fn start_with(client_authorities: Option<&Authority>, settings: IngestSettings) -> Self {
        let authority = Authority::new();
        let ours = authority.sign(&["localhost"], ExtendedKeyUsagePurpose::ServerAuth, |_| {});
        let tls = IngestTls::new(TlsFiles {
            certificates: &ours.certificate,
            key: &ours.key,
            client_authorities: client_authorities.map(|authority| authority.pem.as_str()),
        });
        let settings = IngestSettings {
            tls: Some(tls.unwrap()),
            ..settings
        };
        Self {
            node: start_with(settings, None).await,
            authority,
        }
    }

    async fn connect(
        &self,
        identity: Option<&Identity>,
        token: Option<&str>,
    ) -> Result<Source<TlsStream<TcpStream>>, tungstenite::Error> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Identity { certificate, key }) => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        let connect = async {
            let stream = TcpStream::connect(self.node.address).await?;
            let stream = TlsConnector::from(Arc::new(config))
                .connect(ServerName::try_from("localhost").unwrap(), stream)
                .await?;
            let mut request = "wss://localhost/".into_client_request()?;
            if let Some(token) = token {
                let token = format!("Bearer {token}").parse().unwrap();
                request.headers_mut().insert("authorization", token);
            }
            client_async(request, stream).await
        };
        timeout(HANG, connect)
            .await
            .unwrap()
            .map(|(socket, _)| Source { socket })
    }

    /// The name by which the node knows a source that connects like this.
    async fn name_of(&mut self, identity: Option<&Identity>, token: Option<&str>) -> String {
        let mut source = self.connect(identity, token).await.unwrap();
        source.identify("DLUX").await;
        let event = self.node.source_event().await;
        assert!(matches!(event.event, SourceEventKind::Connected { .. }));
        source.still_works(&mut self.node, 0, 1).await;
        source.socket.close(None).await.unwrap();
        assert_eq!(self.node.next().await, "disconnected");
        event.source.to_string()
    }
}

/// How the node refuses: by an HTTP status, or 0 where it ends the handshake.
async fn refusal(node: &TlsNode, identity: &Identity, token: Option<&str>) -> u16 {
    match node.connect(Some(identity), token).await.err().unwrap() {
        tungstenite::Error::Http(response) => response.status().as_u16(),
        _ => 0,
    }
}

#[tokio::test]
async fn a_certificate_or_a_token_names_the_source() {
    let clients = Authority::new();
    let mut node = TlsNode::start(Some(&clients)).await;
    let third = clients.client(&["hive-3"]);
    let second = clients.client(&["elsewhere.example", "hive-2"]);
    let token = Some("secret-2-padded-to-16");
    assert_eq!(node.name_of(Some(&third), None).await, "hive-3");
    assert_eq!(node.name_of(Some(&second), None).await, "hive-2");
    assert_eq!(node.name_of(None, token).await, "hive-2");
    assert_eq!(node.name_of(Some(&second), token).await, "hive-2");
    assert_eq!(node.name_of(None, None).await, "loopback");
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_refused_even_on_loopback() {
    let (clients, others) = (Authority::new(), Authority::new());
    let mut node = TlsNode::start(Some(&clients)).await;
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let expired = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let early = |params: &mut CertificateParams| params.not_before = rcgen::date_time_ymd(4000, 1, 1);
    for (what, identity) in [
        ("another authority", others.client(&["hive-3"])),
        (
            "the authority of our own certificate",
            node.authority.client(&["hive-3"]),
        ),
        ("expired", clients.sign(&["hive-3"], client.clone(), expired)),
        ("not valid yet", clients.sign(&["hive-3"], client.clone(), early)),
        (
            "for servers",
            clients.sign(&["hive-3"], ExtendedKeyUsagePurpose::ServerAuth, |_| {}),
        ),
    ] {
        assert_eq!(refusal(&node, &identity, None).await, 0, "{what}");
    }
    for names in [
        &["hive-1"][..],
        &["hive-4"],
        &["*.hive-3"],
        &["hive-2", "hive-3"],
        &[],
    ] {
        let identity = clients.client(names);
        assert_eq!(refusal(&node, &identity, None).await, 401, "{names:?}");
    }
    let third = clients.client(&["hive-3"]);
    for token in ["secret-1-padded-to-16", "secret-9-padded-to-16"] {
        assert_eq!(refusal(&node, &third, Some(token)).await, 401, "{token}");
    }
    assert_eq!(node.name_of(Some(&third), None).await, "hive-3");
}

#[tokio::test]
async fn without_authorities_no_certificate_is_asked_for() {
    let mut node = TlsNode::start(None).await;
    let identity = Authority::new().client(&["hive-3"]);
    assert_eq!(node.name_of(Some(&identity), None).await, "loopback");
}

#[tokio::test]
async fn who_does_not_speak_tls_is_refused_and_the_node_goes_on() {
    let mut node = TlsNode::start(None).await;
    assert!(node.node.connect(&[]).await.is_err());
    assert_eq!(node.name_of(None, None).await, "loopback");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_dropped() {
    let node = TlsNode::start_with(
        None,
        IngestSettings {
            header_timeout: Duration::from_millis(20),
            ..settings()
        },
    )
    .await;
    let mut stream = TcpStream::connect(node.node.address).await.unwrap();
    let mut answer = Vec::new();
    timeout(HANG, stream.read_to_end(&mut answer)).await.unwrap().ok();
    assert!(answer.is_empty());
}
