//! A router that says yes to everything, and does nothing.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::Context as _;

use crate::Arguments;

/// Where PCP and NAT-PMP are asked.
const PORT: u16 = 5351;

/// Grants every mapping that is asked for by PCP (RFC 6887) or NAT-PMP (RFC 6886), at the outside address given.
pub(crate) fn lie(arguments: &Arguments) -> anyhow::Result<()> {
    let at: IpAddr = arguments.position(1)?.parse()?;
    let outside: Ipv4Addr = arguments.position(2)?.parse()?;
    let socket = UdpSocket::bind((at, PORT)).with_context(|| at.to_string())?;
    println!("listening");
    let mut request = [0; 1100];
    // One count for all: it never goes back, and its speed is nobody's business for so short a time.
    let mut epoch: u32 = 1000;
    loop {
        let (length, from) = socket.recv_from(&mut request)?;
        let request = &request[..length];
        epoch += 1;
        let answer = match request {
            [2, 0, ..] if length == 24 => pcp(request, epoch, outside),
            [2, 1, ..] if length == 60 => pcp(request, epoch, outside),
            [0, 0] => nat_pmp(0, epoch, &outside.octets()),
            [0, 1, _, _, inside @ ..] if length == 12 => nat_pmp(1, epoch, inside),
            _ => continue,
        };
        socket.send_to(&answer, from)?;
    }
}

/// The request again, as an answer with result 0: it grants the lifetime and the port that were asked for.
fn pcp(request: &[u8], epoch: u32, outside: Ipv4Addr) -> Vec<u8> {
    let mut answer = request.to_vec();
    answer[1] |= 0x80;
    answer[8..24].fill(0);
    answer[8..12].copy_from_slice(&epoch.to_be_bytes());
    if let Some(address) = answer.get_mut(44..60) {
        address.copy_from_slice(&outside.to_ipv6_mapped().octets());
    }
    answer
}

fn nat_pmp(opcode: u8, epoch: u32, rest: &[u8]) -> Vec<u8> {
    let mut answer = vec![0, 0x80 | opcode, 0, 0];
    answer.extend(epoch.to_be_bytes());
    answer.extend(rest);
    answer
}
