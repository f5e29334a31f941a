//! What an end needs to use a relay: where it is, the server's name there, and the token.

use std::path::Path;

use super::token::{Name, Token, TokenError};
use super::token_file::{read_token, TokenFileError};
use super::DEFAULT_PORT;
use crate::link::address::{AddressError, ServerAddress};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAccess {
    /// Name or address of the relay.
    pub host: String,
    pub port: u16,
    /// Of the server.
    pub name: Name,
    pub token: Token,
}

#[derive(Debug, thiserror::Error)]
pub enum RelayAccessError {
    #[error("relay: {0}")]
    Address(#[from] AddressError),
    #[error(transparent)]
    Name(#[from] TokenError),
    #[error("relay token file {0}")]
    File(#[from] TokenFileError),
}

impl RelayAccess {
    /// From the texts of a user: the relay's address, with or without its port, the server's name,
    /// and the file with the token.
    ///
    /// # Errors
    ///
    /// One of them is wrong; says which.
    pub fn read(relay: &str, name: &str, token_file: &Path) -> Result<Self, RelayAccessError> {
        let address = ServerAddress::parse(relay, None)?;
        Ok(Self {
            host: address.host,
            port: address.port.unwrap_or(DEFAULT_PORT),
            name: Name::new(name)?,
            token: read_token(token_file)?,
        })
    }

    /// The relay as a user names it.
    pub fn relay(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}
