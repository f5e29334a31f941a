//! A client with no manners: QUIC as quinn gives it, with any bytes, windows and ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flash_transport::link::hello::Hello;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::any_server;

pub struct RawSettings {
    /// Bytes of one stream that it takes without reading them.
    pub window: u32,
}

impl Default for RawSettings {
    fn default() -> Self {
        Self { window: 1 << 20 }
    }
}

pub struct Raw {
    runtime: Arc<Runtime>,
    connection: Connection,
    endpoint: Endpoint,
}

impl Raw {
    pub fn connect(server: SocketAddr, settings: RawSettings) -> Self {
        Self::try_connect(server, settings).unwrap()
    }

    pub fn try_connect(server: SocketAddr, settings: RawSettings) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (connection, endpoint) = runtime.block_on(async {
            let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            endpoint.set_default_client_config(config(&settings));
            let connection = endpoint.connect(server, "anybody").unwrap().await.ok()?;
            Some((connection, endpoint))
        })?;
        Some(Self {
            runtime: Arc::new(runtime),
            connection,
            endpoint,
        })
    }

    pub fn say_hello(&self) {
        let answer = self.ask(&[0x01, 0x80]).read().unwrap();
        assert_eq!(answer[0], 0x00, "{}", String::from_utf8_lossy(&answer));
    }

    /// As [`Self::say_hello`], and read repair.
    pub fn say_hello_with_repair(&self) {
        let hello = Hello {
            repair: Some("rs16".into()),
            ..Hello::default()
        };
        let answer = self.ask(&hello.encode().unwrap()).read().unwrap();
        assert_eq!(answer[0], 0x00, "{}", String::from_utf8_lossy(&answer));
    }

    /// Send a QUIC datagram.
    pub fn send_datagram(&self, bytes: impl Into<Bytes>) {
        self.runtime.block_on(async {
            let sent = self.connection.send_datagram_wait(bytes.into());
            sent.await.unwrap();
        });
    }

    /// Send a whole request.
    pub fn ask(&self, request: &[u8]) -> Asked {
        let mut asked = self.begin(request);
        let _ = asked.send.finish();
        asked
    }

    /// As [`Self::ask`]; None if the server has closed the connection already.
    pub fn ask_if_open(&self, request: &[u8]) -> Option<Asked> {
        let mut asked = self.begin_if_open(request)?;
        let _ = asked.send.finish();
        Some(asked)
    }

    /// Send bytes without an end.
    pub fn begin(&self, request: &[u8]) -> Asked {
        self.begin_if_open(request).expect("an open connection")
    }

    fn begin_if_open(&self, request: &[u8]) -> Option<Asked> {
        let (send, receive) = self.runtime.block_on(async {
            let (mut send, receive) = self.connection.open_bi().await.ok()?;
            // A server that has read enough stops it.
            let _ = send.write_all(request).await;
            Some((send, receive))
        })?;
        Some(Asked {
            runtime: self.runtime.clone(),
            send,
            receive,
        })
    }

    /// Send a request that does not end, until nothing more is taken for a time; returns how many bytes were.
    pub fn write_until_held(&self, kind: u8, time: Duration) -> usize {
        self.runtime.block_on(async {
            let (mut send, _receive) = self.connection.open_bi().await.unwrap();
            let piece = [kind; 10_000];
            let mut taken = 0;
            while let Ok(Ok(bytes)) = timeout(time, send.write(&piece)).await {
                taken += bytes;
            }
            taken
        })
    }

    pub fn open_and_reset(&self, times: usize, request: &[u8]) {
        self.runtime.block_on(async {
            for _ in 0..times {
                let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
                let _ = send.write(request).await;
                let _ = send.reset(VarInt::from_u32(1));
                let _ = receive.stop(VarInt::from_u32(1));
            }
        });
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"");
        self.runtime.block_on(self.endpoint.wait_idle());
    }
}

/// A request on its stream.
pub struct Asked {
    runtime: Arc<Runtime>,
    send: SendStream,
    receive: RecvStream,
}

impl Asked {
    /// The answer; `None` where the server reset it.
    pub fn read(mut self) -> Option<Vec<u8>> {
        let all = self.receive.read_to_end(100 << 20);
        self.runtime.block_on(all).ok()
    }

    /// The number of its stream.
    pub fn stream(&self) -> u64 {
        self.send.id().into()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let all = self.send.write_all(bytes);
        self.runtime.block_on(all).unwrap();
    }

    pub fn finish(&mut self) {
        self.send.finish().unwrap();
    }

    pub fn reset(mut self) {
        self.send.reset(VarInt::from_u32(1)).unwrap();
    }

    pub fn cancel(mut self) {
        let _ = self.receive.stop(VarInt::from_u32(1));
    }
}

fn config(settings: &RawSettings) -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut crypto = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(any_server())
        .with_no_client_auth();
    crypto.alpn_protocols = vec![b"openpi-flash/1".to_vec()];
    let mut config =
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto).unwrap()));
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(settings.window))
        .max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.transport_config(Arc::new(transport));
    config
}
