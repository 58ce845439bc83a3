//! TLS at listeners: what they are set up with, and the layer of one connection.
//!
//! Ciphertext and plaintext go through it in pieces as large as the loop reads and writes, so that a turn stays
//! one read and one write. What waits in it for the socket is bounded; beyond that the core's outbox waits.

mod buffers;
mod certificate;
mod key_log;
mod load;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod verifier;

use std::fmt;
use std::io::{self, BufRead as _, IoSlice, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, ServerConfig,
    ServerConnection,
};

use crate::core::listener::UserNameSource;

use buffers::Buffers;
use certificate::Certificate;

pub use load::load;

/// What a listener speaks TLS with: its certificate, and whom it lets in.
#[derive(Clone)]
pub struct Setup {
    config: Arc<ServerConfig>,
    user_name: UserNameSource,
}

impl fmt::Debug for Setup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is inside is nobody's business.
        formatter.write_str("Setup")
    }
}

/// What a client's bytes led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The connection goes on.
    Open,
    /// The client has said that nothing more comes.
    Closed,
    /// It can not go on, for this reason.
    Failed(String),
}

/// The layer of one connection.
pub(super) struct Layer {
    connection: ServerConnection,
    buffers: Buffers,
    user_name: UserNameSource,
    /// Who the client is has been told.
    is_introduced: bool,
    /// What is written goes nowhere.
    is_failed: bool,
}

impl Layer {
    pub(super) fn new(setup: &Setup) -> Result<Self, String> {
        let connection =
            ServerConnection::new(Arc::clone(&setup.config)).map_err(|error| error.to_string())?;
        let buffers = Buffers::default();
        Ok(Self { connection, buffers, user_name: setup.user_name, is_introduced: false, is_failed: false })
    }

    /// Takes ciphertext and appends what was in it to `plaintext`.
    pub(super) fn receive(&mut self, mut ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Outcome {
        while !ciphertext.is_empty() && !self.is_failed {
            let before = ciphertext;
            if let Err(error) = self.connection.read_tls(&mut ciphertext) {
                return self.fail(error.to_string());
            }
            self.buffers.read(&before[..before.len() - ciphertext.len()]);
            let state = match self.connection.process_new_packets() {
                Ok(state) => state,
                Err(error) => return self.fail(in_words(&error)),
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
            // It makes its buffer smaller as it begins to read.
            let _ = self.connection.read_tls(&mut Silent);
            self.buffers.shrunk();
        }
        Outcome::Open
    }

    /// Whether the peers still agree on their keys.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Bytes that have come of a handshake or record in progress.
    pub(super) fn unfinished(&self) -> usize {
        self.buffers.held()
    }

    /// Bytes that it takes beside its own place.
    pub(super) fn memory(&self) -> usize {
        self.buffers.memory()
    }

    fn take_plaintext(&mut self, plaintext: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        // The end is told by the state, and that nothing is left for now is no failure.
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

    /// Who the client is by its certificate; told once, when the handshake is over.
    pub(super) fn introduce(&mut self) -> Option<Rc<str>> {
        if self.is_introduced || self.connection.is_handshaking() {
            return None;
        }
        self.is_introduced = true;
        let chain = self.connection.peer_certificates().unwrap_or_default();
        self.buffers.certified(chain.iter().map(|certificate| certificate.len()));
        let certificate = Certificate::parse(self.connection.peer_certificates()?.first()?)?;
        let name = match self.user_name {
            UserNameSource::Connect => None,
            UserNameSource::CommonName => certificate.common_name(),
            UserNameSource::Subject => certificate.subject(),
        };
        name.map(Into::into)
    }

    /// Encrypts `most` bytes at most. While ciphertext waits nothing is added to it, because many small records
    /// would take far more memory than what is in them.
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

    /// Writes ciphertext until there is none or the socket would block.
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

    /// Finds out how much ciphertext waits. There is no other question that is answered with it.
    fn look_at_output(&mut self) {
        if !self.has_output() {
            self.buffers.waiting(0);
        } else if let Ok(state) = self.connection.process_new_packets() {
            self.buffers.waiting(state.tls_bytes_to_write());
        }
    }

    /// Whether ciphertext waits for the socket.
    pub(super) fn has_output(&self) -> bool {
        self.connection.wants_write()
    }

    /// Tells the client that nothing more comes.
    pub(super) fn close(&mut self) {
        if !self.is_failed {
            self.connection.send_close_notify();
        }
    }
}

/// A socket from which nothing comes for now.
struct Silent;

impl Read for Silent {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// What went wrong, so that somebody who has never read the standard of TLS knows where to look.
fn in_words(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the client has shown no certificate".to_owned(),
        Error::InvalidCertificate(why) => format!("the client's certificate {}", about_certificate(why)),
        Error::AlertReceived(alert) => about_alert(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the client does not speak TLS".to_owned()
        }
        Error::InvalidMessage(why) => format!("the client sent malformed TLS ({why:?})"),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        ) => "the client offers no version of TLS that is spoken here".to_owned(),
        Error::PeerIncompatible(why) => format!("the client and we have no way to speak in common ({why:?})"),
        Error::NoApplicationProtocol => "the client names other protocols than ours (ALPN)".to_owned(),
        Error::DecryptError => "what the client sent can not be decrypted".to_owned(),
        other => other.to_string(),
    }
}

fn about_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "was issued by nobody of cafile or capath".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet".to_owned()
        }
        CertificateError::Revoked => "was revoked".to_owned(),
        CertificateError::UnknownRevocationStatus => {
            "is not covered by crlfile, which has no list of its issuer".to_owned()
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "can not be checked, because the list of crlfile has expired".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not meant for clients".to_owned()
        }
        CertificateError::BadSignature => "is not signed by the one whom it names".to_owned(),
        CertificateError::Other(why) => format!("is of no use ({why})"),
        other => format!("is of no use ({other:?})"),
    }
}

fn about_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::UnsupportedCertificate => {
            format!("the client does not trust the certificate of this listener ({alert:?})")
        }
        AlertDescription::ProtocolVersion => "the client speaks no version of TLS that we do".to_owned(),
        other => format!("the client has given up ({other:?})"),
    }
}
