//! How fast the transport sends, what it takes for loss, and what it makes of it.
//!
//! Pure but for [`Prober`]: time is an argument, chance plays no part. What the numbers are worth is measured in
//! virtual time by `tests/simulation`, and written down in `docs/network.md`.

mod dedicated_link;
mod growth;
mod latency_first;
mod path;
mod tail_probe;

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::ControllerFactory;
use quinn::{AckFrequencyConfig, TransportConfig, VarInt};

pub use dedicated_link::{DedicatedLink, DedicatedLinkConfig};
pub use latency_first::{LatencyFirst, LatencyFirstConfig};
pub use tail_probe::{LossMemory, Prober, TailProbes, PROBE};

/// Who else uses the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// Anybody: fair to others, and the only choice for a path that is not all ours.
    Shared(LatencyFirstConfig),
    /// Nobody. Ignores loss and queues, so that others starve beside it.
    DedicatedLink(DedicatedLinkConfig),
}

impl Default for Sharing {
    fn default() -> Self {
        Self::Shared(LatencyFirstConfig::default())
    }
}

/// Set what `config` says about sending rate and loss recovery. Both ends of a connection have to.
pub fn apply(sharing: &Sharing, config: &mut TransportConfig) {
    let controller: Arc<dyn ControllerFactory + Send + Sync> = match sharing {
        Sharing::Shared(shared) => Arc::new(shared.clone()),
        Sharing::DedicatedLink(dedicated) => Arc::new(dedicated.clone()),
    };
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements
        .ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED_PACKETS))
        .max_ack_delay(Some(LONGEST_ACK_DELAY))
        .reordering_threshold(VarInt::from_u32(REPORTED_GAP));
    config
        .congestion_controller_factory(controller)
        .packet_threshold(PACKET_THRESHOLD)
        .time_threshold(TIME_THRESHOLD)
        .ack_frequency_config(Some(acknowledgements))
        .datagram_receive_buffer_size(Some(DATAGRAM_BYTES));
}

/// How many later packets must have arrived before one counts as lost. With quinn's 3 every packet is lost where packets overtake
/// each other, and the controller cannot tell: 665 ms for a request at 25 ms with jitter of 2 ms, 37 with 16. Where packets
/// are really lost it changes little, for time finds them as fast: at 2 %, 43.7 / 64.5 ms with 3, 43.8 / 64.7 with 16, 44.1 / 64.9 with 64.
const PACKET_THRESHOLD: u32 = 16;
/// How many round trips a packet may take if a later one has arrived. A retransmission that is lost again and a lost answer are
/// found by this. RTT 20 ms, 2 % loss, p95: 67.7 ms with quinn's 9/8, 65.3 with 1.06, 64.7 with 1.03. Price: where packets
/// overtake each other by more than this, they are sent twice. With 1.0 nothing late is ever acknowledged, and
/// the controller takes such a path for one that loses: 881 ms instead of 37.
const TIME_THRESHOLD: f32 = 1.03;
/// Packets that the peer may leave unacknowledged for [`LONGEST_ACK_DELAY`]: RFC 9000's value. 3 saves half of the
/// acknowledgements, but takes 62 % instead of 52 % beside a CUBIC flow.
const UNACKNOWLEDGED_PACKETS: u32 = 1;
/// RFC 9000's 25 ms are part of each probe timeout. Behind [`TailProbes`] that does not matter; where a peer takes no probes, or
/// after the first loss, it does: 2 % loss in bursts, p95 66 ms without probes, 169 with 25 ms. The least that quinn takes.
const LONGEST_ACK_DELAY: Duration = Duration::from_millis(1);
/// A gap of this many packets is reported at once, as RFC 9000 has it without the extension.
const REPORTED_GAP: u32 = 1;
/// Memory of a connection for datagrams that nobody reads: a [`PROBE`] has served when it is acknowledged. Older ones fall out.
/// More than any that fits into a packet, because a larger one than this would end its connection.
pub const DATAGRAM_BYTES: usize = 2048;
