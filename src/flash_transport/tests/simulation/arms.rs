//! The settings that are compared.

use std::sync::Arc;
use std::time::Duration;

use flash_transport::congestion::LatencyFirstConfig;
use flash_transport::quic::datagram_size::ORDINARY;
use flash_transport::quic::settings::{self, LinkSettings, SocketBuffers};
use quinn_proto::congestion::{BbrConfig, CubicConfig};
use quinn_proto::{TransportConfig, VarInt};

use crate::streams::Recovery;

/// What frames of 9000 bytes carry.
const JUMBO: u16 = 8952;
/// Requests that a client may have open; more than any of ours has.
const REQUESTS: u32 = 64;
/// Those of a machine that is set up as the documentation says.
const BUFFERS: SocketBuffers = SocketBuffers {
    receive: 16 << 20,
    send: 16 << 20,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// What ships, with our controller.
    Ours,
    /// Ours, told that nobody else uses the link.
    Dedicated,
    /// Ours on a computer whose Ethernet is set to jumbo frames, whatever the path carries.
    WithJumboFrames,
    /// Ours with quinn's BBR in place of our controller.
    OursWithBbr,
    /// Ours with quinn's CUBIC and our initial window.
    OursWithCubic,
    /// The settings of Hebbian's openpi-flash at 65c4171.
    OpenpiFlash,
    /// quinn as it comes. Also the other flow on a shared bottleneck.
    QuinnDefault,
}

impl Arm {
    pub const ALL: [Arm; 6] = [
        Arm::Ours,
        Arm::Dedicated,
        Arm::OursWithBbr,
        Arm::OursWithCubic,
        Arm::OpenpiFlash,
        Arm::QuinnDefault,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Arm::Ours => "ours",
            Arm::Dedicated => "ours, dedicated_link",
            Arm::OursWithBbr => "ours, quinn's BBR",
            Arm::WithJumboFrames => "ours, jumbo frames",
            Arm::OursWithCubic => "ours, quinn's CUBIC",
            Arm::OpenpiFlash => "openpi-flash",
            Arm::QuinnDefault => "quinn's defaults",
        }
    }

    /// What its ends do besides writing their messages, if the plan has it.
    pub fn recovery(self, planned: Recovery) -> Recovery {
        let is_ours = !matches!(self, Arm::OpenpiFlash | Arm::QuinnDefault);
        Recovery {
            probes: planned.probes && is_ours,
            repair: planned.repair && is_ours,
        }
    }

    pub fn client(self) -> TransportConfig {
        let route_datagram = match self {
            Arm::WithJumboFrames => JUMBO,
            _ => ORDINARY,
        };
        self.config(|link| settings::client(link, BUFFERS, route_datagram))
    }

    pub fn server(self) -> TransportConfig {
        self.config(|link| settings::server(link, BUFFERS, REQUESTS))
    }

    fn config(self, shipped: impl Fn(&LinkSettings) -> TransportConfig) -> TransportConfig {
        let link = LinkSettings::with_dedicated_link(self == Arm::Dedicated);
        let initial_window = LatencyFirstConfig::default().initial_window;
        match self {
            Arm::Ours | Arm::Dedicated | Arm::WithJumboFrames => shipped(&link),
            Arm::OursWithBbr => {
                let mut bbr = BbrConfig::default();
                bbr.initial_window(initial_window);
                let mut config = shipped(&link);
                config.congestion_controller_factory(Arc::new(bbr));
                config
            }
            Arm::OursWithCubic => {
                let mut config = shipped(&link);
                config.congestion_controller_factory(cubic(initial_window));
                config
            }
            Arm::OpenpiFlash => openpi_flash(),
            Arm::QuinnDefault => TransportConfig::default(),
        }
    }
}

fn openpi_flash() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(cubic(1 << 20))
        .mtu_discovery_config(None)
        .initial_rtt(Duration::from_millis(20))
        .receive_window(VarInt::from_u32(10_000_000))
        .stream_receive_window(VarInt::from_u32(5_000_000))
        .send_window(10_000_000)
        .keep_alive_interval(Some(Duration::from_secs(2)));
    config
}

fn cubic(initial_window: u64) -> Arc<CubicConfig> {
    let mut config = CubicConfig::default();
    config.initial_window(initial_window);
    Arc::new(config)
}
