//! How users name a server: a name or an address, with or without its port. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::text::{escaped, is_control, shown};

/// The host and port of a server to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// None if neither host nor port gives it.
    pub port: Option<u16>,
}

/// Why host and port name no server, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("host {} is empty: write the server's name or address, for example gpu-server, 10.0.0.5 or [::1]:5555", quoted(host))]
    Empty { host: String },

    #[error("host {} holds the control character {}: leave it out", quoted(host), escaped(*character))]
    ControlCharacter { host: String, character: char },

    #[error("host {} holds a space: leave it out", quoted(host))]
    Space { host: String },

    #[error(
        "host {} is a URI: write it without {}, as {}",
        quoted(host),
        shown(scheme),
        shown(rest)
    )]
    Uri {
        host: String,
        scheme: String,
        rest: String,
    },

    #[error("host {} holds a path: write only the server's name or address; a socket on this computer is unix: and its path", quoted(host))]
    Path { host: String },

    #[error("host {} holds {character:?}, which is part of no host name: write only the server's name or address", quoted(host))]
    Character { host: String, character: char },

    #[error(
        "host {} has no name between its dots, or before the first one",
        quoted(host)
    )]
    EmptyLabel { host: String },

    #[error(
        "host {} is too long: a name has at most 253 characters, and at most 63 between two dots",
        quoted(host)
    )]
    TooLong { host: String },

    #[error("host {} is no IPv4 address: write four numbers from 0 to 255 without leading zeros, for example 10.0.0.5", quoted(host))]
    NotIpv4 { host: String },

    #[error("host {} is no IPv6 address: write for example ::1 or, with a port, [::1]:5555; only IPv6 addresses have brackets", quoted(host))]
    NotIpv6 { host: String },

    #[error("host {} is the address that a server listens on, not one to connect to: write the server's name or address (127.0.0.1 if it runs on this computer)", quoted(host))]
    Unspecified { host: String },

    #[error(
        "host {} is the address of many computers: write that of one server",
        quoted(host)
    )]
    Multicast { host: String },

    #[error("port {} is no number from 1 to 65535", shown(port))]
    Port { port: String },

    #[error(
        "host {} says port {in_host}, but port is {port}: give one of them",
        quoted(host)
    )]
    Contradiction {
        host: String,
        in_host: u16,
        port: u16,
    },
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

impl ServerAddress {
    /// Parse `host`, which may hold the port, and `port`, which is optional. Looks up no names.
    pub fn parse(host: &str, port: Option<i64>) -> Result<Self, AddressError> {
        let error = |make: fn(String) -> AddressError| Err(make(host.to_owned()));
        let port = match port {
            None => None,
            Some(port) => match u16::try_from(port) {
                Ok(port) if port != 0 => Some(port),
                _ => return Err(bad_port(&port.to_string())),
            },
        };
        if let Some(character) = host.chars().find(|character| is_control(*character)) {
            return Err(AddressError::ControlCharacter {
                host: host.to_owned(),
                character,
            });
        }
        if host.chars().any(char::is_whitespace) {
            return error(|host| AddressError::Space { host });
        }
        if let Some((scheme, rest)) = host.split_once("://") {
            let (scheme, rest) = (format!("{scheme}://"), rest.split('/').next());
            return Err(AddressError::Uri {
                host: host.to_owned(),
                scheme,
                rest: rest.unwrap_or_default().to_owned(),
            });
        }
        if host.contains(['/', '\\']) {
            return error(|host| AddressError::Path { host });
        }
        let (name, in_host) = split(host)?;
        check_name(host, name)?;
        let in_host = in_host.map(parse_port).transpose()?;
        match (in_host, port) {
            (Some(in_host), Some(port)) if in_host != port => Err(AddressError::Contradiction {
                host: host.to_owned(),
                in_host,
                port,
            }),
            _ => Ok(Self {
                host: name.to_owned(),
                port: in_host.or(port),
            }),
        }
    }
}

