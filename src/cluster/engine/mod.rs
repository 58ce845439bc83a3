//! The connection of a node to NATS: a client of one of several servers.
//!
//! It connects to any server that it knows, makes the subscriptions again on each new connection, and matches answers
//! with requests. A server that is silent is asked with PING, and left if it stays silent, long before TCP would notice. So
//! is one that takes no bytes.
//!
//! # Calls
//!
//! The machine makes no system calls. Its caller passes in the time, received bytes and events, and polls after each
//! call:
//!
//! 1. [`Machine::next_action`] until it returns `None`: what to do. After `HangUp`, nothing more is reported about that
//!    connection.
//! 2. [`Machine::output`]: what to send. What was sent is reported by [`Machine::sent`].
//! 3. [`Machine::next_notice`] until it returns `None`: what has happened.
//! 4. [`Machine::next_line`] until it returns `None`: what to log.
//! 5. [`Machine::next_deadline`]: when to call [`Machine::tick`].
//!
//! Received bytes stay with the caller: [`Machine::read`] returns one event at a time, with views into them, and the
//! number of bytes that it has processed. The rest is to be passed in again with what follows.
//!
//! # Limits
//!
//! Once the output has reached its limit, [`Machine::publish`] and [`Machine::request`] refuse, and the caller decides
//! what becomes of the message. Only subscriptions, PING and PONG are still added, up to twice that limit. A message that is too large is
//! skipped. A control line has at most 128 KiB. The numbers of requests and subscriptions are limited by the settings;
//! 64 servers are remembered beside the configured ones, and 256 refusals and log lines wait to be taken.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod output;
mod reading;
mod requests;
mod servers;
mod signals;
#[cfg(test)]
mod tests;

use log::Level;

use output::Output;
use requests::Requests;
use servers::{Random, Servers};
use signals::Signals;

use crate::base::escape::Escaped;
use crate::base::ordered_map::OrderedMap;
use crate::base::time::{Duration, Time};
use crate::protocol::nats::{
    Authentication, HeaderBlock, Invalid, Publication, QueueGroup, ServerInfo, Subject, SubjectPattern,
    write_ping, write_subscribe, write_unsubscribe,
};

pub use reading::Event;
pub use requests::{Answers, RequestId, Unanswered};
pub use servers::{Address, Retry};
pub use signals::{Action, Notice};

/// The number of the subscription for answers.
const INBOX: u64 = 1;

/// What a machine needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The servers to begin with.
    pub servers: Vec<Address>,
    /// The name that the tools of the server show.
    pub name: Box<str>,
    /// How the node proves who it is.
    pub authentication: Authentication,
    /// Whether connections have to be encrypted. If not, they are where the server requires it.
    pub uses_tls: bool,
    /// The beginning of the subjects for answers, without the last dot.
    pub inbox: Box<str>,
    /// The times.
    pub timing: Timing,
    /// The limits.
    pub limits: Limits,
}

/// Times of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// After how long without a byte from the server it is asked with PING.
    pub quiet: Duration,
    /// After how long without a byte from the server the connection is given up. The same if there are bytes for it, and it
    /// takes none.
    pub silence: Duration,
    /// How long each step may take until there is a connection, and the end of one.
    pub patience: Duration,
    /// How long to wait between attempts.
    pub retry: Retry,
}

/// Limits of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest message that is sent or received, in bytes of headers and payload. A server may accept less.
    pub message: usize,
    /// The bytes of output from which on nothing more is published.
    pub output: usize,
    /// The most requests that wait for answers.
    pub requests: usize,
    /// The most subscriptions.
    pub subscriptions: usize,
}

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is none until then.
    Waiting { until: Time },
    /// The caller connects.
    Dialling { deadline: Time },
    /// INFO has not come.
    Greeting { deadline: Time },
    /// The caller does the handshake of TLS.
    Securing { deadline: Time },
    /// CONNECT and PING were sent, PONG has not come.
    Introducing { deadline: Time },
    /// The connection can be used.
    Ready { pinged: bool },
    /// It was left, and what is on its way is still received.
    Draining { deadline: Time },
    /// There will be none again.
    Over,
}

/// Why something was not sent. Nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// There is no connection.
    NotReady,
    /// The output, or the number of requests or subscriptions, has reached its limit.
    Full,
    /// It may not be sent.
    Invalid(Invalid),
}

/// The number of a subscription. It is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId(u64);

#[derive(Debug)]
struct Subscription {
    pattern: Box<str>,
    queue: Option<Box<str>>,
}

