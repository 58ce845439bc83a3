//! A machine with a real server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration as Wait;

use super::rig::settings;
use super::*;

/// How long the socket is waited for, and how much time passes meanwhile.
const STEP: u64 = 10;

struct Live {
    machine: Machine,
    now: Time,
    socket: Option<TcpStream>,
    input: Vec<u8>,
    notices: Vec<Notice>,
    answers: Vec<Vec<u8>>,
}

impl Live {
    fn step(&mut self) {
        self.now = self.now + Duration::from_milliseconds(STEP);
        self.machine.tick(self.now);
        while let Some(action) = self.machine.next_action() {
            self.act(&action);
        }
        self.exchange();
        self.notices.extend(std::iter::from_fn(|| self.machine.next_notice()));
        while self.machine.next_line().is_some() {}
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Dial(address) => match TcpStream::connect((&*address.host, address.port)) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(Wait::from_millis(STEP))).unwrap();
                    self.socket = Some(socket);
                    self.input.clear();
                    self.machine.connected(self.now);
                }
                Err(error) => self.machine.dial_failed(&error.to_string(), self.now),
            },
            Action::HangUp => self.socket = None,
            Action::StartTls => panic!("TLS is not configured"),
        }
    }

    fn exchange(&mut self) {
        let Some(socket) = &mut self.socket else { return std::thread::sleep(Wait::from_millis(STEP)) };
        let count = self.machine.output().len();
        socket.write_all(self.machine.output()).unwrap();
        self.machine.sent(count, self.now);
        let mut piece = [0; 4_096];
        match socket.read(&mut piece) {
            Ok(0) => {
                self.socket = None;
                return self.machine.closed("closed", self.now);
            }
            Ok(count) => self.input.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            Err(error) => return self.machine.closed(&error.to_string(), self.now),
        }
        let mut processed = 0;
        loop {
            let (count, event) = self.machine.read(&self.input[processed..], self.now);
            processed += count;
            match event {
                Some(Event::Answer(_, message) | Event::Message(_, message)) => {
                    self.answers.push(message.payload.to_vec());
                }
                Some(Event::TooLarge(_)) => {}
                None => break,
            }
        }
        self.input.drain(..processed);
    }

    /// Goes on until something has happened, for at most 20 seconds.
    fn until(&mut self, mut has_happened: impl FnMut(&Self) -> bool) {
        for _ in 0..2_000 {
            if has_happened(self) {
                return;
            }
            self.step();
        }
        panic!("{:?} {:?}", self.notices, self.answers);
    }

    /// Waits until the server has answered a request that has no receiver, and so has made all subscriptions.
    fn ask_nothing(&mut self) {
        let (subject, patience) = (Subject::new("nothing").unwrap(), Duration::from_seconds(5));
        let asked = self.machine.request(subject, None, &[], (Answers::One, patience), self.now).unwrap();
        self.until(|live| live.notices.ends_with(&[Notice::Unanswered(asked, Unanswered::NoResponders)]));
    }
}

/// The server, which is killed at the end.
struct Server(Child);

impl Server {
    fn start(program: &str, port: u16) -> Self {
        let arguments = ["-a", "127.0.0.1", "-p", &port.to_string()];
        Self(Command::new(program).args(arguments).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").arg(signal).arg(self.0.id().to_string()).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[test]
#[ignore = "it uses the server that NATS_SERVER names"]
fn a_real_server_is_found_left_and_found_again() {
    let program = std::env::var("NATS_SERVER").expect("NATS_SERVER names the program");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(&program, port);
    // The other address refuses connections.
    let servers = ["127.0.0.1:1".to_owned(), format!("127.0.0.1:{port}")];
    let servers = servers.iter().filter_map(|text| Address::parse(text)).collect();
    let now = Time::from_milliseconds(1);
    let machine = Machine::new(Settings { servers, ..settings() }, 3, now);
    let (notices, answers) = (Vec::new(), Vec::new());
    let mut live = Live { machine, now, socket: None, input: Vec::new(), notices, answers };
    let echo = SubjectPattern::new("echo").unwrap();
    live.machine.subscribe(echo, None).unwrap();
    live.until(|live| live.notices == [Notice::Ready]);

    live.ask_nothing();
    let mut other = TcpStream::connect(("127.0.0.1", port)).unwrap();
    other.write_all(b"CONNECT {\"verbose\":false}\r\nPUB echo 5\r\nhello\r\nPING\r\n").unwrap();
    live.until(|live| live.answers == [b"hello"]);

    server.signal("-STOP");
    live.until(|live| live.notices.ends_with(&[Notice::Lost("the server is silent".into())]));
    server.signal("-CONT");
    live.until(|live| live.notices.ends_with(&[Notice::Ready]));
    live.ask_nothing();
    other.write_all(b"PUB echo 5\r\nagain\r\n").unwrap();
    live.until(|live| live.answers.ends_with(&[b"again".to_vec()]));
    live.machine.drain(live.now);
    live.until(|live| live.machine.is_over());
}
