//! Resolves host names on a thread of its own. The system may take half a minute for one name, or never return, and
//! the loop waits for none of that: it asks, and is woken when there is an answer. There is one such thread, which
//! starts with the first question.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use mio::Waker;

/// The maximum number of queued questions. Beyond it, none is accepted.
const QUESTIONS_MAXIMUM: usize = 256;
/// Maximum length of a name in bytes: what DNS allows, followed by the name of an interface.
const NAME_MAXIMUM: usize = 320;
/// Addresses used per name; further ones are ignored.
pub(super) const ADDRESSES_MAXIMUM: usize = 16;

/// A function that looks up a name. The ports of the addresses are ignored.
pub type LookUp = Box<dyn FnMut(&str) -> io::Result<Vec<SocketAddr>> + Send>;

/// Identifies a question and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// A name to look up.
type Question = (Ticket, String);

/// The addresses of a name, or the reason why there are none.
pub(super) type Answer = Result<Vec<SocketAddr>, String>;

/// The loop's side of the thread.
pub(super) struct Resolver {
    waker: Arc<Waker>,
    /// Moved to the thread when it starts.
    look_up: Option<LookUp>,
    questions: Arc<Questions>,
    answering: Sender<(Ticket, Answer)>,
    answers: Receiver<(Ticket, Answer)>,
    next: u64,
    /// The number of questions without an answer, including withdrawn ones that can still be answered.
    open: usize,
}

/// The state shared with the thread.
#[derive(Default)]
struct Questions {
    list: Mutex<List>,
    changed: Condvar,
}

#[derive(Default)]
struct List {
    waiting: VecDeque<Question>,
    /// Whether no more questions will come.
    is_over: bool,
}

impl Questions {
    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing panics while it is locked.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next question; `None` if there will be none.
    fn next(&self) -> Option<Question> {
        let mut list = self.lock();
        loop {
            if list.is_over {
                return None;
            }
            if let Some(question) = list.waiting.pop_front() {
                return Some(question);
            }
            list = self.changed.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Resolver {
    /// A resolver that wakes the loop after each answer.
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        let (answering, answers) = channel();
        let questions = Arc::new(Questions::default());
        Self { waker, look_up: Some(Box::new(look_up)), questions, answering, answers, next: 0, open: 0 }
    }

    /// Replaces the lookup function, if the thread has not started yet.
    pub(super) fn look_up_by(&mut self, look_up: LookUp) {
        if let Some(former) = &mut self.look_up {
            *former = look_up;
        }
    }

    /// Asks for the addresses of a name.
    ///
    /// # Errors
    ///
    /// There are too many questions, the name is too long, or the system gives no thread.
    pub(super) fn ask(&mut self, name: &str) -> Result<Ticket, String> {
        self.put(name, VecDeque::push_back)
    }

    /// Asks before all queued questions, because an operator waits for the answer.
    ///
    /// # Errors
    ///
    /// As [`Resolver::ask`].
    #[cfg(any(test, feature = "system"))]
    pub(super) fn ask_first(&mut self, name: &str) -> Result<Ticket, String> {
        self.put(name, VecDeque::push_front)
    }

    fn put(&mut self, name: &str, put: fn(&mut VecDeque<Question>, Question)) -> Result<Ticket, String> {
        if name.len() > NAME_MAXIMUM {
            return Err(format!("a name has at most {NAME_MAXIMUM} bytes"));
        }
        self.start().map_err(|why| format!("unable to start the thread that looks up names: {why}"))?;
        let mut list = self.questions.lock();
        if list.waiting.len() >= QUESTIONS_MAXIMUM {
            return Err("too many names are being looked up".to_owned());
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.open += 1;
        put(&mut list.waiting, (ticket, name.to_owned()));
        drop(list);
        self.questions.changed.notify_one();
        Ok(ticket)
    }

    /// Withdraws a question whose answer is no longer needed.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        let mut list = self.questions.lock();
        let before = list.waiting.len();
        list.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.open -= before - list.waiting.len();
    }

    /// Whether an answer is expected. Only bridges and a reload ask, so without those features the compiler leaves out
    /// what follows.
    #[inline]
    pub(super) const fn is_asked(&self) -> bool {
        cfg!(any(feature = "bridge", feature = "system", test)) && self.open > 0
    }

    /// The next answer, if there is one; perhaps to a question that was withdrawn too late.
    pub(super) fn next_answer(&mut self) -> Option<(Ticket, Answer)> {
        let answered = self.answers.try_recv().ok()?;
        self.open -= 1;
        Some(answered)
    }

    fn start(&mut self) -> io::Result<()> {
        let Some(mut look_up) = self.look_up.take() else { return Ok(()) };
        let (questions, answering) = (Arc::clone(&self.questions), self.answering.clone());
        let waker = Arc::clone(&self.waker);
        // Nothing joins it at the end: a lookup may never return.
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            while let Some((ticket, name)) = questions.next() {
                let answer = look_up(&name).map_err(|why| why.to_string()).and_then(in_order);
                if answering.send((ticket, answer)).is_err() {
                    return;
                }
                // If the poller is gone, so is the loop.
                let _ = waker.wake();
            }
        })?;
        Ok(())
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.questions.lock().is_over = true;
        self.questions.changed.notify_one();
    }
}

