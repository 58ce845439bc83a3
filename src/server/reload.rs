//! Reloading: listeners and access control change while connections stay.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::core::listener::ListenerId;
use crate::settings::{self, Address, ConfigError, ListenerName, names_of};

use super::Server;
use super::bridges::Loaded;
use super::listener::{Listener, SOCKETS_MAXIMUM, Setup, listen, unbound};
use super::plan::Plan;
use super::socket::Socket;

/// A new listener that is not bound yet.
struct Added {
    /// Its index in the new settings.
    index: usize,
    number: usize,
    id: ListenerId,
}

/// A listener that has made way for another, with what is needed to bring it back.
struct Cleared {
    number: usize,
    settings: settings::Listener,
    /// The addresses that it was bound to.
    host: Vec<SocketAddr>,
}

impl Server {
    /// Changes the listeners from the old settings to the new ones; connections stay. `hosts` has the addresses of the
    /// hosts of new listeners, in the order of the plan.
    ///
    /// # Errors
    ///
    /// Everything that is wrong. Nothing has changed then.
    pub(super) fn reload_listeners(
        &mut self,
        plan: &Plan,
        new: &[settings::Listener],
        hosts: &[Vec<SocketAddr>],
        bridges: &[Loaded],
    ) -> Result<(), Vec<ConfigError>> {
        let mut setups = load_all(new)?;
        let mut setup_of = |index: usize| setups[index].take().expect("each is used once");
        let names = names_of(new);
        let reserved = self.reserve_all(plan, new, &names)?;
        let mut ids = Vec::with_capacity(new.len());
        for (listener, name) in new.iter().zip(&names) {
            ids.push(self.identify(&listener.place, &name.name).map_err(|error| vec![error])?);
        }
        let securities = ids.iter().zip(new).map(|(&id, listener)| (id, Rc::clone(&listener.security)));
        let common = new.first().map(|listener| &listener.security);
        let securities = securities.chain(bridges.iter().map(|bridge| bridge.security(common)));
        let rights = self.prepare_rights(&securities.collect())?;
        self.change_files(plan, new).map_err(|error| vec![error])?;
        let bound = match self.bind_all(plan, new, &reserved, hosts) {
            Ok(bound) => bound,
            Err(errors) => {
                self.restore_files(&plan.staying, new);
                return Err(errors);
            }
        };
        let before = std::mem::replace(&mut self.opened, vec![0; new.len()]);
        for &(old, index) in &plan.staying {
            self.opened[index] = before[old];
            self.change(before[old], ids[index], &new[index], setup_of(index));
        }
        for &old in &plan.removed {
            self.close(before[old]);
        }
        for (Added { index, number, id }, sockets) in reserved.into_iter().zip(bound) {
            let (settings, setup) = (new[index].clone(), setup_of(index));
            self.opened[index] = number;
            self.put(number, Listener { id, settings, setup, sockets, connections: 0 });
        }
        self.put_in_force(rights);
        Ok(())
    }

    /// Changes who may connect to the Unix sockets that stay, all of them or none.
    fn change_files(&self, plan: &Plan, new: &[settings::Listener]) -> Result<(), ConfigError> {
        for (done, &(old, index)) in plan.staying.iter().enumerate() {
            let Some(listener) = &self.listeners[self.opened[old]] else { continue };
            let (from, to) = (&listener.settings.socket_file, &new[index].socket_file);
            if let Err(why) = listener.files().try_for_each(|file| file.change(from, to)) {
                self.restore_files(&plan.staying[..=done], new);
                let what = format!("unable to change {}: {why}", new[index].address);
                return Err(ConfigError::new(&*new[index].place, what));
            }
        }
        Ok(())
    }

    fn restore_files(&self, staying: &[(usize, usize)], new: &[settings::Listener]) {
        for &(old, index) in staying {
            let Some(listener) = &self.listeners[self.opened[old]] else { continue };
            let (from, to) = (&new[index].socket_file, &listener.settings.socket_file);
            // They could be changed, so they can be changed back.
            let _ = listener.files().try_for_each(|file| file.change(from, to));
        }
    }

