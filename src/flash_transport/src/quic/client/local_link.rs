//! A connection to a server on this computer, with the interface of a QUIC connection.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::config::ClientConfig;
use super::error::{AttemptError, ClientError};
use super::exchange::{judge_answer, Arrival, ExchangeError};
use super::introduction::{Introduction, Order};
use super::message::Pieces;
use crate::buffers::Buffer;
use crate::link::first_receiver::FirstReceiver;
use crate::local::client::{self, Connection, Exclusive};

#[derive(Debug)]
pub(super) struct LocalLink {
    connection: Arc<Connection>,
    pub introduction: Introduction,
    words: Words,
}

impl LocalLink {
    /// Connect.
    pub async fn open(config: &ClientConfig, path: &str) -> Result<Self, AttemptError> {
        let hello = config
            .hello
            .encode()
            .map_err(|error| AttemptError::Final(error.into()))?;
        let connection = Connection::open(path, config.answer_bytes)
            .map_err(|error| judge_connecting(config, error))?;
        tokio::spawn(connection.clone().drive());
        let words = Words {
            server: config.server(),
            limit: config.answer_bytes,
        };
        let exchange = {
            let (connection, words) = (connection.clone(), words.clone());
            async move {
                let hello = [Bytes::from(hello)];
                words.judge(connection.exchange(&hello, None, None).await)
            }
        };
        Ok(Self {
            introduction: Introduction::begin(exchange, config.connect_timeout, Order::Kept).await,
            connection,
            words,
        })
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
        (arrived, first): (Arrival<'_>, Option<&FirstReceiver>),
    ) -> Result<Buffer, ExchangeError> {
        let request = request.as_mut_slice();
        let answer = self.connection.exchange(request, arrived, first);
        self.words.judge(answer.await)
    }

    /// Let the calling thread carry the request, unless another thread does so with its own.
    pub fn on_this_thread(
        &self,
        mut request: Pieces,
        first: Option<&FirstReceiver>,
    ) -> Option<OnThisThread> {
        let exclusive = self.connection.exclusive(request.as_mut_slice(), first)?;
        Some(OnThisThread {
            exclusive,
            words: self.words.clone(),
        })
    }
}

/// A request that the waiting thread carries.
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

/// Details for error messages.
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
            Err(client::ExchangeError::Bad(reason)) => ClientError::BadAnswer { server, reason },
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
        // The kernel's error for a server that does not accept connections.
        io::ErrorKind::WouldBlock => AttemptError::again("the server is busy"),
        _ => AttemptError::Final(ClientError::Socket {
            server: config.server(),
            reason: error.to_string(),
        }),
    }
}
