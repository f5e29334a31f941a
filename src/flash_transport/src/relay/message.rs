//! The datagrams between a relay and its two ends, and between the ends. Pure.
//!
//! Numbers are big-endian. `docs/protocol.md` has the layout of each.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::token::{Name, Role, Token, TAG};

/// Names an end: a client's connection, or a server. Drawn at random by the end.
pub type EndId = [u8; 8];
/// Proves to the relay that an end receives at the address from which it sends.
pub type Cookie = [u8; 16];

/// Bytes in front of each datagram of QUIC.
pub const DATA_HEADER: usize = 9;
/// Length of a challenge: shorter datagrams of strangers get no answer.
pub const CHALLENGE: usize = 25;
/// A registration that is not renewed for so long has ended. Ends renew theirs every two seconds.
pub const LIFETIME: Duration = Duration::from_secs(10);
/// First bytes of the datagrams that an end receives.
pub const KINDS_OF_ENDS: std::ops::RangeInclusive<u8> = KIND_CHALLENGE..=KIND_REACHED;

const VERSION: u8 = 1;
const KIND_REGISTER: u8 = 0x01;
const KIND_CHALLENGE: u8 = 0x02;
const KIND_REGISTERED: u8 = 0x03;
const KIND_PEER: u8 = 0x04;
const KIND_REFUSED: u8 = 0x05;
const KIND_DATA: u8 = 0x06;
const KIND_PROBE: u8 = 0x07;
const KIND_REACHED: u8 = 0x08;

/// A datagram whose form is right. Nothing in it is proved; see [`Signed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// End to relay: under this name, with this cookie; zeros ask for one.
    Register {
        role: Role,
        end: EndId,
        cookie: Cookie,
        name: Name,
        local: Option<SocketAddr>,
        signed: Signed<'a>,
    },
    /// Relay to end: register with this cookie.
    Challenge { end: EndId, cookie: Cookie },
    /// Relay to end: registered, and seen at this address.
    Registered {
        end: EndId,
        cookie: Cookie,
        public: Option<SocketAddr>,
        signed: Signed<'a>,
    },
    /// Relay to end: the peer of the connection, and its addresses.
    Peer {
        connection: EndId,
        cookie: Cookie,
        public: Option<SocketAddr>,
        local: Option<SocketAddr>,
        signed: Signed<'a>,
    },
    /// Relay to end: not registered.
    Refused { end: EndId, refusal: Refusal },
    /// A datagram of QUIC, on any way.
    Data { connection: EndId, quic: &'a [u8] },
    /// End to end: does this reach you?
    Probe {
        connection: EndId,
        nonce: u64,
        signed: Signed<'a>,
    },
    /// End to end: the probe has.
    Reached {
        connection: EndId,
        nonce: u64,
        signed: Signed<'a>,
    },
}

/// What a tag covers, and the tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    message: &'a [u8],
    tag: &'a [u8; TAG],
}

impl Signed<'_> {
    /// Whether somebody who knows `token` sent it as `sender`.
    pub fn is_of(&self, token: &Token, sender: Role) -> bool {
        token.proves(sender, self.message, self.tag)
    }
}

/// Why a relay does not register an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("the relay does not know the name, or its token is another one")]
    NotAdmitted,
    #[error("another server holds the name at the relay")]
    Taken,
    #[error("the relay has no room for another one")]
    Full,
    #[error("no server of this name is registered at the relay")]
    Absent,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::NotAdmitted, Self::Taken, Self::Full, Self::Absent];

    fn byte(self) -> u8 {
        match self {
            Self::NotAdmitted => 1,
            Self::Taken => 2,
            Self::Full => 3,
            Self::Absent => 4,
        }
    }
}