/// The name or address, without brackets, and the text of the port behind it.
fn split(host: &str) -> Result<(&str, Option<&str>), AddressError> {
    let not_ipv6 = || AddressError::NotIpv6 {
        host: host.to_owned(),
    };
    if let Some(rest) = host.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(not_ipv6)?;
        ipv6(address).ok_or_else(not_ipv6)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, Some(port))),
            None if rest.is_empty() => Ok((address, None)),
            None => Err(not_ipv6()),
        };
    }
    match host.split_once(':') {
        None => Ok((host, None)),
        Some((name, port)) if !port.contains(':') => Ok((name, Some(port))),
        Some(_) if ipv6(host).is_some() => Ok((host, None)),
        Some(_) => Err(not_ipv6()),
    }
}

/// An IPv6 address, with or without a zone (RFC 4007, section 11: `fe80::1%eth0`).
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let is_zone = |zone: &str| {
        !zone.is_empty()
            && zone
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
    };
    zone.is_none_or(is_zone)
        .then(|| address.parse().ok())
        .flatten()
}

fn check_name(host: &str, name: &str) -> Result<(), AddressError> {
    let error = |make: fn(String) -> AddressError| Err(make(host.to_owned()));
    if name.is_empty() {
        return error(|host| AddressError::Empty { host });
    }
    if let Some(address) = ipv6(name) {
        return check_address(host, IpAddr::V6(address).to_canonical());
    }
    let is_foreign =
        |character: &char| !(character.is_alphanumeric() || "-_.".contains(*character));
    if let Some(character) = name.chars().find(is_foreign) {
        return Err(AddressError::Character {
            host: host.to_owned(),
            character,
        });
    }
    let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    if labels.iter().any(|label| label.is_empty()) {
        return error(|host| AddressError::EmptyLabel { host });
    }
    if name.chars().count() > 253 || labels.iter().any(|label| label.chars().count() > 63) {
        return error(|host| AddressError::TooLong { host });
    }
    // Resolvers take such names for IPv4 addresses, in ways that differ (WHATWG URL, "ends in a
    // number checker").
    if labels.last().is_some_and(|label| is_number(label)) {
        return match name.parse::<Ipv4Addr>() {
            Ok(address) => check_address(host, address.into()),
            Err(_) => error(|host| AddressError::NotIpv4 { host }),
        };
    }
    Ok(())
}

fn is_number(label: &str) -> bool {
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label
            .strip_prefix("0x")
            .or_else(|| label.strip_prefix("0X"))
            .is_some_and(is_hex)
}

fn check_address(host: &str, address: IpAddr) -> Result<(), AddressError> {
    let host = host.to_owned();
    if address.is_unspecified() {
        return Err(AddressError::Unspecified { host });
    }
    if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(AddressError::Multicast { host });
    }
    Ok(())
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if is_number && port != 0 => Ok(port),
        _ => Err(bad_port(&format!("\"{text}\""))),
    }
}

fn bad_port(port: &str) -> AddressError {
    AddressError::Port {
        port: port.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// The Python parser passes the same table.
    #[test]
    fn every_case_of_the_table_comes_out_as_it_says() {
        let table: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/data/hosts.json")).unwrap();
        assert!(table.len() > 80);
        for case in table {
            let parsed =
                ServerAddress::parse(case["host"].as_str().unwrap(), case["port"].as_i64());
            let expected = &case["expect"];
            match parsed {
                Ok(ServerAddress { host, port }) => {
                    assert_eq!(expected["host"], host, "{case}");
                    assert_eq!(expected["port"].as_u64(), port.map(u64::from), "{case}");
                }
                Err(error) => {
                    let text = error.to_string();
                    let part = expected["error"].as_str();
                    assert!(
                        part.is_some_and(|part| text.contains(part)),
                        "{case}: {text}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_error_shows_little_of_a_long_host() {
        let error = ServerAddress::parse(&"/".repeat(1 << 20), None).unwrap_err();
        assert!(error.to_string().chars().count() < 400, "{error}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(host in any::<String>(), port in any::<Option<i64>>()) {
            let _ = ServerAddress::parse(&host, port);
        }

        #[test]
        fn what_is_taken_is_taken_again(host in "[a-z0-9.:%\\[\\]]{0,12}") {
            if let Ok(address) = ServerAddress::parse(&host, None) {
                let port = address.port.map(i64::from);
                prop_assert_eq!(ServerAddress::parse(&address.host, port), Ok(address.clone()));
            }
        }
    }
}
