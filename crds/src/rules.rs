//! Rules that many fields share, as CEL that the apiserver runs.
//!
//! A message says what is allowed, so that the field's path and the message together are enough to correct an object.

use kube::core::{Message, Rule};

/// A host name or an address with a port, with or without a scheme: what stands between `http://` and a path.
const AUTHORITY: &str = r"([A-Za-z0-9.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?";

fn rule(expression: impl Into<String>, message: impl Into<String>) -> Rule {
    Rule::new(expression).message(Message::Message(message.into()))
}

/// The name of another object in the same namespace.
pub(crate) fn object_name() -> Rule {
    rule(
        "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
        "must be the name of an object: a-z, 0-9, - and ., beginning and ending with a letter or digit",
    )
}

/// A key of a Secret or `ConfigMap`.
pub(crate) fn data_key() -> Rule {
    rule(
        "self.matches('^[-._a-zA-Z0-9]+$')",
        "must be a key of a Secret or ConfigMap: a-z, A-Z, 0-9, -, _ and .",
    )
}

/// A value that becomes a label.
pub(crate) fn label_value() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
        "becomes a label: a-z, A-Z, 0-9, -, _ and ., beginning and ending with a letter or digit",
    )
}

/// A container image.
pub(crate) fn image() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9]([A-Za-z0-9._/:@-]*[A-Za-z0-9])?$')",
        "must be a container image, such as registry.example/name:1.2.3",
    )
}

/// An `http://` or `https://` address without credentials, query and fragment.
pub(crate) fn url() -> Rule {
    rule(
        format!(r"self.matches('^https?://{AUTHORITY}(/[^?#@\\s]*)?$')"),
        "must be an http:// or https:// address without credentials, query and fragment",
    )
}

/// An alpha of Dgraph by its gRPC port.
pub(crate) fn dgraph_endpoint() -> Rule {
    rule(
        format!("self.matches('^(https?://)?{AUTHORITY}$')"),
        "must be host:port, http://host:port or https://host:port, without credentials",
    )
}

/// A host name of a route, which may begin with `*.`.
pub(crate) fn host_name() -> Rule {
    rule(
        r"self.matches('^(\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "must be a host name in small letters; it may begin with *.",
    )
}

/// A network of addresses.
pub(crate) fn cidr() -> Rule {
    rule(
        "isCIDR(self)",
        "must be a network of addresses, such as 10.0.0.0/8 or fd00::/8",
    )
}

/// A duration as Go writes it, within bounds.
pub(crate) fn duration(least: &str, most: &str) -> Rule {
    rule(
        format!(
            "self.matches('^([0-9]{{1,9}}(ms|s|m|h))+$') && duration(self) >= duration('{least}') && \
             duration(self) <= duration('{most}')"
        ),
        format!("must be a duration such as 500ms, 30s or 1h30m, {least} to {most}"),
    )
}

/// A quantity within bounds.
pub(crate) fn quantity(least: &str, most: &str) -> Rule {
    rule(
        format!(
            "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('{least}')) >= 0 && \
             quantity(string(self)).compareTo(quantity('{most}')) <= 0"
        ),
        format!("must be a quantity such as 512Mi or 50Gi, {least} to {most}"),
    )
}

/// A quantity that is not negative.
pub(crate) fn any_quantity() -> Rule {
    rule(
        "isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) >= 0",
        "must be a quantity such as 500m, 2 or 512Mi, 0 or more",
    )
}

/// A quantity that is the size of something that cannot shrink.
pub(crate) fn grows_only() -> Rule {
    rule(
        "!isQuantity(string(self)) || !isQuantity(string(oldSelf)) || \
         quantity(string(self)).compareTo(quantity(string(oldSelf))) >= 0",
        "a volume can grow but not shrink",
    )
}

/// A number of members that agree by majority.
pub(crate) fn odd() -> Rule {
    rule("self % 2 == 1", "must be odd: members agree by majority")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_states_the_bounds() {
        let Some(Message::Message(message)) = duration("1s", "24h").message else {
            panic!("a rule has a message");
        };
        assert_eq!(
            message,
            "must be a duration such as 500ms, 30s or 1h30m, 1s to 24h"
        );
    }
}
