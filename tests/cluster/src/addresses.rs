//! The addresses of level two, all on this machine, out of 198.18.0.0/15, which RFC 2544 sets aside for benchmarks.

use std::net::Ipv4Addr;

/// All of the harness's addresses are in here.
pub(crate) const ALL: &str = "198.19.0.0/16";

/// The bridge device that carries the addresses of the control plane and of the nodes.
pub(crate) const BRIDGE: &str = "hgcluster";

/// Prefix length of the node network: 198.19.0.0/24.
pub(crate) const NODE_NETWORK_BITS: u8 = 24;

/// Where the control plane listens in level two. The kubelet refuses a loopback address and pods cannot reach one.
pub(crate) const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

/// The addresses of all pods; every node has a /24 of it.
pub(crate) const PODS: &str = "198.19.16.0/20";

/// The addresses of Services.
pub(crate) const SERVICES: &str = "198.19.32.0/20";

/// The Service of the apiserver: the first address of [`SERVICES`], by Kubernetes' rule.
pub(crate) const APISERVER_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 32, 1);

/// The Service of cluster DNS; `manifests/coredns.yaml` names it too.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(198, 19, 32, 10);

/// Address of a node, counted from 0.
pub(crate) fn node(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 0, 11 + index)
}

/// The addresses of a node's pods.
pub(crate) fn node_pods(index: u8) -> String {
    format!("198.19.{}.0/24", 16 + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_dns_has_the_address_that_kubelets_hand_out() {
        assert!(include_str!("../manifests/coredns.yaml").contains(&format!("clusterIP: {DNS_SERVICE}\n")));
    }
}
