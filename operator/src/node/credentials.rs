//! What the operator makes for a node: the token of its agents' admin API, and that of its Dgraph.
//!
//! A token is rotated by writing a new one beside the former. Agents are restarted one after the other for it, and an
//! agent that was not yet restarted is asked with the former.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::SecretString;

use crate::names::NodeIdentity;

/// Key of the admin token.
pub const ADMIN_TOKEN_KEY: &str = "admin-token";
/// Key of the admin token before the last rotation.
const FORMER_ADMIN_TOKEN_KEY: &str = "former-admin-token";
/// Key of the token of Dgraph's alphas.
pub const DGRAPH_TOKEN_KEY: &str = "dgraph-token";
/// Annotation with the time of the last rotation.
const ROTATED_AT: &str = "honeygraph.io/rotated-at";
/// Annotation that somebody sets to have the token rotated now; its value may be anything new.
pub const ROTATE: &str = "honeygraph.io/rotate";
/// Annotation with the value of [`ROTATE`] that was last followed.
const ROTATED_FOR: &str = "honeygraph.io/rotated-for";
/// Characters of a token: 256 bits and more.
const TOKEN_LENGTH: usize = 48;

/// Age at which the admin token is rotated.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The Secret with a node's credentials: as it is, or made, completed or rotated where that is due.
pub fn credentials(
    identity: &NodeIdentity,
    existing: Option<&Secret>,
    rotate: Option<&str>,
    now: Timestamp,
) -> Secret {
    let mut data = existing
        .and_then(|secret| secret.data.clone())
        .unwrap_or_default();
    let kept = existing
        .map(ResourceExt::annotations)
        .cloned()
        .unwrap_or_default();
    let rotated_at: Option<Timestamp> = kept.get(ROTATED_AT).and_then(|time| time.parse().ok());
    let usable = data.get(ADMIN_TOKEN_KEY).is_some_and(|token| token.0.len() >= 16);
    let due = !usable
        || rotated_at.is_none_or(|rotated_at| now.duration_since(rotated_at) > MAX_AGE)
        || rotate.is_some_and(|rotate| kept.get(ROTATED_FOR).map(String::as_str) != Some(rotate));
    let mut annotations: BTreeMap<_, _> = kept
        .into_iter()
        .filter(|(name, _)| name == ROTATED_AT || name == ROTATED_FOR)
        .collect();
    if due {
        if let Some(former) = data.insert(ADMIN_TOKEN_KEY.to_owned(), token()) {
            data.insert(FORMER_ADMIN_TOKEN_KEY.to_owned(), former);
        }
        annotations.insert(ROTATED_AT.to_owned(), now.to_string());
        if let Some(rotate) = rotate {
            annotations.insert(ROTATED_FOR.to_owned(), rotate.to_owned());
        }
    }
    data.entry(DGRAPH_TOKEN_KEY.to_owned()).or_insert_with(token);
    let mut metadata = identity.metadata(identity.credentials(), identity.labels());
    metadata.annotations = Some(annotations);
    Secret {
        metadata,
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The tokens that an agent may know, the present one first.
pub fn admin_tokens(credentials: &Secret) -> Vec<SecretString> {
    [ADMIN_TOKEN_KEY, FORMER_ADMIN_TOKEN_KEY]
        .into_iter()
        .filter_map(|key| {
            let token = credentials.data.as_ref()?.get(key)?;
            String::from_utf8(token.0.clone()).ok().map(SecretString::from)
        })
        .collect()
}

fn token() -> ByteString {
    ByteString(
        Alphanumeric
            .sample_string(&mut rand::rng(), TOKEN_LENGTH)
            .into_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use secrecy::ExposeSecret;

    use super::*;

    fn identity() -> NodeIdentity {
        NodeIdentity {
            name: "eu".to_owned(),
            namespace: "default".to_owned(),
            network: "dlux".to_owned(),
            region: "eu".to_owned(),
            owner: OwnerReference::default(),
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * 3600).expect("a time")
    }

    fn tokens(secret: &Secret) -> Vec<String> {
        admin_tokens(secret)
            .iter()
            .map(|token| token.expose_secret().to_owned())
            .collect()
    }

    #[test]
    fn tokens_stay_until_they_are_due() {
        let made = credentials(&identity(), None, None, at(0));
        assert_eq!(tokens(&made).len(), 1);
        assert_eq!(credentials(&identity(), Some(&made), None, at(100)), made);
        let rotated = credentials(&identity(), Some(&made), None, at(31 * 24));
        assert_eq!(tokens(&rotated)[1], tokens(&made)[0]);
        assert_ne!(tokens(&rotated)[0], tokens(&made)[0]);
        assert_eq!(
            rotated.data.as_ref().and_then(|data| data.get(DGRAPH_TOKEN_KEY)),
            made.data.as_ref().and_then(|data| data.get(DGRAPH_TOKEN_KEY)),
            "the alphas are not restarted for it"
        );
    }

    #[test]
    fn a_rotation_that_somebody_asks_for_is_done_once() {
        let made = credentials(&identity(), None, None, at(0));
        let rotated = credentials(&identity(), Some(&made), Some("now"), at(1));
        assert_ne!(tokens(&rotated)[0], tokens(&made)[0]);
        assert_eq!(
            credentials(&identity(), Some(&rotated), Some("now"), at(2)),
            rotated
        );
        let again = credentials(&identity(), Some(&rotated), Some("again"), at(3));
        assert_ne!(tokens(&again)[0], tokens(&rotated)[0]);
    }

    #[test]
    fn a_secret_that_somebody_emptied_is_filled() {
        let emptied = Secret::default();
        let filled = credentials(&identity(), Some(&emptied), None, at(0));
        assert_eq!(tokens(&filled).len(), 1);
        assert!(
            filled
                .data
                .is_some_and(|data| data.contains_key(DGRAPH_TOKEN_KEY))
        );
    }
}
