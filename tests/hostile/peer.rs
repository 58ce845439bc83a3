//! A client of the tests: a blocking socket that sends what it is told to, byte by byte if necessary.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire::{self, Connect, DISCONNECT, Publish, V5, packet, received, subscribe};

/// Longer than any answer takes on a busy machine. A client that waits longer is not served.
pub const SERVED_WITHIN: Duration = Duration::from_secs(5);

pub struct Peer {
    socket: TcpStream,
    level: u8,
}

impl Peer {
    /// Opens a connection on which nothing has been sent.
    pub fn open(address: SocketAddr) -> Self {
        Self { socket: dial(address), level: V5 }
    }

    /// Connects a 5.0 client with Clean Start.
    pub fn connect(address: SocketAddr, client_identifier: &str) -> Self {
        Self::connect_as(address, &Connect::new(V5, client_identifier))
    }

    /// Connects a client with this CONNECT, which must be accepted.
    pub fn connect_as(address: SocketAddr, connect: &Connect) -> Self {
        let (peer, code) = Self::try_connect(address, connect);
        assert_eq!(code, Some(0), "the CONNECT is accepted");
        peer
    }

    /// The client and the code of its CONNACK; `None` if the broker closed the connection instead.
    pub fn try_connect(address: SocketAddr, connect: &Connect) -> (Self, Option<u8>) {
        let mut peer = Self::open(address);
        peer.level = connect.level;
        // The broker may have closed it already.
        let _ = peer.try_send(&connect.bytes());
        let code = peer.try_packet().ok().map(|connack| connack[3]);
        (peer, code)
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the broker takes the bytes");
    }

    /// Fails if the broker has closed the connection or takes no bytes.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next packet.
    pub fn packet(&mut self) -> Vec<u8> {
        self.try_packet().expect("a packet comes in time")
    }

    pub fn try_packet(&mut self) -> io::Result<Vec<u8>> {
        read_packet(&mut self.socket)
    }

    /// Reads until the broker closes the connection; returns whether it does.
    pub fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 65_536];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Subscribes; returns the granted code.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.send(&subscribe(self.level, 1, &[], &[(filter, options)]));
        let suback = self.packet();
        assert_eq!(suback[0], 0x90, "a SUBACK is expected, not {suback:02x?}");
        suback[suback.len() - 1]
    }

    /// Publishes at QoS 1; returns the Reason Code of the PUBACK.
    pub fn publish(&mut self, publish: Publish) -> u8 {
        self.send(&publish.qos(1, 7).bytes());
        loop {
            let puback = self.packet();
            if puback[0] == 0x40 {
                return puback.get(4).copied().unwrap_or(0);
            }
        }
    }

    /// The payload of the next PUBLISH.
    pub fn payload(&mut self) -> Vec<u8> {
        loop {
            let packet = self.packet();
            if packet[0] >> 4 == 3 {
                return received(self.level, &packet).payload;
            }
        }
    }

    pub fn disconnect(mut self) {
        // The broker may have closed the connection already.
        let _ = self.try_send(&DISCONNECT);
        let _ = self.socket.shutdown(Shutdown::Write);
        self.is_closed();
    }
}

/// A socket that is connected to the broker.
pub fn dial(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("the broker listens");
    socket.set_read_timeout(Some(SERVED_WITHIN)).expect("a timeout can be set");
    socket.set_write_timeout(Some(SERVED_WITHIN)).expect("a timeout can be set");
    socket.set_nodelay(true).expect("a socket option can be set");
    socket
}

/// Reads the next packet.
pub fn read_packet(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2];
    stream.read_exact(&mut bytes)?;
    while bytes.last().is_some_and(|byte| byte & 0x80 != 0) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        bytes.extend(byte);
    }
    let length = wire::cut_variable_byte_integer(&bytes[1..]).0;
    let head = bytes.len();
    bytes.resize(head + length, 0);
    stream.read_exact(&mut bytes[head..])?;
    Ok(bytes)
}

/// The start of a packet that promises more than follows.
pub fn promise(first_byte: u8, length: usize) -> Vec<u8> {
    [&[first_byte][..], &wire::variable_byte_integer(length)].concat()
}

/// A User Property.
pub fn user_property(name: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &wire::field(name), &wire::field(value)].concat()
}

/// An acknowledgement of 5.0 without a Reason Code.
pub fn pubrel(packet_identifier: u16) -> Vec<u8> {
    packet(0x62, &packet_identifier.to_be_bytes())
}
