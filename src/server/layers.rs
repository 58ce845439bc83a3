//! The layers between a socket and MQTT on a connection that is not plain: a PROXY header, TLS and WebSocket, in this
//! order, each of them optional. A plain connection has no layers and pays nothing for them.
//!
//! Towards the core, all the MQTT bytes of one read are one slice; towards the socket, everything that the core writes
//! in a turn leaves together. No input stays here, except that of a header, record or frame in progress. Output queued
//! here is bounded, and the rest waits in the core's outbox.

use std::io::{self, IoSlice, Write};

use crate::base::memory::{self, Counted};
use crate::core::broker::Introduction;
use crate::core::listener::UserNameSource;
use crate::protocol::proxy::{self, Proxy};
use crate::protocol::spoken::{Port, Spoken};

use super::destination::Destination;
use super::listener::Listener;
use super::tls::{self, Layer};
use super::websocket::{self, Outcome as Unframed, WebSocket};

/// The core's slices that go into one frame per call; the others follow in later calls.
const SLICES_MAXIMUM: usize = 64;

/// Bytes of a header, handshake or record in progress that are kept even when the memory budget is used up.
const KEPT_UNDER_PRESSURE: usize = 256;

/// The approximate cost of one read of a handshake, in steps of the core.
const HANDSHAKE_STEPS: usize = 2048;
/// Bytes that are decrypted in one step.
const DECRYPTED_BYTES_PER_STEP: usize = 128;

/// The layers of one connection.
pub(super) struct Layers {
    proxy: Option<Header>,
    tls: Option<Layer>,
    websocket: Option<WebSocket>,
    closing: Closing,
    /// Whether further input is ignored.
    is_over: bool,
    origin: Origin,
    counted: Counted,
}

/// Whether it is certain that a connection comes from a client, and not from a proxy that checks whether the broker
/// runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// It is certain, and the log has it.
    Client,
    /// There has been no PROXY header yet.
    Unknown,
    /// Nothing has come after the header. A proxy that knows no better checks with the header of a client.
    Silent,
    /// It is a proxy, which need not send anything else. What it sends is refused for this reason, if there is one.
    Proxy(Option<&'static str>),
}

/// A PROXY header in progress.
struct Header {
    reader: proxy::Reader,
    proxy: Proxy,
    /// What becomes the User Name of the client.
    user_name: UserNameSource,
}

/// What a PROXY header says.
struct Told {
    introduction: Introduction,
    /// Whether the proxy speaks for itself.
    is_local: bool,
    /// The length of the header in the bytes that were passed.
    taken: usize,
}

/// How far the closing handshakes of the layers have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    Not,
    /// The Close frame of WebSocket is queued; the close_notify of TLS follows it.
    Begun,
    Queued,
}

/// The result of receiving bytes from the socket.
#[derive(Debug)]
pub(super) struct Received<'a> {
    /// What was learnt about the peer, before these bytes.
    pub(super) introduction: Option<Introduction>,
    /// Whether the connection turns out to be one of a client, which the log does not have yet.
    pub(super) is_new: bool,
    /// Bytes of MQTT.
    pub(super) bytes: &'a [u8],
    /// Whether the connection goes on after these bytes.
    pub(super) outcome: Outcome,
}

/// Whether a connection goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It does.
    Open,
    /// The peer has closed it.
    Closed,
    /// It cannot go on, for this reason.
    Failed(String),
}

impl Layers {
    /// The layers that a listener puts on its connections; `None` for plain ones.
    pub(super) fn of(listener: &Listener) -> Result<Option<Box<Self>>, String> {
        let Listener { settings, setup, .. } = listener;
        if settings.proxy.is_none() && setup.tls.is_none() && setup.websocket.is_none() {
            return Ok(None);
        }
        let user_name = settings.options.user_name;
        let proxy =
            settings.proxy.map(|proxy| Header { reader: proxy::Reader::new(proxy), proxy, user_name });
        let tls = setup.tls.as_ref().map(Layer::new).transpose()?;
        let websocket = setup.websocket.as_ref().map(websocket::open);
        Ok(Some(Self::new(proxy, tls, websocket)))
    }

