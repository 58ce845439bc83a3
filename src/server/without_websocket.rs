//! Stands in for WebSocket in a build without it: a listener that asks for it is refused, so there is never such a
//! connection.

use std::io::IoSlice;

use crate::settings::{ConfigError, Listener, Protocol};

/// The WebSocket setup of a listener. There is none.
#[derive(Clone, Debug)]
pub(super) enum Setup {}

/// The WebSocket layer of one connection. There is none.
pub(super) enum WebSocket {}

/// The result of receiving bytes from the socket.
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) outcome: Outcome,
}

/// Whether a connection goes on.
#[expect(dead_code, reason = "nothing makes one")]
pub(super) enum Outcome {
    Open,
    Closed,
    Failed(&'static str),
}

/// Refuses WebSocket.
pub(super) fn set_up(listener: &Listener) -> Result<Option<Setup>, ConfigError> {
    match listener.protocol {
        Protocol::Mqtt => Ok(None),
        Protocol::WebSocket { .. } => {
            let what = "this binary was built without WebSocket (feature `websocket`)";
            Err(ConfigError::new(&*listener.place, what))
        }
    }
}

pub(super) fn open(setup: &Setup) -> WebSocket {
    match *setup {}
}

/// Refuses WebSocket to other servers.
pub(super) fn request(_host: &str, _port: u16, _path: &str) -> Result<WebSocket, String> {
    Err("this binary was built without WebSocket (feature `websocket`)".to_owned())
}

impl WebSocket {
    pub(super) fn is_masking(&self) -> bool {
        match *self {}
    }

    pub(super) fn mask(&mut self, _slices: &[IoSlice<'_>]) -> usize {
        match *self {}
    }

    pub(super) fn receive(&mut self, _bytes: &mut [u8]) -> Received {
        match *self {}
    }

    pub(super) fn memory(&self) -> usize {
        match *self {}
    }

    pub(super) fn close(&mut self) {
        match *self {}
    }

    pub(super) fn is_open(&self) -> bool {
        match *self {}
    }

    pub(super) fn frame(&mut self, _length: usize) -> (&[u8], usize) {
        match *self {}
    }

    pub(super) fn advance(&mut self, _count: usize) -> usize {
        match *self {}
    }

    pub(super) fn has_answers(&self) -> bool {
        match *self {}
    }
}
