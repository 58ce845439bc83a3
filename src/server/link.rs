//! The socket of one connection.

use std::io::{self, Read, Write};
use std::net::Shutdown;
#[cfg(feature = "cluster")]
use std::net::SocketAddr;

use crate::core::slots::{ConnectionId, Id};

use super::destination::CallId;
use super::layers::{Layers, Outcome, Received};
use super::listener::ListenerNumber;
use super::stream::Stream;

/// Bytes that are encrypted ahead of what the socket takes, where the core does not specify it.
const ENCRYPTED_AHEAD: usize = 16 * 1024;

/// At most this many steps of the core are few: a PINGREQ, acknowledgements, a message for a few subscribers.
const LITTLE: usize = 32;

// There is one for each connection, as in the core. The poller adds debug assertions to a socket.
const _: () = assert!(cfg!(debug_assertions) || size_of::<Option<Link>>() <= 24);

/// A socket with its layers, and what the poller has reported about it.
pub(super) struct Link {
    pub(super) stream: Stream,
    /// The layers between the socket and MQTT. A plain link has none and pays little for that.
    pub(super) layers: Option<Box<Layers>>,
    /// Identifies the connection, together with the index of the link.
    generation: u32,
    /// The listener that accepted the connection; `None` if it was dialled.
    pub(super) listener: Option<ListenerNumber>,
    input: Input,
    output: Output,
    pub(super) turn: Turn,
}

/// What may still come from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// Anything.
    Open,
    /// The peer has closed its side: the end follows the bytes that are left.
    Closed,
    /// Nothing: the peer has closed a layer above the socket.
    Over,
}

/// What may still go to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Anything.
    Open,
    /// Only what is queued; once that is written, the peer is told that nothing more comes.
    Closing,
    /// Nothing, and the peer has been told.
    Closed,
    /// Nothing, because of this error.
    Lost(io::ErrorKind),
}

/// When a link is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// When the poller reports it; before others, if the peer has asked for little.
    Waiting(Asked),
    /// As soon as there is time, since it may have more to read: it is on a list.
    Listed,
    /// When the core takes more bytes of it.
    Paused,
}

/// How much a peer has asked for with its latest reads, by the steps that they took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Much,
    /// Little with the latest read, which says nothing yet: it may have been a CONNECT.
    LittleOnce,
    Little,
}

impl Asked {
    /// The new value after another read that took so many steps.
    pub(super) const fn and(self, steps: usize) -> Self {
        match self {
            _ if steps > LITTLE => Self::Much,
            Self::Much => Self::LittleOnce,
            Self::LittleOnce | Self::Little => Self::Little,
        }
    }
}

/// The result of one read.
#[derive(Debug)]
pub(super) enum Reading {
    /// This many bytes, and there may be more.
    More(usize),
    /// This many bytes, and no more for now.
    Last(usize),
    /// The peer has closed.
    End,
}

/// Why nothing more comes from a server.
#[derive(Debug)]
pub(super) enum End {
    /// The server has closed the connection, or the network has.
    Closed(String),
    /// TLS or WebSocket says why the connection cannot go on.
    Broken(String),
}

impl From<End> for String {
    fn from((End::Closed(why) | End::Broken(why)): End) -> Self {
        why
    }
}

impl Link {
    /// The link of a connection that this listener has accepted.
    pub(super) const fn accepted(
        stream: Stream,
        layers: Option<Box<Layers>>,
        id: ConnectionId,
        listener: ListenerNumber,
    ) -> Self {
        Self::new(stream, layers, id, Some(listener))
    }

    /// The link of an outgoing connection, which may not be connected yet.
    pub(super) const fn dialled(stream: Stream, layers: Option<Box<Layers>>, id: CallId) -> Self {
        Self::new(stream, layers, id, None)
    }

    const fn new<M>(
        stream: Stream,
        layers: Option<Box<Layers>>,
        id: Id<M>,
        listener: Option<ListenerNumber>,
    ) -> Self {
        Self {
            stream,
            layers,
            generation: id.generation(),
            listener,
            input: Input::Open,
            output: Output::Open,
            turn: Turn::Waiting(Asked::Much),
        }
    }

    /// The address of the peer.
    #[cfg(feature = "cluster")]
    pub(super) fn peer(&self) -> io::Result<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr(),
            Stream::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether this is the link of a connection, which has its index.
    #[inline]
    pub(super) const fn is_of(&self, id: ConnectionId) -> bool {
        self.generation == id.generation()
    }

    /// The generation of its connection.
    pub(super) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Notes that the poller has reported that the peer has closed its side.
    pub(super) const fn read_closed(&mut self) {
        if matches!(self.input, Input::Open) {
            self.input = Input::Closed;
        }
    }