/// The addresses of a name as the system resolves them; this may take long.
pub(super) fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    (name, 0).to_socket_addrs().map(Iterator::collect)
}

/// Parses a host that is an address and needs no lookup.
pub(super) fn address_of(host: &str) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 0))
}

/// Removes duplicates, keeps the order, and limits the number of addresses.
fn in_order(found: Vec<SocketAddr>) -> Answer {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if addresses.len() < ADDRESSES_MAXIMUM && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::sync::Barrier;

    fn resolver(look_up: LookUp) -> Resolver {
        let poll = mio::Poll::new().unwrap();
        let mut resolver = Resolver::new(Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap()));
        resolver.look_up_by(look_up);
        resolver
    }

    fn wait(resolver: &Resolver) -> (Ticket, Answer) {
        resolver.answers.recv().unwrap()
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 0))
    }

    #[test]
    fn names_are_looked_up_and_addresses_are_not() {
        assert_eq!(address_of("192.0.2.1"), Some(address(1)));
        assert!(address_of("::1").is_some() && address_of("localhost").is_none());
        let mut resolver = resolver(Box::new(look_up));
        let ticket = resolver.ask("localhost").unwrap();
        let (answered, addresses) = wait(&resolver);
        assert_eq!(answered, ticket);
        assert!(addresses.unwrap().iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn every_address_counts_once_and_not_all_of_very_many() {
        let found: Vec<SocketAddr> = (0..200).map(|number| address(number / 2)).collect();
        let mut resolver = resolver(Box::new(move |name| match name {
            "none" => Ok(Vec::new()),
            "away" => Err(io::Error::other("no server answers")),
            _ => Ok(found.clone()),
        }));
        for name in ["many", "none", "away"] {
            resolver.ask(name).unwrap();
        }
        let few: Vec<SocketAddr> = (0..16).map(address).collect();
        assert_eq!(wait(&resolver).1, Ok(few));
        assert_eq!(wait(&resolver).1, Err("it has no address".to_owned()));
        assert_eq!(wait(&resolver).1, Err("no server answers".to_owned()));
    }

    /// The thread is blocked by a first name while others wait.
    #[test]
    fn a_question_of_an_operator_passes_queued_ones() {
        let (held, goes_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (hold, go_on) = (Arc::clone(&held), Arc::clone(&goes_on));
        let mut resolver = resolver(Box::new(move |name| {
            if name == "away" {
                hold.wait();
                go_on.wait();
            }
            Err(io::Error::other(name.to_owned()))
        }));
        resolver.ask("away").unwrap();
        held.wait();
        assert!(resolver.ask_first(&"x".repeat(NAME_MAXIMUM + 1)).is_err());
        let asked: Vec<Ticket> =
            (0..QUESTIONS_MAXIMUM - 1).map(|number| resolver.ask(&number.to_string()).unwrap()).collect();
        resolver.ask_first("operator").unwrap();
        assert!(resolver.ask_first("one more").is_err(), "so many may wait");
        resolver.withdraw(asked[0]);
        resolver.ask("last").unwrap();
        goes_on.wait();
        let names: Vec<String> = (0..QUESTIONS_MAXIMUM + 1).map(|_| wait(&resolver).1.unwrap_err()).collect();
        assert_eq!(names[..3], ["away", "operator", "1"], "and what was withdrawn is not looked up");
        assert_eq!(names[QUESTIONS_MAXIMUM], "last");
    }
}
