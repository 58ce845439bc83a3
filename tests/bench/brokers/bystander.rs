//! A well-behaved client during an attack: how long its round trips take, and how long they take without the attack.
//!
//! Each kind of round trip has a connection and a thread of its own, so that a waiting one does not hide another. The
//! attack runs in a thread that yields to these wherever both want the processor.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::attack::{Attack, Prepared};
use crate::broker::Process;
use crate::network::Network;
use crate::packets::{self, Connect, Fault, Packet, Version};
use crate::scenarios::{Effort, Figure, Kind, Outcome, percentiles};
use crate::tally::Tally;

/// From the start of one round trip to that of the next one.
const PACE: Duration = Duration::from_millis(2);
/// Round trips before those that count.
const WARM_UP: usize = 50;
/// How long the broker may take to finish the preparation.
const SETTLING: Duration = Duration::from_millis(500);
/// How long a bystander waits before it checks whether the measurement has ended.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a bystander waits to become ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A round trip of a bystander.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// PINGREQ and PINGRESP.
    Ping,
    /// A message of QoS 0 to itself.
    ToItself,
    /// A message of QoS 1 for a session of a disconnected client, and its PUBACK.
    Stored,
}

impl Probe {
    const fn name(self) -> &'static str {
        match self {
            Self::Ping => "PINGRESP",
            Self::ToItself => "QoS 0 to itself",
            Self::Stored => "PUBACK",
        }
    }

    const fn topic(self) -> &'static str {
        match self {
            Self::Ping | Self::ToItself => "bystander/itself",
            Self::Stored => "bystander/away",
        }
    }

    fn request(self) -> Vec<u8> {
        match self {
            Self::Ping => packets::PINGREQ.to_vec(),
            Self::ToItself => packets::publish(Version::V311, 0, self.topic(), b"."),
            Self::Stored => packets::publish(Version::V311, 2, self.topic(), b"."),
        }
    }

    /// The type of the packet that ends a round trip.
    const fn answer(self) -> u8 {
        match self {
            Self::Ping => packets::PINGRESP,
            Self::ToItself => packets::PUBLISH,
            Self::Stored => packets::PUBACK,
        }
    }
}

/// Measures an attack on a broker that has just been started.
pub fn run(
    attack: Attack,
    process: &Process,
    mut network: Network,
    effort: Effort,
) -> Result<Outcome, Fault> {
    let Prepared { what, strike } = attack.prepare(&mut network, effort)?;
    let bystanders = attack.probes().iter().map(|&probe| Bystander::connect(process.port, probe));
    let mut bystanders = bystanders.collect::<Result<Vec<_>, _>>()?;
    thread::sleep(SETTLING);
    for bystander in &mut bystanders {
        bystander.warm_up()?;
    }
    let (without, ()) = watch(&mut bystanders, || thread::sleep(effort.time))?;
    let (with, struck) = thread::scope(|scope| {
        let (with, striking) = watch(&mut bystanders, || {
            let begin = Instant::now();
            let end = begin + attack.time_maximum().max(effort.time);
            let striking = scope.spawn(move || {
                step_back();
                let begin = Instant::now();
                let is_over = strike(&mut network, end)?;
                Ok::<_, Fault>(is_over.then(|| begin.elapsed()))
            });
            while Instant::now() < end && !(striking.is_finished() && begin.elapsed() >= effort.time) {
                thread::sleep(GLANCE);
            }
            striking
        })?;
        let struck = striking.join().map_err(|_| "the attack panicked".to_owned())??;
        Ok::<_, Fault>((with, struck))
    })?;
    let struck = struck.map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e3);
    let figures = bystanders.iter().zip(with).zip(without).map(|((bystander, with), without)| {
        let row = format!("bystander, {what}, {}", bystander.probe.name());
        let values = [longest(with)?, longest(without)?].concat();
        Ok(Figure { row, kind: Kind::Bystander, values: [values, vec![struck]].concat() })
    });
    Ok(Outcome { figures: figures.collect::<Result<_, Fault>>()?, tally: Tally::default() })
}

/// The longest and p99.9 in ms.
fn longest(mut round_trips: Vec<u64>) -> Result<Vec<f64>, Fault> {
    round_trips.sort_unstable();
    if round_trips.is_empty() {
        return Err("a bystander measured nothing".to_owned());
    }
    let [.., near, longest] = percentiles(&round_trips)[..] else { unreachable!("there are four") };
    Ok(vec![longest / 1e3, near / 1e3])
}