    /// Whether the peer has closed its side.
    pub(super) fn is_read_closed(&self) -> bool {
        self.input != Input::Open
    }

    /// Notes that the peer has closed a layer above the socket. Bytes that it has sent before may still wait in the
    /// core, so the end is read when the core takes more.
    pub(super) const fn end_input(&mut self) {
        self.input = Input::Over;
    }

    /// Whether the peer has closed a layer above the socket.
    pub(super) fn has_ended_input(&self) -> bool {
        self.input == Input::Over
    }

    /// Reads once. A read that does not fill the buffer has emptied the socket, and the poller reports the next bytes,
    /// unless it has already reported that the end follows.
    #[inline(always)]
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Reading> {
        if self.input == Input::Over {
            return Ok(Reading::End);
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Reading::End),
                Ok(count) if count == buffer.len() || self.input == Input::Closed => {
                    return Ok(Reading::More(count));
                }
                Ok(count) => return Ok(Reading::Last(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Reading::Last(0)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once from a server and passes on the MQTT bytes, if there are any. Returns whether there may be more.
    ///
    /// # Errors
    ///
    /// The reason why nothing more can be read. Bytes that came before were passed on.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        plaintext: &mut Vec<u8>,
        take: impl FnOnce(&[u8]),
    ) -> Result<bool, End> {
        const CLOSED: &str = "connection closed by the server";
        let (count, has_more) = match self.read(buffer) {
            Ok(Reading::More(count)) => (count, true),
            Ok(Reading::Last(count)) => (count, false),
            Ok(Reading::End) => {
                let why = self.lost().map_or_else(|| CLOSED.to_owned(), |kind| kind.to_string());
                return Err(End::Closed(why));
            }
            Err(error) => return Err(End::Closed(error.to_string())),
        };
        let bytes = &mut buffer[..count];
        let Received { bytes, outcome, .. } = match &mut self.layers {
            Some(layers) if count > 0 => layers.receive(bytes, plaintext),
            Some(_) | None => Received { introduction: None, is_new: false, bytes, outcome: Outcome::Open },
        };
        if !bytes.is_empty() {
            take(bytes);
        }
        let end = match outcome {
            Outcome::Open => return Ok(has_more),
            Outcome::Closed => End::Closed(CLOSED.to_owned()),
            Outcome::Failed(why) => End::Broken(why),
        };
        self.begin_closing();
        // The peer is told, if the socket takes that now.
        let _ = self.finish(true);
        Err(end)
    }

    /// Sends MQTT bytes, as many as are accepted now, and returns their number.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        if self.lost().is_some() {
            return Ok(sent);
        }
        while sent < bytes.len() {
            let written = match &mut self.layers {
                None => self.stream.write(&bytes[sent..]),
                Some(layers) => layers.writer(&mut self.stream, ENCRYPTED_AHEAD).write(&bytes[sent..]),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.finish(false)?;
        Ok(sent)
    }

    /// Whether the handshakes of all layers are over, so that MQTT can be sent.
    pub(super) fn is_open(&self) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.are_open())
    }

    /// Notes that nothing more will be queued for the peer.
    pub(super) const fn begin_closing(&mut self) {
        if matches!(self.output, Output::Open) {
            self.output = Output::Closing;
        }
    }

    /// Whether the link is closing and the peer has not been told yet.
    pub(super) fn is_closing(&self) -> bool {
        self.output == Output::Closing
    }

    /// Notes that nothing can be written any longer. What the peer has sent before can still be read, and then its
    /// end.
    pub(super) fn lose_output(&mut self, error: &io::Error) {
        self.output = Output::Lost(error.kind());
        // If it fails, the peer is gone, and the next reads report that.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// The reason why nothing can be written any longer, if there is one.
    pub(super) const fn lost(&self) -> Option<io::ErrorKind> {
        match self.output {
            Output::Lost(kind) => Some(kind),
            Output::Open | Output::Closing | Output::Closed => None,
        }
    }

    /// Flushes the layers. Once everything is written on a link that is closing, the layers are closed, and then the
    /// peer is told that nothing more comes.
    pub(super) fn finish(&mut self, is_written: bool) -> io::Result<()> {
        let is_closing = self.output == Output::Closing && is_written;
        let mut is_said = true;
        if let Some(layers) = &mut self.layers {
            if is_closing {
                layers.close();
            }
            layers.flush(&mut self.stream)?;
            is_said = !layers.has_output();
        }
        if is_closing && is_said {
            self.output = Output::Closed;
            // If it fails, the peer is gone, and the next read reports that.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}
