//! What the server sends.

use log::Level;

use super::requests::{RequestId, Unanswered};
use super::signals::{Action, Notice};
use super::{INBOX, Machine, State, SubscriptionId};
use crate::base::escape::{Escaped, Quoted};
use crate::base::time::Time;
use crate::protocol::codec::Status;
use crate::protocol::nats::{
    Decoded, Failure, Incoming, Malformed, Message, QueueGroup, ServerInfo, SubjectPattern, TlsOffer, decode,
    write_connect, write_ping, write_pong, write_subscribe,
};

/// Something that was received, with views into the bytes that were passed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message for a subscription.
    Message(SubscriptionId, Message<'a>),
    /// An answer to a request.
    Answer(RequestId, Message<'a>),
    /// A message for a subscription was skipped, because it is larger than the settings allow.
    TooLarge(SubscriptionId),
}

impl Machine {
    /// Processes received bytes up to the next event. Returns how many bytes were processed, and the event; without
    /// one, the rest of the bytes is to be passed in again when more have come.
    pub fn read<'a>(&mut self, input: &'a [u8], now: Time) -> (usize, Option<Event<'a>>) {
        if input.len() > self.rest {
            self.heard = now;
            if let State::Ready { pinged } = &mut self.state {
                *pinged = false;
            }
        }
        let mut processed = 0;
        let event = loop {
            let (_, rest) = input.split_at(processed);
            if self.skipping > 0 && !rest.is_empty() {
                processed += self.skip(rest);
                continue;
            }
            let (length, event) = self.read_one(rest, now);
            processed += length;
            if length == 0 || event.is_some() {
                break event;
            }
        };
        self.rest = if self.is_open() { input.len() - processed } else { 0 };
        (processed, event)
    }

    const fn is_open(&self) -> bool {
        matches!(
            self.state,
            State::Greeting { .. } | State::Introducing { .. } | State::Ready { .. } | State::Draining { .. }
        )
    }

    fn skip(&mut self, rest: &[u8]) -> usize {
        let count = usize::try_from(self.skipping).map_or(rest.len(), |skipping| skipping.min(rest.len()));
        self.skipping -= count as u64;
        count
    }

    /// Processes one element. Returns its length; zero if it is not complete or the connection has ended.
    #[inline]
    fn read_one<'a>(&mut self, rest: &'a [u8], now: Time) -> (usize, Option<Event<'a>>) {
        if rest.is_empty() {
            return (0, None);
        }
        if !self.is_open() {
            if matches!(self.state, State::Securing { .. }) {
                self.lose("the server has sent something unencrypted after INFO", now);
            }
            return (rest.len(), None);
        }
        match decode(rest, self.settings.limits.message) {
            Ok(Status::Complete(Decoded { incoming, length })) => (length, self.take(incoming, now)),
            Ok(Status::Incomplete { .. }) => (0, None),
            Err(Malformed(why)) => {
                self.lose(why, now);
                (rest.len(), None)
            }
        }
    }

    #[inline]
    fn take<'a>(&mut self, incoming: Incoming<'a>, now: Time) -> Option<Event<'a>> {
        match (self.state, incoming) {
            (State::Ready { .. } | State::Draining { .. }, Incoming::Message(message)) => {
                return self.take_message(message);
            }
            (
                State::Ready { .. } | State::Draining { .. },
                Incoming::TooLarge { subscription, following },
            ) => {
                self.skipping = following;
                let is_known = self.subscriptions.contains_key(&subscription);
                return is_known.then_some(Event::TooLarge(SubscriptionId(subscription)));
            }
            (_, Incoming::Error(text)) => self.take_error(text, now),
            (State::Greeting { .. }, Incoming::Info(text)) => self.take_first_info(text, now),
            (State::Greeting { .. }, _) => self.lose("the server does not begin with INFO", now),
            (_, Incoming::Info(text)) => self.take_info(text, now),
            (_, Incoming::Ping) if self.is_overfull() => {}
            (_, Incoming::Ping) => self.output.write(write_pong),
            (State::Introducing { .. }, Incoming::Pong) => self.become_ready(),
            (State::Introducing { .. }, Incoming::Message(_) | Incoming::TooLarge { .. }) => {
                self.lose("the server has sent a message before PONG", now);
            }
            (State::Draining { .. }, Incoming::Pong) => self.end(),
            (_, Incoming::Pong | Incoming::Ok) => {}
            // Nothing is read in the other states.
            (_, Incoming::Message(_) | Incoming::TooLarge { .. }) => {}
        }
        None
    }

    #[inline]
    fn take_message<'a>(&mut self, message: Message<'a>) -> Option<Event<'a>> {
        if message.subscription != INBOX {
            let is_known = self.subscriptions.contains_key(&message.subscription);
            return is_known.then_some(Event::Message(SubscriptionId(message.subscription), message));
        }
        let token = message.subject.strip_prefix(self.inbox.as_bytes())?;
        let request = self.requests.answered(token)?;
        let has_no_responders = message.payload.is_empty()
            && message.headers.is_some_and(|headers| headers.starts_with(b"NATS/1.0 503"));
        if has_no_responders {
            self.requests.end(request);
            self.signals.note(Notice::Unanswered(request, Unanswered::NoResponders));
            return None;
        }
        Some(Event::Answer(request, message))
    }

    fn take_first_info(&mut self, text: &[u8], now: Time) {
        let info = match ServerInfo::parse(text) {
            Ok(info) => info,
            Err(Malformed(why)) => return self.lose(why, now),
        };
        self.server = info;
        if !self.server.has_headers {
            return self.lose("the server does not support headers", now);
        }
        match (self.settings.uses_tls, self.server.tls) {
            (true, TlsOffer::None) => {
                self.lose("it does not encrypt connections, expected TLS as configured with tls://", now);
            }
            (true, _) | (false, TlsOffer::Required) => {
                self.signals.act(Action::StartTls);
                self.state = State::Securing { deadline: now + self.settings.timing.patience };
            }
            (false, TlsOffer::None | TlsOffer::Available) => {
                let others = std::mem::take(&mut self.server.others);
                self.servers.learn(&others);
                self.introduce(now);
            }
        }
    }

    /// Takes a description that follows the first one. Only these are believed about other servers if the connection is
    /// encrypted, since the first one is not.
    fn take_info(&mut self, text: &[u8], now: Time) {
        match ServerInfo::parse(text) {
            Ok(info) => {
                if info.is_lame_duck && !self.server.is_lame_duck {
                    let address = self.servers.current();
                    self.signals.say(Level::Info, format!("The NATS server {address} is about to end"));
                }
                self.servers.learn(&info.others);
                self.server = info;
            }
            Err(Malformed(why)) => self.lose(why, now),
        }
    }

    pub(super) fn introduce(&mut self, now: Time) {
        let (settings, server, is_encrypted) = (&self.settings, &self.server, self.is_encrypted);
        let written = self.output.write(|into| {
            write_connect(&settings.name, &settings.authentication, server, is_encrypted, into)?;
            write_ping(into);
            Ok(())
        });
        match written {
            Ok(()) => self.state = State::Introducing { deadline: now + self.settings.timing.patience },
            Err(crate::protocol::nats::Invalid(what)) => self.lose(what, now),
        }
    }

    /// The server has accepted the client: makes all subscriptions.
    fn become_ready(&mut self) {
        let answers = format!("{}*", self.inbox);
        let inbox = (INBOX, SubjectPattern::new(&answers), None);
        let others = self.subscriptions.iter().map(|(number, subscription)| {
            let queue = subscription.queue.as_deref().and_then(QueueGroup::new);
            (*number, SubjectPattern::new(&subscription.pattern), queue)
        });
        self.output.write(|into| {
            for (number, pattern, queue) in std::iter::once(inbox).chain(others) {
                let written = pattern.map(|pattern| write_subscribe(pattern, queue, number, into));
                assert_eq!(written, Some(Ok(())), "it was checked when it was opened");
            }
        });
        self.state = State::Ready { pinged: false };
        self.servers.succeeded();
        self.signals.forget_said();
        let (address, name, version) =
            (self.servers.current(), Quoted(&self.server.name), Escaped(&self.server.version));
        self.signals
            .say(Level::Info, format!("Connected to the NATS server {address}, {name} of version {version}"));
        self.signals.note(Notice::Ready);
    }

    fn take_error(&mut self, text: &[u8], now: Time) {
        let words = String::from_utf8_lossy(text);
        let failure = Failure::of(text);
        if failure.is_survived() && (self.is_ready() || matches!(self.state, State::Draining { .. })) {
            self.signals.note(Notice::Refused(words.into_owned()));
            return;
        }
        if matches!(self.state, State::Draining { .. }) {
            return self.end();
        }
        self.lose(&format!("the server says {}", Quoted(&words)), now);
    }
}
