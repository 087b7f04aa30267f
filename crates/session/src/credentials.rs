//! The key of one pair's checks.

use data_encoding::BASE64_NOPAD;
use hkdf::Hkdf;
use punch::PairCredentials;
use sha2::Sha256;

use crate::description::{Description, Side};

/// 144 bits: RFC 8445, section 5.3 asks for at least 128.
const PASSWORD_BYTES: usize = 18;

/// Derives the credentials of the checks between two descriptions.
///
/// Each end publishes half of the secret, so that the key changes when either end starts anew, and both
/// directions share one password: the direction is told by the order of the fragments in USERNAME.
pub(crate) fn pair_credentials(local: &Description, remote: &Description) -> PairCredentials {
    let (ingress, egress) = match local.role {
        Side::Ingress => (local, remote),
        Side::Egress => (remote, local),
    };
    let mut secret = Vec::with_capacity(ingress.pwd.len() + egress.pwd.len() + 1);
    secret.extend_from_slice(ingress.pwd.as_bytes());
    secret.push(0);
    secret.extend_from_slice(egress.pwd.as_bytes());
    let mut info = b"stunfwd/1 check".to_vec();
    info.extend_from_slice(&ingress.instance.0);
    info.extend_from_slice(&egress.instance.0);
    let mut password = [0; PASSWORD_BYTES];
    Hkdf::<Sha256>::new(None, &secret)
        .expand(&info, &mut password)
        .expect("18 bytes are less than HKDF's limit of 255 × 32");
    PairCredentials {
        local_ufrag: local.ufrag.clone(),
        remote_ufrag: remote.ufrag.clone(),
        password: BASE64_NOPAD.encode(&password),
    }
}
