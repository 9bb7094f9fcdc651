//! Which addresses a stranger may make us connect to.
//!
//! Only global unicast ones. The check is inside the resolver of the connection, so a name that resolves
//! to something else a moment later gains nothing; a literal address in a URL does not pass the resolver
//! and is checked before. Redirects and proxies are off in every client. What our own configuration names
//! is exempt, by its exact scheme, host and port.

mod global;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub use global::is_global_unicast;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::url::{PeerOrigin, PeerUrl};

/// An address, or a name that has only such addresses, to which a stranger may not make us connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is not in the global network; name it in PEERS or HONEYCOMB_NODES if it is yours")]
pub struct AddressRefused {
    host: String,
}

impl AddressRefused {
    /// The refusal of a host.
    pub fn new(host: impl Into<String>) -> Self {
        Self { host: host.into() }
    }
}

/// How a URL may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Through the resolver that drops addresses that are not global.
    Guarded,
    /// As our own configuration says.
    Configured,
}

/// Decides how a URL may be dialled.
#[derive(Debug, Clone, Default)]
pub struct AddressGuard {
    configured: Arc<HashSet<PeerOrigin>>,
}

impl AddressGuard {
    /// Exempts what our own configuration names.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a PeerUrl>) -> Self {
        Self {
            configured: Arc::new(configured.into_iter().filter_map(PeerUrl::origin).collect()),
        }
    }

    /// How to dial a URL; a literal address that is not global is refused here.
    pub fn route(&self, url: &Url) -> Result<Route, AddressRefused> {
        if PeerOrigin::of(url).is_some_and(|origin| self.configured.contains(&origin)) {
            return Ok(Route::Configured);
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(name)) => name.parse().ok(),
            None => return Err(AddressRefused::new("a URL without a host")),
        };
        match literal {
            Some(address) if !is_global_unicast(address) => Err(AddressRefused::new(address.to_string())),
            _ => Ok(Route::Guarded),
        }
    }
}

/// A resolver that hands on only global unicast addresses of what another resolver finds.
#[derive(Clone)]
pub struct GuardedResolver {
    inner: Arc<dyn Resolve>,
}

impl GuardedResolver {
    /// Filters `inner`.
    pub fn new(inner: Arc<dyn Resolve>) -> Self {
        Self { inner }
    }

    /// Refuses a name that has addresses, but none that a stranger may make us connect to. A name that has no
    /// address, or of which none is heard within `patience`, is not refused.
    pub async fn check(&self, name: &str, patience: Duration) -> Result<(), AddressRefused> {
        let Ok(name) = name.parse() else {
            return Err(AddressRefused::new(name));
        };
        match tokio::time::timeout(patience, self.resolve(name)).await {
            Ok(Err(error)) => error
                .downcast::<AddressRefused>()
                .map_or(Ok(()), |refused| Err(*refused)),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }
}

impl std::fmt::Debug for GuardedResolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("GuardedResolver")
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let found = self.inner.resolve(name);
        Box::pin(async move {
            let mut global = found
                .await?
                .filter(|address| is_global_unicast(address.ip()))
                .peekable();
            if global.peek().is_none() {
                return Err(AddressRefused::new(host).into());
            }
            let addresses: Addrs = Box::new(global);
            Ok(addresses)
        })
    }
}

/// The resolver of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0 stands for the port of the URL.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let addresses: Addrs = Box::new(found.collect::<Vec<_>>().into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests;