/// A client of NATS.
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    servers: Servers,
    state: State,
    /// Whether the connection is encrypted.
    is_encrypted: bool,
    /// What the current server, or the last one, has said about itself.
    server: ServerInfo,
    /// The beginning of the subjects for the answers of this machine, with the last dot.
    inbox: String,
    subscriptions: OrderedMap<u64, Subscription>,
    last_subscription: u64,
    requests: Requests,
    output: Output,
    signals: Signals,
    /// When bytes were last received.
    heard: Time,
    /// How many received bytes were not processed.
    rest: usize,
    /// How many bytes follow of a message that is too large.
    skipping: u64,
}

impl Machine {
    /// A client that connects now. The subjects for its answers, the order of the servers and the waits depend on the
    /// seed, which is to be different in each node and each time.
    ///
    /// # Panics
    ///
    /// If there is no server, or the beginning of the inbox is not a subject.
    pub fn new(settings: Settings, seed: u64, now: Time) -> Self {
        assert!(Subject::new(&settings.inbox).is_some(), "the configuration checks the inbox");
        let mut random = Random(seed);
        let inbox = format!("{}.{:016x}.", settings.inbox, random.next());
        let mut this = Self {
            servers: Servers::new(&settings.servers, settings.timing.retry, random.next()),
            state: State::Waiting { until: now },
            is_encrypted: false,
            server: ServerInfo::default(),
            inbox,
            subscriptions: OrderedMap::default(),
            last_subscription: INBOX,
            requests: Requests::default(),
            output: Output::default(),
            signals: Signals::default(),
            heard: now,
            rest: 0,
            skipping: 0,
            settings,
        };
        this.start(now);
        this
    }

    /// Whether the connection can be used.
    pub const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Whether the machine has ended.
    pub const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What the server has said about itself. Its texts are not to be trusted.
    pub const fn server(&self) -> &ServerInfo {
        &self.server
    }

    /// The address of the current server.
    pub fn address(&self) -> &Address {
        self.servers.current()
    }

    /// When bytes were last received.
    pub const fn heard(&self) -> Time {
        self.heard
    }

    /// The beginning of subjects that only this machine uses, with the last dot. One more token is an answer to a
    /// request.
    pub fn inbox(&self) -> &str {
        &self.inbox
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.signals.next_action()
    }

