//! The one place where TLS configurations for servers with certificates are made: signaling and relays.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::SignalError;

/// Names a file of further authorities (PEM), as OpenSSL and curl have it: for private ones.
const AUTHORITIES_VARIABLE: &str = "SSL_CERT_FILE";

/// Makes the TLS configuration for HTTPS: that of [`server_tls_config`], speaking HTTP/2 or 1.1.
///
/// # Errors
/// As [`server_tls_config`].
pub fn http_tls_config() -> Result<ClientConfig, SignalError> {
    let mut config = server_tls_config()?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Makes the TLS configuration for a server that is known by name: TLS 1.2 and 1.3, the Mozilla root
/// certificates and those of the file that `SSL_CERT_FILE` names, and the aws-lc-rs provider by name, since
/// rustls panics when it has to choose between two compiled in.
///
/// # Errors
/// When the file cannot be read or holds no certificate, or the provider lacks a protocol version, which no
/// build of ours does.
pub fn server_tls_config() -> Result<ClientConfig, SignalError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(file) = std::env::var_os(AUTHORITIES_VARIABLE).filter(|file| !file.is_empty()) {
        add_authorities(&mut roots, std::path::Path::new(&file))?;
    }
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SignalError::Tls {
            reason: error.to_string(),
        })
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
}

fn add_authorities(roots: &mut RootCertStore, file: &std::path::Path) -> Result<(), SignalError> {
    let wrong = |reason: String| SignalError::Tls {
        reason: format!("{AUTHORITIES_VARIABLE}={}: {reason}", file.display()),
    };
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?;
    let mut added = 0;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        added += roots.add_parsable_certificates([certificate]).0;
    }
    if added == 0 {
        return Err(wrong("it holds no certificate that can be used".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_named() {
        let mut roots = RootCertStore::empty();
        let missing = std::path::Path::new("/nonexistent/authorities.pem");
        let text = add_authorities(&mut roots, missing)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("SSL_CERT_FILE=/nonexistent/authorities.pem"),
            "{text}"
        );
    }
}
