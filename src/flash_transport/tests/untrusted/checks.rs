//! What must hold for any bytes off the network. The property tests and the fuzz targets call the same functions.

use std::net::SocketAddr;
use std::time::Instant;

use flash_transport::buffers::Buffer;
use flash_transport::codec::{Limits, Value};
use flash_transport::image::{decode_image, encodings, Frame, FrameInfo};
use flash_transport::link::first_actions;
use flash_transport::link::hello::Hello;
use flash_transport::link::wire::{Failure, Kind};
use flash_transport::relay::end::End;
use flash_transport::relay::forwarding::{Relay, RelayLimits, Step};
use flash_transport::relay::registration::Applicant;
use flash_transport::relay::token::{Name, Role, Token};
use flash_transport::repair::{Partial, Symbol};
#[cfg(unix)]
use flash_transport::websocket::{
    frame::{apply_mask, close_answer, Head, Opcode, Sequence, LONGEST_CONTROL, LONGEST_HEAD},
    handshake::{HttpRequest, LONGEST_REQUEST},
};

/// A message is refused, or what it says can be said again.
pub fn message(bytes: &[u8]) {
    let _ = first_actions::check(bytes, 2);
    if let Ok(value) = Value::decode(bytes, Limits::DEFAULT) {
        let again = value.encode().expect("what was decoded can be encoded");
        let twice = Value::decode(&again, Limits::DEFAULT).expect("what we encode we decode");
        // Bytes, not values: NaN differs from itself.
        assert_eq!(twice.encode().as_ref(), Ok(&again));
    }
}

/// The first byte of a stream and what follows it.
pub fn request(bytes: &[u8]) {
    let Some((kind, map)) = bytes.split_first() else {
        return;
    };
    let _ = Failure::decode(map);
    if Kind::from_byte(*kind) == Some(Kind::Hello) {
        if let Ok(hello) = Hello::decode(map) {
            let again = hello.encode().expect("what was decoded can be encoded");
            assert_eq!(Hello::decode(&again[1..]), Ok(hello));
        }
    }
}

/// Repair and parts of a message as a peer sends them: a byte chooses, two say how long, then as many
/// bytes. What arrives stays as it is, whatever repair makes of the rest.
pub fn repair(mut bytes: &[u8]) {
    let mut partial = Partial::new(&[], Buffer::default());
    let mut arrived: Vec<(usize, &[u8])> = Vec::new();
    while let Some((&[kind, high, low], rest)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (part, rest) = rest.split_at(length.min(rest.len()));
        bytes = rest;
        match kind & 1 {
            0 => {
                if let Ok(symbol) = Symbol::decode(&part.to_vec().into()) {
                    let _ = partial.add(symbol);
                }
            }
            _ => {
                let offset = usize::from(kind) * 32;
                partial.place(offset, part).expect("few parts");
                arrived.push((offset, part));
            }
        }
        let _ = partial.rebuild();
    }
    let mut expected = std::collections::BTreeMap::new();
    for (offset, part) in arrived {
        expected.extend((offset..).zip(part));
    }
    let message = partial.into_bytes();
    assert!(expected.iter().all(|(at, byte)| message[*at] == **byte));
}

