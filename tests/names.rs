//! A reload that needs the addresses of host names, which the system may take long to find, or never find: the broker
//! serves clients during that time, reads its configuration again and ends when it is told to.
#![cfg(feature = "system")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test uses the world, and what it asks for is there"
)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use brooklet::config::file::{self, CommandLine};
use brooklet::core::access::AllowAll;
use brooklet::server::{Server, Signals};
use brooklet::settings::Settings;
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::low_level::raise;

/// The time limit for anything that happens at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Host names that are looked up, and the addresses in the answers.
type Names = (Receiver<String>, Sender<Vec<SocketAddr>>);

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn settings(file: &Path) -> Settings {
    let outcome = file::load(Some(&file.display().to_string()), &CommandLine::default());
    outcome.settings.unwrap_or_else(|| panic!("{:?}", outcome.errors))
}

/// Writes the configuration: a listener at an address, and others at host names.
fn write(file: &Path, port: u16, others: &[(u16, &str)]) {
    let mut text = format!("log_dest none\nallow_anonymous true\nlistener {port} 127.0.0.1\n");
    for (port, name) in others {
        text.push_str(&format!("listener {port} {name}\n"));
    }
    fs::write(file, text).unwrap();
}

/// Runs a broker with this configuration on a thread of its own.
fn serve(file: PathBuf) -> (thread::JoinHandle<()>, Names) {
    let (ask, asked) = channel();
    let (answer, answers) = channel();
    let (tell, told) = channel();
    let broker = thread::spawn(move || {
        let settings = settings(&file);
        let mut server =
            Server::new(&settings.limits, Box::new(AllowAll), Signals::begin().unwrap()).unwrap();
        server.look_up_by(Box::new(move |name| {
            ask.send(name.to_owned()).unwrap();
            answers.recv().map_err(io::Error::other)
        }));
        for listener in &settings.listeners {
            server.open(listener).unwrap();
        }
        server.enforce().unwrap();
        let read = move |old: &Settings| {
            let new = self::settings(&file);
            let changes = file::changes(old, &new);
            Some((new, changes))
        };
        server.reload_by(settings, Box::new(read));
        tell.send(()).unwrap();
        server.run().unwrap();
    });
    told.recv().unwrap();
    (broker, (asked, answer))
}

fn try_to_connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Waits until connections are accepted there, or no longer are.
fn wait_for(port: u16, is_open: bool) {
    let begin = Instant::now();
    while try_to_connect(port).is_ok() != is_open {
        assert!(begin.elapsed() < PATIENCE, "{port} {is_open}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn exchange(stream: &mut TcpStream, packet: &[u8], expected: &[u8]) {
    stream.write_all(packet).unwrap();
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, expected);
}

#[test]
fn the_broker_serves_while_a_reload_waits_for_names() {
    let directory = std::env::temp_dir().join(format!("brooklet-names-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("brooklet.conf");
    let (port, other) = (free_port(), free_port());
    write(&file, port, &[]);
    let (broker, (asked, answer)) = serve(file.clone());
    let mut client = try_to_connect(port).unwrap();
    exchange(&mut client, b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01a", &[0x20, 2, 0, 0]);

    // A name that takes long to resolve.
    write(&file, port, &[(other, "slow.example")]);
    raise(SIGHUP).unwrap();
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), "slow.example");
    exchange(&mut client, &[0xC0, 0], &[0xD0, 0]);
    exchange(
        &mut try_to_connect(port).unwrap(),
        b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01b",
        &[0x20, 2, 0, 0],
    );
    assert!(try_to_connect(other).is_err(), "its address is not known yet");
    answer.send(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]).unwrap();
    wait_for(other, true);
    exchange(&mut client, &[0xC0, 0], &[0xD0, 0]);

    // A name without an answer, as a mistake that is corrected later.
    write(&file, port, &[(free_port(), "never.example")]);
    raise(SIGHUP).unwrap();
    assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), "never.example");
    exchange(&mut client, &[0xC0, 0], &[0xD0, 0]);
    assert!(try_to_connect(other).is_ok(), "nothing has changed");
    write(&file, port, &[]);
    raise(SIGHUP).unwrap();
    wait_for(other, false);
    exchange(&mut client, &[0xC0, 0], &[0xD0, 0]);

    // It is never answered.
    drop(client);
    raise(SIGTERM).unwrap();
    broker.join().unwrap();
    drop(answer);
    fs::remove_dir_all(&directory).unwrap();
}
