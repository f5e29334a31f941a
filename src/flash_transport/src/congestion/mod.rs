//! How fast the transport sends, when a packet counts as lost, and what follows from a loss.
//!
//! Pure except for [`Prober`]: time is an argument, nothing is random. `tests/simulation` measures
//! in virtual time what the numbers are worth; `docs/network.md` has the results.

mod dedicated_link;
mod delivery;
mod growth;
mod latency_first;
mod path;
mod random_loss;
mod recent;
mod round;
mod silence;
mod tail_probe;

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{Controller, ControllerFactory};
use quinn::{AckFrequencyConfig, TransportConfig, VarInt};

use crate::repair::PathLoss;

pub use dedicated_link::{DedicatedLink, DedicatedLinkConfig};
pub use delivery::LinkEstimate;
pub use latency_first::{LatencyFirst, LatencyFirstConfig};
pub use tail_probe::{LossMemory, Pause, Prober, TailProbes, PROBE};

/// Who else uses the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sharing {
    /// Others, too: fair to them, and the only choice for a path that is not all ours.
    Shared(LatencyFirstConfig),
    /// Nobody else. Ignores loss and queues: other flows on the path starve.
    DedicatedLink(DedicatedLinkConfig),
}

impl Default for Sharing {
    fn default() -> Self {
        Self::Shared(LatencyFirstConfig::default())
    }
}

/// Set congestion control and loss recovery in `config`. Both ends of a connection have to.
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

/// What the path of a connection with this controller loses at random; nothing if the controller is
/// none that tells.
pub fn path_loss(controller: Box<dyn Controller>) -> PathLoss {
    let shared = controller.into_any().downcast::<LatencyFirst>();
    shared.map(|shared| shared.loss()).unwrap_or_default()
}

/// What a controller of ours knows of its path, whose smoothed round trip is given; `None` if it is
/// another's.
pub fn link_estimate(
    controller: Box<dyn Controller>,
    round_trip: Duration,
) -> Option<LinkEstimate> {
    let controller = controller.into_any();
    let controller = match controller.downcast::<LatencyFirst>() {
        Ok(shared) => return Some(shared.estimate(round_trip)),
        Err(controller) => controller,
    };
    let dedicated = controller.downcast::<DedicatedLink>().ok()?;
    Some(dedicated.estimate(round_trip))
}

/// A packet counts as lost when this many later ones have arrived. Where packets overtake each
/// other, fewer take late packets for lost ones, which are sent twice and shrink the window: a request
/// at 25 ms with jitter of 2 ms takes 665 ms with quinn's 3, 33 with 64. Where packets are really lost
/// time detects that as fast, and repair mends most of it: at 2 %, p50 / p95 are 23.9 / 24.0 ms with 16
/// as with 64. More than 100 come near what quinn's receiver tells from copies, 128.
const PACKET_THRESHOLD: u32 = 64;
/// A packet counts as lost after this many round trips if a later one has arrived. Finds
/// retransmissions that are lost again, and answers whose repair was too little. RTT 20 ms, 2 % loss in
/// bursts of 5, p95: 43.8 ms with 1.03, 44.6 with 1.06, 46.2 with quinn's 9/8. Price: a packet that is
/// overtaken by more than this is sent twice. RTT 25 ms with jitter of 2 ms, back to back, p50: 50.5 ms
/// with 1.03, 32.6 with 1.06.
const TIME_THRESHOLD: f32 = 1.06;
/// Packets that the peer may leave unacknowledged for [`LONGEST_ACK_DELAY`]: the value of RFC 9000,
/// section 13.2.2. 3 saves half of the acknowledgements, but takes 62 % instead of 52 % of a link
/// beside a CUBIC flow.
const UNACKNOWLEDGED_PACKETS: u32 = 1;
/// Part of each probe timeout; RFC 9000 has 25 ms. Behind [`TailProbes`] that does not matter. It
/// does where a peer accepts no probes, and after the first loss: 2 % loss in bursts, p95 66 ms
/// without probes, 169 with 25 ms. quinn accepts no less.
const LONGEST_ACK_DELAY: Duration = Duration::from_millis(1);
/// A receiver reports a gap of this many packets at once, as in RFC 9000 without the extension.
const REPORTED_GAP: u32 = 1;
/// A connection's buffer for received datagrams; older ones are dropped. It holds the repair of a
/// message, which may arrive before its reader wakes up. Nothing reads a [`PROBE`]: it is done when it
/// is acknowledged. Larger than any datagram that fits into a packet, because a datagram larger than
/// the buffer would end its connection.
pub const DATAGRAM_BYTES: usize = 65_535;
