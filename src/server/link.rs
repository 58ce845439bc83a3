//! The socket of one connection.

use std::io::{self, Read};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::slots::ConnectionId;

// One for each connection, as in the core. With its own assertions the poller adds to a socket.
const _: () = assert!(cfg!(debug_assertions) || size_of::<Option<Link>>() <= 16);

/// A socket and what the poller has said about it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: TcpStream,
    pub(super) id: ConnectionId,
    /// The peer has closed its side: bytes that are left are followed by the end.
    is_read_closed: bool,
    /// Once everything is written, nothing more comes from us.
    is_closing: bool,
    /// On the list of links that have more to read.
    pub(super) is_listed: bool,
    /// The core does not want more bytes for now.
    pub(super) is_paused: bool,
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
    pub(super) fn new(stream: TcpStream, id: ConnectionId) -> Self {
        Self { stream, id, is_read_closed: false, is_closing: false, is_listed: false, is_paused: false }
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
}
