//! A fingerprint of what a pod is started with: where it changes, the pod is restarted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Collects what a pod is started with.
#[derive(Debug, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Adds a part under a name.
    pub fn add(&mut self, name: &str, part: impl Serialize) {
        // Maps with text as keys and plain values: what is added here can be written.
        let part = serde_json::to_vec(&part).unwrap_or_default();
        for bytes in [name.as_bytes(), &part] {
            self.0.update(bytes.len().to_be_bytes());
            self.0.update(bytes);
        }
    }

    /// Adds what stands under a key of a Secret.
    pub fn add_secret(&mut self, secrets: &BTreeMap<String, Secret>, name: &str, key: &str) {
        let value = secrets
            .get(name)
            .and_then(|secret| secret.data.as_ref()?.get(key))
            .map(|value| value.0.as_slice());
        self.add(&format!("{name}/{key}"), value);
    }

    /// The fingerprint, 16 hexadecimal digits: enough to see a change, too little to guess a secret from.
    pub fn finish(self) -> String {
        let mut digits = hex::encode(self.0.finalize());
        digits.truncate(16);
        digits
    }
}
