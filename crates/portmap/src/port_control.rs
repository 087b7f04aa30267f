//! The bytes of PCP (RFC 6887) and NAT-PMP (RFC 6886): requests for a UDP port, and their answers.
//!
//! Pure. A [`Request`] reads its own answers, so that an answer to something else is never taken for one to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port at which gateways listen, for both protocols.
pub(crate) const SERVER_PORT: u16 = 5351;

/// Longest PCP message (RFC 6887 §7).
pub(crate) const MESSAGE_MAX: usize = 1100;

const PCP_VERSION: u8 = 2;
const NAT_PMP_VERSION: u8 = 0;
const RESPONSE: u8 = 0x80;
const OPCODE_ANNOUNCE: u8 = 0;
const OPCODE_MAP: u8 = 1;
const PCP_HEADER_LEN: usize = 24;
const PCP_MAP_LEN: usize = 60;
/// UDP's number in IP.
const PROTOCOL_UDP: u8 = 17;

/// What proves to a PCP server that a mapping is ours (RFC 6887 §11.2): without it nothing can be renewed or deleted.
pub(crate) type Nonce = [u8; 12];

/// A question to a gateway. A lifetime of 0 deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// PCP: are you there, and since when? (RFC 6887 §14.1)
    Announce { client: IpAddr },
    /// PCP: forward a UDP port (RFC 6887 §11).
    Map {
        client: IpAddr,
        nonce: Nonce,
        internal_port: u16,
        /// 0 is "any".
        suggested_port: u16,
        /// `None` is "any".
        suggested_ip: Option<IpAddr>,
        lifetime_secs: u32,
    },
    /// NAT-PMP: what is your outside address, and since when are you there? (RFC 6886 §3.2)
    ExternalAddress,
    /// NAT-PMP: forward a UDP port (RFC 6886 §3.3).
    MapNatPmp {
        internal_port: u16,
        suggested_port: u16,
        lifetime_secs: u32,
    },
}

/// What a gateway granted; what the question was not about is zero or `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Seconds since the gateway began to count, or lost its state.
    pub(crate) epoch_secs: u32,
    pub(crate) lifetime_secs: u32,
    pub(crate) external_ip: Option<IpAddr>,
    pub(crate) external_port: u16,
}

/// Why a gateway said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It does not speak the version of the question.
    #[error("it does not speak this version")]
    Version,
    /// PCP result 12: our address is not the one it sees, so another NAT stands between.
    #[error("it sees another address than ours: a NAT stands between")]
    AddressMismatch,
    /// Any other result code of the protocol that was asked.
    #[error("it refused with result {0}")]
    Result(u16),
}

impl Request {
    /// Writes the request.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Announce { client } => pcp_header(OPCODE_ANNOUNCE, 0, client),
            Self::Map {
                client,
                nonce,
                internal_port,
                suggested_port,
                suggested_ip,
                lifetime_secs,
            } => {
                let mut bytes = pcp_header(OPCODE_MAP, lifetime_secs, client);
                bytes.extend_from_slice(&nonce);
                bytes.extend_from_slice(&[PROTOCOL_UDP, 0, 0, 0]);
                bytes.extend_from_slice(&internal_port.to_be_bytes());
                bytes.extend_from_slice(&suggested_port.to_be_bytes());
                // RFC 6887 §11.1: "any" is the unspecified address of the family that is wanted.
                let any = match client {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                bytes.extend_from_slice(&octets(suggested_ip.unwrap_or(any)));
                bytes
            }
            Self::ExternalAddress => vec![NAT_PMP_VERSION, 0],
            Self::MapNatPmp {
                internal_port,
                suggested_port,
                lifetime_secs,
            } => {
                let mut bytes = vec![NAT_PMP_VERSION, OPCODE_MAP, 0, 0];
                bytes.extend_from_slice(&internal_port.to_be_bytes());
                bytes.extend_from_slice(&suggested_port.to_be_bytes());
                bytes.extend_from_slice(&lifetime_secs.to_be_bytes());
                bytes
            }
        }
    }

    /// Reads an answer; `None` when the bytes are none to this request.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<Result<Grant, Refusal>> {
        let (&version, &code) = (bytes.first()?, bytes.get(1)?);
        if code & RESPONSE == 0 {
            return None;
        }
        match *self {
            Self::Announce { .. } => {
                read_pcp(version, code, bytes, OPCODE_ANNOUNCE, |_| Some((0, None)))
            }
            Self::Map {
                nonce,
                internal_port,
                ..
            } => read_pcp(version, code, bytes, OPCODE_MAP, |bytes| {
                let ours = bytes.get(24..36)? == nonce
                    && *bytes.get(36)? == PROTOCOL_UDP
                    && u16_at(bytes, 40)? == internal_port;
                let granted = (u16_at(bytes, 42)?, Some(ip_at(bytes, 44)?));
                (ours && bytes.len() >= PCP_MAP_LEN).then_some(granted)
            }),
            Self::ExternalAddress => read_nat_pmp(version, code, bytes, 0, |bytes| {
                let octets: [u8; 4] = bytes.get(8..12)?.try_into().ok()?;
                Some((0, 0, Some(IpAddr::from(octets))))
            }),
            Self::MapNatPmp { internal_port, .. } => {
                read_nat_pmp(version, code, bytes, OPCODE_MAP, |bytes| {
                    (u16_at(bytes, 8)? == internal_port).then_some((
                        u32_at(bytes, 12)?,
                        u16_at(bytes, 10)?,
                        None,
                    ))
                })
            }
        }
    }
}

