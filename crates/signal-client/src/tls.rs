//! The one place where a TLS configuration for HTTP is made.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::SignalError;

/// Makes the TLS configuration for HTTPS: TLS 1.2 and 1.3, the Mozilla root certificates, and the aws-lc-rs
/// provider by name, since rustls panics when it has to choose between two compiled in.
///
/// # Errors
/// When the provider lacks a protocol version, which no build of ours does.
pub fn http_tls_config() -> Result<ClientConfig, SignalError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SignalError::Tls {
            reason: error.to_string(),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
