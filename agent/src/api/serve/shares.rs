//! How many of the connections each address has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use crate::api::limits::network_of;

/// The open connections by address, and how many of them one may have.
#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    /// Networks whose addresses have as many as there are.
    exempt: Vec<IpNet>,
    /// No more entries than there are connections.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    address: Option<IpAddr>,
}

impl Shares {
    pub(super) fn new(most: usize, exempt: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self {
            most,
            exempt,
            open: Mutex::default(),
        })
    }

    /// A connection of an address; none where it has as many as it may. A /64 network of IPv6 counts as one.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let address = address.to_canonical();
        let is_exempt = self.exempt.iter().any(|network| network.contains(&address));
        let address = (!is_exempt).then(|| network_of(address));
        if let Some(address) = address {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(address).or_default();
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(Share {
            shares: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.shares.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_no_more_than_its_share_and_gets_it_back() {
        let shares = Shares::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let take = |address: &str| shares.take(address.parse().unwrap());
        let (first, second) = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(first.is_some() && take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some() && take("192.0.2.1").is_some());
        drop(first);
        assert!(take("2001:db8::3").is_some());
        let proxied: Vec<_> = (0..9).map(|_| take("::ffff:10.0.0.1")).collect();
        assert!(proxied.iter().all(Option::is_some));
        drop((proxied, second));
        assert!(shares.open.lock().unwrap().is_empty());
    }
}
