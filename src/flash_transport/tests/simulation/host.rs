//! One end: a quinn-proto endpoint with its connections and what uses them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use flash_transport::quic::settings::LinkSettings;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointConfig,
    ServerConfig, Transmit,
};

use crate::random::Random;
use crate::tls::SERVER_NAME;

pub type Connections = BTreeMap<ConnectionHandle, Connection>;

/// What an end does with its connections. Time and chance come from outside.
pub trait App {
    /// Do all that can be done at `now`.
    fn drive(&mut self, now: Instant, connections: &mut Connections);

    /// When `drive` has something to do though nothing arrived.
    fn next_wakeup(&self) -> Option<Instant>;
}

/// Datagrams that quinn's shell hands to the kernel at a time.
const SEGMENTS: usize = 10;

pub struct Host {
    pub address: SocketAddr,
    pub connections: Connections,
    endpoint: Endpoint,
    app: Box<dyn App>,
    outgoing: Vec<(SocketAddr, BytesMut)>,
}

impl Host {
    pub fn new(
        address: SocketAddr,
        server: Option<ServerConfig>,
        app: Box<dyn App>,
        random: &mut Random,
    ) -> Self {
        let mut config = EndpointConfig::default();
        config
            .max_udp_payload_size(LinkSettings::default().largest_datagram)
            .expect("a size that QUIC allows");
        let seed = Some(random.seed_bytes());
        Self {
            address,
            connections: Connections::new(),
            endpoint: Endpoint::new(Arc::new(config), server.map(Arc::new), true, seed),
            app,
            outgoing: Vec::new(),
        }
    }

    pub fn connect(&mut self, now: Instant, config: ClientConfig, server: SocketAddr) {
        let (handle, connection) = self
            .endpoint
            .connect(now, config, server, SERVER_NAME)
            .expect("connect");
        self.connections.insert(handle, connection);
    }

    pub fn receive(&mut self, now: Instant, from: SocketAddr, datagram: BytesMut) {
        let mut answer = Vec::new();
        match self
            .endpoint
            .handle(now, from, None, None, datagram, &mut answer)
        {
            None => {}
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connections.get_mut(&handle) {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let (handle, connection) = self
                    .endpoint
                    .accept(incoming, now, &mut answer, None)
                    .map_err(|refused| refused.cause)
                    .expect("accept");
                self.connections.insert(handle, connection);
            }
            Some(DatagramEvent::Response(transmit)) => self.push(&transmit, &answer),
        }
    }

    /// Let everything happen that is due at `now`, in the order that quinn's documentation gives.
    pub fn drive(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            if connection.poll_timeout().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
        }
        self.app.drive(now, &mut self.connections);
        loop {
            self.transmit(now);
            if !self.pass_endpoint_events() {
                break;
            }
        }
        self.connections
            .retain(|_, connection| !connection.is_drained());
    }

    pub fn next_wakeup(&mut self) -> Option<Instant> {
        let timers = self
            .connections
            .values_mut()
            .filter_map(Connection::poll_timeout);
        timers.chain(self.app.next_wakeup()).min()
    }

    pub fn take_outgoing(&mut self) -> Vec<(SocketAddr, BytesMut)> {
        std::mem::take(&mut self.outgoing)
    }

    fn transmit(&mut self, now: Instant) {
        let mut buffer = Vec::new();
        let mut transmits = Vec::new();
        for connection in self.connections.values_mut() {
            while let Some(transmit) = connection.poll_transmit(now, SEGMENTS, &mut buffer) {
                transmits.push((transmit, std::mem::take(&mut buffer)));
            }
        }
        for (transmit, buffer) in transmits {
            self.push(&transmit, &buffer);
        }
    }

    fn push(&mut self, transmit: &Transmit, buffer: &[u8]) {
        let bytes = &buffer[..transmit.size];
        let segment = transmit.segment_size.unwrap_or(transmit.size);
        for datagram in bytes.chunks(segment) {
            self.outgoing.push((transmit.destination, datagram.into()));
        }
    }

    /// Whether there were any.
    fn pass_endpoint_events(&mut self) -> bool {
        let mut any = false;
        for (handle, connection) in &mut self.connections {
            while let Some(event) = connection.poll_endpoint_events() {
                any = true;
                if let Some(answer) = self.endpoint.handle_event(*handle, event) {
                    connection.handle_event(answer);
                }
            }
        }
        any
    }
}
