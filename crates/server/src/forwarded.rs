//! Where a request really comes from, when a proxy stands in front.
//!
//! Anybody can write a header, so what one says counts only as far as it was written by somebody who is trusted: the
//! chain of addresses is read from its end, where the nearest proxy wrote, and the first that is no trusted proxy's is
//! the client's. Whatever stands before it is of no interest and not even parsed. What cannot be read ends the walk, at
//! the last proxy that could: better too many clients behind one address than one with the address of another.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

/// The most proxies that are walked past.
const HOPS_MAX: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The header in which trusted proxies write where a request comes from.
///
/// Only one is read: a proxy hands on the other as the client wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses with commas between them.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
}

/// Whom a request comes from, by the address at the other end of its connection and by what is written in its headers.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, header: ProxyHeader, trusted: &[IpNet]) -> IpAddr {
    let mut nearest = peer.to_canonical();
    if !is_trusted(nearest, trusted) {
        return nearest;
    }
    let name = match header {
        ProxyHeader::XForwardedFor => X_FORWARDED_FOR,
        ProxyHeader::Forwarded => header::FORWARDED,
    };
    let values = headers.get_all(name).iter().rev();
    for hop in values.flat_map(Elements::of).take(HOPS_MAX) {
        let written = match header {
            ProxyHeader::XForwardedFor => node(hop),
            ProxyHeader::Forwarded => forwarded_for(hop).and_then(node),
        };
        let Some(address) = written else { return nearest };
        nearest = address;
        if !is_trusted(nearest, trusted) {
            return nearest;
        }
    }
    nearest
}

/// The address that stands for all that one client has: its own, or the 64 bits of an IPv6 address that name a network
/// (RFC 4291, section 2.5.4), in which a client has as many addresses as it likes.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|range| range.contains(&address))
}

/// The parts of a header between commas that stand in no quotes, from the last to the first.
struct Elements<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Elements<'a> {
    fn of(value: &'a HeaderValue) -> Self {
        Self { rest: Some(value.as_bytes()) }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (before, element) = cut_at_last(self.rest?, b',');
        self.rest = before;
        // What is no text is an element that cannot be read, and says nothing of those after it.
        Some(str::from_utf8(element).unwrap_or("?").trim())
    }
}

/// What stands before the last of a byte outside of quotes, if there is one, and what after it. Quotes are counted from
/// the end, so that one which somebody left open before cannot swallow what a proxy wrote after it.
fn cut_at_last(bytes: &[u8], wanted: u8) -> (Option<&[u8]>, &[u8]) {
    let mut in_quotes = false;
    for (at, byte) in bytes.iter().enumerate().rev() {
        let escapes = || bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        match byte {
            b'"' if escapes() % 2 == 0 => in_quotes = !in_quotes,
            byte if *byte == wanted && !in_quotes => return (Some(&bytes[..at]), &bytes[at + 1..]),
            _ => {}
        }
    }
    (None, bytes)
}

/// The value of `for` in an element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut rest = Some(element.as_bytes());
    while let Some(bytes) = rest {
        let (before, pair) = cut_at_last(bytes, b';');
        if let Some((name, value)) = str::from_utf8(pair).ok()?.split_once('=')
            && name.trim().eq_ignore_ascii_case("for")
        {
            return Some(value.trim());
        }
        rest = before;
    }
    None
}

/// An address as proxies write it: bare, with a port, in brackets, in quotes.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    bare().or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, header: ProxyHeader, values: &[&str], expected: &str) {
        let name = match header {
            ProxyHeader::XForwardedFor => "x-forwarded-for",
            ProxyHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let trusted = ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"].map(|range| range.parse().unwrap());
        let found = client(peer.parse().unwrap(), &headers, header, &trusted);
        assert_eq!(found.to_string(), expected, "{peer} {values:?}");
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let check = |peer, values: &[&str], expected| check(peer, ProxyHeader::XForwardedFor, values, expected);
        check("192.0.2.1", &[], "192.0.2.1");
        check("192.0.2.1", &["198.51.100.1"], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("fd00::1", &["2001:db8::5"], "2001:db8::5");
    }

    #[test]
    fn what_the_client_wrote_itself_counts_for_nothing() {
        let check = |values: &[&str], expected| check("10.0.0.1", ProxyHeader::XForwardedFor, values, expected);
        check(&["127.0.0.1, 198.51.100.1"], "198.51.100.1");
        check(&["127.0.0.1", "198.51.100.1"], "198.51.100.1");
        check(&["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check(&["\"203.0.113.9, 198.51.100.1"], "198.51.100.1");
        check(&[&format!("{}198.51.100.1", "203.0.113.9,".repeat(5_000))], "198.51.100.1");
    }

    #[test]
    fn what_cannot_be_read_ends_at_the_last_that_could() {
        let check = |values: &[&str], expected| check("10.0.0.1", ProxyHeader::XForwardedFor, values, expected);
        for garbage in ["", ",", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "::g", "evil.example", "ä", "1.2.3.4:x"] {
            check(&[garbage], "10.0.0.1");
            check(&[&format!("198.51.100.1, {garbage}, 10.0.0.7")], "10.0.0.7");
        }
        check(&[&"x".repeat(60_000)], "10.0.0.1");
        // All of them are ours: the first is as near as it gets; more than anybody has are not walked past.
        check(&["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check(&[&format!("198.51.100.1{}", ", 10.0.0.5".repeat(HOPS_MAX))], "10.0.0.5");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        let check = |value: &str, expected| check("10.0.0.1", ProxyHeader::XForwardedFor, &[value], expected);
        check("198.51.100.1:4711", "198.51.100.1");
        check("[2001:db8::1]", "2001:db8::1");
        check("[2001:db8::1]:443", "2001:db8::1");
        check("\"[2001:db8::1]:443\"", "2001:db8::1");
        check("::ffff:198.51.100.1", "198.51.100.1");
    }

    #[test]
    fn the_header_of_the_standard_is_read_too() {
        let check = |values: &[&str], expected| check("10.0.0.1", ProxyHeader::Forwarded, values, expected);
        check(&["for=198.51.100.1"], "198.51.100.1");
        check(&["For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"], "2001:db8::1");
        check(&["for=203.0.113.9;host=\"a,b;for=1.1.1.1\", proto=https; for = 198.51.100.1 "], "198.51.100.1");
        check(&["for=203.0.113.9", "for=198.51.100.1, for=10.0.0.2"], "198.51.100.1");
        check(&["for=\"203.0.113.9, for=198.51.100.1"], "198.51.100.1");
        check(&["for=\"a\\\", for=198.51.100.1"], "198.51.100.1");
        for garbage in ["for=unknown", "for=_gazonk", "by=203.0.113.9", "for", "for=\"", "for=198.51.100.1;;for=x"] {
            check(&[garbage], "10.0.0.1");
        }
    }

    #[test]
    fn the_other_header_is_the_clients_own() {
        let headers = HeaderMap::from_iter([(header::FORWARDED, HeaderValue::from_static("for=127.0.0.1"))]);
        let peer = "10.0.0.1".parse().unwrap();
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(client(peer, &headers, ProxyHeader::XForwardedFor, &trusted), peer);
    }

    #[test]
    fn an_ipv6_client_has_a_whole_network() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
