//! Opening and closing listeners, and accepting connections from them.

use std::net::SocketAddr;
use std::rc::Rc;

use log::{info, warn};
use mio::Interest;

use crate::base::peer::Peer;
use crate::base::time::Time;
use crate::core::limits::LITTLE_MEMORY;
use crate::core::listener::ListenerId;
use crate::settings::{self, ConfigError, ListenerName, names_of};

use super::layers::Layers;
use super::link::Link;
use super::listener::{Listener, ListenerNumber, SOCKETS_MAXIMUM, Setup, listen, unbound};
use super::owner::Owner;
use super::socket::{Socket, look_up_host};
use super::stream::Stream;
use super::{LISTENERS_MAXIMUM, Server};

/// Connections accepted from one socket in a turn. With TLS there are fewer, because each handshake costs the broker a
/// signature, and every other client waits for that.
const ACCEPTS_PER_TURN: usize = 64;
const HANDSHAKES_PER_TURN: usize = 8;

impl Server {
    /// Opens the next listener of the settings, and returns the identifier by which the core knows it.
    ///
    /// # Errors
    ///
    /// If it cannot be bound or its files are unusable: everything that is wrong. Nothing is open then.
    pub fn open(&mut self, settings: &settings::Listener) -> Result<ListenerId, Vec<ConfigError>> {
        let setup = Setup::load(settings)?;
        let name = self.present_names(Some(settings)).pop().map(|name| name.name).unwrap_or_default();
        let (number, id) = self.reserve(settings, &name, &[]).map_err(|error| vec![error])?;
        let listen =
            |host: Vec<SocketAddr>| listen(settings, &host, self.poll.registry(), number * SOCKETS_MAXIMUM);
        let sockets = look_up_host(settings).and_then(listen).map_err(|why| vec![unbound(settings, &why)])?;
        self.put(number, Listener { id, settings: settings.clone(), setup, sockets, connections: 0 });
        self.opened.push(number);
        Ok(id)
    }

    /// Gives the files of all Unix sockets to the user that the process is about to become.
    pub fn give_sockets_to(&self, user: u32, group: u32) {
        for listener in self.listeners.iter().flatten() {
            listener.files().for_each(|file| file.give_to(user, group, &listener.settings.socket_file));
        }
    }

    /// The core's identifiers of the open listeners, in the order of the settings.
    pub fn listener_ids(&self) -> Vec<ListenerId> {
        let opened = self.opened.iter().filter_map(|&number| self.listeners[number].as_ref());
        opened.map(|listener| listener.id).collect()
    }

    /// The names of the open listeners, in the order of the settings, followed by that of `more` if there is one.
    pub(super) fn present_names(&self, more: Option<&settings::Listener>) -> Vec<ListenerName> {
        let open = self.opened.iter().filter_map(|&number| self.listeners[number].as_ref());
        names_of(open.map(|listener| &listener.settings).chain(more))
    }

    /// Returns a number that is neither in use nor in `taken`, and the core's identifier for the listener.
    pub(super) fn reserve(
        &mut self,
        settings: &settings::Listener,
        name: &str,
        taken: &[usize],
    ) -> Result<(usize, ListenerId), ConfigError> {
        let is_free = |number: &usize| {
            self.listeners.get(*number).is_none_or(Option::is_none) && !taken.contains(number)
        };
        let number = (0..LISTENERS_MAXIMUM).find(is_free);
        let number =
            number.ok_or_else(|| ConfigError::new(&*settings.place, "there are too many listeners"))?;
        Ok((number, self.identify(&settings.place, name)?))
    }

    /// Returns the core's identifier of the listener with this name, which was configured there: the same as
    /// before, if the name was known.
    pub(super) fn identify(&mut self, configured_at: &str, name: &str) -> Result<ListenerId, ConfigError> {
        let place = self.names.iter().position(|known| known == name).unwrap_or(self.names.len());
        let id = u16::try_from(place).ok().map(ListenerId).filter(|&id| id != ListenerId::UNKNOWN);
        let id =
            id.ok_or_else(|| ConfigError::new(configured_at, "there were too many listeners; restart"))?;
        if place == self.names.len() {
            self.names.push(name.to_owned());
            self.broker.name_listener(id, name, self.clock.now());
        }
        Ok(id)
    }

    pub(super) fn put(&mut self, number: usize, listener: Listener) {
        self.broker.set_listener_options(listener.id, Rc::clone(&listener.settings.options));
        if self.listeners.len() <= number {
            self.listeners.resize_with(number + 1, || None);
        }
        self.listeners[number] = Some(listener);
    }