    /// The layers of a connection to a destination; `None` for a plain one.
    pub(super) fn towards(destination: &Destination) -> Result<Option<Box<Self>>, String> {
        let Destination { host, tls, websocket, .. } = destination;
        if tls.is_none() && websocket.is_none() {
            return Ok(None);
        }
        let tls = tls.as_ref().map(|setup| Layer::connect(setup, host)).transpose()?;
        let request = |path: &String| websocket::request(host, destination.port, path);
        let websocket = websocket.as_ref().map(request).transpose()?;
        Ok(Some(Self::new(None, tls, websocket)))
    }

    /// TLS on a connection to a server that is open and has been plain so far.
    #[cfg(feature = "cluster")]
    pub(super) fn secured(setup: &tls::ClientSetup, host: &str) -> Result<Box<Self>, String> {
        Ok(Self::new(None, Some(Layer::connect(setup, host)?), None))
    }

    fn new(proxy: Option<Header>, tls: Option<Layer>, websocket: Option<WebSocket>) -> Box<Self> {
        let (closing, counted) = (Closing::Not, Counted::default());
        let origin = if proxy.is_some() { Origin::Unknown } else { Origin::Client };
        let mut layers = Box::new(Self { proxy, tls, websocket, closing, is_over: false, origin, counted });
        layers.count();
        layers
    }

