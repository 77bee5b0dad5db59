//! Whether an address that somebody named lies out in the world, or within a network that this machine is part of.
//!
//! Whoever has a key may not have this server call what only this machine can reach: the services on it, the machines
//! beside it, the metadata of a cloud. Names are looked up here, and every address they have counts. A name can have
//! another address by the time it is called: it is taken with `https` only, where whoever answers has to prove that the
//! name is theirs, before anything is said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Ranges that no public service is at, from the IANA IPv4 Special-Purpose Address Registry, and multicast.
const INWARD_V4: [Ipv4Net; 14] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];
/// What is public of IPv6: everything else is reserved, local or multicast (RFC 4291, section 2.4).
const OUTWARD_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// Of that: documentation, 6to4 and Teredo, of which the last two carry an IPv4 address.
const INWARD_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),
];

const fn v4(octets: [u8; 4], bits: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(segments: [u16; 8], bits: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), bits)
}

/// What is wrong with an address that is not, continuing the sentence.
pub(crate) const PROBLEM: &str = "is within this machine's network, or nowhere, or a name without https";

/// Whether everything that an `http` or `https` address names is out in the world, and will be. One that cannot be looked
/// up is not.
pub(crate) async fn is_outward(url: &str) -> bool {
    let Some((host, port)) = host_and_port(url) else { return false };
    if !is_https(url) && host.parse::<IpAddr>().is_err() {
        return false;
    }
    let Ok(found) = tokio::net::lookup_host((host, port)).await else { return false };
    let mut found = found.peekable();
    found.peek().is_some() && found.all(|address| is_public(address.ip()))
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let uri: axum::http::Uri = url.parse().ok()?;
    let usual = if is_https(url) { 443 } else { 80 };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), uri.port_u16().unwrap_or(usual)))
}

fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
}

fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !INWARD_V4.iter().any(|range| range.contains(&address)),
        IpAddr::V6(address) => OUTWARD_V6.contains(&address) && !INWARD_V6.iter().any(|range| range.contains(&address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_can_reach_is_not_public() {
        let public = |address: &str| is_public(address.parse().unwrap());
        for inward in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "2002:7f00:1::",
            "2001:db8::1",
        ] {
            assert!(!public(inward), "{inward}");
        }
        for outward in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(public(outward), "{outward}");
        }
    }

    #[tokio::test]
    async fn an_address_is_judged_by_what_its_name_stands_for() {
        for inward in [
            "http://localhost:8080/v1",
            "http://[::1]:8080",
            "http://2130706433/",
            "https://user@127.0.0.1",
            "http://name.invalid",
            // A name that may stand for something else by the time it is called.
            "http://one.one.one.one/v1",
            "nonsense",
            "",
        ] {
            assert!(!is_outward(inward).await, "{inward}");
        }
        assert!(is_outward("https://1.1.1.1/v1").await);
        assert!(is_outward("http://[2606:4700::1111]:80").await);
    }
}
