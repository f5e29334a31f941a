//! How often an image is copied on its way, by the memory that is asked for meanwhile.
//!
//! A copy needs somewhere to go to. Once the buffers of a few requests are there to be used again, a request that asks for
//! no memory of its own size has made no copies but into those.

// A test that cannot go on may panic wherever it is.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;

use flash_transport::codec::{Limits, Value, Writer};
use flash_transport::link::queue::Next;
use flash_transport::link::request::Request;
use flash_transport::link::wire::{Kind, ANSWER_OK};
use flash_transport::local::server::{LocalServer, LocalServerConfig};
use flash_transport::quic::client::{Client, ClientConfig, Message};
use flash_transport::quic::server::{Server, ServerConfig};
use flash_transport::trust::{danger::AcceptAnyServer, Identity, ServerTrust};

/// Counts what all threads of this process ask for.
struct Counting;

/// Larger than anything that is no copy of images.
const LARGE: usize = 64 << 10;

static LARGE_ONES: AtomicUsize = AtomicUsize::new(0);
static ALL_BYTES: AtomicUsize = AtomicUsize::new(0);

impl Counting {
    fn count(size: usize) {
        ALL_BYTES.fetch_add(size, Ordering::Relaxed);
        if size >= LARGE {
            LARGE_ONES.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[cfg_attr(not(feature = "python"), global_allocator)]
#[cfg_attr(
    feature = "python",
    allow(dead_code, reason = "the library has one of its own")
)]
static ALLOCATOR: Counting = Counting;

/// The counters are those of the whole process.
static TURN: Mutex<()> = Mutex::new(());

const LONG: Duration = Duration::from_secs(30);
const IMAGE: usize = 224 * 224 * 3;
const IMAGES: usize = 3;
const REQUESTS: usize = 10;

/// Three cameras, as `FlashTransportPolicy` packs them: the images stay where they are.
fn observation(image: &Bytes) -> Message {
    let mut parts = Vec::new();
    let mut writer = Writer::new(vec![Kind::Infer.byte()]);
    writer.map_header(IMAGES).unwrap();
    for name in ["image_0", "image_1", "image_2"] {
        writer.text(name).unwrap();
        writer.array_head(IMAGE).unwrap();
        parts.push(Bytes::from(std::mem::take(&mut writer).into_bytes()));
        parts.push(image.clone());
        writer.array_tail("|u1", &[224, 224, 3]).unwrap();
    }
    parts.push(Bytes::from(writer.into_bytes()));
    Message::of_parts(parts)
}

/// Ask once; returns the bytes that came.
fn ask(client: &Client, next: &(impl Fn() -> Request + Sync), image: &Bytes) -> usize {
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let request = next();
            request.reply.answer(vec![ANSWER_OK, 0x80]).unwrap();
            request.body.len()
        });
        let answer = client.request(observation(image), Some(LONG)).wait_long();
        answer.unwrap();
        served.join().unwrap()
    })
}

/// Allocations of at least [`LARGE`] bytes, and bytes in all, per request.
fn cost_of(client: &Client, next: impl Fn() -> Request + Sync) -> (usize, usize) {
    let pixels: Vec<u8> = (0..IMAGE)
        .map(|index| (index % 251 + index / 251 % 7) as u8)
        .collect();
    let image = Bytes::from(pixels);
    for _ in 0..REQUESTS {
        assert!(ask(client, &next, &image) > IMAGES * IMAGE);
    }
    let before = (
        LARGE_ONES.load(Ordering::Relaxed),
        ALL_BYTES.load(Ordering::Relaxed),
    );
    for _ in 0..REQUESTS {
        ask(client, &next, &image);
    }
    (
        LARGE_ONES.load(Ordering::Relaxed) - before.0,
        (ALL_BYTES.load(Ordering::Relaxed) - before.1) / REQUESTS,
    )
}

fn taken<T>(next: Next<T>) -> T {
    match next {
        Next::Request(request) => request,
        Next::Nothing | Next::Closed => panic!("no request came"),
    }
}

fn client(host: &str, port: u16) -> Client {
    let trust = ServerTrust::DangerAnyServer(AcceptAnyServer);
    let client = Client::new(ClientConfig::new(host, port, trust)).unwrap();
    client.meet(LONG).wait_long().unwrap();
    client
}

#[test]
fn over_a_unix_socket_images_are_copied_into_the_buffer_of_the_policy_only() {
    let _turn = TURN.lock();
    let path = std::env::temp_dir().join(format!("flash-copies-{}.sock", std::process::id()));
    let server = LocalServer::bind(LocalServerConfig::new(&path, vec![0x80])).unwrap();
    let client = client(&format!("unix:{}", path.display()), 0);
    let (large, bytes) = cost_of(&client, || taken(server.next(LONG)));
    assert_eq!(large, 0, "large allocations in {REQUESTS} requests");
    assert!(bytes < IMAGE / 2, "{bytes} bytes are allocated per request");
}

#[test]
fn over_quic_images_go_through_packets_into_the_buffer_of_the_policy() {
    let _turn = TURN.lock();
    let address = "127.0.0.1:0".parse().unwrap();
    let identity = Identity::ephemeral().unwrap();
    let server = Server::bind(ServerConfig::new(address, identity, vec![0x80])).unwrap();
    let client = client("127.0.0.1", server.address().port());
    let (_, bytes) = cost_of(&client, || taken(server.next(LONG)));
    // Packets at the sending end, what comes out of the socket at the receiving one, and little else.
    let copies = bytes as f64 / (IMAGES * IMAGE) as f64;
    assert!(
        copies < 2.5,
        "memory for {copies} copies is allocated per request"
    );
}

#[test]
fn what_is_sent_in_parts_is_one_message() {
    let image = Bytes::from(vec![3; IMAGE]);
    let path = std::env::temp_dir().join(format!("flash-parts-{}.sock", std::process::id()));
    let _turn = TURN.lock();
    let server = LocalServer::bind(LocalServerConfig::new(&path, vec![0x80])).unwrap();
    let client = client(&format!("unix:{}", path.display()), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = taken(server.next(LONG));
            let map = Value::decode(&request.body, Limits::DEFAULT).unwrap();
            let Some(Value::Array(array)) = map.get("image_2") else {
                panic!("no image: {map:?}");
            };
            assert_eq!(array.data, image);
            request.reply.answer(vec![ANSWER_OK, 0x80]).unwrap();
        });
        client
            .request(observation(&image), Some(LONG))
            .wait_long()
            .unwrap();
    });
}
