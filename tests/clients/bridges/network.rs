//! A network that loses what is sent, and a name that takes long to look up. Clients of the near broker are served all
//! the time.

use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::thread;

use super::faults::{is_served, wait_for_line};
use super::*;

/// An address at which packets are dropped: its system has as many connections as the program may leave waiting, so it
/// answers no further SYN.
struct SilentAddress {
    port: u16,
    _listener: tokio::net::TcpListener,
    _waiting: Vec<tokio::net::TcpStream>,
}

impl SilentAddress {
    async fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("there are sockets");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("there is a free port");
        let listener = socket.listen(1).expect("it can listen");
        let address = listener.local_addr().expect("it has an address");
        let mut waiting = Vec::new();
        // On this machine, a connection is either made at once or not at all.
        let at_once = Duration::from_millis(500);
        while let Ok(connected) = tokio::time::timeout(at_once, tokio::net::TcpStream::connect(address)).await
        {
            waiting.push(connected.expect("it listens"));
            assert!(waiting.len() < 100, "the system accepts more connections than it was told to");
        }
        Self { port: address.port(), _listener: listener, _waiting: waiting }
    }
}

#[test]
fn an_address_that_drops_packets_is_given_up_and_the_next_one_is_tried() {
    let sites = Sites::new("drops", Kind::Brooklet);
    let _far = sites.far();
    run(async {
        let silent = SilentAddress::new().await;
        sites.configure("topic up/# out 1");
        let primary = format!("127.0.0.1:{}", silent.port);
        sites.replace("address 127", &format!("addresses {primary} 127"));
        let near = sites.near();
        let mut client = sites.client(Version::V5, false, "near").await;
        client.subscribe("own/#", QoS::AtLeastOnce).await;
        let start = format!("The attempt to connect to {primary} has ended: {primary}: no answer in time");
        let served = wait_for_line(&near, &mut client, &start).await;
        assert!(served >= 20, "served {served} times within 10 s");
        client.subscribe(STATE, QoS::AtLeastOnce).await;
        wait_for_state(&mut client, "1").await;
        // The first address is tried again all the time.
        for _ in 0..50 {
            is_served(&mut client).await;
        }
        end(near);
    });
}

/// A client that says nothing but PINGREQ.
struct Pinger(TcpStream);

impl Pinger {
    fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("the socket has timeouts");
        stream.write_all(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04ping").expect("it reads");
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).expect("it answers");
        assert_eq!(connack, [0x20, 2, 0, 0]);
        Self(stream)
    }

    fn ping(&mut self) {
        self.0.write_all(&[0xC0, 0]).expect("it reads");
        let mut answer = [0; 2];
        self.0.read_exact(&mut answer).expect("it answers");
        assert_eq!(answer, [0xD0, 0]);
    }
}

/// The C library of the near broker looks up a name for as long as the test wants.
#[test]
fn a_name_that_takes_long_to_look_up_delays_no_client_no_reload_and_no_end() {
    let library = Directory::new("resolver");
    let built = library.0.join("slow_resolver.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/bridges/slow_resolver.c");
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&built).args([source, "-ldl"]);
    assert!(compile.status().expect("there is a C compiler").success());
    for is_answered in [true, false] {
        let sites = Sites::new(&format!("resolver-{is_answered}"), Kind::Brooklet);
        let _far = sites.far();
        sites.configure("topic up/# out 1");
        sites.replace("address 127.0.0.1:", "address far.test:");
        let mut command = brooklet();
        command.arg("-c").arg(sites.directory.0.join("near.conf"));
        command.env("LD_PRELOAD", &built).env("RESOLVER", &sites.directory.0);
        let near = Server::follow(command);
        wait_until(|| sites.directory.0.join("asked").exists());
        let mut pinger = Pinger::connect(sites.near_port);
        run(async {
            let mut client = sites.client(Version::V5, false, "near").await;
            client.subscribe("own/#", QoS::AtLeastOnce).await;
            near.signal("HUP");
            near.wait_for_line("The files were read again");
            for number in 0..50 {
                is_served(&mut client).await;
                pinger.ping();
                client.publish("up/n", QoS::AtLeastOnce, false, number.to_string()).await;
            }
            assert!(near.lines_with("Bridge far: ").is_empty(), "{:?}", near.lines_with("Bridge far: "));
            if is_answered {
                let mut far = sites.client(Version::V5, true, "far").await;
                far.subscribe("up/#", QoS::AtLeastOnce).await;
                sites.directory.write("answer", "");
                for number in 0..50 {
                    assert_eq!(far.receive().await.payload, number.to_string().into_bytes());
                }
            }
        });
        end(near);
    }
}

