//! Which links are read in a turn, and what happens to those that a held-up loop reads late.

use super::*;

/// Never decides about a client, and reports clients whose decision is no longer needed.
struct Undecided(Sender<()>);

impl AccessControl for Undecided {
    fn ask(&mut self, _: &Client<'_>, _: Question<'_>) -> Answer {
        Answer::Later
    }

    fn forget(&mut self, _: ConnectionId) {
        self.0.send(()).unwrap();
    }
}

#[test]
fn a_client_that_leaves_during_its_authentication_is_noticed() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    // With so few steps a turn, the input has to wait for the next one.
    for steps_per_turn in [24, Limits::default().steps_per_turn] {
        for is_plain in [true, false] {
            let running = Running::start(
                None,
                make(&files, move |listener| {
                    with_websocket(listener);
                    if is_plain {
                        (listener.protocol, listener.tls) = (Protocol::Mqtt, None);
                    }
                }),
            );
            let (tell, told) = channel();
            running.order(move |server| {
                server.replace_access(Box::new(Undecided(tell)));
                server.broker.set_limits(Limits { steps_per_turn, ..Limits::default() });
            });
            for is_half_open in [true, false] {
                let mut stream = running.connect();
                let mut framed = (!is_plain)
                    .then(|| Framed::open(tls(authority.client(None), stream.try_clone().unwrap())));
                // The server finds all of it at once.
                let (go, gone) = channel();
                running.orders.send(Box::new(move |_| gone.recv().unwrap())).unwrap();
                let bytes = connect_packet("a");
                match &mut framed {
                    None => stream.write_all(&bytes).unwrap(),
                    Some(framed) => framed.write_all(&bytes).and_then(|()| framed.flush()).unwrap(),
                }
                if is_half_open {
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                } else {
                    drop((stream, framed.take()));
                }
                go.send(()).unwrap();
                let is_noticed = told.recv_timeout(std::time::Duration::from_secs(30)).is_ok();
                assert!(is_noticed, "{steps_per_turn} {is_plain} {is_half_open}");
            }
            // What the client sends besides its CONNECT counts, if it is accepted.
            if is_plain {
                let mut stream = running.connect();
                stream.write_all(&[&connect_packet("a")[..], &PINGREQ].concat()).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                running.order(|server| server.replace_access(Box::new(Doorman(None))));
                expect(&mut stream, &[&CONNACK[..], &PINGRESP].concat());
            }
        }
    }
}

#[test]
fn clients_that_ask_for_little_are_read_before_a_crowd() {
    const CROWD: usize = 200;
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(None, make(&files, |listener| listener.tls = None));
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| running.connect()).collect();
    let mut modest = running.connect();
    for client in crowd.iter_mut().chain([&mut modest]) {
        client.write_all(&connect_packet("")).unwrap();
        expect(client, &CONNACK);
    }
    for _ in 0..2 {
        modest.write_all(&PINGREQ).unwrap();
        expect(&mut modest, &PINGRESP);
    }
    let heard = running.order(move |server| {
        for client in crowd.iter_mut().chain([&mut modest]) {
            client.write_all(&PINGREQ).unwrap();
        }
        let mut events = Events::with_capacity(2 * crowd.len());
        server.poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
        server.share_turn(events.iter().count());
        server.read_input(&events, server.clock.now());
        server.links.answered.iter().map(|id| id.index()).collect::<Vec<_>>()
    });
    assert_eq!(heard, [CROWD].into_iter().chain(0..CROWD).collect::<Vec<_>>());
}

/// Holds up the loop.
fn hold_up(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// Far more clients have sent a PINGREQ than the poller reports in a turn, and all of them are late; with and without
/// a loop that knows that it was held up.
#[test]
fn clients_that_sent_something_while_the_loop_was_held_up_stay() {
    for knows in [true, false] {
        let files = Authority::new().issue("server", "/CN=localhost");
        let running = Running::start(None, make(&files, |listener| listener.tls = None));
        let mut clients: Vec<TcpStream> = (0..300).map(|_| running.connect()).collect();
        for client in &mut clients {
            let mut connect = connect_packet("");
            // A Keep Alive of one second.
            connect[11] = 1;
            client.write_all(&connect).unwrap();
            expect(client, &CONNACK);
        }
        let mut clients = running.order(move |server| {
            hold_up(1_800);
            clients.iter_mut().for_each(|client| client.write_all(&PINGREQ).unwrap());
            if !knows {
                server.looked = server.clock.now();
            }
            clients
        });
        clients.iter_mut().for_each(|client| expect(client, &PINGRESP));
    }
}

/// A client that has to wait for an answer before it can send its CONNECT has the time for that when the loop goes on.
#[test]
fn a_client_whose_handshake_was_held_up_can_finish_it() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let change: Change = |listener| {
        listener.tls = None;
        with_websocket(listener);
    };
    let running = Running::start_within(1, None, make(&files, change));
    let stream = running.connect();
    // The connection has been accepted.
    while running.order(|server| server.links.clients.open() == 0) {}
    running.order(|_| hold_up(1_500));
    greet(&mut Framed::open(stream), "late");
}
