//! Any bytes are accepted or refused: no panic, and no more memory than a stated multiple of their number.

mod allocation;
mod checks;

use flash_transport::codec::{Limits, Value};
use flash_transport::image::{decode_image, encode_jpeg, ImageShape};
use proptest::prelude::*;

/// Most bytes that are allocated at a time for each byte of a message: a list of one-byte values becomes one of
/// `Value`s, and while it grows, the old one and the new one live together.
const FACTOR: usize = 256;
/// Of an error's own text, and the like.
const BASE: usize = 4096;

fn assert_frugal(bytes: &[u8]) {
    let peak = allocation::peak_of(|| drop(Value::decode(bytes, Limits::DEFAULT)));
    assert!(
        peak <= BASE + FACTOR * bytes.len(),
        "{peak} bytes for a message of {}",
        bytes.len()
    );
}

#[test]
fn what_a_message_promises_costs_nothing_before_it_is_there() {
    for promise in [
        // lists, maps, text, bytes of 4 GiB; an array of 2^62 numbers; 64 levels
        b"\xdd\xff\xff\xff\xff".to_vec(),
        b"\xdf\xff\xff\xff\xff".to_vec(),
        b"\xdb\xff\xff\xff\xff".to_vec(),
        b"\xc6\xff\xff\xff\xff".to_vec(),
        [
            &b"\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x00\xc4\x05dtype\xa3<f8"[..],
            b"\xc4\x05shape\x91\xcf\x40\0\0\0\0\0\0\0",
        ]
        .concat(),
        vec![0x91; 100],
    ] {
        let peak = allocation::peak_of(|| drop(Value::decode(&promise, Limits::DEFAULT)));
        assert!(peak <= BASE, "{peak} bytes for {promise:02x?}");
    }
}

#[test]
fn the_messages_that_cost_most_for_their_size_stay_below_the_bound() {
    for (start, element) in [
        (&b"\xdd"[..], &b"\xc0"[..]),
        (b"\xdd", b"\x90"),
        (b"\xdd", b"\xa0"),
        (b"\xdf", b"\xa0\xc0"),
    ] {
        for count in [1_u32, 100, 100_000] {
            let mut message = [start, &count.to_be_bytes()].concat();
            message.extend(element.repeat(count as usize));
            assert_frugal(&message);
        }
    }
}

#[test]
fn a_png_whose_size_is_beyond_counting_is_refused_and_its_size_named() {
    let header = b"\0\0\0\rIHDR\xff\xff\xff\xff\xff\xff\xff\x1a\x08\x02\0\0\0\x1b\x1d\x33\x58";
    let file = [b"\x89PNG\r\n\x1a\n", &header[..]].concat();
    let refused = decode_image(&file, None, 1 << 20)
        .expect_err("too large")
        .to_string();
    assert!(
        refused.contains("4294967066 rows by 4294967295 columns"),
        "{refused}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_are_repair_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        checks::repair(&bytes);
    }

    #[test]
    fn any_bytes_are_datagrams_of_a_relay_or_ignored(
        datagrams in prop::collection::vec(
            (0_u8..8, 0_u8..10, prop::array::uniform8(0_u8..2), prop::collection::vec(any::<u8>(), 0..60)), 0..20
        ),
    ) {
        let datagrams = datagrams.iter().flat_map(|(choice, kind, end, rest)| {
            let length = 1 + end.len() + rest.len();
            [&[*choice, length as u8, *kind], &end[..], rest].concat()
        });
        checks::relay(&datagrams.collect::<Vec<u8>>());
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        checks::message(&bytes);
        assert_frugal(&bytes);
    }

    #[test]
    fn bytes_that_look_like_msgpack_are_a_message_or_refused(bytes in msgpack_like()) {
        checks::message(&bytes);
        assert_frugal(&bytes);
    }

    #[test]
    fn any_bytes_are_a_request_or_refused(kind in 0_u8..5, map in msgpack_like()) {
        checks::request(&[&[kind], &map[..]].concat());
    }

    #[cfg(unix)]
    #[test]
    fn any_bytes_open_a_websocket_or_are_refused(lines in prop::collection::vec(http_line(), 0..20)) {
        checks::websocket_handshake(&lines.concat());
    }

    #[cfg(unix)]
    #[test]
    fn any_bytes_are_frames_or_refused(
        heads in prop::collection::vec((0x80_u8..0x8b, 0x80_u8.., any::<[u8; 12]>()), 0..20),
    ) {
        let frames = heads.iter().flat_map(|(first, second, rest)| [&[*first, *second], &rest[..]].concat());
        checks::websocket_frames(&frames.collect::<Vec<u8>>());
    }

    #[test]
    fn any_header_fits_its_image_or_is_refused(
        header in prop::collection::vec(any::<u8>(), 9),
        data in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        checks::camera_frame(&[header, data].concat());
    }

    #[test]
    fn a_damaged_jpeg_is_an_image_or_refused(
        quality in 1_u8..=100,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let shape = ImageShape::of(&[24, 40, 3]).expect("an image");
        let pixels: Vec<u8> = (0..24 * 40 * 3).map(|index| (index * 7 % 251) as u8).collect();
        let mut file = encode_jpeg(&pixels, shape, quality).expect("a JPEG");
        for (index, byte) in damage {
            let index = index.index(file.len());
            file[index] = byte;
        }
        checks::image_file(&file);
        file.truncate(cut.index(file.len()));
        checks::image_file(&file);
    }
}

/// Lines of an HTTP request, and other bytes.
#[cfg(unix)]
fn http_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            &b"GET / HTTP/1.1\r\n"[..],
            b"Upgrade: websocket\r\n",
            b"Connection: Upgrade\r\n",
            b"Sec-WebSocket-Version: 13\r\n",
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
            b"Authorization: Api-Key k\r\n",
            b"\r\n",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..12),
    ]
}

/// Tokens of msgpack, the words of arrays among them, in any order and number.
fn msgpack_like() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        (0x80_u8..0xa0).prop_map(|container| vec![container]),
        prop::sample::select(vec![
            &b"\xc4\x0b__ndarray__\xc3"[..],
            b"\xc4\x0d__npgeneric__\xc3",
            b"\xc4\x04data",
            b"\xc4\x05dtype",
            b"\xc4\x05shape",
            b"\xa3<f4",
            b"\xa3|u1",
            b"\xa3|O8",
            b"\x91\x03",
            b"\xa7session",
            b"\xa7api_key",
        ])
        .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|data| [
            &[0xc4, data.len() as u8],
            &data[..]
        ]
        .concat()),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}
