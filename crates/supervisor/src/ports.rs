//! Ports of this machine's loopback address: one that is free, and whether one is.
//!
//! A port is not held until the service has it: between the look and its start another program may take it. Then the
//! service says so and ends, which is a failed start like any other.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, TcpListener},
};

/// A port of 127.0.0.1 that nobody listens on.
///
/// # Errors
/// Where the system has none to give.
pub fn free() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Whether a service could listen on this port of 127.0.0.1 now.
///
/// # Errors
/// [`ErrorKind::AddrInUse`] where another program does, or [`ErrorKind::PermissionDenied`] for one of the low ports.
pub fn check(port: u16) -> Result<(), ErrorKind> {
    // The library sets SO_REUSEADDR, so what is left of connections that have ended is in nobody's way.
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(|error| error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_free_until_it_is_taken() {
        let port = free().unwrap();
        assert_eq!(check(port), Ok(()));
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(check(port), Err(ErrorKind::AddrInUse));
        drop(taken);
        assert_eq!(check(port), Ok(()));
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        assert_eq!(check(port), Err(ErrorKind::AddrInUse));
        drop(everywhere);
    }
}
