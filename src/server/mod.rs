//! The world around the core: the poll loop, listeners, sockets and the clock.
//!
//! One turn of the loop goes through fixed phases: poll, read the clock, accept and read, let time pass, write
//! every dirty connection once, reap what is closed. What costs a system call is paid once a turn for each
//! connection that has something to say, however many messages it says; the lines of the log leave together, too.
//! A socket is registered once, for both directions, edge-triggered; so the loop remembers which links have more
//! to read.

mod clock;
mod link;
mod listener;
mod operate;
pub mod plan;
#[cfg(feature = "signals")]
mod signals;

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration as SystemDuration;

use log::{info, warn};
use mio::{Events, Interest, Poll, Token};

use crate::access::{AccessControl, Peer};
use crate::broker::{Broker, Effect, Intake, TASKS};
use crate::limits::Limits;
use crate::memory::Shrinking;
use crate::settings::ListenerId;
use crate::slots::ConnectionId;
use crate::time::{Duration, Time};

use clock::Clock;
use link::{Link, Reading};
use listener::Listener;
use operate::Configuration;

pub use operate::Reader;

/// Bytes read at a time, and at most from one link in a turn.
const READ_BYTES: usize = 256 * 1024;
/// Events taken from the poller in a turn.
const EVENTS_PER_TURN: usize = 1024;
/// Connections accepted from one listener in a turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Timers that fire in a turn.
const TIMERS_PER_TURN: usize = 1024;
/// Time for the peers to close when the broker ends.
const FAREWELL: Duration = Duration::from_milliseconds(1000);

/// Listeners have the first tokens, then come the signals, then the links.
const LISTENERS_MAXIMUM: usize = 32;
const SIGNALS: Token = Token(LISTENERS_MAXIMUM);
const FIRST_LINK: usize = LISTENERS_MAXIMUM + 1;

/// A broker with its sockets.
pub struct Server {
    poll: Poll,
    clock: Clock,
    broker: Broker,
    listeners: Vec<Listener>,
    /// By the index of the connection.
    links: Vec<Option<Link>>,
    /// How many of them there are.
    open: usize,
    shrinking: Shrinking,
    /// Links that may have more to read, though the poller will not say so again.
    again: VecDeque<ConnectionId>,
    /// Links whose socket is of no more use, and why.
    dead: Vec<(ConnectionId, String)>,
    buffer: Box<[u8]>,
    dirty: Vec<ConnectionId>,
    configuration: Option<Configuration>,
    #[cfg(feature = "signals")]
    signals: signals::Signals,
}

impl Server {
    /// A server without listeners.
    ///
    /// # Errors
    ///
    /// If the system gives no poller or no signals.
    pub fn new(limits: Limits, access: Box<dyn AccessControl>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let clock = Clock::start();
        #[cfg(feature = "signals")]
        let signals = signals::Signals::register(poll.registry(), SIGNALS)?;
        Ok(Self {
            broker: Broker::new(limits, access, clock::seed(), clock.now()),
            poll,
            clock,
            listeners: Vec::new(),
            links: Vec::new(),
            open: 0,
            shrinking: Shrinking::default(),
            again: VecDeque::with_capacity(TASKS),
            dead: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
            dirty: Vec::with_capacity(TASKS),
            configuration: None,
            #[cfg(feature = "signals")]
            signals,
        })
    }

    /// Publishes under `$SYS` what the broker has to tell of itself: now and then every `interval`; `None` for never.
    pub fn tell_of_itself(&mut self, interval: Option<Duration>) {
        self.broker.tell_of_itself(interval, clock::wall(), self.clock.now());
    }