    /// Whether all handshakes are over, so that MQTT can be sent.
    pub(super) fn are_open(&self) -> bool {
        self.proxy.is_none()
            && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
            && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// Updates the count of the memory that the layers and their queued bytes take.
    fn count(&mut self) {
        self.counted.set(
            memory::allocation(size_of::<Self>())
                + self.proxy.as_ref().map_or(0, |header| header.reader.memory())
                + self.tls.as_ref().map_or(0, Layer::memory)
                + self.websocket.as_ref().map_or(0, WebSocket::memory),
        );
    }

    /// Steps that it costs to receive `count` bytes: a handshake costs a signature, and records are decrypted.
    pub(super) fn steps(&self, count: usize) -> usize {
        match &self.tls {
            Some(tls) if tls.is_handshaking() => HANDSHAKE_STEPS,
            Some(_) => count / DECRYPTED_BYTES_PER_STEP,
            None => count / super::BYTES_PER_STEP,
        }
    }

    /// Whether the header, handshake or record in progress is longer than what is kept when no memory is left.
    pub(super) fn holds_much(&self) -> bool {
        let header = self.proxy.as_ref().map_or(0, |header| header.reader.memory());
        let record = self.tls.as_ref().map_or(0, Layer::unfinished);
        let request = self.websocket.as_ref().map_or(0, WebSocket::memory);
        header.max(record).max(request) > KEPT_UNDER_PRESSURE
    }

    /// Takes bytes that were read from the socket. `plaintext` is the buffer to decrypt to; the caller shares it among
    /// all connections.
    pub(super) fn receive<'a>(&mut self, bytes: &'a mut [u8], plaintext: &'a mut Vec<u8>) -> Received<'a> {
        let before = self.origin;
        let mut received = self.unwrap(bytes, plaintext);
        if let (Origin::Proxy(_), false) = (self.origin, received.bytes.is_empty()) {
            self.origin = Origin::Client;
        }
        received.is_new = before != Origin::Client && self.origin == Origin::Client;
        if let (Origin::Proxy(None), Outcome::Failed(_)) = (self.origin, &received.outcome) {
            // A proxy may check for anything that is answered, such as HTTP.
            received.outcome = Outcome::Closed;
        }
        self.count();
        received
    }

    /// Whether it is certain by now that the connection comes from a client.
    pub(super) fn are_of_client(&self) -> bool {
        self.origin == Origin::Client
    }

    fn unwrap<'a>(&mut self, mut bytes: &'a mut [u8], plaintext: &'a mut Vec<u8>) -> Received<'a> {
        let mut introduction = None;
        let nothing = |introduction, outcome| Received { introduction, is_new: false, bytes: &[], outcome };
        if self.is_over {
            return nothing(introduction, Outcome::Open);
        }
        if let Some(header) = &mut self.proxy {
            match header.receive(bytes) {
                Ok(None) => return nothing(introduction, Outcome::Open),
                Ok(Some(told)) => {
                    self.origin = if told.is_local { Origin::Proxy(header.demand()) } else { Origin::Silent };
                    introduction = Some(told.introduction);
                    self.proxy = None;
                    bytes = &mut bytes[told.taken..];
                }
                Err(why) => {
                    self.is_over = true;
                    let advice = Spoken::advice(bytes, Port::Proxy).filter(|_| why.is_absent());
                    let advice = advice.map_or_else(String::new, |advice| format!(", {advice}"));
                    introduction = Some(Introduction { peer: why.source, identity: None });
                    return nothing(introduction, Outcome::Failed(format!("{why}{advice}")));
                }
            }
        }
        match self.origin {
            Origin::Silent if !bytes.is_empty() => self.origin = Origin::Client,
            Origin::Proxy(Some(why)) if !bytes.is_empty() => {
                self.is_over = true;
                return nothing(introduction, Outcome::Failed(why.to_owned()));
            }
            _ => {}
        }
        let mut outcome = Outcome::Open;
        if let Some(tls) = &mut self.tls {
            plaintext.clear();
            outcome = match tls.receive(bytes, plaintext) {
                tls::Outcome::Open => Outcome::Open,
                tls::Outcome::Closed => Outcome::Closed,
                tls::Outcome::Failed(why) => Outcome::Failed(format!("TLS: {why}")),
            };
            if let Some(identity) = tls.introduce() {
                introduction.get_or_insert_default().identity = Some(identity);
            }
            bytes = plaintext;
        }
        if let Some(websocket) = &mut self.websocket {
            let received = websocket.receive(bytes);
            bytes = &mut bytes[..received.length];
            match (received.outcome, &outcome) {
                (Unframed::Failed(why), Outcome::Open | Outcome::Closed) => {
                    outcome = Outcome::Failed(why.to_owned())
                }
                (Unframed::Closed, Outcome::Open) => outcome = Outcome::Closed,
                _ => {}
            }
        }
        self.is_over = outcome != Outcome::Open;
        Received { introduction, is_new: false, bytes, outcome }
    }

    /// Whether no layer has anything left to do, so that the connection is plain from here on.
    pub(super) const fn is_done(&self) -> bool {
        self.proxy.is_none()
            && self.tls.is_none()
            && self.websocket.is_none()
            && !self.is_over
            && matches!(self.origin, Origin::Client)
    }

    /// Returns a writer of MQTT bytes to this socket. It encrypts at most `ahead` bytes that the socket has not taken
    /// yet.
    pub(super) const fn writer<'a, S: Write>(&'a mut self, socket: &'a mut S, ahead: usize) -> Writer<'a, S> {
        Writer { layers: self, socket, ahead }
    }

    fn write_vectored(
        &mut self,
        slices: &[IoSlice<'_>],
        ahead: usize,
        socket: &mut impl Write,
    ) -> io::Result<usize> {
        let Self { tls, websocket, .. } = self;
        let Some(websocket) = websocket else { return write_below(tls, slices, ahead, socket) };
        let total = slices.iter().map(|slice| slice.len()).sum();
        if !websocket.is_open() {
            // The handshake was not completed, so the peer could not read it.
            return Ok(total);
        }
        if websocket.is_masking() {
            write_pending_frames(websocket, tls, socket)?;
            if websocket.has_answers() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = websocket.mask(slices);
            write_pending_frames(websocket, tls, socket)?;
            return Ok(count);
        }
        loop {
            let (head, length) = websocket.frame(total);
            let mut framed = [IoSlice::new(&[]); SLICES_MAXIMUM + 1];
            framed[0] = IoSlice::new(head);
            let mut left = length;
            let mut count = 1;
            for (place, slice) in framed[1..].iter_mut().zip(slices) {
                let length = slice.len().min(left);
                *place = IoSlice::new(&slice[..length]);
                left -= length;
                count += 1;
            }
            let first = usize::from(head.is_empty());
            let written = write_below(tls, &framed[first..count], ahead, socket)?;
            let used = websocket.advance(written);
            if used > 0 || written == 0 {
                return Ok(used);
            }
        }
    }

    /// Writes the output of the layers themselves, until it is all written or the socket would block. Each write
    /// through the layers ends with this call, which counts what is left.
    pub(super) fn flush(&mut self, socket: &mut impl Write) -> io::Result<()> {
        let outcome = self.write_pending(socket);
        self.count();
        outcome
    }

    fn write_pending(&mut self, socket: &mut impl Write) -> io::Result<()> {
        let Self { tls, websocket, closing, .. } = self;
        if let Some(websocket) = websocket {
            write_pending_frames(websocket, tls, socket)?;
        }
        let is_said = websocket.as_ref().is_none_or(|websocket| !websocket.has_answers());
        if *closing == Closing::Begun && is_said {
            *closing = Closing::Queued;
            if let Some(tls) = tls {
                tls.close();
            }
        }
        tls.as_mut().map_or(Ok(()), |tls| tls.flush(socket))
    }

    /// Whether output of the layers themselves waits for the socket.
    pub(super) fn has_output(&self) -> bool {
        self.closing == Closing::Begun
            || self.websocket.as_ref().is_some_and(WebSocket::has_answers)
            || self.tls.as_ref().is_some_and(Layer::has_output)
    }

    /// Starts closing every layer, once; [`Layers::flush`] writes what that takes.
    pub(super) fn close(&mut self) {
        if self.closing != Closing::Not {
            return;
        }
        self.closing = Closing::Begun;
        if let Some(websocket) = &mut self.websocket {
            websocket.close();
        }
    }
}

impl Header {
    fn receive(&mut self, bytes: &[u8]) -> Result<Option<Told>, proxy::Malformed> {
        let Some((header, taken)) = self.reader.receive(bytes)? else { return Ok(None) };
        let proxy::Header { is_local, source: peer, common_name, certificate, .. } = header;
        let certificate = certificate.as_deref();
        let identity = match self.user_name {
            UserNameSource::Connect => None,
            UserNameSource::CommonName => {
                common_name.or_else(|| tls::name_in(certificate?, UserNameSource::CommonName))
            }
            UserNameSource::Subject => {
                certificate.and_then(|certificate| tls::name_in(certificate, UserNameSource::Subject))
            }
        };
        let introduction = Introduction { peer, identity: identity.map(Into::into) };
        Ok(Some(Told { introduction, is_local, taken }))
    }

    /// Why a proxy may not send anything for itself: clients have to satisfy what it cannot.
    const fn demand(&self) -> Option<&'static str> {
        match self.proxy {
            Proxy::V2 { requires_certificate: true, .. } => {
                Some("a proxy that sends MQTT for itself presents no certificate, which is required here")
            }
            Proxy::V2 { requires_tls: true, .. } => {
                Some("a proxy that sends MQTT for itself does not use TLS, which is required here")
            }
            Proxy::V1 | Proxy::V2 { .. } => None,
        }
    }
}

/// Writes the output of WebSocket itself, until it is all written or the socket would block.
fn write_pending_frames(
    websocket: &mut WebSocket,
    tls: &mut Option<Layer>,
    socket: &mut impl Write,
) -> io::Result<()> {
    while websocket.has_answers() {
        let (head, _) = websocket.frame(0);
        match write_below(tls, &[IoSlice::new(head)], head.len(), socket) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => drop(websocket.advance(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_below(
    tls: &mut Option<Layer>,
    slices: &[IoSlice<'_>],
    ahead: usize,
    socket: &mut impl Write,
) -> io::Result<usize> {
    match tls {
        Some(tls) => tls.write_vectored(slices, ahead, socket),
        None => socket.write_vectored(slices),
    }
}

/// Writes MQTT bytes through the layers to a socket.
pub(super) struct Writer<'a, S> {
    layers: &'a mut Layers,
    socket: &'a mut S,
    ahead: usize,
}

impl<S: Write> Write for Writer<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.layers.write_vectored(slices, self.ahead, self.socket)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.layers.flush(self.socket)
    }
}