/// Lets the bystanders measure while `meanwhile` runs. Returns their round trips in nanoseconds.
fn watch<T>(
    bystanders: &mut [Bystander],
    meanwhile: impl FnOnce() -> T,
) -> Result<(Vec<Vec<u64>>, T), Fault> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let measure = |bystander| scope.spawn(move || Bystander::measure(bystander, is_over));
        let measuring: Vec<_> = bystanders.iter_mut().map(measure).collect();
        let done = meanwhile();
        is_over.store(true, Ordering::Relaxed);
        let measured = measuring
            .into_iter()
            .map(|measuring| measuring.join().map_err(|_| "a bystander panicked".to_owned())?);
        Ok((measured.collect::<Result<_, Fault>>()?, done))
    })
}

/// Gives this thread the lowest priority, if there is a program that does so; without it, the attack's own work can
/// delay the measurement.
fn step_back() {
    let Ok(path) = std::fs::read_link("/proc/thread-self") else { return };
    let Some(thread) = path.file_name() else { return };
    let mut renice = std::process::Command::new("renice");
    renice.args(["-n", "19", "-p"]).arg(thread);
    renice.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let _ = renice.status();
}

/// A client that makes one kind of round trip repeatedly.
struct Bystander {
    probe: Probe,
    stream: TcpStream,
    /// The part of the next packet that has come.
    came: Vec<u8>,
    request: Vec<u8>,
}

impl Bystander {
    fn connect(port: u16, probe: Probe) -> Result<Self, Fault> {
        if probe == Probe::Stored {
            let mut away = Self::open(port, probe, "bystander-away", false)?;
            away.subscribe(1)?;
        }
        let mut bystander = Self::open(port, probe, &format!("bystander-{}", probe.answer()), true)?;
        if probe == Probe::ToItself {
            bystander.subscribe(0)?;
        }
        Ok(bystander)
    }

    fn open(port: u16, probe: Probe, client_identifier: &str, is_clean: bool) -> Result<Self, Fault> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let stream = stream.map_err(|error| format!("a bystander cannot connect: {error}"))?;
        let is_set = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(GLANCE)));
        is_set.map_err(|error| format!("a bystander's socket: {error}"))?;
        let mut bystander = Self { probe, stream, came: Vec::new(), request: probe.request() };
        let client_identifier = client_identifier.to_owned();
        let connect = Connect { version: Version::V311, client_identifier, is_clean, user: None };
        bystander.ask(&connect.encode(), packets::CONNACK)?;
        Ok(bystander)
    }

    fn subscribe(&mut self, qos: u8) -> Result<(), Fault> {
        let filters = [self.probe.topic().to_owned()];
        self.ask(&packets::subscribe(Version::V311, qos, &filters), packets::SUBACK)
    }

    /// Sends a packet and waits for one of this type.
    fn ask(&mut self, packet: &[u8], answer: u8) -> Result<(), Fault> {
        self.send(packet)?;
        let end = Instant::now() + PATIENCE;
        if self.wait_for(answer, || Instant::now() > end)? {
            Ok(())
        } else {
            Err(format!("a bystander waited in vain for a packet of type {answer}"))
        }
    }

    fn warm_up(&mut self) -> Result<(), Fault> {
        let request = self.request.clone();
        for _ in 0..WARM_UP {
            self.ask(&request, self.probe.answer())?;
        }
        Ok(())
    }

    /// Makes round trips until it is over, and returns how long each took in nanoseconds. An unanswered one at the end
    /// counts with the time so far. Requests that were due while one waited were not sent; they count as if they had
    /// been answered with it.
    fn measure(&mut self, is_over: &AtomicBool) -> Result<Vec<u64>, Fault> {
        let is_over = || is_over.load(Ordering::Relaxed);
        let request = self.request.clone();
        let mut round_trips = Vec::new();
        while !is_over() {
            let begin = Instant::now();
            self.send(&request)?;
            self.wait_for(self.probe.answer(), is_over)?;
            let mut left = begin.elapsed();
            round_trips.push(nanoseconds(left));
            while left > PACE {
                left -= PACE;
                round_trips.push(nanoseconds(left));
            }
            thread::sleep(PACE - left);
        }
        Ok(round_trips)
    }

    fn send(&mut self, packet: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(packet).map_err(|error| format!("a bystander cannot write: {error}"))
    }

    /// Reads until a packet of this type has come, which returns true, or until it is over.
    fn wait_for(&mut self, answer: u8, is_over: impl Fn() -> bool) -> Result<bool, Fault> {
        let mut buffer = [0; 4096];
        loop {
            while let Some((packet, length)) = Packet::first_of(&self.came) {
                let kind = packet.kind();
                self.came.drain(..length);
                if kind == answer {
                    return Ok(true);
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the broker closed a bystander's connection".to_owned()),
                Ok(count) => self.came.extend_from_slice(&buffer[..count]),
                Err(error) if is_no_news(error.kind()) && is_over() => return Ok(false),
                Err(error) if is_no_news(error.kind()) => {}
                Err(error) => return Err(format!("a bystander cannot read: {error}")),
            }
        }
    }
}

/// Whether a read ended because nothing came in time.
const fn is_no_news(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
