//! Batches of datagrams with the header that they have between two ends. Pure.

use std::collections::VecDeque;
use std::net::SocketAddr;

use quinn::udp::RecvMeta;

use crate::relay::end::Incoming;
use crate::relay::message::DATA_HEADER;

/// A datagram of QUIC that did not fit the batch in which it came, and from whom it is.
pub(super) type Later = (SocketAddr, Vec<u8>);

/// `contents` with `header` before each datagram, which has `segment` bytes, but for the last.
pub(super) fn wrap(
    wrapped: &mut Vec<u8>,
    header: &[u8; DATA_HEADER],
    contents: &[u8],
    segment: usize,
) {
    wrapped.clear();
    for datagram in contents.chunks(segment.max(1)) {
        wrapped.extend(header);
        wrapped.extend(datagram);
    }
}

/// Leave the datagrams of QUIC in `buffer`, without their headers and as a batch of one sender, and
/// tell `meta` of it. Those of other senders go to `later`.
pub(super) fn unwrap(
    buffer: &mut [u8],
    meta: &mut RecvMeta,
    later: &mut VecDeque<Later>,
    mut judge: impl FnMut(&[u8]) -> Incoming,
) {
    let stride = meta.stride.max(1);
    let came_from = meta.addr;
    let mut kept: Option<(SocketAddr, usize)> = None;
    let mut end = 0;
    for start in (0..meta.len).step_by(stride) {
        let stop = meta.len.min(start + stride);
        let (from, start) = match judge(&buffer[start..stop]) {
            Incoming::Quic(from) => (from, start + DATA_HEADER),
            Incoming::Foreign => (came_from, start),
            Incoming::Read => continue,
        };
        // Only the last datagram of a batch may be shorter, which is so with that of the kernel.
        match kept {
            None => kept = Some((from, stop - start)),
            Some((first, _)) if first == from => {}
            Some(_) => {
                later.push_back((from, buffer[start..stop].to_vec()));
                continue;
            }
        }
        buffer.copy_within(start..stop, end);
        end += stop - start;
    }
    let (from, stride) = kept.unwrap_or((came_from, 0));
    (meta.addr, meta.len, meta.stride) = (from, end, stride);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::message::data_header;
    use proptest::prelude::*;

    fn address(number: u8) -> SocketAddr {
        ([240, 0, 0, number], 1).into()
    }

    /// Of each datagram the sender by its first byte: 0 is read, 9 is foreign, others are peers.
    fn judge(datagram: &[u8]) -> Incoming {
        match datagram[DATA_HEADER] {
            0 => Incoming::Read,
            9 => Incoming::Foreign,
            number => Incoming::Quic(address(number)),
        }
    }

    proptest! {
        #[test]
        fn every_datagram_arrives_whole_and_in_order(
            senders in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(1), Just(2), Just(9)], 1..20),
            last in 1..30_usize,
        ) {
            const SIZE: usize = 30;
            let mut contents = Vec::new();
            for (number, sender) in senders.iter().enumerate() {
                contents.extend([*sender; 1].iter().chain(&[number as u8; SIZE - 1]));
            }
            contents.truncate(contents.len() - SIZE + last);
            let mut buffer = Vec::new();
            wrap(&mut buffer, &data_header([7; 8]), &contents, SIZE);
            prop_assert_eq!(buffer.len(), contents.len() + senders.len() * DATA_HEADER);
            let mut meta = RecvMeta { len: buffer.len(), stride: SIZE + DATA_HEADER, ..RecvMeta::default() };
            meta.addr = address(200);
            let mut later = VecDeque::new();
            unwrap(&mut buffer, &mut meta, &mut later, judge);

            let got: Vec<(SocketAddr, Vec<u8>)> = buffer[..meta.len]
                .chunks(meta.stride.max(1))
                .map(|datagram| (meta.addr, datagram.to_vec()))
                .chain(later)
                .collect();
            let mut expected = Vec::new();
            for (datagram, sender) in contents.chunks(SIZE).zip(&senders) {
                match sender {
                    0 => {}
                    9 => expected.push((address(200), [&data_header([7; 8])[..], datagram].concat())),
                    sender => expected.push((address(*sender), datagram.to_vec())),
                }
            }
            let of = |all: &[(SocketAddr, Vec<u8>)], who| -> Vec<_> {
                all.iter().filter(|(from, _)| *from == who).cloned().collect()
            };
            for who in [address(1), address(2), address(200)] {
                prop_assert_eq!(of(&got, who), of(&expected, who));
            }
        }
    }

    #[test]
    fn a_batch_of_nothing_for_quic_is_empty() {
        let mut buffer = vec![0; 40];
        let mut meta = RecvMeta {
            len: 40,
            stride: 20,
            ..RecvMeta::default()
        };
        unwrap(&mut buffer, &mut meta, &mut VecDeque::new(), |_| {
            Incoming::Read
        });
        assert_eq!((meta.len, meta.stride), (0, 0));
    }
}
