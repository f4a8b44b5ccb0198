//! Whose word on a client's address is taken.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::config::ConfigError;

/// Reverse proxies whose word on the client's address is taken.
#[derive(Clone, Debug)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Those in these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Those of the configuration, where an address is a network of one; of this machine if it says nothing.
    pub(super) fn configured(texts: Option<Vec<String>>) -> Result<Self, ConfigError> {
        let loopback = || vec![IpAddr::from(Ipv4Addr::LOCALHOST).into(), IpAddr::from(Ipv6Addr::LOCALHOST).into()];
        let network = |text: &String| {
            let address = || text.parse::<IpAddr>().ok().map(|address| address.to_canonical().into());
            let network = text.parse().ok().map(canonical).or_else(address);
            network.ok_or_else(|| ConfigError::TrustedProxy(text.clone()))
        };
        let networks = texts.map(|texts| texts.iter().map(network).collect::<Result<_, _>>()).transpose()?;
        Ok(Self(networks.unwrap_or_else(loopback)))
    }

    /// Whether there are any beyond this machine.
    pub fn are_elsewhere(&self) -> bool {
        !self.0.iter().all(|network| network.network().is_loopback() && network.broadcast().is_loopback())
    }

    /// Whether it is one of them.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.contains(&peer))
    }

    /// The client's address: the last one in `X-Forwarded-For` that is not a trusted proxy, if the peer is one; else
    /// the peer itself. A value that cannot be read ends the search, so that rubbish never opens anything.
    pub fn client(&self, peer: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in forwarded_for.unwrap_or_default().rsplit(',') {
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            if !self.contains(client) {
                break;
            }
            client = address.to_canonical();
        }
        client
    }
}

/// As the addresses in it are looked at: IPv4 that is written as IPv6 (`::ffff:10.0.0.0/104`) is IPv4.
pub(super) fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let of_ipv4 = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    let of_ipv4 = of_ipv4.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
    of_ipv4.map_or(network, IpNet::V4)
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        f.write_str(&self.0.iter().map(text).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Result<TrustedProxies, ConfigError> {
        TrustedProxies::configured(Some(texts.iter().map(|&text| text.to_owned()).collect()))
    }

    #[test]
    fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
        let proxies = proxies(&["127.0.0.1", "10.0.0.1"]).unwrap();
        let client = |peer: &str, header: Option<&str>| proxies.client(peer.parse().unwrap(), header).to_string();
        assert_eq!(client("127.0.0.1", Some("192.0.2.1")), "192.0.2.1");
        assert_eq!(client("127.0.0.1", Some("evil, 192.0.2.1")), "192.0.2.1");
        assert_eq!(client("127.0.0.1", Some("192.0.2.9, 192.0.2.1, 10.0.0.1")), "192.0.2.1");
        assert_eq!(client("127.0.0.1", Some("192.0.2.9, 10.0.0.2")), "10.0.0.2", "an address is a network of one");
        assert_eq!(client("192.0.2.7", Some("127.0.0.1")), "192.0.2.7");
        assert_eq!(client("127.0.0.1", Some("a")), "127.0.0.1");
        assert_eq!(client("127.0.0.1", None), "127.0.0.1");
        assert_eq!(client("::ffff:127.0.0.1", Some("192.0.2.1")), "192.0.2.1");
    }

    #[test]
    fn a_network_of_proxies_is_believed() {
        let proxies = proxies(&["10.20.0.0/16", "fd00:20::/32"]).unwrap();
        let client = |peer: &str, header: &str| proxies.client(peer.parse().unwrap(), Some(header)).to_string();
        assert_eq!(client("10.20.7.9", "192.0.2.9, 192.0.2.1, 10.20.0.1"), "192.0.2.1");
        assert_eq!(client("::ffff:10.20.7.9", "192.0.2.1"), "192.0.2.1");
        assert_eq!(client("fd00:20::7", "192.0.2.1"), "192.0.2.1");
        assert_eq!(client("10.21.0.1", "192.0.2.1"), "10.21.0.1");
        assert_eq!(client("127.0.0.1", "192.0.2.1"), "127.0.0.1", "who names some has named all");
    }

    #[test]
    fn a_network_of_ipv4_may_be_written_as_ipv6() {
        let proxies = proxies(&["::ffff:10.20.0.0/112", "::ffff:192.0.2.1/128"]).unwrap();
        assert_eq!(proxies.to_string(), "10.20.0.0/16, 192.0.2.1");
        assert!(proxies.contains("10.20.7.9".parse().unwrap()) && !proxies.contains("10.21.0.1".parse().unwrap()));
        assert!(proxies.contains("::ffff:192.0.2.1".parse().unwrap()) && proxies.are_elsewhere());
        let loopback = TrustedProxies::configured(Some(vec!["::ffff:127.0.0.0/104".to_owned()])).unwrap();
        assert!(!loopback.are_elsewhere());
    }

    #[test]
    fn it_is_told_what_is_trusted() {
        let named = proxies(&["10.20.0.0/16", "::1", "::ffff:192.0.2.1"]).unwrap();
        assert_eq!(named.to_string(), "10.20.0.0/16, ::1, 192.0.2.1");
        assert!(named.are_elsewhere() && proxies(&["0.0.0.0/0"]).unwrap().are_elsewhere());
        let usual = TrustedProxies::configured(None).unwrap();
        assert_eq!(usual.to_string(), "127.0.0.1, ::1");
        assert!(!usual.are_elsewhere() && !proxies(&["127.0.0.0/8"]).unwrap().are_elsewhere());
        let refused = proxies(&["10.20.0.0/33"]).unwrap_err().to_string();
        assert!(refused.contains("\"10.20.0.0/33\" is neither an address nor a network"), "{refused}");
    }
}
