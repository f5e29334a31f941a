//! The HTTP request that opens a WebSocket, and the answers to it (RFC 6455, section 4). No sockets
//! here.

use data_encoding::BASE64;
use ring::digest;

/// Most bytes of a request, as of its headers in other servers.
pub const LONGEST_REQUEST: usize = 16 << 10;
/// Most headers of a request.
const MOST_HEADERS: usize = 64;

/// The subprotocol of our own client, whose errors leave the connection open.
pub const SUBPROTOCOL: &str = "openpi-flash.1";

/// Where the server says whether it is ready.
pub const HEALTH_PATH: &str = "/healthz";
/// The paths below it belong to the session API.
pub const SESSIONS_PREFIX: &str = "/api/v1/";

/// Headers of the server's own, which a client cannot send through it.
const OWN_PREFIX: &str = "x-openpi-flash-";
/// The name of a client, for what answers the session API.
pub const CLIENT_HEADER: &str = "X-OpenPI-Flash-Client";
/// The place of its key.
pub const KEY_HEADER: &str = "X-OpenPI-Flash-Key";

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: String,
    /// Path and query.
    pub target: String,
    headers: Vec<(String, Vec<u8>)>,
}

/// An answer to a request that opens no WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub status: Status,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Ok,
    BadRequest,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    UpgradeRequired,
    TooManyRequests,
    HeadersTooLarge,
    ServiceUnavailable,
}

/// What a good handshake agrees on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    accept: String,
    /// Whether the client offers our subprotocol.
    pub is_ours: bool,
}

impl HttpRequest {
    /// The request at the start of `bytes` and its size; `None` if more bytes are needed, an error
    /// if they are no HTTP/1.1.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Page> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let size = match request.parse(bytes) {
            Ok(httparse::Status::Complete(size)) if size <= LONGEST_REQUEST => size,
            Ok(httparse::Status::Partial) if bytes.len() <= LONGEST_REQUEST => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                let text = format!(
                    "a request has at most {LONGEST_REQUEST} bytes and {MOST_HEADERS} headers"
                );
                return Err(Page::new(Status::HeadersTooLarge, text));
            }
            Err(error) => {
                let text = format!("this is no HTTP/1.1: {error}");
                return Err(Page::new(Status::BadRequest, text));
            }
        };
        if request.version != Some(1) {
            return Err(Page::new(Status::BadRequest, "expected HTTP/1.1"));
        }
        let headers = request.headers.iter();
        let request = Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            headers: headers
                .map(|header| (header.name.to_owned(), header.value.to_owned()))
                .collect(),
        };
        Ok(Some((request, size)))
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// All values of a header, joined by commas; `None` if it is not there.
    pub fn header(&self, name: &str) -> Option<String> {
        let named = |(header, _): &&(String, Vec<u8>)| header.eq_ignore_ascii_case(name);
        let values = self.headers.iter().filter(named);
        let values: Vec<_> = values
            .map(|(_, value)| String::from_utf8_lossy(value))
            .collect();
        match values.as_slice() {
            [] => None,
            values => Some(values.join(",")),
        }
    }

    /// The API key that the client gives, as openpi's client and Positronic's do.
    pub fn api_key(&self) -> Option<String> {
        let given = self.header("Authorization")?;
        let (scheme, key) = given.trim().split_once(' ').unwrap_or((given.trim(), ""));
        // Another scheme is no key, but a wrong attempt all the same.
        match scheme.to_ascii_lowercase().as_str() {
            "api-key" | "bearer" => Some(key.trim().to_owned()),
            _ => Some(String::new()),
        }
    }

    pub fn offers_ours(&self) -> bool {
        self.names("Sec-WebSocket-Protocol", SUBPROTOCOL)
    }

    /// What a handshake agrees on, or the answer to a request that is none.
    pub fn upgrade(&self) -> Result<Upgrade, Page> {
        if self.method != "GET" {
            let text = format!("a WebSocket is opened with GET, got {}", self.method);
            return Err(Page::new(Status::MethodNotAllowed, text));
        }
        if !self.names("Connection", "upgrade") || !self.names("Upgrade", "websocket") {
            let text = "this is a WebSocket server: open it with a WebSocket client";
            return Err(Page::new(Status::UpgradeRequired, text));
        }
        if self.header("Sec-WebSocket-Version").as_deref() != Some("13") {
            let text = "this server speaks version 13 of WebSocket";
            return Err(Page::new(Status::UpgradeRequired, text));
        }
        let key = self.header("Sec-WebSocket-Key").unwrap_or_default();
        if BASE64.decode(key.as_bytes()).map(|nonce| nonce.len()) != Ok(16) {
            let text = "Sec-WebSocket-Key is no base64 of 16 bytes";
            return Err(Page::new(Status::BadRequest, text));
        }
        let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(key.as_bytes());
        hash.update(GUID);
        Ok(Upgrade {
            accept: BASE64.encode(hash.finish().as_ref()),
            is_ours: self.offers_ours(),
        })
    }

    /// The request for what answers the session API, with its client's name and the place of its key.
    pub fn forwarded(&self, client: &str, key: usize) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            if !name.to_ascii_lowercase().starts_with(OWN_PREFIX) {
                bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
        }
        let own = format!("{CLIENT_HEADER}: {client}\r\n{KEY_HEADER}: {key}\r\n\r\n");
        bytes.extend_from_slice(own.as_bytes());
        bytes
    }

    /// Whether a list in a header names `wanted`.
    fn names(&self, header: &str, wanted: &str) -> bool {
        let list = self.header(header).unwrap_or_default();
        list.split(',')
            .any(|name| name.trim().eq_ignore_ascii_case(wanted))
    }
}

