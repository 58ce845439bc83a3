//! TLS: the setups of listeners and of connections to other servers, and the layer of one connection, of either side.
//!
//! Ciphertext and plaintext pass through it in pieces as large as the loop reads and writes, so that a turn is still
//! one read and one write. The ciphertext queued for the socket is bounded; beyond that, output waits in the core's
//! outbox.

mod authorities;
mod buffers;
mod certificate;
mod chain;
mod client;
mod der;
mod files;
mod key_log;
mod load;
mod revocation;
mod server_verifier;
mod signature;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod verifier;
mod version_1;
mod words;

use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::{Connection, ServerConfig, ServerConnection};

use crate::core::listener::UserNameSource;
use crate::protocol::spoken::{Port, Spoken};

use buffers::{Buffers, RECORD_SIZE_MAXIMUM};
use certificate::Certificate;
use words::{Terms, in_words};

#[cfg(feature = "bridge")]
pub use client::check_client;
pub use client::{ClientSetup, load_client};
#[cfg(feature = "cluster")]
pub use client::{check_client_of_node, load_client_of_node};
pub use load::load;

/// The TLS setup of a listener: its certificate, and which clients it accepts.
#[derive(Clone)]
pub struct Setup {
    config: Arc<ServerConfig>,
    user_name: UserNameSource,
    /// The most bytes of plaintext in a record that is sent.
    record_size: usize,
}

impl fmt::Debug for Setup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents stay private.
        formatter.write_str("Setup")
    }
}

/// The result of receiving bytes from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The connection goes on.
    Open,
    /// The peer has closed its side.
    Closed,
    /// It cannot go on, for this reason.
    Failed(String),
}

/// The layer of one connection.
pub(super) struct Layer {
    connection: Connection,
    buffers: Buffers,
    /// Which part of a client's certificate is its User Name. Not used for a server, which is known by its name.
    user_name: UserNameSource,
    /// The terms of a connection to a server.
    terms: Option<Arc<Terms>>,
    /// Whether the identity of the peer has been returned.
    is_introduced: bool,
    /// Whether the layer has failed; output is discarded then.
    is_failed: bool,
}

impl Layer {
    /// The layer of a connection from a client.
    pub(super) fn new(setup: &Setup) -> Result<Self, String> {
        let connection =
            ServerConnection::new(Arc::clone(&setup.config)).map_err(|error| error.to_string())?;
        Ok(Self::of(connection.into(), setup.user_name, None, setup.record_size))
    }

    /// The layer of a connection to a server, which must present a certificate for this name or address.
    pub(super) fn connect(setup: &ClientSetup, name: &str) -> Result<Self, String> {
        let terms = Some(setup.terms());
        Ok(Self::of(setup.begin(name)?, UserNameSource::Connect, terms, RECORD_SIZE_MAXIMUM))
    }

    fn of(
        connection: Connection,
        user_name: UserNameSource,
        terms: Option<Arc<Terms>>,
        record_size: usize,
    ) -> Self {
        let buffers = Buffers::of(record_size);
        Self { connection, buffers, user_name, terms, is_introduced: false, is_failed: false }
    }

    /// Decrypts `ciphertext` and appends the result to `plaintext`.
    pub(super) fn receive(&mut self, mut ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Outcome {
        while !ciphertext.is_empty() && !self.is_failed {
            let before = ciphertext;
            if let Err(error) = self.connection.read_tls(&mut ciphertext) {
                return self.fail(error.to_string());
            }
            self.buffers.read(&before[..before.len() - ciphertext.len()]);
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => return self.fail(self.describe(&error, before)),
            };
            self.buffers.waiting(state.tls_bytes_to_write());
            if state.plaintext_bytes_to_read() > 0 {
                self.buffers.answered();
                self.take_plaintext(plaintext);
            }
            if state.peer_has_closed() {
                return Outcome::Closed;
            }
        }
        if self.buffers.may_shrink() {
            // rustls shrinks its buffer when it starts to read.
            let _ = self.connection.read_tls(&mut Silent);
            self.buffers.shrunk();
        }
        Outcome::Open
    }

    /// Describes an error about these bytes. A client that speaks something else is told from one that speaks TLS badly.
    fn describe(&self, error: &rustls::Error, bytes: &[u8]) -> String {
        let what = in_words(error, self.terms.as_deref());
        let is_begun = !self.connection.is_handshaking() || self.terms.is_some();
        match Spoken::advice(bytes, Port::Tls).filter(|_| !is_begun) {
            Some(advice) => format!("{what}, {advice}"),
            None => what,
        }
    }

    /// Whether the handshake is still in progress.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Bytes that have come of a handshake or record in progress.
    pub(super) fn unfinished(&self) -> usize {
        self.buffers.held()
    }

    /// Bytes that the layer takes in addition to its own size.
    pub(super) fn memory(&self) -> usize {
        self.buffers.memory()
    }

    fn take_plaintext(&mut self, plaintext: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        // The state reports the end of input, and running out of plaintext is no failure.
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            plaintext.extend_from_slice(chunk);
            let count = chunk.len();
            reader.consume(count);
        }
    }

    fn fail(&mut self, why: String) -> Outcome {
        self.is_failed = true;
        Outcome::Failed(why)
    }

    /// The identity of the client by its certificate; returned once, when the handshake is over.
    pub(super) fn introduce(&mut self) -> Option<Rc<str>> {
        if self.is_introduced || self.connection.is_handshaking() {
            return None;
        }
        self.is_introduced = true;
        let chain = self.connection.peer_certificates().unwrap_or_default();
        self.buffers.certified(chain.iter().map(|certificate| certificate.len()));
        name_in(self.connection.peer_certificates()?.first()?, self.user_name).map(Into::into)
    }

    /// Encrypts at most `most` bytes. Nothing is added while ciphertext is queued, because many small records would
    /// take far more memory than their contents.
    pub(super) fn write_vectored(
        &mut self,
        slices: &[IoSlice<'_>],
        most: usize,
        socket: &mut impl Write,
    ) -> io::Result<usize> {
        if self.is_failed {
            return Ok(slices.iter().map(|slice| slice.len()).sum());
        }
        self.flush(socket)?;
        if self.has_output() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.connection.set_buffer_limit(Some(most));
        let count = self.connection.writer().write_vectored(slices)?;
        self.buffers.encrypted(count);
        Ok(count)
    }

    /// Writes ciphertext until none is left or the socket would block.
    pub(super) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while self.has_output() {
            match self.connection.write_tls(socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.look_at_output();
        Ok(())
    }

    /// Finds out how much ciphertext is queued. rustls returns that only with this call.
    fn look_at_output(&mut self) {
        if !self.has_output() {
            self.buffers.waiting(0);
        } else if let Ok(state) = self.connection.process_new_packets() {
            self.buffers.waiting(state.tls_bytes_to_write());
        }
    }

    /// Whether ciphertext is queued for the socket.
    pub(super) fn has_output(&self) -> bool {
        self.connection.wants_write()
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn close(&mut self) {
        if !self.is_failed {
            self.connection.send_close_notify();
        }
    }
}

/// The name in a verified certificate, in DER, that is the User Name of its owner.
pub(super) fn name_in(certificate: &[u8], user_name: UserNameSource) -> Option<String> {
    let certificate = Certificate::parse(certificate)?;
    match user_name {
        UserNameSource::Connect => None,
        UserNameSource::CommonName => certificate.common_name(),
        UserNameSource::Subject => certificate.subject_text(),
    }
}

/// A reader from which nothing comes for now.
struct Silent;

impl Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
