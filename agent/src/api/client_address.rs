//! Whose request it is: the address of the connection, or the one that trusted proxies name.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;

/// Each proxy adds the address it was reached from at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request is counted for; none where the connection is not known.
///
/// What a header says counts only where the connection comes from one of `TRUSTED_PROXIES`; then it is the last
/// address in it that is no such proxy, since what stands before that is the caller's own claim.
pub(super) fn client_address(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted_proxies: &[IpNet],
) -> Option<IpAddr> {
    let ConnectInfo(remote) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    let is_trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let mut client = remote.ip().to_canonical();
    if !is_trusted(&client) {
        return Some(client);
    }
    let lines = headers.get_all(FORWARDED_FOR).into_iter().rev();
    let hops = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.rsplit(','));
    for hop in hops {
        let Some(address) = parsed(hop.trim()) else {
            // What a trusted proxy cannot have written ends what can be believed.
            break;
        };
        client = address;
        if !is_trusted(&client) {
            break;
        }
    }
    Some(client)
}

/// An address, which some proxies write with a port.
fn parsed(hop: &str) -> Option<IpAddr> {
    let address = hop
        .parse()
        .or_else(|_| hop.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn counted_for(remote: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut extensions = Extensions::new();
        let remote: SocketAddr = remote.parse().unwrap();
        extensions.insert(ConnectInfo(remote));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        client_address(&extensions, &headers, &trusted)
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_header_counts_only_from_a_trusted_proxy() {
        let header = ["203.0.113.9"];
        assert_eq!(counted_for("192.0.2.1:5", &header, &[]), "192.0.2.1");
        assert_eq!(counted_for("192.0.2.1:5", &header, &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(counted_for("10.1.2.3:5", &header, &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(
            counted_for("[::ffff:10.1.2.3]:5", &header, &["10.0.0.0/8"]),
            "203.0.113.9"
        );
    }

    #[test]
    fn what_the_caller_wrote_itself_is_not_believed() {
        let trusted = ["10.0.0.0/8", "192.0.2.0/24"];
        assert_eq!(
            counted_for("10.0.0.1:5", &["198.51.100.1, 203.0.113.9"], &trusted),
            "203.0.113.9"
        );
        assert_eq!(
            counted_for(
                "10.0.0.1:5",
                &["198.51.100.1", "203.0.113.9, 192.0.2.7"],
                &trusted
            ),
            "203.0.113.9"
        );
        assert_eq!(
            counted_for("10.0.0.1:5", &["203.0.113.9, rubbish"], &trusted),
            "10.0.0.1"
        );
    }

    #[test]
    fn proxies_alone_are_counted_as_the_first_of_them() {
        assert_eq!(
            counted_for("10.0.0.1:5", &["10.0.0.3, 10.0.0.2:443"], &["10.0.0.0/8"]),
            "10.0.0.3"
        );
        assert_eq!(counted_for("10.0.0.1:5", &[], &["10.0.0.0/8"]), "10.0.0.1");
    }
}