    /// Stops accepting connections on a listener. Those that are open stay.
    pub(super) fn close(&mut self, number: usize) {
        if let Some(listener) = &mut self.listeners[number] {
            listener.sockets.clear();
        }
        self.remove_gone(number);
    }

    /// Removes a listener that is closed and has no connections left. In the core, its name may belong to another
    /// listener by now.
    fn remove_gone(&mut self, number: usize) {
        let Some(gone) = self.listeners[number].take_if(|listener| listener.is_gone()) else { return };
        if self.listeners.iter().flatten().all(|listener| listener.id != gone.id) {
            self.broker.retire_listener(gone.id);
        }
    }

    /// Stops accepting connections on all listeners.
    pub(super) fn close_all(&mut self) {
        for number in 0..self.listeners.len() {
            self.close(number);
        }
    }

    /// Notes that the poller has reported connections waiting at the socket with this token.
    pub(super) fn connections_wait(&mut self, token: usize) {
        let listener = self.listeners.get_mut(token / SOCKETS_MAXIMUM).and_then(Option::as_mut);
        if let Some(socket) = listener.and_then(|listener| listener.sockets.get_mut(token % SOCKETS_MAXIMUM))
        {
            socket.ready();
        }
    }

    pub(super) fn accept(&mut self, now: Time) {
        self.links.count();
        for number in 0..self.listeners.len() {
            let has_tls =
                self.listeners[number].as_ref().is_some_and(|listener| listener.setup.tls.is_some());
            let most = if has_tls { HANDSHAKES_PER_TURN } else { ACCEPTS_PER_TURN };
            for index in 0..SOCKETS_MAXIMUM {
                for _ in 0..most {
                    let Some(listener) = &mut self.listeners[number] else { break };
                    let Some(socket) = listener.sockets.get_mut(index) else { break };
                    let Some((stream, peer)) = socket.accept(now) else { break };
                    if let Err(why) = self.admit(number, index, stream, peer, now) {
                        info!(target: "notice", "Client connection from {peer} denied: {why}.");
                    }
                }
            }
        }
    }

    /// Makes a link of an accepted socket. If that fails, the socket is closed.
    fn admit(
        &mut self,
        number: usize,
        index: usize,
        mut stream: Stream,
        peer: Peer,
        now: Time,
    ) -> Result<(), String> {
        let Some(listener) = &mut self.listeners[number] else { return Ok(()) };
        if !listener.has_room() {
            return Err(format!("max_connections exceeded. The limit is {}", listener.settings.connections));
        }
        if !listener.trusts(peer) {
            return Err("PROXY headers are not accepted from this address (proxy_trusted_source)".to_owned());
        }
        let layers = Layers::of(listener)?;
        if layers.is_some() && !self.broker.has_room_for_handshake() {
            return Err(LITTLE_MEMORY.to_owned());
        }
        let id = self.broker.accept(peer, listener.id, now);
        let id = id.ok_or_else(|| {
            let most = self.broker.connections_maximum();
            format!("there are too many connections, the limit is {most} (global_max_connections)")
        })?;
        // Behind a proxy, the address is not known yet, nor whether there is a client.
        if layers.as_ref().is_none_or(|layers| layers.are_of_client()) {
            log_new(peer, Some(&listener.sockets[index]));
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, Owner::Client.token(id.index()), both);
        if let Err(error) = registered {
            warn!("Client connection from {peer} dropped: {error}.");
            self.broker.closed(id, "not registered", now);
            return Ok(());
        }
        let link = Link::accepted(stream, layers, id, ListenerNumber::of(number));
        self.links.clients.insert(id, link);
        listener.connections += 1;
        Ok(())
    }

    /// Notes that a connection accepted by this listener has closed.
    pub(super) fn has_left(&mut self, number: ListenerNumber) {
        if let Some(listener) = &mut self.listeners[number.place()] {
            listener.connections -= 1;
        }
        self.remove_gone(number.place());
    }
}

/// Logs a connection of a client that was accepted by this listener.
pub(super) fn announce(listeners: &[Option<Listener>], number: ListenerNumber, peer: Peer) {
    // All sockets of a listener have the same port. There is none if the listener was closed in the meantime.
    let listener = listeners.get(number.place()).and_then(Option::as_ref);
    log_new(peer, listener.and_then(|listener| listener.sockets.first()));
}

fn log_new(peer: Peer, socket: Option<&Socket>) {
    match socket {
        Some(socket) => info!(target: "connection", "New connection from {peer} on {}.", socket.place()),
        None => info!(target: "connection", "New connection from {peer}."),
    }
}