    fn reserve_all(
        &mut self,
        plan: &Plan,
        new: &[settings::Listener],
        names: &[ListenerName],
    ) -> Result<Vec<Added>, Vec<ConfigError>> {
        let mut reserved: Vec<Added> = Vec::new();
        for &index in &plan.added {
            let taken: Vec<usize> = reserved.iter().map(|added| added.number).collect();
            let name = &names[index].name;
            let (number, id) = self.reserve(&new[index], name, &taken).map_err(|error| vec![error])?;
            reserved.push(Added { index, number, id });
        }
        Ok(reserved)
    }

    /// Binds the sockets of all new listeners. A listener that is to be removed and is in the way is closed first; if
    /// something cannot be bound all the same, it is opened again.
    fn bind_all(
        &mut self,
        plan: &Plan,
        new: &[settings::Listener],
        reserved: &[Added],
        hosts: &[Vec<SocketAddr>],
    ) -> Result<Vec<Vec<Socket>>, Vec<ConfigError>> {
        let mut bound = Vec::new();
        let mut errors = Vec::new();
        let mut cleared = Vec::new();
        for (added, host) in reserved.iter().zip(hosts) {
            let (settings, first_token) = (&new[added.index], added.number * SOCKETS_MAXIMUM);
            let mut outcome = listen(settings, host, self.poll.registry(), first_token);
            // With any other reason, closing a listener would not help, and it could not be opened again either.
            if outcome.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::AddrInUse) {
                self.clear_way(plan, settings, &mut cleared);
                outcome = listen(settings, host, self.poll.registry(), first_token);
            }
            match outcome {
                Ok(sockets) => bound.push(sockets),
                Err(why) => errors.push(unbound(settings, &why)),
            }
        }
        if errors.is_empty() {
            return Ok(bound);
        }
        // The sockets that come back may need the same addresses.
        drop(bound);
        for Cleared { number, settings, host } in cleared {
            match listen(&settings, &host, self.poll.registry(), number * SOCKETS_MAXIMUM) {
                Ok(sockets) => {
                    if let Some(listener) = &mut self.listeners[number] {
                        listener.sockets = sockets;
                    }
                }
                Err(why) => errors.push(unbound(&settings, &why)),
            }
        }
        Err(errors)
    }

    /// Closes the sockets of listeners that are to be removed and may keep this one from being bound.
    fn clear_way(&mut self, plan: &Plan, settings: &settings::Listener, cleared: &mut Vec<Cleared>) {
        for &old in &plan.removed {
            let number = self.opened[old];
            if let Some(listener) = &mut self.listeners[number]
                && listener.is_in_the_way_of(settings)
            {
                let (settings, host) = listener.make_way();
                cleared.push(Cleared { number, settings, host });
            }
        }
    }

    /// Applies other settings to connections accepted from now on, with the same sockets. Under another name, it is
    /// another listener for them.
    fn change(&mut self, number: usize, id: ListenerId, settings: &settings::Listener, setup: Setup) {
        if let Some(listener) = &mut self.listeners[number] {
            self.broker.set_listener_options(id, Rc::clone(&settings.options));
            listener.id = id;
            listener.settings = settings.clone();
            listener.setup = setup;
        }
    }
}

impl Listener {
    /// Whether its sockets may keep another listener from being bound.
    fn is_in_the_way_of(&self, other: &settings::Listener) -> bool {
        let (Address::Internet { port, .. } | Address::Loopback { port }) = other.address else {
            return false;
        };
        self.sockets.iter().any(|socket| socket.place().port() == Some(port))
    }

    /// Stops listening, so that another listener can use the port. Returns what to listen at if that fails: the same
    /// addresses, whatever the host name resolves to by now, and the same port, even if the system has chosen it.
    fn make_way(&mut self) -> (settings::Listener, Vec<SocketAddr>) {
        let mut settings = self.settings.clone();
        let host = self.sockets.iter().filter_map(|socket| socket.place().address()).collect();
        if let (Address::Internet { port, .. } | Address::Loopback { port }, Some(bound)) =
            (&mut settings.address, self.sockets.iter().find_map(|socket| socket.place().port()))
        {
            *port = bound;
        }
        self.sockets.clear();
        (settings, host)
    }
}

/// Loads the TLS and WebSocket setups of all these listeners.
fn load_all(listeners: &[settings::Listener]) -> Result<Vec<Option<Setup>>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut setups = Vec::new();
    for settings in listeners {
        match Setup::load(settings) {
            Ok(setup) => setups.push(Some(setup)),
            Err(wrong) => errors.extend(wrong),
        }
    }
    if errors.is_empty() { Ok(setups) } else { Err(errors) }
}
