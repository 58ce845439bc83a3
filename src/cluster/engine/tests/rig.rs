//! A machine, the time, and what is on its way to and from the server.

use super::*;

pub const INFO: &str = r#"INFO {"server_name":"one","version":"2.14.0","headers":true,"max_payload":1000,"jetstream":true,"nonce":"n"}"#;

pub fn settings() -> Settings {
    let milliseconds = Duration::from_milliseconds;
    Settings {
        servers: vec![Address::parse("a:1").unwrap(), Address::parse("b:2").unwrap()],
        name: "node".into(),
        authentication: Authentication::None,
        uses_tls: false,
        inbox: "_INBOX".into(),
        timing: Timing {
            quiet: milliseconds(1_000),
            silence: milliseconds(2_000),
            patience: milliseconds(5_000),
            retry: Retry { least: milliseconds(100), most: milliseconds(2_000) },
        },
        limits: Limits { message: 2_000, output: 4_000, requests: 3, subscriptions: 3 },
    }
}

pub struct Rig {
    pub machine: Machine,
    pub now: Time,
    input: Vec<u8>,
}

impl Rig {
    pub fn new(settings: Settings) -> Self {
        let now = Time::from_milliseconds(10_000);
        Self { machine: Machine::new(settings, 7, now), now, input: Vec::new() }
    }

    /// A machine with a connection, on which everything was taken.
    pub fn ready() -> Self {
        let mut rig = Self::new(settings());
        rig.become_ready();
        rig
    }

    pub fn become_ready(&mut self) {
        assert!(matches!(self.machine.next_action(), Some(Action::Dial(_))));
        self.machine.connected(self.now);
        assert_eq!(self.receive(&format!("{INFO}\r\n")), [""; 0]);
        let sent = self.sent();
        assert!(sent.starts_with("CONNECT {") && sent.ends_with("}\r\nPING\r\n"), "{sent}");
        assert_eq!(self.receive("PONG\r\n"), [""; 0]);
        assert_eq!(self.machine.next_notice(), Some(Notice::Ready));
        let inbox = self.machine.inbox().to_owned();
        assert!(self.sent().starts_with(&format!("SUB {inbox}* 1\r\n")));
        while self.machine.next_line().is_some() {}
    }

    /// Passes in bytes of the server. Returns a description of the events.
    pub fn receive(&mut self, bytes: &str) -> Vec<String> {
        self.input.extend_from_slice(bytes.as_bytes());
        let mut events = Vec::new();
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        loop {
            let (processed, event) = self.machine.read(rest, self.now);
            rest = &rest[processed..];
            let Some(event) = event else { break };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            events.push(match event {
                Event::Message(SubscriptionId(number), message) => {
                    format!("{number} {} {}", text(message.subject), text(message.payload))
                }
                Event::Answer(request, message) => {
                    format!("answer {} {}", request.token(), text(message.payload))
                }
                Event::TooLarge(SubscriptionId(number)) => format!("{number} too large"),
            });
        }
        self.input = rest.to_vec();
        events
    }

    /// Takes what is to be sent.
    pub fn sent(&mut self) -> String {
        let sent = String::from_utf8(self.machine.output().to_vec()).unwrap();
        self.machine.sent(sent.len(), self.now);
        sent
    }

    /// Lets time pass, up to each deadline.
    pub fn pass(&mut self, milliseconds: u64) {
        let until = self.now + Duration::from_milliseconds(milliseconds);
        for _ in 0..10_000 {
            match self.machine.next_deadline().filter(|deadline| *deadline <= until) {
                Some(deadline) => {
                    self.now = self.now.max(deadline);
                    self.machine.tick(self.now);
                    let next = self.machine.next_deadline();
                    assert!(next.is_none_or(|next| next > self.now), "it wants to be called all the time");
                }
                None => break,
            }
        }
        self.now = until;
    }

    pub fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<(), NotSent> {
        let subject = Subject::new(subject).unwrap();
        self.machine.publish(&Publication { subject, reply: None, headers: None, payload: &[payload] })
    }

    pub fn request(&mut self, answers: Answers) -> Result<RequestId, NotSent> {
        let subject = Subject::new("q").unwrap();
        self.machine.request(subject, None, &[b"?"], (answers, Duration::from_milliseconds(500)), self.now)
    }

    pub fn subscribe(&mut self, pattern: &str) -> Result<SubscriptionId, NotSent> {
        self.machine.subscribe(SubjectPattern::new(pattern).unwrap(), None)
    }

    pub fn lines(&mut self) -> Vec<(Level, String)> {
        std::iter::from_fn(|| self.machine.next_line()).collect()
    }

    pub fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.machine.next_notice()).collect()
    }

    pub fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.next_action()).collect()
    }
}