/// The network between two brokers. Once it is cut, its connections carry nothing for ever and neither end is told, and
/// a new one is not answered.
struct Network {
    port: u16,
    wires: Arc<Mutex<Wires>>,
}

#[derive(Default)]
struct Wires {
    is_cut: bool,
    /// How often it was cut. What was connected before the last time is dead.
    cuts: usize,
    /// Connections of which neither end is to be closed before the test is over.
    open: Vec<TcpStream>,
}

impl Network {
    #[expect(clippy::disallowed_methods, reason = "bytes are passed on while the test does other things")]
    fn to(far_port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let wires = Arc::new(Mutex::new(Wires::default()));
        let shared = Arc::clone(&wires);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Some(cuts) = keep(&shared, &near) else { continue };
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, far_port)) else { continue };
                keep(&shared, &far);
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let [from, to] = [from, to].map(|stream| stream.try_clone().expect("it is open"));
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || carry(&shared, cuts, from, to));
                }
            }
        });
        Self { port, wires }
    }

    fn cut(&self) {
        let mut wires = self.wires.lock().expect("no thread panics with the lock");
        wires.is_cut = true;
        wires.cuts += 1;
    }

    fn mend(&self) {
        self.wires.lock().expect("no thread panics with the lock").is_cut = false;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for stream in &self.wires.lock().expect("no thread panics with the lock").open {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Keeps a connection open. Returns how often the network was cut before, or `None` while it is cut.
fn keep(wires: &Mutex<Wires>, stream: &TcpStream) -> Option<usize> {
    let mut wires = wires.lock().expect("no thread panics with the lock");
    wires.open.push(stream.try_clone().expect("it is open"));
    (!wires.is_cut).then_some(wires.cuts)
}

/// Carries bytes until the network is cut or an end closes.
fn carry(wires: &Mutex<Wires>, cuts: usize, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        // The lock is held so that nothing passes after the cut.
        let wires = wires.lock().expect("no thread panics with the lock");
        if wires.cuts != cuts {
            return;
        }
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Messages are published on both sides before, while and after the network is cut, and all of them arrive once.
#[test]
fn a_cut_network_is_noticed_and_nothing_is_lost_when_it_is_mended() {
    for kind in kinds() {
        let mut sites = Sites::new("cut", kind);
        let far_port = sites.far_port;
        let _far = sites.far();
        let network = Network::to(far_port);
        sites.far_port = network.port;
        sites.configure("keepalive_interval 5\ntopic up/# out 2\ntopic down/# in 2");
        sites.far_port = far_port;
        let near = sites.near();
        run(async {
            let mut publisher = sites.client(Version::V5, false, "publisher").await;
            let mut near_client = sites.client(Version::V5, false, "near").await;
            let mut far = sites.client(Version::V5, true, "far").await;
            let mut far_publisher = sites.client(Version::V5, true, "far-publisher").await;
            publisher.subscribe("own/#", QoS::AtLeastOnce).await;
            publisher.subscribe(STATE, QoS::AtLeastOnce).await;
            wait_for_state(&mut publisher, "1").await;
            near_client.subscribe("down/#", QoS::ExactlyOnce).await;
            far.subscribe("up/#", QoS::ExactlyOnce).await;
            for number in 0..60 {
                match number {
                    20 => network.cut(),
                    40 => {
                        let start = format!("The connection to 127.0.0.1:{} has ended", network.port);
                        let served = wait_for_line(&near, &mut publisher, &start).await;
                        assert!(served >= 20, "served {served} times while the network was cut");
                        network.mend();
                    }
                    _ => {}
                }
                publisher.publish("up/n", QoS::ExactlyOnce, false, number.to_string()).await;
                far_publisher.publish("down/n", QoS::ExactlyOnce, false, number.to_string()).await;
            }
            for number in 0..60 {
                let expected = number.to_string().into_bytes();
                assert_eq!(far.receive().await.payload, expected, "{kind:?} {number}");
                assert_eq!(near_client.receive().await.payload, expected, "{kind:?} {number}");
            }
        });
        end(near);
    }
}