fn pcp_header(opcode: u8, lifetime_secs: u32, client: IpAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PCP_MAP_LEN);
    bytes.extend_from_slice(&[PCP_VERSION, opcode, 0, 0]);
    bytes.extend_from_slice(&lifetime_secs.to_be_bytes());
    bytes.extend_from_slice(&octets(client));
    bytes
}

fn read_pcp(
    version: u8,
    code: u8,
    bytes: &[u8],
    opcode: u8,
    granted: impl FnOnce(&[u8]) -> Option<(u16, Option<IpAddr>)>,
) -> Option<Result<Grant, Refusal>> {
    if version == NAT_PMP_VERSION {
        // RFC 6886 §3.5, RFC 6887 §9: one that knows only NAT-PMP says so in its own words.
        let is_version = u16_at(bytes, 2)? == 1;
        return is_version.then_some(Err(Refusal::Version));
    }
    if code & !RESPONSE != opcode {
        return None;
    }
    let result = *bytes.get(3)?;
    match result {
        1 => return Some(Err(Refusal::Version)),
        12 => return Some(Err(Refusal::AddressMismatch)),
        _ => {}
    }
    if version != PCP_VERSION || bytes.len() < PCP_HEADER_LEN {
        return None;
    }
    if result != 0 {
        return Some(Err(Refusal::Result(u16::from(result))));
    }
    let (external_port, external_ip) = granted(bytes)?;
    Some(Ok(Grant {
        epoch_secs: u32_at(bytes, 8)?,
        lifetime_secs: u32_at(bytes, 4)?,
        external_ip,
        external_port,
    }))
}

