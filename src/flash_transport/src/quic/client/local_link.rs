//! A connection to a server on this computer, in the terms of this client.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout;

use super::dial::judge_hello;
use super::error::{AttemptError, ClientError};
use super::exchange::{judge_answer, ExchangeError};
use super::message::Pieces;
use super::ClientConfig;
use crate::buffers::Buffer;
use crate::local::client::{self, Connection, Exclusive};

#[derive(Debug)]
pub(super) struct LocalLink {
    connection: Arc<Connection>,
    /// The msgpack map of the answer to the hello.
    pub metadata: Bytes,
    words: Words,
}

impl LocalLink {
    /// Connect within `config.connect_timeout`.
    pub async fn dial(config: &ClientConfig, path: &str) -> Result<Self, AttemptError> {
        let connection = Connection::open(path, config.answer_bytes)
            .map_err(|error| judge_connecting(config, error))?;
        tokio::spawn(connection.clone().drive());
        let mut link = Self {
            connection,
            metadata: Bytes::new(),
            words: Words {
                server: config.server(),
                limit: config.answer_bytes,
            },
        };
        let hello = config
            .hello
            .encode()
            .map_err(|error| AttemptError::Final(error.into()))?;
        let answer = link.exchange(Bytes::from(hello).into(), None);
        match timeout(config.connect_timeout, answer).await {
            Ok(Ok(answer)) => {
                link.metadata = Bytes::from_owner(answer).slice(1..);
                Ok(link)
            }
            Ok(Err(error)) => Err(judge_hello(error)),
            Err(_) => Err(AttemptError::again("the server is silent")),
        }
    }

    pub fn is_up(&self) -> bool {
        self.connection.is_up()
    }

    pub async fn lost(&self) -> String {
        self.connection.lost().await
    }

    pub fn close(&self) {
        self.connection.end("this client is closed");
    }

    pub async fn exchange(
        &self,
        mut request: Pieces,
        arrived: Option<&(dyn Fn() + Sync)>,
    ) -> Result<Buffer, ExchangeError> {
        let answer = self.connection.exchange(request.as_mut_slice(), arrived);
        self.words.judge(answer.await)
    }

    /// Let the thread that waits carry the request, unless somebody else is at it.
    pub fn on_this_thread(&self, mut request: Pieces) -> Option<OnThisThread> {
        let exclusive = self.connection.exclusive(request.as_mut_slice())?;
        Some(OnThisThread {
            exclusive,
            words: self.words.clone(),
        })
    }
}

/// A request that the thread which waits carries.
#[derive(Debug)]
pub(super) struct OnThisThread {
    exclusive: Exclusive,
    words: Words,
}

impl OnThisThread {
    pub fn carry(&mut self, until: Instant) -> Option<Result<Buffer, ExchangeError>> {
        let answer = self.exclusive.carry(until)?;
        Some(self.words.judge(answer))
    }
}

/// What errors need to say.
#[derive(Debug, Clone)]
struct Words {
    server: String,
    limit: usize,
}

impl Words {
    fn judge(
        &self,
        answer: Result<Buffer, client::ExchangeError>,
    ) -> Result<Buffer, ExchangeError> {
        let server = self.server.clone();
        let failure = match answer {
            Ok(answer) => return judge_answer(answer, &server).map_err(ExchangeError::Failed),
            Err(client::ExchangeError::NotSent(reason)) => {
                return Err(ExchangeError::NotSent(reason))
            }
            Err(client::ExchangeError::Lost(reason)) => ClientError::Lost { server, reason },
            Err(client::ExchangeError::TooLarge) => ClientError::AnswerTooLarge {
                server,
                limit: self.limit,
            },
        };
        Err(ExchangeError::Failed(failure))
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        self.close();
    }
}

fn judge_connecting(config: &ClientConfig, error: io::Error) -> AttemptError {
    match error.kind() {
        io::ErrorKind::NotFound => AttemptError::again("there is no such socket"),
        io::ErrorKind::ConnectionRefused => AttemptError::again("nothing listens there"),
        // What the kernel says of a server that accepts nobody.
        io::ErrorKind::WouldBlock => AttemptError::again("the server is busy"),
        _ => AttemptError::Final(ClientError::Socket {
            server: config.server(),
            reason: error.to_string(),
        }),
    }
}
