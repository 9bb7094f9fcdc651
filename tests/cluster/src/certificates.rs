//! The cluster's certificate authority, and what it signs.

use std::path::PathBuf;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};

use crate::home::Folder;

/// Names of the apiserver inside the cluster, and on this machine.
const APISERVER_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// Signs the certificates of one cluster.
pub(crate) struct CertificateAuthority<'a> {
    folder: &'a Folder,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, as files.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Whom a client certificate stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a str,
    pub(crate) group: Option<&'a str>,
}

impl<'a> CertificateAuthority<'a> {
    /// A new authority, written to the cluster's folder.
    pub(crate) fn create(folder: &'a Folder) -> anyhow::Result<Self> {
        let mut parameters = parameters("honeygraph-test-cluster", None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("no key can be made")?;
        folder.subfolder("certificates")?;
        folder.write("certificates/ca.key", key.serialize_pem())?;
        let issuer =
            CertifiedIssuer::self_signed(parameters, key).context("no certificate authority can be made")?;
        folder.write("certificates/ca.crt", issuer.pem())?;
        Ok(Self { folder, issuer })
    }

    /// The cluster's folder.
    pub(crate) fn folder(&self) -> &'a Folder {
        self.folder
    }

    /// Its own certificate and key.
    pub(crate) fn files(&self) -> Certificate {
        files(self.folder, "ca")
    }

    /// The certificate that the apiserver shows, good for these addresses too.
    pub(crate) fn apiserver(&self, addresses: &[String]) -> anyhow::Result<Certificate> {
        let names: Vec<_> = APISERVER_NAMES
            .iter()
            .map(|&name| name.to_owned())
            .chain(addresses.iter().cloned())
            .collect();
        let mut parameters = CertificateParams::new(names).context("the apiserver's names are no names")?;
        parameters.distinguished_name = distinguished_name("kube-apiserver", None);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign("apiserver", &parameters)
    }

    /// A client certificate, in files of that name.
    pub(crate) fn client(&self, file: &str, user: User<'_>) -> anyhow::Result<Certificate> {
        let mut parameters = parameters(user.name, user.group);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, &parameters)
    }

    fn sign(&self, file: &str, parameters: &CertificateParams) -> anyhow::Result<Certificate> {
        let key = KeyPair::generate().context("no key can be made")?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("no certificate can be made for {file}"))?;
        self.folder
            .write(format!("certificates/{file}.crt"), certificate.pem())?;
        self.folder
            .write(format!("certificates/{file}.key"), key.serialize_pem())?;
        Ok(files(self.folder, file))
    }
}

/// The key that tokens of service accounts are signed with; `certificate` is its public half.
pub(crate) fn service_account_key(folder: &Folder) -> anyhow::Result<Certificate> {
    let key = KeyPair::generate().context("no key can be made")?;
    folder.write("certificates/service-accounts.key", key.serialize_pem())?;
    folder.write("certificates/service-accounts.crt", key.public_key_pem())?;
    Ok(files(folder, "service-accounts"))
}

fn files(folder: &Folder, name: &str) -> Certificate {
    Certificate {
        certificate: folder.join(format!("certificates/{name}.crt")),
        key: folder.join(format!("certificates/{name}.key")),
    }
}

fn parameters(name: &str, group: Option<&str>) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = distinguished_name(name, group);
    parameters
}

/// Kubernetes takes the common name as the user and the organization as the group.
fn distinguished_name(name: &str, group: Option<&str>) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    if let Some(group) = group {
        distinguished.push(DnType::OrganizationName, group);
    }
    distinguished
}
