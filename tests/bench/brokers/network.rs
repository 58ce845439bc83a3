//! The clients' side of the connections: one poller, one buffer to read into, and for each client the bytes it has
//! still to send.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::packets::{Fault, Packet};

const READ_BYTES: usize = 256 * 1024;
const EVENTS_PER_TURN: usize = 1024;

/// What happens to a connection after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    GoOn,
    /// Send what is queued and close.
    Close,
}

/// Receives what the broker sends.
pub trait Receive {
    /// Handles a packet for the client with this number; bytes appended to `out` are sent.
    fn packet(&mut self, client: usize, packet: Packet<'_>, out: &mut Vec<u8>) -> Result<Then, Fault>;
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    out: Vec<u8>,
    /// Bytes of `out` that have been sent.
    written: usize,
    /// The beginning of a packet whose end has not come.
    unread: Vec<u8>,
    is_dirty: bool,
    is_stalled: bool,
    is_closing: bool,
}

/// All connections to one broker.
pub struct Network {
    poll: Poll,
    events: Events,
    address: SocketAddr,
    clients: Vec<Option<Client>>,
    dirty: Vec<usize>,
    buffer: Box<[u8]>,
}

impl Network {
    /// Connects to this port of the IPv4 loopback.
    pub fn new(port: u16) -> Result<Self, Fault> {
        Ok(Self {
            poll: Poll::new().map_err(|error| format!("no poller: {error}"))?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            clients: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
        })
    }

    /// Opens a connection, sends `bytes` on it and returns the client's number, the lowest free one from `from` on.
    pub fn open(&mut self, from: usize, bytes: &[u8]) -> Result<usize, Fault> {
        let place = (from..self.clients.len()).find(|&place| self.clients[place].is_none());
        let number = place.unwrap_or_else(|| self.clients.len().max(from));
        // On the loopback, a connection is established as soon as it is requested, so waiting for it costs nothing.
        let stream = std::net::TcpStream::connect(self.address);
        self.adopt(number, stream.map_err(|error| format!("cannot connect: {error}"))?)?;
        self.send(number, |out| out.extend_from_slice(bytes));
        Ok(number)
    }

    /// Adds a connection that is open already as the client with this number.
    pub fn adopt(&mut self, number: usize, stream: std::net::TcpStream) -> Result<(), Fault> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .map(|()| TcpStream::from_std(stream))
            .and_then(|mut stream| {
                self.poll.registry().register(&mut stream, Token(number), both)?;
                Ok(stream)
            });
        let stream = stream.map_err(|error| format!("cannot watch a connection: {error}"))?;
        if self.clients.len() <= number {
            self.clients.resize_with(number + 1, || None);
        }
        self.clients[number] = Some(Client {
            stream,
            out: Vec::new(),
            written: 0,
            unread: Vec::new(),
            is_dirty: false,
            is_stalled: false,
            is_closing: false,
        });
        Ok(())
    }

    /// Whether a connection is open.
    pub fn is_open(&self, client: usize) -> bool {
        self.clients.get(client).is_some_and(Option::is_some)
    }

    /// Closes at once, whatever has not been sent.
    pub fn close(&mut self, client: usize) {
        self.clients[client] = None;
    }

    /// Stops a client from reading until it is told to read again.
    pub fn stall(&mut self, client: usize) {
        if let Some(client) = &mut self.clients[client] {
            client.is_stalled = true;
        }
    }

    /// Lets a stalled client read once, at most `maximum` bytes.
    pub fn sip(&mut self, number: usize, maximum: usize, receiver: &mut impl Receive) -> Result<(), Fault> {
        match &mut self.clients[number] {
            Some(client) => client.read_once(number, &mut self.buffer[..maximum], receiver).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Appends to the bytes that a client sends in the next turn.
    #[inline]
    pub fn send(&mut self, number: usize, append: impl FnOnce(&mut Vec<u8>)) {
        let Some(client) = &mut self.clients[number] else { return };
        append(&mut client.out);
        if !client.is_dirty {
            client.is_dirty = true;
            self.dirty.push(number);
        }
    }

    /// Writes queued bytes, waits for events, at most for this time, and handles what came.
    pub fn turn(&mut self, wait: Duration, receiver: &mut impl Receive) -> Result<(), Fault> {
        self.flush()?;
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(format!("cannot wait: {error}"));
            }
            _ => {}
        }
        for event in &self.events {
            let Token(number) = event.token();
            let Some(Some(client)) = self.clients.get_mut(number) else { continue };
            if (event.is_readable() || event.is_read_closed()) && !client.is_stalled {
                client.read(number, &mut self.buffer, receiver)?;
            }
            if !client.out.is_empty() && !client.is_dirty || client.is_closing {
                client.is_dirty = true;
                self.dirty.push(number);
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            let Some(client) = &mut self.clients[number] else { continue };
            client.is_dirty = false;
            client.write()?;
            if client.is_closing && client.out.is_empty() {
                self.clients[number] = None;
            }
        }
        self.dirty = dirty;
        Ok(())
    }
}

impl Client {
    fn write(&mut self) -> Result<(), Fault> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot write: {error}")),
            }
        }
        self.written = 0;
        self.out.clear();
        Ok(())
    }

    /// Reads until the socket is empty, or the receiver closes the connection.
    fn read(&mut self, number: usize, buffer: &mut [u8], receiver: &mut impl Receive) -> Result<(), Fault> {
        while !self.is_closing && self.read_once(number, buffer, receiver)? {}
        Ok(())
    }

    /// Reads once and returns whether there may be more.
    fn read_once(
        &mut self,
        number: usize,
        buffer: &mut [u8],
        receiver: &mut impl Receive,
    ) -> Result<bool, Fault> {
        let unread = self.unread.len();
        buffer[..unread].copy_from_slice(&self.unread);
        let count = match self.stream.read(&mut buffer[unread..]) {
            Ok(0) => return Err("the broker closed a connection".to_owned()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(format!("cannot read: {error}")),
        };
        let mut rest = &buffer[..unread + count];
        while let Some((packet, length)) = Packet::first_of(rest) {
            if receiver.packet(number, packet, &mut self.out)? == Then::Close {
                self.is_closing = true;
            }
            rest = &rest[length..];
        }
        self.unread.clear();
        self.unread.extend_from_slice(rest);
        Ok(unread + count == buffer.len())
    }
}
