//! The socket of one connection.

use std::io::{self, Read};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::slots::ConnectionId;

use super::layers::Layers;

// One for each connection, as in the core. With its own assertions the poller adds to a socket.
const _: () = assert!(cfg!(debug_assertions) || size_of::<Option<Link>>() <= 16);

/// A socket and what the poller has said about it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) id: ConnectionId,
    /// The number of the listener that it came in by.
    pub(super) listener: u8,
    /// The peer has closed its side: bytes that are left are followed by the end.
    is_read_closed: bool,
    /// Once everything is written, nothing more comes from us.
    is_closing: bool,
    pub(super) turn: Turn,
}

/// When a link is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// When the poller speaks.
    Waiting,
    /// In the next turn, since it may have more: it is on the list of those.
    Listed,
    /// When the core wants more bytes.
    Paused,
}

/// What one read gave.
#[derive(Debug)]
pub(super) enum Reading {
    /// So many bytes, and there may be more.
    More(usize),
    /// So many bytes, and no more for now.
    Last(usize),
    /// The peer has closed.
    End,
}

impl Link {
    /// A socket of the file system is a stream like any other here.
    pub(super) const fn new(stream: TcpStream, id: ConnectionId, listener: u8) -> Self {
        Self { stream, id, listener, is_read_closed: false, is_closing: false, turn: Turn::Waiting }
    }

    /// The poller says that the peer has closed its side.
    pub(super) const fn read_closed(&mut self) {
        self.is_read_closed = true;
    }

    /// Reads once. A read that does not fill the buffer has emptied the socket, and the poller will speak again,
    /// unless it has already said that the end follows.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Reading> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Reading::End),
                Ok(count) if count == buffer.len() || self.is_read_closed => return Ok(Reading::More(count)),
                Ok(count) => return Ok(Reading::Last(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Reading::Last(0)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Nothing more is to be queued for the peer.
    pub(super) const fn begin_closing(&mut self) {
        self.is_closing = true;
    }

    /// Tells the peer that nothing more comes, once everything is written.
    pub(super) fn finish_closing(&mut self, is_written: bool) {
        if self.is_closing && is_written {
            self.is_closing = false;
            // If it fails the peer is gone, and the next read says so.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// As [`Link::finish_closing`], where layers have to say good-bye first; brings out what they have to say in any
    /// case.
    pub(super) fn finish_layers(&mut self, layers: &mut Layers, is_written: bool) -> io::Result<()> {
        if self.is_closing && is_written {
            layers.close();
        }
        layers.flush(&mut self.stream)?;
        self.finish_closing(is_written && !layers.has_output());
        Ok(())
    }
}
