//! Where a request comes from: the peer, or what proxies that are trusted say of it. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// The address of the browser. `forwarded` are the values of X-Forwarded-For in the order they came.
///
/// The list is read from its end, where the nearest proxy wrote; it is believed only as far as trusted proxies wrote it.
/// What cannot be read ends it: a stranger who sends rubbish gains nothing.
pub(crate) fn client_address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted_proxies: &[IpNet],
) -> IpAddr {
    let mut nearest = peer;
    for entry in forwarded.rev().flat_map(|value| value.rsplit(',')) {
        if !is_trusted(nearest, trusted_proxies) {
            break;
        }
        let Ok(address) = entry.trim().trim_matches(['[', ']']).parse() else { break };
        nearest = address;
    }
    nearest.to_canonical()
}

/// Whether it is one of these proxies.
pub(crate) fn is_trusted(address: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted_proxies.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["127.0.0.1/32", "10.0.0.2/32", "10.20.0.0/16"].map(|network| network.parse().unwrap());
        client_address(peer.parse().unwrap(), forwarded.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (peer, forwarded, expected) in [
            ("127.0.0.1", &[][..], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["a"], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9, a, 10.0.0.2"], "10.0.0.2"),
            ("127.0.0.1", &["203.0.113.9, 10.0.0.3"], "10.0.0.3"),
            ("10.20.7.9", &["198.51.100.1, 203.0.113.9, 10.20.0.1"], "203.0.113.9"),
            ("10.21.0.1", &["203.0.113.9"], "10.21.0.1"),
            ("::ffff:127.0.0.1", &["2001:db8::1"], "2001:db8::1"),
        ] {
            assert_eq!(address(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }
}
