//! A client of NATS that does as little as the tests need.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// For how long an answer may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a server.
pub struct Client {
    stream: BufReader<TcpStream>,
    /// The messages that came before the answer to a PING.
    messages: Vec<Message>,
}

/// A message, with the number of the subscription that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub subscription: usize,
    pub subject: String,
    pub payload: Vec<u8>,
}

impl Client {
    /// Connects to the server at this port; `None` if it does not answer.
    pub fn connect(port: u16) -> Option<Self> {
        Self::connect_with(port, PATIENCE)
    }

    /// The same for one that waits for each answer only so long.
    pub fn connect_with(port: u16, patience: Duration) -> Option<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(patience)).expect("the socket has timeouts");
        let mut client = Self { stream: BufReader::new(stream), messages: Vec::new() };
        let info = client.line()?;
        assert!(info.starts_with("INFO "), "{info}");
        client.send("CONNECT {\"verbose\":false,\"pedantic\":true}\r\n", b"");
        client.flush()?;
        Some(client)
    }

    /// What the server at this port says first; `None` if it does not answer.
    pub fn greeting(port: u16) -> Option<String> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
        Self { stream: BufReader::new(stream), messages: Vec::new() }.line()
    }

    fn send(&mut self, command: &str, payload: &[u8]) {
        let bytes = [command.as_bytes(), payload].concat();
        // If the server is gone, the next answer is missing.
        let _ = self.stream.get_mut().write_all(&bytes);
    }

    pub fn subscribe(&mut self, subject: &str, subscription: usize) {
        self.send(&format!("SUB {subject} {subscription}\r\n"), b"");
    }

    pub fn publish(&mut self, subject: &str, payload: &[u8]) {
        self.send(&format!("PUB {subject} {}\r\n", payload.len()), &[payload, b"\r\n"].concat());
    }

    /// Returns all messages up to the server's answer to a PING; `None` if it does not come.
    pub fn flush(&mut self) -> Option<Vec<Message>> {
        self.send("PING\r\n", b"");
        loop {
            let line = self.line()?;
            if line == "PONG" {
                return Some(std::mem::take(&mut self.messages));
            }
            self.take(&line)?;
        }
    }

    /// Returns the next message; `None` if the server is gone.
    pub fn message(&mut self) -> Option<Message> {
        while self.messages.is_empty() {
            let line = self.line()?;
            self.take(&line)?;
        }
        Some(self.messages.remove(0))
    }

    /// Sends a request and returns the answer; `None` if the server is gone or no one answers.
    pub fn request(&mut self, subject: &str) -> Option<String> {
        const ANSWER: &str = "answers.to.request";
        const NUMBER: usize = 9_999;
        self.subscribe(ANSWER, NUMBER);
        self.send(&format!("PUB {subject} {ANSWER} 0\r\n\r\n"), b"");
        let answer = self.message()?;
        assert_eq!(answer.subscription, NUMBER);
        self.send(&format!("UNSUB {NUMBER}\r\n"), b"");
        Some(String::from_utf8(answer.payload).expect("an answer is text"))
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["PING"] => self.send("PONG\r\n", b""),
            ["INFO", ..] => {}
            ["MSG", subject, subscription, length] => {
                let length: usize = length.parse().expect("a length");
                let mut payload = vec![0; length + 2];
                self.stream.read_exact(&mut payload).ok()?;
                payload.truncate(length);
                let subscription = subscription.parse().expect("a number");
                self.messages.push(Message { subscription, subject: subject.to_owned(), payload });
            }
            _ => panic!("the server says {line}"),
        }
        Some(())
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    }
}
