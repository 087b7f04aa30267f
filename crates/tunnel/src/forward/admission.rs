//! Whether a flow that arrived may begin, and where it leads.

use std::net::SocketAddr;

use mapping_core::{MappingId, Protocol};

use super::clock::{lock, now, sleep_until};
use super::dial::{self, Refusal};
use super::egress::Inner;
use crate::control::Admission;
use crate::flow::{OpenRequest, RefuseCode};

/// Waits for the table version, then asks the table, the name service and the allow-list.
pub(super) async fn admit(
    inner: &Inner,
    request: &OpenRequest,
    protocol: Protocol,
) -> Result<Vec<SocketAddr>, Refusal> {
    let first_asked = now();
    let mut committed = inner.committed.subscribe();
    let mapping = loop {
        committed.borrow_and_update();
        let id = MappingId::new(request.mapping);
        let admission = lock(&inner.control).admit(request.table_version, id, first_asked, now());
        match admission {
            Admission::Yes(mapping) => break mapping,
            Admission::No(refused) => {
                let code = match refused.code.as_str() {
                    "unknown-version" | "unknown-mapping" => RefuseCode::NoMapping,
                    _ => RefuseCode::NotAllowed,
                };
                return Err(Refusal::new(code, refused.text));
            }
            Admission::Wait(until) => tokio::select! {
                _ = committed.changed() => {}
                () = sleep_until(Some(until)) => {}
            },
        }
    };
    dial::check_protocol(&mapping, protocol)?;
    dial::resolve(&mapping, request.port_offset, &inner.config.allow).await
}
