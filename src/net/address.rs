//! Which addresses lead where. Asked of the *resolved* address of a connection, after [`effective`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// May our own client go there (S21)? Never to link-local, metadata and multicast addresses; to private ones if the operator's
/// URL may be one of those.
pub fn permits(ip: IpAddr, allow_private: bool) -> bool {
    let ip = effective(ip);
    !never(ip) && (allow_private || !private(ip))
}

/// The address that packets will really go to.
pub fn effective(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    let s = v6.segments();
    let low = |a: u16, b: u16| IpAddr::V4(Ipv4Addr::from((u32::from(a) << 16) | u32::from(b)));
    match s {
        // NAT64 (RFC 6052), its local-use prefix, IPv4-compatible, 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, a, b] | [0x64, 0xff9b, 1, _, _, _, a, b] => low(a, b),
        [0, 0, 0, 0, 0, 0, a, b] if a != 0 => low(a, b),
        [0x2002, a, b, ..] => low(a, b),
        _ => ip,
    }
}

/// Link-local, metadata, multicast, reserved: nothing of ours is ever there.
pub fn never(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let o = v4.octets();
            v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || o[0] == 0
                || o[0] >= 240
                || o == [168, 63, 129, 16]
                || o == [100, 100, 100, 200]
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified() || is_metadata_v6(v6),
    }
}

fn is_metadata_v6(ip: Ipv6Addr) -> bool {
    // AWS and GCP metadata over IPv6.
    ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) || ip == Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)
}

/// Loopback, private and other ranges that are not the public Internet's.
pub fn private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let o = v4.octets();
            let shared = o[0] == 100 && (64..128).contains(&o[1]);
            let benchmarking = o[0] == 198 && (o[1] == 18 || o[1] == 19);
            v4.is_private()
                || v4.is_loopback()
                || v4.is_documentation()
                || shared
                || benchmarking
                || (o[0] == 192 && o[1] == 0 && o[2] == 0)
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || (v6.segments()[0] & 0xffc0) == 0xfec0,
    }
}