    /// The next thing that has happened.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.signals.next_notice()
    }

    /// The next line for the log.
    pub fn next_line(&mut self) -> Option<(Level, String)> {
        self.signals.next_line()
    }

    /// Bytes for the server.
    pub fn output(&self) -> &[u8] {
        self.output.pending()
    }

    /// So many bytes of [`Machine::output`] were sent; none, if the socket has taken none.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn sent(&mut self, count: usize, now: Time) {
        self.output.advance(count, now);
    }

    /// When [`Machine::tick`] is to be called at the latest; `None` if time alone changes nothing.
    pub fn next_deadline(&self) -> Option<Time> {
        let deadline = match self.state {
            State::Waiting { until } => until,
            State::Dialling { deadline }
            | State::Greeting { deadline }
            | State::Securing { deadline }
            | State::Introducing { deadline } => deadline,
            State::Draining { deadline } => deadline.min(self.requests.deadline()),
            State::Ready { pinged } => {
                let timing = &self.settings.timing;
                let silence = self.heard + timing.silence;
                let ping = if pinged { silence } else { self.heard + timing.quiet };
                let stuck = self.output.stuck().map_or(Time::NEVER, |since| since + timing.silence);
                ping.min(silence).min(stuck).min(self.requests.deadline())
            }
            State::Over => Time::NEVER,
        };
        (deadline < Time::NEVER).then_some(deadline)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) {
        self.output.look(now);
        while let Some(request) = self.requests.expired(now) {
            self.signals.note(Notice::Unanswered(request, Unanswered::TimedOut));
        }
        match self.state {
            State::Waiting { until } if until <= now => self.start(now),
            State::Dialling { deadline } if deadline <= now => self.lose("it takes too long to connect", now),
            State::Greeting { deadline } if deadline <= now => self.lose("INFO has not come", now),
            State::Securing { deadline } if deadline <= now => {
                self.lose("the handshake of TLS takes too long", now);
            }
            State::Introducing { deadline } if deadline <= now => self.lose("PONG has not come", now),
            State::Draining { deadline } if deadline <= now => self.end(),
            State::Ready { pinged } => self.check_silence(pinged, now),
            _ => {}
        }
    }

    fn check_silence(&mut self, pinged: bool, now: Time) {
        if self.heard + self.settings.timing.silence <= now {
            return self.lose("the server is silent", now);
        }
        if self.output.stuck().is_some_and(|since| since + self.settings.timing.silence <= now) {
            return self.lose("the server takes no bytes", now);
        }
        if !pinged && self.heard + self.settings.timing.quiet <= now {
            self.output.write(write_ping);
            self.state = State::Ready { pinged: true };
        }
    }

    fn start(&mut self, now: Time) {
        self.state = State::Dialling { deadline: now + self.settings.timing.patience };
        self.signals.act(Action::Dial(self.servers.current().clone()));
    }

    /// The node proves who it is in another way from now on. A connection that it has stays as it is.
    pub fn set_authentication(&mut self, authentication: Authentication) {
        self.settings.authentication = authentication;
    }

    /// Connects again at once, to prove who the node is in another way. What was not sent is lost.
    pub fn log_in_again(&mut self, now: Time) {
        match self.state {
            State::Ready { .. } => {
                let address = self.servers.current();
                self.signals.say(Level::Info, format!("Logging in to the NATS server {address} again"));
                self.signals.act(Action::HangUp);
                self.fail_requests();
                self.signals.note(Notice::Lost("the login has changed".to_owned()));
            }
            State::Introducing { .. } => self.signals.act(Action::HangUp),
            State::Waiting { .. } => {}
            // The new way is used when it comes to that, or never.
            State::Dialling { .. }
            | State::Greeting { .. }
            | State::Securing { .. }
            | State::Draining { .. }
            | State::Over => return,
        }
        (self.rest, self.skipping) = (0, 0);
        self.output.clear();
        self.signals.forget_said();
        self.start(now);
    }

    /// The connection that `Dial` has asked for is open.
    pub fn connected(&mut self, now: Time) {
        if matches!(self.state, State::Dialling { .. }) {
            (self.rest, self.skipping) = (0, 0);
            self.output.clear();
            self.is_encrypted = false;
            self.state = State::Greeting { deadline: now + self.settings.timing.patience };
        }
    }

    /// The connection that `Dial` has asked for could not be opened.
    pub fn dial_failed(&mut self, why: &str, now: Time) {
        if matches!(self.state, State::Dialling { .. }) {
            self.give_up(why, now);
        }
    }

    /// The handshake that `StartTls` has asked for has succeeded.
    pub fn secured(&mut self, now: Time) {
        if matches!(self.state, State::Securing { .. }) {
            self.is_encrypted = true;
            self.introduce(now);
        }
    }

    /// The server or the network has closed the connection.
    pub fn closed(&mut self, why: &str, now: Time) {
        match self.state {
            State::Draining { .. } => self.state = State::Over,
            State::Greeting { .. }
            | State::Securing { .. }
            | State::Introducing { .. }
            | State::Ready { .. } => self.give_up(why, now),
            State::Waiting { .. } | State::Dialling { .. } | State::Over => {}
        }
    }

    /// Closes the connection because of something that is wrong with it.
    fn lose(&mut self, why: &str, now: Time) {
        self.signals.act(Action::HangUp);
        self.give_up(why, now);
    }

    /// There is no connection any longer, or it could not be opened.
    fn give_up(&mut self, why: &str, now: Time) {
        let (address, shown) = (self.servers.current(), Escaped(why));
        if self.is_ready() {
            self.signals
                .say(Level::Warn, format!("The connection to the NATS server {address} has ended: {shown}"));
            self.fail_requests();
            self.signals.note(Notice::Lost(why.to_owned()));
        } else {
            let line = format!("The NATS server {address} cannot be used: {shown}");
            self.signals.say_once(why, line);
        }
        (self.rest, self.skipping) = (0, 0);
        self.output.clear();
        self.state = State::Waiting { until: now + self.servers.advance() };
    }

    fn fail_requests(&mut self) {
        for request in self.requests.take_all() {
            self.signals.note(Notice::Unanswered(request, Unanswered::Lost));
        }
    }

    fn check_room(&self) -> Result<(), NotSent> {
        if !self.is_ready() {
            return Err(NotSent::NotReady);
        }
        if self.output.len() >= self.settings.limits.output { Err(NotSent::Full) } else { Ok(()) }
    }

    /// Whether nothing may be added to the output.
    fn is_overfull(&self) -> bool {
        self.output.len() >= 2 * self.settings.limits.output
    }

    /// Whether something can be published now.
    pub fn has_room(&self) -> bool {
        self.check_room().is_ok()
    }

    /// Whether messages of this many bytes can be published together now.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.has_room()
            && (self.output.len() == 0 || self.output.len() + bytes <= self.settings.limits.output)
    }

    /// The largest message that can be sent on this connection, in bytes of headers and payload.
    pub fn message_maximum(&self) -> usize {
        self.settings.limits.message.min(self.server.message_maximum)
    }

    /// Publishes a message.
    ///
    /// # Errors
    ///
    /// It was not sent.
    #[inline]
    pub fn publish(&mut self, publication: &Publication<'_>) -> Result<(), NotSent> {
        self.check_room()?;
        let maximum = self.message_maximum();
        self.output.write(|into| publication.encode(maximum, into)).map_err(NotSent::Invalid)
    }

    /// Publishes a message that is answered, within `patience`. The answers are events, and the end without one is a
    /// notice.
    ///
    /// # Errors
    ///
    /// It was not sent.
    pub fn request(
        &mut self,
        subject: Subject<'_>,
        headers: Option<&HeaderBlock>,
        payload: &[&[u8]],
        (answers, patience): (Answers, Duration),
        now: Time,
    ) -> Result<RequestId, NotSent> {
        self.check_room()?;
        if self.requests.len() >= self.settings.limits.requests {
            return Err(NotSent::Full);
        }
        let request = self.requests.add(answers, now + patience);
        let reply = format!("{}{}", self.inbox, request.token());
        let publication = Publication { subject, reply: Subject::new(&reply), headers, payload };
        let published = self.publish(&publication);
        if published.is_err() {
            self.requests.end(request);
        }
        published.map(|()| request)
    }

    /// Ends a request that has any number of answers. Further ones are ignored.
    pub fn end_request(&mut self, request: RequestId) {
        self.requests.end(request);
    }

    /// Opens a subscription, which lasts until it is closed: it is made again on each new connection. Messages that are
    /// published in between are not received.
    ///
    /// # Errors
    ///
    /// There are too many, the output is twice as large as its limit, or the control line would be too long.
    pub fn subscribe(
        &mut self,
        pattern: SubjectPattern<'_>,
        queue: Option<&str>,
    ) -> Result<SubscriptionId, NotSent> {
        if self.subscriptions.len() >= self.settings.limits.subscriptions || self.is_overfull() {
            return Err(NotSent::Full);
        }
        let number = self.last_subscription + 1;
        let group = match queue {
            Some(name) => {
                Some(QueueGroup::new(name).ok_or(NotSent::Invalid(Invalid("a name of a queue group")))?)
            }
            None => None,
        };
        let mut line = Vec::new();
        write_subscribe(pattern, group, number, &mut line).map_err(NotSent::Invalid)?;
        if self.is_ready() {
            self.output.write(|into| into.extend_from_slice(&line));
        }
        self.last_subscription = number;
        let subscription = Subscription { pattern: pattern.as_str().into(), queue: queue.map(Into::into) };
        self.subscriptions.insert(number, subscription);
        Ok(SubscriptionId(number))
    }

    /// Closes a subscription. Messages that are on their way are ignored.
    pub fn unsubscribe(&mut self, SubscriptionId(number): SubscriptionId) {
        if self.subscriptions.remove(&number).is_some() && self.is_ready() {
            self.output.write(|into| write_unsubscribe(number, None, into));
        }
    }

    /// Leaves the server in order: closes the subscriptions, still passes on what is on its way, and closes the
    /// connection once the server has answered. The machine ends then, or after the patience of the settings.
    pub fn drain(&mut self, now: Time) {
        match self.state {
            State::Ready { .. } => {
                let numbers =
                    std::iter::once(&INBOX).chain(self.subscriptions.iter().map(|(number, _)| number));
                self.output.write(|into| {
                    numbers.for_each(|number| write_unsubscribe(*number, None, into));
                    write_ping(into);
                });
                self.state = State::Draining { deadline: now + self.settings.timing.patience };
            }
            State::Draining { .. } | State::Over => {}
            State::Waiting { .. } => self.state = State::Over,
            State::Dialling { .. }
            | State::Greeting { .. }
            | State::Securing { .. }
            | State::Introducing { .. } => self.end(),
        }
    }

    /// Closes the connection for good.
    fn end(&mut self) {
        self.fail_requests();
        self.signals.act(Action::HangUp);
        self.output.clear();
        self.state = State::Over;
    }
}
