//! Which addresses are global unicast ones.
//!
//! Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its updates) and the
//! IPv6 address space registry. `std`'s `is_global` is not stable. Ranges that the registries call globally
//! reachable but in which no peer can live (protocol anycast) are refused too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 networks that are not global unicast.
static IPV4_SPECIAL: LazyLock<Vec<Ipv4Net>> = LazyLock::new(|| {
    [
        ([0, 0, 0, 0], 8),       // this network, RFC 791
        ([10, 0, 0, 0], 8),      // private use, RFC 1918
        ([100, 64, 0, 0], 10),   // shared address space of carriers (CGNAT), RFC 6598
        ([127, 0, 0, 0], 8),     // loopback, RFC 1122
        ([169, 254, 0, 0], 16),  // link-local, cloud metadata, RFC 3927
        ([172, 16, 0, 0], 12),   // private use, RFC 1918
        ([192, 0, 0, 0], 24),    // IETF protocol assignments, RFC 6890
        ([192, 0, 2, 0], 24),    // documentation, RFC 5737
        ([192, 31, 196, 0], 24), // AS112, RFC 7535
        ([192, 52, 193, 0], 24), // AMT, RFC 7450
        ([192, 88, 99, 0], 24),  // 6to4 relays, deprecated, RFC 7526
        ([192, 168, 0, 0], 16),  // private use, RFC 1918
        ([192, 175, 48, 0], 24), // AS112, RFC 7534
        ([198, 18, 0, 0], 15),   // benchmarking, RFC 2544
        ([198, 51, 100, 0], 24), // documentation, RFC 5737
        ([203, 0, 113, 0], 24),  // documentation, RFC 5737
        ([224, 0, 0, 0], 4),     // multicast, RFC 1112
        ([240, 0, 0, 0], 4),     // reserved and broadcast, RFC 1112 and 8190
    ]
    .into_iter()
    .map(|(address, length)| Ipv4Net::new_assert(Ipv4Addr::from(address), length))
    .collect()
});

/// IPv6 networks inside `2000::/3` that are not global unicast.
static IPV6_SPECIAL: LazyLock<Vec<Ipv6Net>> = LazyLock::new(|| {
    [
        ([0x2001, 0, 0], 23), // IETF protocol assignments (Teredo, ORCHID, benchmarking), RFC 2928
        ([0x2001, 0xdb8, 0], 32), // documentation, RFC 3849
        ([0x2620, 0x4f, 0x8000], 48), // AS112, RFC 7534
        ([0x3fff, 0, 0], 20), // documentation, RFC 9637
    ]
    .into_iter()
    .map(|([first, second, third], length)| {
        Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), length)
    })
    .collect()
});

/// Whether a stranger may make us connect to this address.
pub fn is_global_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_global_ipv4(address),
        IpAddr::V6(address) => is_global_ipv6(address),
    }
}

fn is_global_ipv4(address: Ipv4Addr) -> bool {
    !IPV4_SPECIAL.iter().any(|network| network.contains(&address))
}

/// Only `2000::/3` is assigned for global unicast: loopback, unspecified, unique-local, link-local,
/// site-local, multicast, discard, segment routing and IPv4-compatible addresses all lie outside. Addresses
/// that lead to an IPv4 address are at most as global as that one: IPv4-mapped (RFC 4291), the well-known
/// prefix of NAT64 (RFC 6052), 6to4 (RFC 3056), ISATAP (RFC 5214).
fn is_global_ipv6(address: Ipv6Addr) -> bool {
    let is_global =
        |high: u16, low: u16| is_global_ipv4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    let is_assigned = || {
        address.segments()[0] & 0xe000 == 0x2000
            && !IPV6_SPECIAL.iter().any(|network| network.contains(&address))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => is_global(high, low),
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => is_global(high, low) && is_assigned(),
        _ => is_assigned(),
    }
}