/// Datagrams to a relay and its ends: a byte chooses which, and whether the relay or a stranger sends
/// it; another says how long it is. Strangers get no more bytes than they send.
pub fn relay(mut bytes: &[u8]) {
    let now = Instant::now();
    let (at, stranger) = (
        SocketAddr::from(([192, 0, 2, 1], 5557)),
        SocketAddr::from(([192, 0, 2, 2], 9)),
    );
    let name = Name::new("lab1").expect("a name");
    let token = Token::new("0123456789abcdef0123456789abcdef").expect("a token");
    let tokens = [(name.clone(), token.clone())].into();
    let mut relay = Relay::new(tokens, RelayLimits::default(), now).expect("random numbers");
    let mut ends = [Role::Server, Role::Client].map(|role| {
        let (name, token) = (name.clone(), token.clone());
        let end = [role.byte(); 8];
        let local = None;
        let mut end = End::new(
            Applicant {
                role,
                name,
                token,
                end,
                local,
            },
            now,
        );
        end.set_relay(at, None);
        end
    });
    while let Some((&[choice, length], rest)) = bytes.split_first_chunk::<2>() {
        let (datagram, rest) = rest.split_at(usize::from(length).min(rest.len()));
        bytes = rest;
        if choice & 4 == 0 {
            assert!(!matches!(
                relay.handle(now, stranger, datagram),
                Step::Forward(_)
            ));
            let answers = relay.take_answers();
            let sent: usize = answers.iter().map(|(_, answer)| answer.len()).sum();
            assert!(sent <= datagram.len());
        } else {
            let from = if choice & 2 == 0 { at } else { stranger };
            let end = &mut ends[usize::from(choice & 1)];
            let _ = end.handle(now, from, datagram);
            let _ = end.poll(now);
        }
    }
}

/// The HTTP request that opens a WebSocket, as far as it has come.
#[cfg(unix)]
pub fn websocket_handshake(bytes: &[u8]) {
    match HttpRequest::parse(bytes) {
        Ok(Some((request, size))) => {
            assert!(size <= bytes.len().min(LONGEST_REQUEST));
            let _ = (request.api_key(), request.upgrade());
            let own = request.forwarded("10.0.0.7:1#1", 0);
            assert!(own.ends_with(b"X-OpenPI-Flash-Key: 0\r\n\r\n"));
        }
        Ok(None) => assert!(bytes.len() <= LONGEST_REQUEST),
        Err(page) => assert!(page.encode().starts_with(b"HTTP/1.1 4")),
    }
}

/// The frames of a client, one behind the other.
#[cfg(unix)]
pub fn websocket_frames(mut bytes: &[u8]) {
    let mut sequence = Sequence::default();
    while let Ok(Some((head, size))) = Head::parse(bytes) {
        assert!(size <= LONGEST_HEAD);
        if head.opcode.is_control() {
            assert!(head.is_last && head.length <= LONGEST_CONTROL as u64);
        } else if sequence.enter(&head).is_err() {
            return;
        }
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let (payload, rest) = bytes[size..].split_at(length.min(bytes.len() - size));
        let mut masked = payload.to_vec();
        apply_mask(&mut masked, head.mask, 0);
        if head.opcode == Opcode::Close {
            let _ = close_answer(&masked);
        }
        apply_mask(&mut masked, head.mask, 0);
        assert_eq!(masked, payload);
        bytes = rest;
    }
}

/// The header of a camera's image against its data: 9 bytes of header, then data.
pub fn camera_frame(bytes: &[u8]) {
    let Some((header, data)) = bytes.split_at_checked(9) else {
        return;
    };
    let number = |at: usize| u32::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let index = usize::from(header[0]) % encodings().count();
    let info = FrameInfo {
        encoding: encodings().nth(index).unwrap_or_default(),
        // Small ones fit more often, large ones never may.
        height: number(1) % (1 << (header[7] % 17)),
        width: number(3) % (1 << (header[7] % 17)),
        step: number(5),
        big_endian: header[8] & 1 == 1,
    };
    if let Ok(frame) = Frame::new(data, info) {
        let size: usize = frame.rgb_shape().iter().product();
        // The least is NV12's byte and a half for a pixel of three; the last row may lack its padding.
        assert!(
            size <= 2 * data.len() * 3,
            "{info:?} of {} bytes",
            data.len()
        );
        frame.write_rgb(&mut vec![0; size]);
    }
}

/// A file of an image is refused, or comes out no larger than was allowed.
pub fn image_file(bytes: &[u8]) {
    const LIMIT: usize = 1 << 20;
    if let Ok(image) = decode_image(bytes, None, LIMIT) {
        assert_eq!(image.pixels.len(), image.height * image.width * 3);
        assert!(image.pixels.len() <= LIMIT);
    }
    let _ = decode_image(bytes, Some((16, 16)), LIMIT);
}