impl<'a> Message<'a> {
    /// `None` if the datagram is none of these.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(datagram);
        let kind = fields.byte()?;
        if kind == KIND_DATA {
            return Some(Self::Data {
                connection: fields.array()?,
                quic: fields.0,
            });
        }
        let signed = || {
            let (message, tag) = datagram.split_last_chunk()?;
            Some(Signed { message, tag })
        };
        let message = match kind {
            KIND_REGISTER => {
                if fields.byte()? != VERSION {
                    return None;
                }
                let role = match fields.byte()? {
                    0 => Role::Server,
                    1 => Role::Client,
                    _ => return None,
                };
                Self::Register {
                    role,
                    end: fields.array()?,
                    cookie: fields.array()?,
                    name: fields.name()?,
                    local: fields.address()?,
                    signed: signed()?,
                }
            }
            KIND_CHALLENGE => Self::Challenge {
                end: fields.array()?,
                cookie: fields.array()?,
            },
            KIND_REGISTERED => Self::Registered {
                end: fields.array()?,
                cookie: fields.array()?,
                public: fields.address()?,
                signed: signed()?,
            },
            KIND_PEER => Self::Peer {
                connection: fields.array()?,
                cookie: fields.array()?,
                public: fields.address()?,
                local: fields.address()?,
                signed: signed()?,
            },
            KIND_REFUSED => {
                let end = fields.array()?;
                let code = fields.byte()?;
                let mut known = Refusal::ALL.into_iter();
                let refusal = known.find(|refusal| refusal.byte() == code)?;
                Self::Refused { end, refusal }
            }
            KIND_PROBE => Self::Probe {
                connection: fields.array()?,
                nonce: u64::from_be_bytes(fields.array()?),
                signed: signed()?,
            },
            KIND_REACHED => Self::Reached {
                connection: fields.array()?,
                nonce: u64::from_be_bytes(fields.array()?),
                signed: signed()?,
            },
            _ => return None,
        };
        let is_signed = !matches!(kind, KIND_CHALLENGE | KIND_REFUSED);
        let expected = if is_signed { TAG } else { 0 };
        (fields.0.len() == expected).then_some(message)
    }
}

/// Whether the datagram begins as one of QUIC does on the way between two ends.
pub fn data_of(datagram: &[u8]) -> Option<EndId> {
    let (&kind, rest) = datagram.split_first()?;
    let connection = rest.first_chunk()?;
    (kind == KIND_DATA).then_some(*connection)
}

/// What comes before a datagram of QUIC.
pub fn data_header(connection: EndId) -> [u8; DATA_HEADER] {
    let mut header = [KIND_DATA; DATA_HEADER];
    header[1..].copy_from_slice(&connection);
    header
}

pub fn register(
    role: Role,
    end: EndId,
    cookie: Option<Cookie>,
    name: &Name,
    local: Option<SocketAddr>,
    token: &Token,
) -> Vec<u8> {
    let mut message = vec![KIND_REGISTER, VERSION, role.byte()];
    message.extend(end);
    message.extend(cookie.unwrap_or_default());
    message.push(name.as_str().len() as u8);
    message.extend(name.as_str().as_bytes());
    write_address(&mut message, local);
    sign(message, role, token)
}

pub fn challenge(end: EndId, cookie: Cookie) -> Vec<u8> {
    [&[KIND_CHALLENGE][..], &end, &cookie].concat()
}

pub fn registered(end: EndId, cookie: Cookie, public: SocketAddr, token: &Token) -> Vec<u8> {
    let mut message = [&[KIND_REGISTERED][..], &end, &cookie].concat();
    write_address(&mut message, Some(public));
    sign(message, Role::Relay, token)
}

pub fn peer(
    connection: EndId,
    cookie: Cookie,
    public: SocketAddr,
    local: Option<SocketAddr>,
    token: &Token,
) -> Vec<u8> {
    let mut message = [&[KIND_PEER][..], &connection, &cookie].concat();
    write_address(&mut message, Some(public));
    write_address(&mut message, local);
    sign(message, Role::Relay, token)
}

pub fn refused(end: EndId, refusal: Refusal) -> Vec<u8> {
    [&[KIND_REFUSED][..], &end, &[refusal.byte()]].concat()
}

pub fn probe(sender: Role, connection: EndId, nonce: u64, token: &Token) -> Vec<u8> {
    let message = [&[KIND_PROBE][..], &connection, &nonce.to_be_bytes()].concat();
    sign(message, sender, token)
}

pub fn reached(sender: Role, connection: EndId, nonce: u64, token: &Token) -> Vec<u8> {
    let message = [&[KIND_REACHED][..], &connection, &nonce.to_be_bytes()].concat();
    sign(message, sender, token)
}

fn sign(mut message: Vec<u8>, sender: Role, token: &Token) -> Vec<u8> {
    let tag = token.tag(sender, &message);
    message.extend(tag);
    message
}

