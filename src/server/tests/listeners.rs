//! Listeners that accept or refuse clients, and that change while connections stay.

use super::*;

#[test]
fn proxies_from_other_networks_are_refused() {
    let files = Authority::new().issue("server", "/CN=localhost");
    for (network, is_trusted) in [("10.0.0.0/8", false), ("127.0.0.0/8", true)] {
        let running = Running::start(
            None,
            make(&files, move |listener| {
                listener.tls = None;
                listener.proxy = Some(Proxy::V1);
                listener.proxies =
                    vec![Network::parse("192.0.2.1").unwrap(), Network::parse(network).unwrap()];
            }),
        );
        let mut proxy = running.connect();
        // Writing to a connection that was closed may or may not fail.
        let greeting = [b"PROXY UNKNOWN\r\n", &connect_packet("a")[..]].concat();
        let _ = proxy.write_all(&greeting);
        let mut answer = [0; 4];
        let is_answered = proxy.read_exact(&mut answer).is_ok();
        assert_eq!((is_answered, answer == CONNACK), (is_trusted, is_trusted), "{network}");
    }
}

#[test]
fn a_socket_in_the_file_system_is_served() {
    let directory = Directory::new();
    let path = directory.path("mqtt.sock");
    let files = Authority::new().issue("server", "/CN=localhost");
    let address = Address::Unix { path: path.value.clone() };
    let running = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            listener.address = address;
        }),
    );
    greet(&mut UnixStream::connect(&path).unwrap(), "local");
    drop(running);
    assert!(!path.exists());
}

#[test]
fn the_connections_of_a_listener_are_limited() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            listener.connections = 2;
        }),
    );
    let mut clients: Vec<TcpStream> = (0..2).map(|_| running.connect()).collect();
    for (client, name) in clients.iter_mut().zip(["a", "b"]) {
        client.write_all(&connect_packet(name)).unwrap();
        expect(client, &CONNACK);
    }
    assert_eq!(running.connect().read(&mut [0]).unwrap_or(0), 0);
    let mut leaver = clients.pop().unwrap();
    leaver.write_all(&[0xe0, 0]).unwrap();
    assert_eq!(leaver.read(&mut [0]).unwrap(), 0);
    let mut next = running.connect();
    next.write_all(&connect_packet("c")).unwrap();
    expect(&mut next, &CONNACK);
}

#[test]
fn a_reload_changes_listeners_and_lets_connections_be() {
    let (old, new) = (Authority::new(), Authority::new());
    let (first, second) = (old.issue("server", "/CN=localhost"), new.issue("server", "/CN=localhost"));
    let running = Running::start(None, make(&first, |_| ()));
    let mut before = tls(old.client(None), running.connect());
    before.write_all(&connect_packet("before")).unwrap();
    expect(&mut before, &CONNACK);
    let broken = make(&second, |listener| {
        listener.tls.as_mut().unwrap().key =
            listener.tls.as_ref().unwrap().key.with_extension("absent").into();
    });
    let keep = || Plan { staying: vec![(0, 0)], ..Plan::default() };
    let told =
        running.order(move |server| server.reload_listeners(&keep(), &[broken()], &[], &[]).unwrap_err());
    assert!(told.len() == 1 && told[0].to_string().contains("server.absent: it cannot be read"), "{told:?}");
    greet(&mut tls(old.client(None), running.connect()), "as it was");
    let (changed, added) = (make(&second, |_| ()), make(&second, |listener| listener.tls = None));
    let port = running.order(move |server| {
        let plan = Plan { staying: vec![(0, 1)], added: vec![0], ..Plan::default() };
        server.reload_listeners(&plan, &[added(), changed()], &[Vec::new()], &[]).unwrap();
        assert_eq!(server.opened, [1, 0]);
        port_of(server, 1)
    });
    greet(&mut tls(new.client(None), running.connect()), "changed");
    greet(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), "added");
    let last = make(&second, |listener| listener.tls = None);
    running.order(move |server| {
        let plan = Plan { staying: vec![(0, 0)], removed: vec![1], ..Plan::default() };
        server.reload_listeners(&plan, &[last()], &[], &[]).unwrap();
        assert_eq!(server.listener_ids().len(), 1);
    });
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, running.port)).is_err(), "it is closed");
    before.write_all(&[0xc0, 0]).unwrap();
    expect(&mut before, &[0xd0, 0]);
}