    /// Listens on both loopback addresses; on port 0 the system chooses, for both the same. Without IPv6 on this
    /// machine that half is left out.
    ///
    /// # Errors
    ///
    /// If a port can not be bound.
    pub fn listen_on_loopback(&mut self, port: u16) -> io::Result<()> {
        let port = self.listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        match self.listen(SocketAddr::from((Ipv6Addr::LOCALHOST, port))) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                warn!("No IPv6 loopback here: {error}.");
                Ok(())
            }
            outcome => outcome.map(|_| ()),
        }
    }

    fn listen(&mut self, address: SocketAddr) -> io::Result<u16> {
        if self.listeners.len() == LISTENERS_MAXIMUM {
            return Err(io::Error::other("too many listeners"));
        }
        let listener = Listener::bind(address, self.poll.registry(), Token(self.listeners.len()))?;
        let port = listener.port;
        self.listeners.push(listener);
        Ok(port)
    }

    /// Serves until a signal says to end.
    ///
    /// # Errors
    ///
    /// If the poller fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while !self.turn(&mut events, None)? {}
        self.say_farewell(&mut events)
    }

    /// One turn of the loop, waiting no longer than until `latest`. Tells whether the broker is to end.
    fn turn(&mut self, events: &mut Events, latest: Option<Time>) -> io::Result<bool> {
        log::logger().flush();
        let timeout = self.timeout(latest);
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let now = self.clock.now();
        // Those that are listed in this turn have had their share of it, and may end before the next.
        let again = self.again.len();
        let is_signalled = self.take_events(events, now);
        self.accept(now);
        self.read_again(again, now);
        self.broker.tick(now, TIMERS_PER_TURN);
        self.obey(now);
        self.write(now);
        self.reap(now);
        Ok(is_signalled)
    }

    /// How long the poller may sleep; `None` for as long as nothing happens.
    fn timeout(&self, latest: Option<Time>) -> Option<SystemDuration> {
        if !self.again.is_empty() || self.broker.has_work() {
            return Some(SystemDuration::ZERO);
        }
        let now = self.clock.now();
        let accepting = self.listeners.iter().filter_map(|listener| listener.due(now)).min();
        let next = [self.broker.next_deadline(), accepting, latest].into_iter().flatten().min()?;
        Some(SystemDuration::from_millis(next.since(now).milliseconds()))
    }

    fn take_events(&mut self, events: &Events, now: Time) -> bool {
        let mut is_signalled = false;
        for event in events {
            match event.token() {
                SIGNALS => is_signalled |= self.heed_signals(),
                Token(token) if token < LISTENERS_MAXIMUM => {
                    if let Some(listener) = self.listeners.get_mut(token) {
                        listener.ready();
                    }
                }
                Token(token) => {
                    let Some(Some(link)) = self.links.get_mut(token - FIRST_LINK) else { continue };
                    let id = link.id;
                    if event.is_read_closed() {
                        link.read_closed();
                    }
                    if event.is_writable() && self.broker.has_output(id) {
                        self.broker.writable(id);
                    }
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.read(id, now);
                    }
                }
            }
        }
        is_signalled
    }

    #[cfg(not(feature = "signals"))]
    #[expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "signals are a feature")]
    fn heed_signals(&mut self) -> bool {
        false
    }

    fn accept(&mut self, now: Time) {
        let Self { listeners, links, open, broker, poll, .. } = self;
        for (listener, number) in listeners.iter_mut().zip(0..) {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some((mut stream, address)) = listener.accept(now) else { break };
                let Some(id) = broker.accept(Peer::Internet(address), ListenerId(number), now) else {
                    info!("Client connection from {address} denied: there are too many connections.");
                    continue;
                };
                info!("New connection from {address} on port {}.", listener.port);
                let token = Token(FIRST_LINK + id.index());
                let both = Interest::READABLE | Interest::WRITABLE;
                if let Err(error) = poll.registry().register(&mut stream, token, both) {
                    warn!("Client connection from {address} dropped: {error}.");
                    broker.closed(id, "not registered", now);
                    continue;
                }
                if links.len() <= id.index() {
                    links.resize_with(id.index() + 1, || None);
                }
                links[id.index()] = Some(Link::new(stream, id));
                *open += 1;
            }
        }
    }

    /// Reads the links that had more than their share in an earlier turn.
    fn read_again(&mut self, count: usize, now: Time) {
        for _ in 0..count {
            let Some(id) = self.again.pop_front() else { return };
            if let Some(link) = find(&mut self.links, id) {
                link.is_listed = false;
                self.read(id, now);
            }
        }
    }

    /// Reads one link once.
    fn read(&mut self, id: ConnectionId, now: Time) {
        let Some(link) = find(&mut self.links, id) else { return };
        if link.is_paused || link.is_listed {
            return;
        }
        let (count, may_have_more) = match link.read(&mut self.buffer) {
            Ok(Reading::More(count)) => (count, true),
            Ok(Reading::Last(count)) => (count, false),
            Ok(Reading::End) => {
                self.dead.push((id, "connection closed by client".to_owned()));
                return;
            }
            Err(error) => {
                self.dead.push((id, error.to_string()));
                return;
            }
        };
        if count > 0 {
            link.is_paused = self.broker.received(id, &self.buffer[..count], now) == Intake::Paused;
        }
        if may_have_more && !link.is_paused {
            link.is_listed = true;
            self.again.push_back(id);
        }
    }

    /// Does what the core asks for beside writing.
    fn obey(&mut self, now: Time) {
        while let Some(effect) = self.broker.next_effect() {
            match effect {
                Effect::Close(id) => {
                    if let Some(link) = find(&mut self.links, id) {
                        link.is_paused = false;
                        link.begin_closing();
                        link.finish_closing(!self.broker.has_output(id));
                        self.list(id);
                    }
                }
                Effect::Drop(id) => self.dead.push((id, String::new())),
                Effect::Resume(id) => {
                    let is_paused = self.broker.resume(id, now) == Intake::Paused;
                    if let Some(link) = find(&mut self.links, id) {
                        link.is_paused = is_paused;
                        self.list(id);
                    }
                }
            }
        }
    }

    /// Puts a link on the list of those that may have more to read.
    fn list(&mut self, id: ConnectionId) {
        if let Some(link) = find(&mut self.links, id)
            && !link.is_listed
            && !link.is_paused
        {
            link.is_listed = true;
            self.again.push_back(id);
        }
    }

    /// Writes every dirty connection once.
    fn write(&mut self, now: Time) {
        let mut dirty = self.broker.take_dirty(std::mem::take(&mut self.dirty));
        for id in dirty.drain(..) {
            let Some(link) = find(&mut self.links, id) else { continue };
            match self.broker.write_to(id, &mut link.stream, now) {
                Ok(()) => link.finish_closing(!self.broker.has_output(id)),
                Err(error) => self.dead.push((id, error.to_string())),
            }
        }
        self.dirty = dirty;
    }

    /// Lets go of closed links. Their slots are free from the next turn on.
    fn reap(&mut self, now: Time) {
        for (id, why) in std::mem::take(&mut self.dead) {
            if find(&mut self.links, id).is_some() {
                // Dropping the socket closes it and takes it out of the poller.
                self.links[id.index()] = None;
                self.broker.closed(id, &why, now);
                self.open -= 1;
                if self.shrinking.is_due(self.open, self.links.capacity()) {
                    let used = self.links.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
                    self.links.truncate(used);
                    self.links.shrink_to_fit();
                }
            }
        }
    }

    /// Stops listening, says good-bye and gives the peers a moment to close.
    fn say_farewell(mut self, events: &mut Events) -> io::Result<()> {
        info!("brooklet version {} terminating", env!("CARGO_PKG_VERSION"));
        self.listeners.clear();
        let now = self.clock.now();
        self.broker.shut_down(now);
        let end = now + FAREWELL;
        while self.open > 0 && self.clock.now() < end {
            if self.turn(events, Some(end))? {
                break;
            }
        }
        Ok(())
    }
}

fn find(links: &mut [Option<Link>], id: ConnectionId) -> Option<&mut Link> {
    links.get_mut(id.index())?.as_mut().filter(|link| link.id == id)
}