fn write_address(message: &mut Vec<u8>, address: Option<SocketAddr>) {
    let Some(address) = address else {
        message.push(0);
        return;
    };
    match address.ip() {
        IpAddr::V4(ip) => {
            message.push(4);
            message.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            message.push(6);
            message.extend(ip.octets());
        }
    }
    message.extend(address.port().to_be_bytes());
}

/// What is left of a datagram.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.bytes(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn name(&mut self) -> Option<Name> {
        let length = self.byte()?;
        let text = std::str::from_utf8(self.bytes(length.into())?).ok()?;
        Name::new(text).ok()
    }

    fn address(&mut self) -> Option<Option<SocketAddr>> {
        let ip: IpAddr = match self.byte()? {
            0 => return Some(None),
            4 => self.array::<4>()?.into(),
            6 => self.array::<16>()?.into(),
            _ => return None,
        };
        let port = u16::from_be_bytes(self.array()?);
        Some(Some((ip, port).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const END: EndId = *b"an end!!";
    const COOKIE: Cookie = *b"sixteen bytes...";

    fn token() -> Token {
        Token::new("0123456789abcdef0123456789abcdef").unwrap()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn samples() -> Vec<Vec<u8>> {
        let (name, token) = (Name::new("lab1").unwrap(), token());
        let (four, six) = (address("203.0.113.7:5555"), address("[2001:db8::1]:9"));
        vec![
            register(Role::Server, END, None, &name, None, &token),
            register(Role::Client, END, Some(COOKIE), &name, Some(six), &token),
            challenge(END, COOKIE),
            registered(END, COOKIE, six, &token),
            peer(END, COOKIE, four, None, &token),
            peer(END, COOKIE, four, Some(six), &token),
            refused(END, Refusal::Taken),
            [&data_header(END)[..], b"quic"].concat(),
            probe(Role::Client, END, 7, &token),
            reached(Role::Server, END, 7, &token),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let (token, name) = (token(), Name::new("lab1").unwrap());
        let samples = samples();
        let Some(Message::Register {
            role,
            end,
            cookie,
            name: read,
            local,
            signed,
        }) = Message::parse(&samples[1])
        else {
            panic!("no registration");
        };
        assert_eq!((role, end, cookie, read), (Role::Client, END, COOKIE, name));
        assert_eq!(local, Some(address("[2001:db8::1]:9")));
        assert!(signed.is_of(&token, Role::Client) && !signed.is_of(&token, Role::Server));
        let data = Message::Data {
            connection: END,
            quic: b"quic",
        };
        assert_eq!(Message::parse(&samples[7]), Some(data));
        assert_eq!(data_of(&samples[7]), Some(END));
        for refusal in Refusal::ALL {
            let read = Message::parse(&refused(END, refusal))
                == Some(Message::Refused { end: END, refusal });
            assert!(read, "{refusal:?}");
        }
        assert!(samples
            .iter()
            .all(|sample| Message::parse(sample).is_some()));
    }

    #[test]
    fn a_challenge_is_no_longer_than_any_registration() {
        let name = Name::new("a").unwrap();
        let shortest = register(Role::Client, END, None, &name, None, &token());
        assert_eq!(challenge(END, COOKIE).len(), CHALLENGE);
        assert!(shortest.len() >= CHALLENGE);
    }

    #[test]
    fn a_datagram_that_is_cut_or_has_more_is_none() {
        for sample in samples() {
            if data_of(&sample).is_some() {
                continue;
            }
            for length in 0..sample.len() {
                assert_eq!(Message::parse(&sample[..length]), None, "{sample:02x?}");
            }
            let longer = [&sample[..], &[0]].concat();
            assert_eq!(Message::parse(&longer), None, "{sample:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_is_noticed(at in 0..200_usize, change in 1..=255_u8, which in 0..10_usize) {
            let mut sample = samples().swap_remove(which);
            let at = at % sample.len();
            sample[at] ^= change;
            let is_proved = match Message::parse(&sample) {
                Some(Message::Register { role, signed, .. }) => signed.is_of(&token(), role),
                Some(Message::Registered { signed, .. } | Message::Peer { signed, .. }) => {
                    signed.is_of(&token(), Role::Relay)
                }
                Some(Message::Probe { signed, .. }) => signed.is_of(&token(), Role::Client),
                Some(Message::Reached { signed, .. }) => signed.is_of(&token(), Role::Server),
                _ => false,
            };
            prop_assert!(!is_proved);
        }
    }
}
