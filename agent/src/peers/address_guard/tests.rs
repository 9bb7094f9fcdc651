use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

fn global(text: &str) -> bool {
    is_global_unicast(text.parse().unwrap())
}

#[test]
fn addresses_of_the_global_network_pass() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2001:200::1",
        "2a00:1450:4001:81b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ] {
        assert!(global(address), "{address}");
    }
}

#[test]
fn everything_else_is_refused() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::8.8.8.8",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:0:8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:2::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a00:1::1",
        "2606:4700::5efe:10.0.0.1",
        "2606:4700::200:5efe:127.0.0.1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "4000::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::5efe:8.8.8.8",
        "fec0::1",
        "ff02::1",
    ] {
        assert!(!global(address), "{address}");
    }
}

proptest! {
    #[test]
    fn no_wrapping_makes_a_local_address_global(bits in any::<u32>()) {
        let address = Ipv4Addr::from(bits);
        let [a, b, c, d] = address.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let wrapped = [
            address.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ];
        for wrapped in wrapped {
            prop_assert_eq!(is_global_unicast(wrapped.into()), is_global_unicast(address.into()));
        }
        prop_assert!(!is_global_unicast(address.to_ipv6_compatible().into()));
        if address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
            || address.is_broadcast() || address.is_documentation() || address.is_unspecified() {
            prop_assert!(!is_global_unicast(address.into()));
        }
    }
}

fn route(guard: &AddressGuard, url: &str) -> Result<Route, AddressRefused> {
    guard.route(&Url::parse(url).unwrap())
}

#[test]
fn a_configured_address_is_exempt_by_scheme_host_and_port() {
    let guard = AddressGuard::new(&["http://127.0.0.1:3030".parse().unwrap()]);
    assert_eq!(route(&guard, "http://127.0.0.1:3030/api"), Ok(Route::Configured));
    assert_eq!(route(&guard, "http://2130706433:3030/api"), Ok(Route::Configured));
    assert!(route(&guard, "http://127.0.0.1:3031/api").is_err());
    assert!(route(&guard, "https://127.0.0.1:3030/api").is_err());
    assert!(route(&guard, "http://127.0.0.2:3030/api").is_err());
    assert!(route(&guard, "http://[::ffff:127.0.0.1]:3030/api").is_err());
    assert_eq!(route(&guard, "http://localhost:3030/api"), Ok(Route::Guarded));
}

#[test]
fn literal_addresses_are_checked_in_every_spelling() {
    let guard = AddressGuard::default();
    for url in [
        "http://127.1/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://2130706433/",
        "http://127.0.0.1./",
        "http://[::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "https://10.0.0.1:8443/",
    ] {
        assert!(route(&guard, url).is_err(), "{url}");
    }
    assert_eq!(route(&guard, "http://1.1.1.1/"), Ok(Route::Guarded));
}

/// Answers each question with the next of its lists.
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Resolve for Scripted {
    fn resolve(&self, _: Name) -> Resolving {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers[turn].clone();
        Box::pin(async move {
            let addresses: Addrs = Box::new(answer.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

async fn resolve(resolver: &GuardedResolver) -> Result<Vec<String>, String> {
    match resolver.resolve("peer.example".parse().unwrap()).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip().to_string()).collect()),
        Err(error) => {
            assert!(error.is::<AddressRefused>());
            Err(error.to_string())
        }
    }
}

#[tokio::test]
async fn only_global_addresses_of_a_name_are_handed_on_at_every_question() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let resolver = GuardedResolver::new(Arc::new(Scripted {
        answers: vec![
            vec![address("1.1.1.1")],
            vec![address("127.0.0.1")],
            vec![address("::ffff:10.0.0.1"), address("8.8.8.8"), address("fe80::1")],
            vec![],
        ],
        asked: AtomicUsize::new(0),
    }));
    assert_eq!(resolve(&resolver).await.unwrap(), ["1.1.1.1"]);
    let rebound = resolve(&resolver).await.unwrap_err();
    assert!(rebound.contains("peer.example"), "{rebound}");
    assert_eq!(resolve(&resolver).await.unwrap(), ["8.8.8.8"]);
    assert!(resolve(&resolver).await.is_err());
}

#[tokio::test]
async fn a_name_of_this_machine_is_refused() {
    let resolver = GuardedResolver::new(Arc::new(SystemResolver));
    assert!(resolver.resolve("localhost".parse().unwrap()).await.is_err());
}
