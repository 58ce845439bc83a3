//! A connection that never blocks: what cannot be sent now is sent later, and received bytes are cut into packets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::wire::cut_variable_byte_integer;

pub struct Link {
    socket: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    is_closed: bool,
}

impl Link {
    pub fn open(port: u16) -> Self {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the broker listens");
        socket.set_nonblocking(true).expect("a socket option can be set");
        socket.set_nodelay(true).expect("a socket option can be set");
        Self { socket, output: Vec::new(), input: Vec::new(), is_closed: false }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.flush();
    }

    /// Whether the other side has closed; what it sent before has been returned.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The complete packets that have come.
    pub fn packets(&mut self) -> Vec<Vec<u8>> {
        self.flush();
        self.fill();
        self.cut()
    }

    /// All packets that come before the end of the connection.
    pub fn last_packets(&mut self) -> Vec<Vec<u8>> {
        let patience = Duration::from_secs(5);
        self.socket.set_nonblocking(false).expect("a socket option can be set");
        self.socket.set_read_timeout(Some(patience)).expect("a socket option can be set");
        while !self.is_closed {
            self.fill();
        }
        self.cut()
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Reading reports whether the connection has ended.
                Err(_) => self.output.clear(),
            }
        }
    }

    fn fill(&mut self) {
        let mut buffer = [0; 16_384];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return self.is_closed = true,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.is_closed = true,
            }
        }
    }

    fn cut(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        loop {
            let behind = self.input.get(1..).unwrap_or_default();
            if !behind.iter().any(|byte| byte & 0x80 == 0) {
                return packets;
            }
            let (length, rest) = cut_variable_byte_integer(behind);
            if rest.len() < length {
                return packets;
            }
            let whole = self.input.len() - rest.len() + length;
            packets.push(self.input.drain(..whole).collect());
        }
    }
}
