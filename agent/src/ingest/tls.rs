//! TLS of the ingest listener: our certificate, and those that sources prove themselves with.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::authenticator::ClientCertificate;

/// A WebSocket begins as HTTP/1.1.
const PROTOCOL: &[u8] = b"http/1.1";

/// What the files of the TLS settings hold, PEM.
#[derive(Clone, Copy)]
pub struct TlsFiles<'a> {
    /// Our certificate, followed by those that lead to a known authority.
    pub certificates: &'a str,
    /// Its private key.
    pub key: &'a str,
    /// The authorities that sign certificates of sources; without them no source is asked for one.
    pub client_authorities: Option<&'a str>,
}

/// One of these files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// Our certificate.
    Certificates,
    /// Its private key.
    Key,
    /// The authorities of sources.
    ClientAuthorities,
}

/// What is wrong with one of the files. Never shows its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct TlsError {
    /// Which file.
    pub file: TlsFile,
    /// What is wrong with it.
    pub problem: String,
}

/// TLS with our certificate. A source may show one of its own, and is not let in with one that no authority of
/// ours has signed for a client, or that has expired.
#[derive(Clone)]
pub struct IngestTls {
    acceptor: TlsAcceptor,
}

impl fmt::Debug for IngestTls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IngestTls")
    }
}

impl IngestTls {
    /// Reads what the files hold.
    pub fn new(files: TlsFiles<'_>) -> Result<Self, TlsError> {
        let wrong = |file: TlsFile| {
            move |error: &dyn fmt::Display| TlsError {
                file,
                problem: error.to_string(),
            }
        };
        let (bad_certificate, bad_key) = (wrong(TlsFile::Certificates), wrong(TlsFile::Key));
        let certificates = certificates(files.certificates, TlsFile::Certificates)?;
        let key = PrivateKeyDer::from_pem_slice(files.key.as_bytes())
            .map_err(|_| bad_key(&"holds no private key (PEM)"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = verifier(files.client_authorities, &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad_certificate(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)
            .map_err(|error| match error {
                rustls::Error::InvalidCertificate(_) => bad_certificate(&error),
                rustls::Error::InconsistentKeys(_) => bad_key(&"is not the key of the certificate"),
                error => bad_key(&error),
            })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Agrees on keys with a connection; the certificate is one that was verified.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
        let stream = self.acceptor.accept(stream).await?;
        let certificate = match stream.get_ref().1.peer_certificates() {
            Some([certificate, ..]) => Some(ClientCertificate::new(dns_names(certificate)?)),
            _ => None,
        };
        Ok((stream, certificate))
    }
}

/// Whether a handshake failed because of the certificate that the source showed.
pub(super) fn is_bad_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

fn certificates(pem: &str, file: TlsFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem: &str| TlsError {
        file,
        problem: problem.to_owned(),
    };
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| wrong("is no PEM"))?;
    if certificates.is_empty() {
        return Err(wrong("holds no certificate (PEM)"));
    }
    Ok(certificates)
}

fn verifier(
    authorities: Option<&str>,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(authorities) = authorities else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let wrong = |error: &dyn fmt::Display| TlsError {
        file: TlsFile::ClientAuthorities,
        problem: error.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(authorities, TlsFile::ClientAuthorities)? {
        roots.add(authority).map_err(|error| wrong(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| wrong(&error))
}

fn dns_names(certificate: &CertificateDer<'_>) -> io::Result<Vec<String>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(io::Error::other)?;
    Ok(certificate.valid_dns_names().map(str::to_owned).collect())
}
