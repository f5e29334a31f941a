//! Connections of the session API, which Python answers behind a unix socket.

use std::pin::pin;
use std::sync::Arc;

use tokio::io::{copy, split, AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::opening::{show, Opened};
use super::shared::{Shared, FLUSH_TIME};
use crate::link::server_core::PeerName;
use crate::websocket::handshake::{Page, Status};

/// Pass a connection on until one of its ends closes it.
pub(super) async fn forward(shared: &Arc<Shared>, opened: Opened, client: &PeerName, key: usize) {
    let Opened {
        mut wire,
        request,
        ahead,
    } = opened;
    let Some(path) = &shared.sessions else {
        return;
    };
    let Ok(mut inner) = UnixStream::connect(path).await else {
        let page = Page::new(
            Status::ServiceUnavailable,
            "the session API does not answer",
        );
        return show(&mut wire, &page).await;
    };
    let head = request.forwarded(&client.name, key);
    if inner.write_all(&[head, ahead].concat()).await.is_err() {
        return;
    }
    let (from_client, to_client) = split(wire);
    let (from_inner, to_inner) = inner.into_split();
    let mut forth = pin!(pass(from_client, to_inner));
    let mut back = pin!(pass(from_inner, to_client));
    tokio::select! {
        // A client that has its answer need not be waited for.
        () = &mut back => drop(timeout(FLUSH_TIME, forth).await),
        () = &mut forth => back.await,
    }
}

/// Pass bytes on to their end. Either end may break off.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
