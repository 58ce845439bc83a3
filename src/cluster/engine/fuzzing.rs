//! The body of the fuzz target for NATS: a server that sends anything, in pieces. It panics if the result differs from
//! that of the whole, if the memory or the calls of the machine are not limited, or if a message cannot be parsed or
//! refused.

use super::{Action, Address, Answers, Event, Limits, Machine, Notice, Retry, Settings, Timing};
use crate::base::fuzzing::Input;
use crate::base::time::{Duration, Time};
use crate::protocol::nats::jetstream::{
    ConsumerInfo, ConsumerSignal, Delivered, DirectAnswer, FastAnswer, PubAck, StreamInfo,
};
use crate::protocol::nats::{Authentication, Headers, Message, Subject, SubjectPattern};

const INFO: &[u8] = b"INFO {\"headers\":true,\"max_payload\":64,\"connect_urls\":[\"c:3\"]}\r\n";
const OUTPUT_MAXIMUM: usize = 512;

/// Parts of what a server sends, which are joined in any order.
const PARTS: [&[u8]; 25] = [
    INFO,
    b"INFO {\"ldm\":true,\"connect_urls\":[\"d:4\",\"[::1]:5\",\":\"]} \r\n",
    b"PING\r\n",
    b"PONG\r\n",
    b"+OK\r\n",
    b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n",
    b"-ERR 'Stale Connection'\r\n",
    b"MSG a 2 3\r\nabc\r\n",
    b"MSG a.b 2 r 0\r\n\r\n",
    b"MSG a 9 1\r\nx\r\n",
    b"MSG _1",
    b"MSG _2",
    b" 1 10\r\n{\"seq\":17}\r\n",
    b" 1 22\r\n{\"type\":\"ack\",\"seq\":1}\r\n",
    b"HMSG a 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
    b"HMSG a 2 $JS.ACK.s.c.1.2.3.4.5 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
    b"HMSG a 2 53 53\r\nNATS/1.0\r\nNats-Subject: a\r\nNats-Sequence: 18446744\r\n\r\n\r\n",
    b"HMSG a 2 34 34\r\nNATS/1.0 100\r\nNats-Last-Consumer:\r\n\r\n",
    b"MSG a 2 99\r\n",
    b"HMSG a 2 4294967295 4294967295\r\n",
    b"\r\n",
    b"\n",
    b" ",
    b"1",
    b"{\"error\":{\"err_code\":10071}}",
];

/// The first bytes select whether the handshake is in order, and where the rest is cut; all others are parts or bytes.
pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let is_ready = !input.once_in(8);
    let cuts: Vec<usize> = (0..input.below(16)).map(|_| 1 + input.below(64)).collect();
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < 16 * 1024 {
        match input.below(PARTS.len() + 2) {
            part if part < PARTS.len() => stream.extend_from_slice(PARTS[part]),
            part => {
                let count = if part == PARTS.len() { 1 } else { input.below(64) };
                stream.extend_from_slice(input.bytes(count));
            }
        }
    }
    let whole = Run::new(is_ready).feed(&stream, &[]);
    let pieces = Run::new(is_ready).feed(&stream, &cuts);
    assert_eq!(pieces, whole, "{} cut by {cuts:?}", stream.escape_ascii());
}

/// A machine and everything that it has reported.
struct Run {
    machine: Machine,
    now: Time,
    seen: Vec<String>,
}

impl Run {
    fn new(is_ready: bool) -> Self {
        let now = Time::ZERO;
        let mut machine = Machine::new(settings(), 1, now);
        let subscribed = machine.subscribe(SubjectPattern::new("a.>").expect("it is a pattern"), None);
        assert!(subscribed.is_ok() && matches!(machine.next_action(), Some(Action::Dial(_))));
        machine.connected(now);
        let mut run = Self { machine, now, seen: Vec::new() };
        if is_ready {
            run.read(&[INFO, b"PONG\r\n"].concat());
            assert!(run.machine.is_ready(), "the handshake was in order");
            let subject = Subject::new("q").expect("it is a subject");
            for answers in [Answers::One, Answers::Many] {
                let patience = Duration::from_seconds(1);
                let request = run.machine.request(subject, None, &[], (answers, patience), now);
                assert!(request.is_ok(), "there is room");
            }
        }
        run
    }