impl Page {
    pub fn new(status: Status, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    /// The whole answer; the connection closes after it.
    pub fn encode(&self) -> Vec<u8> {
        let more = match self.status {
            Status::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            Status::MethodNotAllowed => "Allow: GET\r\n",
            _ => "",
        };
        let (status, length) = (self.status.line(), self.text.len() + 1);
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Length: {length}\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\n{}\n",
            self.text
        )
        .into_bytes()
    }
}

impl Upgrade {
    /// The whole answer, after which frames follow.
    pub fn encode(&self) -> Vec<u8> {
        let protocol = match self.is_ours {
            true => format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"),
            false => String::new(),
        };
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{protocol}\r\n",
            self.accept
        )
        .into_bytes()
    }
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::UpgradeRequired => "426 Upgrade Required",
            Self::TooManyRequests => "429 Too Many Requests",
            Self::HeadersTooLarge => "431 Request Header Fields Too Large",
            Self::ServiceUnavailable => "503 Service Unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPENING: &str = "GET /chat?a=b HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\n";

    fn request(more: &str) -> HttpRequest {
        let bytes = format!("{OPENING}{more}\r\n");
        let (request, size) = HttpRequest::parse(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(size, bytes.len());
        request
    }

    #[test]
    fn the_handshake_of_the_rfc_is_answered_as_the_rfc_answers_it() {
        let request = request("");
        assert_eq!(
            (request.path(), request.target.as_str()),
            ("/chat", "/chat?a=b")
        );
        let upgrade = request.upgrade().unwrap();
        assert!(!upgrade.is_ours);
        let answer = String::from_utf8(upgrade.encode()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(!answer.contains("Protocol:") && answer.ends_with("\r\n\r\n"));
    }

    #[test]
    fn our_subprotocol_is_chosen_among_those_that_are_offered() {
        for (offer, is_ours) in [
            ("Sec-WebSocket-Protocol: other, openpi-flash.1\r\n", true),
            (
                "Sec-WebSocket-Protocol: a\r\nsec-websocket-protocol: openpi-flash.1\r\n",
                true,
            ),
            ("Sec-WebSocket-Protocol: openpi-flash.10\r\n", false),
        ] {
            assert_eq!(
                request(offer).upgrade().unwrap().is_ours,
                is_ours,
                "{offer}"
            );
        }
    }

    #[test]
    fn a_key_comes_as_openpis_client_or_as_positronics_sends_it() {
        for (header, key) in [
            ("", None),
            ("Authorization: Api-Key s3cret\r\n", Some("s3cret")),
            ("Authorization: bearer  s3cret \r\n", Some("s3cret")),
            ("Authorization: Basic s3cret\r\n", Some("")),
            ("Authorization: Api-Key\r\n", Some("")),
        ] {
            assert_eq!(request(header).api_key().as_deref(), key, "{header}");
        }
    }

    #[test]
    fn a_request_that_opens_no_websocket_is_told_why() {
        let refused = |bytes: &str| {
            let (request, _) = HttpRequest::parse(bytes.as_bytes()).unwrap().unwrap();
            request.upgrade().unwrap_err().status
        };
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Status::UpgradeRequired);
        assert_eq!(refused("POST / HTTP/1.1\r\n\r\n"), Status::MethodNotAllowed);
        let version = format!("{OPENING}\r\n").replace("13", "8");
        assert_eq!(refused(&version), Status::UpgradeRequired);
        let key = format!("{OPENING}\r\n").replace("dGhl", "");
        assert_eq!(refused(&key), Status::BadRequest);
    }

    #[test]
    fn what_is_no_http_or_too_long_is_refused() {
        let status = |bytes: &[u8]| HttpRequest::parse(bytes).unwrap_err().status;
        assert_eq!(status(b"\x16\x03\x01\x02\x00\r\n"), Status::BadRequest);
        assert_eq!(status(b"GET / HTTP/1.0\r\n\r\n"), Status::BadRequest);
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST_REQUEST));
        assert_eq!(status(long.as_bytes()), Status::HeadersTooLarge);
        let many = "a: b\r\n".repeat(MOST_HEADERS + 1);
        let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
        assert_eq!(status(many.as_bytes()), Status::HeadersTooLarge);
        assert_eq!(HttpRequest::parse(OPENING.as_bytes()), Ok(None));
    }

    #[test]
    fn a_client_cannot_say_who_it_is_to_the_session_api() {
        let forged = "x-openpi-flash-key: 0\r\nX-OPENPI-FLASH-CLIENT: admin\r\n";
        let forwarded = request(forged).forwarded("10.0.0.7:1#1", 1);
        let (seen, _) = HttpRequest::parse(&forwarded).unwrap().unwrap();
        assert_eq!(seen.header(CLIENT_HEADER).as_deref(), Some("10.0.0.7:1#1"));
        assert_eq!(seen.header(KEY_HEADER).as_deref(), Some("1"));
        assert_eq!(seen.upgrade(), request("").upgrade());
    }

    #[test]
    fn a_page_says_how_long_it_is() {
        let page = Page::new(Status::Ok, "OK").encode();
        let page = String::from_utf8(page).unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(page.contains("\r\nContent-Length: 3\r\n") && page.ends_with("\r\n\r\nOK\n"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((request, _))) = HttpRequest::parse(&bytes) {
                let _ = (request.upgrade(), request.api_key());
            }
        }

        #[test]
        fn no_header_makes_it_panic(value in "[ -~]{0,60}") {
            let named = ["Authorization", "Connection", "Sec-WebSocket-Protocol", "Upgrade"];
            let headers = named.map(|name| format!("{name}: {value}\r\n")).concat();
            let request = request(&headers);
            let _ = (request.upgrade(), request.api_key());
            let again = request.forwarded("1", 0);
            prop_assert!(HttpRequest::parse(&again).unwrap().is_some());
        }
    }
}