fn read_nat_pmp(
    version: u8,
    code: u8,
    bytes: &[u8],
    opcode: u8,
    granted: impl FnOnce(&[u8]) -> Option<(u32, u16, Option<IpAddr>)>,
) -> Option<Result<Grant, Refusal>> {
    if version == PCP_VERSION {
        // RFC 6887 §9: a server without NAT-PMP answers in its own version.
        return (*bytes.get(3)? == 1).then_some(Err(Refusal::Version));
    }
    if version != NAT_PMP_VERSION || code & !RESPONSE != opcode {
        return None;
    }
    match u16_at(bytes, 2)? {
        0 => {}
        1 => return Some(Err(Refusal::Version)),
        result => return Some(Err(Refusal::Result(result))),
    }
    let (lifetime_secs, external_port, external_ip) = granted(bytes)?;
    Some(Ok(Grant {
        epoch_secs: u32_at(bytes, 4)?,
        lifetime_secs,
        external_ip,
        external_port,
    }))
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn ip_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets).to_canonical())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));
    const MAP: Request = Request::Map {
        client: CLIENT,
        nonce: *b"abcdefghijkl",
        internal_port: 41000,
        suggested_port: 41000,
        suggested_ip: None,
        lifetime_secs: 7200,
    };
    const MAP_NAT_PMP: Request = Request::MapNatPmp {
        internal_port: 41000,
        suggested_port: 41000,
        lifetime_secs: 7200,
    };

    /// The answer of a server that grants what was asked at 203.0.113.7.
    fn granted_map() -> Vec<u8> {
        let mut answer = MAP.encode();
        answer[1] |= RESPONSE;
        answer[8..24].fill(0);
        answer[8..12].copy_from_slice(&77u32.to_be_bytes());
        answer[44..60].copy_from_slice(&octets("203.0.113.7".parse().unwrap()));
        answer
    }

    #[test]
    fn a_pcp_request_is_laid_out_as_in_rfc_6887() {
        let bytes = MAP.encode();
        assert_eq!(bytes.len(), 60);
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 0x1c, 0x20]);
        assert_eq!(bytes[8..24], octets(CLIENT));
        assert_eq!(bytes[24..36], *b"abcdefghijkl");
        assert_eq!(bytes[36..40], [17, 0, 0, 0]);
        assert_eq!(bytes[40..44], [0xa0, 0x28, 0xa0, 0x28]);
        assert_eq!(
            bytes[44..60],
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]
        );
        assert_eq!(Request::Announce { client: CLIENT }.encode().len(), 24);
    }

    #[test]
    fn a_nat_pmp_request_is_laid_out_as_in_rfc_6886() {
        assert_eq!(Request::ExternalAddress.encode(), [0, 0]);
        assert_eq!(
            MAP_NAT_PMP.encode(),
            [0, 1, 0, 0, 0xa0, 0x28, 0xa0, 0x28, 0, 0, 0x1c, 0x20]
        );
    }

    #[test]
    fn a_grant_is_read() {
        let expected = Grant {
            epoch_secs: 77,
            lifetime_secs: 7200,
            external_ip: Some("203.0.113.7".parse().unwrap()),
            external_port: 41000,
        };
        assert_eq!(MAP.read(&granted_map()), Some(Ok(expected)));
        let answer = [
            0, 129, 0, 0, 0, 0, 0, 77, 0xa0, 0x28, 0xa0, 0x29, 0, 0, 0, 9,
        ];
        let expected = Grant {
            epoch_secs: 77,
            lifetime_secs: 9,
            external_ip: None,
            external_port: 41001,
        };
        assert_eq!(MAP_NAT_PMP.read(&answer), Some(Ok(expected)));
        let answer = [0, 128, 0, 0, 0, 0, 0, 77, 203, 0, 113, 7];
        let grant = Request::ExternalAddress.read(&answer).unwrap().unwrap();
        assert_eq!(grant.external_ip, Some("203.0.113.7".parse().unwrap()));
    }

    #[test]
    fn an_answer_with_another_nonce_port_or_protocol_is_none_to_this_request() {
        for at in [24, 36, 40] {
            let mut answer = granted_map();
            answer[at] ^= 1;
            assert_eq!(MAP.read(&answer), None, "{at}");
        }
        let other_port = [0, 129, 0, 0, 0, 0, 0, 77, 0, 1, 0xa0, 0x29, 0, 0, 0, 9];
        assert_eq!(MAP_NAT_PMP.read(&other_port), None);
        assert_eq!(
            MAP_NAT_PMP.read(&[0, 128, 0, 0, 0, 0, 0, 77, 1, 2, 3, 4]),
            None
        );
    }

    #[test]
    fn a_gateway_of_the_other_protocol_says_so() {
        assert_eq!(MAP.read(&[0, 129, 0, 1]), Some(Err(Refusal::Version)));
        assert_eq!(
            MAP.read(&[0, 128, 0, 1, 0, 0, 0, 1]),
            Some(Err(Refusal::Version))
        );
        let mut pcp = vec![2, 0x80, 0, 1];
        pcp.resize(24, 0);
        assert_eq!(
            Request::ExternalAddress.read(&pcp),
            Some(Err(Refusal::Version))
        );
        assert_eq!(MAP_NAT_PMP.read(&pcp), Some(Err(Refusal::Version)));
    }

    #[test]
    fn a_refusal_names_its_result() {
        let mut answer = granted_map();
        answer[3] = 2;
        assert_eq!(MAP.read(&answer), Some(Err(Refusal::Result(2))));
        answer[3] = 12;
        assert_eq!(MAP.read(&answer), Some(Err(Refusal::AddressMismatch)));
        let refused = [0, 129, 0, 4, 0, 0, 0, 9];
        assert_eq!(MAP_NAT_PMP.read(&refused), Some(Err(Refusal::Result(4))));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_none() {
        let mut answer = MAP.encode();
        answer[1] |= RESPONSE;
        assert!(matches!(MAP.read(&answer), Some(Ok(_))));
        for len in 0..answer.len() {
            assert_eq!(MAP.read(&answer[..len]), None, "{len}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let requests = [
            MAP,
            MAP_NAT_PMP,
            Request::ExternalAddress,
            Request::Announce { client: CLIENT },
        ];
        for request in requests {
            for version in [0, 1, 2, 3, 255] {
                for code in [0, 1, 128, 129, 130, 255] {
                    for len in 0..70 {
                        let mut bytes = vec![0; len];
                        bytes.iter_mut().take(1).for_each(|byte| *byte = version);
                        bytes
                            .iter_mut()
                            .skip(1)
                            .take(1)
                            .for_each(|byte| *byte = code);
                        let _ = request.read(&bytes);
                    }
                }
            }
        }
    }
}
