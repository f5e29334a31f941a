//! Certificates and handshake settings of the simulated ends.

use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{CertificateParams, KeyPair, SerialNumber, PKCS_ED25519};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::RootCertStore;

pub const SERVER_NAME: &str = "simulated";
const ALPN: &[u8] = b"openpi-flash/1";

/// Both ends of one trust relation. A client that is cloned from it remembers sessions of its kind.
#[derive(Clone)]
pub struct Tls {
    pub client: Arc<QuicClientConfig>,
    pub server: Arc<QuicServerConfig>,
}

impl Tls {
    pub fn new() -> Self {
        // Ed25519 and a given serial number: every run has handshake messages of the same length.
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("key");
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).expect("name");
        params.serial_number = Some(SerialNumber::from(1u64));
        let certificate: CertificateDer<'static> = params.self_signed(&key).expect("sign").into();
        let private_key = PrivateKeyDer::Pkcs8(key.serialize_der().into());

        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("root");
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("client versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_early_data = true;

        let mut server = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("server versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], private_key)
            .expect("certificate");
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.max_early_data_size = u32::MAX;

        Self {
            client: Arc::new(QuicClientConfig::try_from(client).expect("client suites")),
            server: Arc::new(QuicServerConfig::try_from(server).expect("server suites")),
        }
    }
}
