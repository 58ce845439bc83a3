//! Stands in for TLS in a build without it: a listener that asks for TLS is refused, so there is never a layer.

use std::io::{self, IoSlice, Write};
use std::rc::Rc;

use crate::core::listener::UserNameSource;
use crate::settings::{ClientTls, ConfigError, Listener};

/// The TLS setup of a listener. There is none.
#[derive(Clone, Debug)]
pub enum Setup {}

/// The TLS setup of connections to other servers. There is none.
#[derive(Clone, Debug)]
pub enum ClientSetup {}

/// The result of receiving bytes from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(dead_code, reason = "nothing makes one")]
pub(super) enum Outcome {
    Open,
    Closed,
    Failed(String),
}

/// The layer of one connection. There is none.
pub(super) enum Layer {}

/// Refuses TLS.
///
/// # Errors
///
/// If the listener asks for TLS.
pub fn load(listener: &Listener) -> Result<Option<Setup>, Vec<ConfigError>> {
    match listener.tls {
        None => Ok(None),
        Some(_) => {
            let what = "certfile asks for TLS, which this binary was built without (feature `tls`)";
            Err(vec![ConfigError::new(&*listener.place, what)])
        }
    }
}

/// Refuses TLS to other servers.
///
/// # Errors
///
/// Always.
pub fn load_client(tls: &ClientTls) -> Result<ClientSetup, Vec<ConfigError>> {
    let what = "this binary was built without TLS (feature `tls`)";
    Err(vec![ConfigError::new(&*tls.trust.place, what)])
}

/// Refuses TLS to other servers.
#[cfg(feature = "bridge")]
pub fn check_client(tls: &ClientTls) -> Vec<ConfigError> {
    load_client(tls).err().unwrap_or_default()
}

/// No certificate is read. The configuration demands none from a proxy.
pub(super) const fn name_in(_certificate: &[u8], _user_name: UserNameSource) -> Option<String> {
    None
}

impl Layer {
    pub(super) fn connect(setup: &ClientSetup, _name: &str) -> Result<Self, String> {
        match *setup {}
    }

    pub(super) fn new(setup: &Setup) -> Result<Self, String> {
        match *setup {}
    }

    pub(super) fn receive(&mut self, _ciphertext: &[u8], _plaintext: &mut Vec<u8>) -> Outcome {
        match *self {}
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(super) fn unfinished(&self) -> usize {
        match *self {}
    }

    pub(super) fn memory(&self) -> usize {
        match *self {}
    }

    pub(super) fn introduce(&mut self) -> Option<Rc<str>> {
        match *self {}
    }

    pub(super) fn write_vectored(
        &mut self,
        _slices: &[IoSlice<'_>],
        _most: usize,
        _socket: &mut impl Write,
    ) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&mut self, _socket: &mut impl Write) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn has_output(&self) -> bool {
        match *self {}
    }

    pub(super) fn close(&mut self) {
        match *self {}
    }
}