    /// Passes in a stream in pieces. Returns what was reported.
    fn feed(mut self, stream: &[u8], cuts: &[usize]) -> Vec<String> {
        // The subject for answers is random. In the stream, it is a low line.
        let inbox = self.machine.inbox().as_bytes().to_vec();
        let stream = stream.split(|&byte| byte == b'_').collect::<Vec<_>>().join(&inbox[..]);
        let (mut start, mut end) = (0, 0_usize);
        for &cut in cuts.iter().chain([&usize::MAX]) {
            end = stream.len().min(end.saturating_add(cut));
            start += self.read(&stream[start..end]);
            assert!(self.machine.output().len() < 2 * OUTPUT_MAXIMUM + 64, "the output is limited");
        }
        self.end();
        self.seen
    }

    /// Passes in bytes until they hold no further event. Returns the number of bytes processed.
    fn read(&mut self, bytes: &[u8]) -> usize {
        let mut processed = 0;
        loop {
            let (count, event) = self.machine.read(&bytes[processed..], self.now);
            processed += count;
            let Some(event) = event else { return processed };
            self.seen.push(format!("{event:?}"));
            if let Event::Message(_, message) | Event::Answer(_, message) = event {
                parse(&message);
            }
        }
    }

    /// Reports the rest, and lets time pass.
    fn end(&mut self) {
        self.seen.push(format!("{} {}", self.machine.is_ready(), self.machine.output().escape_ascii()));
        for _ in 0..30 {
            let Some(deadline) = self.machine.next_deadline() else { break };
            self.now = self.now.max(deadline);
            self.machine.tick(self.now);
            let next = self.machine.next_deadline();
            assert!(next.is_none_or(|next| next > self.now), "it wants to be called all the time");
            while let Some(action) = self.machine.next_action() {
                self.seen.push(format!("{action:?}"));
            }
        }
        let mut unanswered = 0;
        while let Some(notice) = self.machine.next_notice() {
            unanswered += usize::from(matches!(notice, Notice::Unanswered(..)));
            self.seen.push(format!("{notice:?}"));
        }
        assert!(unanswered <= 2, "a request ends once");
        while let Some((level, line)) = self.machine.next_line() {
            assert!(!line.contains(char::is_control), "the line is escaped: {line:?}");
            self.seen.push(format!("{level} {line}"));
        }
    }
}

/// Parses a message as everything that it could be.
fn parse(message: &Message<'_>) {
    let payload = message.payload;
    let _ = message.headers.map(Headers::parse);
    let _ = (PubAck::parse(payload), FastAnswer::parse(payload), StreamInfo::parse(payload));
    let _ = (ConsumerInfo::parse(payload), DirectAnswer::parse(message), message.reply.map(Delivered::parse));
    if let Some(subject) = Subject::from_bytes(message.subject) {
        let _ = ConsumerSignal::parse(message, subject);
        assert!(SubjectPattern::from(subject).matches(subject), "a subject matches itself");
    }
}

fn settings() -> Settings {
    let milliseconds = Duration::from_milliseconds;
    let address = |text| Address::parse(text).expect("it is an address");
    Settings {
        servers: vec![address("a:1"), address("b:2")],
        name: "node".into(),
        authentication: Authentication::None,
        uses_tls: false,
        inbox: "I".into(),
        timing: Timing {
            quiet: milliseconds(1_000),
            silence: milliseconds(2_000),
            patience: milliseconds(5_000),
            retry: Retry { least: milliseconds(100), most: milliseconds(2_000) },
        },
        limits: Limits { message: 128, output: OUTPUT_MAXIMUM, requests: 2, subscriptions: 1 },
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn pieces_give_the_same_result_as_the_whole() {
        crate::base::fuzzing::try_out("nats", 4_000, super::check);
    }
}
