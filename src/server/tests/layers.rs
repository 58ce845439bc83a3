//! Traffic through each layer, and peers that break its rules.

use super::*;

#[test]
fn a_broker_speaks_through_every_layer() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let plain = Running::start(None, make(&files, |listener| listener.tls = None));
    greet(&mut plain.connect(), "plain");
    let framed = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            with_websocket(listener);
        }),
    );
    greet(&mut Framed::open(framed.connect()), "framed");
    let secure = Running::start(None, make(&files, |_| ()));
    greet(&mut tls(authority.client(None), secure.connect()), "secure");
    let both = Running::start(None, make(&files, with_websocket));
    greet(&mut Framed::open(tls(authority.client(None), both.connect())), "both");
}

#[test]
fn a_slow_reader_gets_everything_through_every_layer() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let running = Running::start(None, make(&files, with_websocket));
    let mut reader = Framed::open(tls(authority.client(None), running.connect()));
    reader.write_all(&connect_packet("reader")).unwrap();
    expect(&mut reader, &CONNACK);
    reader.write_all(&SUBSCRIBE_TO_ALL).unwrap();
    expect(&mut reader, &SUBACK);
    let mut writer = Framed::open(tls(authority.client(None), running.connect()));
    writer.write_all(&connect_packet("writer")).unwrap();
    expect(&mut writer, &CONNACK);
    let messages: Vec<Vec<u8>> = (0..30).map(|number| publish(&[number; 100_000])).collect();
    messages.iter().for_each(|message| writer.write_all(message).unwrap());
    writer.write_all(&[0xc0, 0]).unwrap();
    expect(&mut writer, &[0xd0, 0]);
    reader.stream.write_all(&frame(PING, true, b"still there?")).unwrap();
    messages.iter().for_each(|message| expect(&mut reader, message));
    while reader.controls.is_empty() {
        reader.read_frame().unwrap();
    }
    assert_eq!(reader.controls, [(PONG, b"still there?".to_vec())]);
}

#[test]
fn a_breach_of_the_rules_of_websocket_closes_the_connection() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            with_websocket(listener);
        }),
    );
    let mut client = Framed::open(running.connect());
    client.write_all(&connect_packet("text")).unwrap();
    expect(&mut client, &CONNACK);
    client.stream.write_all(&frame(TEXT, true, &[0xc0, 0])).unwrap();
    while client.read_frame().is_ok() {}
    assert_eq!(client.controls, [(CLOSE, 1003_u16.to_be_bytes().to_vec())]);
    assert!(client.payload.is_empty(), "the text was not read as a packet");
    let mut visitor = running.connect();
    visitor.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    visitor.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("MQTT over WebSocket"), "{answer}");
    let mut leaver = Framed::open(running.connect());
    leaver.stream.write_all(&frame(CLOSE, true, &1001_u16.to_be_bytes())).unwrap();
    while leaver.read_frame().is_ok() {}
    assert_eq!(leaver.controls, [(CLOSE, 1001_u16.to_be_bytes().to_vec())]);
}

#[test]
fn a_certificate_names_its_client() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let (known, other) = (authority.issue("known", "/CN=sensor"), authority.issue("other", "/CN=other"));
    let running = Running::start(
        Some("sensor"),
        make(&files, |listener| {
            with_names(listener);
            let tls = listener.tls.as_mut().unwrap();
            tls.authorities = Some(tls.certificate.with_file_name("authority.crt").into());
            tls.requires_certificate = true;
        }),
    );
    greet(&mut tls(authority.client(Some(&known)), running.connect()), "known");
    let mut other = tls(authority.client(Some(&other)), running.connect());
    other.write_all(&connect_packet("other")).unwrap();
    expect(&mut other, &[0x20, 2, 0, 5]);
    let mut nobody = tls(authority.client(None), running.connect());
    let error = nobody.write_all(&connect_packet("nobody")).and_then(|()| nobody.read_exact(&mut [0]));
    assert!(error.unwrap_err().to_string().contains("CertificateRequired"), "the client is told why");
    greet(&mut tls(authority.client(Some(&known)), running.connect()), "known");
}

#[test]
fn a_proxy_names_its_clients() {
    const NAMED: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x1d\xc0\0\x02\x01\xc0\0\x02\x02\x12\x34\x07\x5b\
        \x20\x00\x0e\x07\0\0\0\0\x22\x00\x06sensor";
    let files = Authority::new().issue("server", "/CN=localhost");
    let running = Running::start(
        Some("sensor"),
        make(&files, |listener| {
            listener.tls = None;
            listener.proxy = Some(Proxy::V2 { requires_tls: true, requires_certificate: false });
            with_names(listener);
        }),
    );
    let mut known = running.connect();
    known.write_all(&[NAMED, &connect_packet("known")].concat()).unwrap();
    expect(&mut known, &CONNACK);
    let has_layers = |server: &mut Server, number| {
        server.links.clients.at(number).is_some_and(|(_, link)| link.layers.is_some())
    };
    let layers = running.order(move |server| (0..16).filter(|&number| has_layers(server, number)).count());
    assert_eq!(layers, 0, "what is plain from here on has no layers");
    let mut direct = running.connect();
    direct.write_all(&connect_packet("direct")).unwrap();
    let mut answer = Vec::new();
    direct.read_to_end(&mut answer).unwrap();
    assert!(answer.is_empty());
}

/// A header with these flags and values about TLS.
fn header_about(flags: u8, verified: u8, values: &[(u8, &[u8])]) -> Vec<u8> {
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let value = |kind: u8, bytes: &[u8]| [&[kind][..], &length(bytes), bytes].concat();
    let values: Vec<u8> = values.iter().flat_map(|(kind, bytes)| value(*kind, bytes)).collect();
    let about_tls = value(0x20, &[&[flags, 0, 0, 0, verified][..], &values].concat());
    let body = [&[192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x07, 0x5b][..], &about_tls].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length(&body)[..], &body].concat()
}

/// A listener for a proxy that has to verify certificates, which are the User Names in this way.
fn behind_proxy(listener: &mut Listener, user_name: UserNameSource) {
    listener.tls = None;
    listener.proxy = Some(Proxy::V2 { requires_tls: false, requires_certificate: true });
    listener.options = Rc::new(ListenerOptions { user_name, ..(*listener.options).clone() });
}

#[test]
fn a_proxy_passes_on_the_certificate_that_it_has_verified() {
    const COMMON_NAME: u8 = 0x22;
    const CERTIFICATE: u8 = 0x28;
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let der = authority.issue("sensor", "/O=Acme/CN=sensor").certificate_der();
    let damaged = &der[..der.len() - 1];
    for (user_name, expected, values, is_named) in [
        (UserNameSource::CommonName, "sensor", &[(COMMON_NAME, &b"sensor"[..])][..], true),
        (UserNameSource::CommonName, "sensor", &[(CERTIFICATE, &der)], true),
        (UserNameSource::CommonName, "sensor", &[(CERTIFICATE, damaged)], false),
        (UserNameSource::CommonName, "sensor", &[], false),
        (UserNameSource::Subject, "CN=sensor,O=Acme", &[(COMMON_NAME, b"sensor"), (CERTIFICATE, &der)], true),
        (UserNameSource::Subject, "CN=sensor,O=Acme", &[(COMMON_NAME, b"CN=sensor,O=Acme")], false),
        (UserNameSource::Subject, "CN=sensor,O=Acme", &[(CERTIFICATE, damaged)], false),
    ] {
        let running =
            Running::start(Some(expected), make(&files, move |listener| behind_proxy(listener, user_name)));
        let mut client = running.connect();
        client.write_all(&[header_about(7, 0, values), connect_packet("a")].concat()).unwrap();
        expect(&mut client, if is_named { &CONNACK } else { &[0x20, 2, 0, 5] });
        for (flags, verified) in [(7, 1), (1, 0), (6, 0), (0, 0)] {
            let mut refused = running.connect();
            let header = header_about(flags, verified, values);
            refused.write_all(&[header, connect_packet("a")].concat()).unwrap();
            let mut answer = Vec::new();
            // It may be reset, with the CONNECT unread.
            let _ = refused.read_to_end(&mut answer);
            assert!(answer.is_empty(), "{flags} {verified}: {answer:02x?}");
        }
    }
}

#[test]
fn a_proxy_may_connect_for_itself() {
    const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    let files = Authority::new().issue("server", "/CN=localhost");
    let strict =
        Running::start(None, make(&files, |listener| behind_proxy(listener, UserNameSource::Connect)));
    let mut check = strict.connect();
    check.write_all(LOCAL).unwrap();
    check.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    assert_eq!(check.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it is not closed");
    check.set_read_timeout(None).unwrap();
    check.write_all(&connect_packet("a")).unwrap();
    let mut answer = Vec::new();
    let _ = check.read_to_end(&mut answer);
    assert!(answer.is_empty(), "no client is accepted without a certificate: {answer:02x?}");
    let loose = Running::start(
        None,
        make(&files, |listener| {
            listener.tls = None;
            listener.proxy = Some(Proxy::V2 { requires_tls: false, requires_certificate: false });
        }),
    );
    for pieces in [&[LOCAL, &connect_packet("a")][..], &[&[LOCAL, &connect_packet("a")[..]].concat()]] {
        let mut check = loose.connect();
        for piece in pieces {
            check.write_all(piece).unwrap();
        }
        expect(&mut check, &CONNACK);
    }
}

#[test]
fn an_endless_handshake_is_closed_in_every_layer() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let changes: [(Change, &[u8]); 4] = [
        (|_| (), b"\x16\x03\x01\x02\x00\x01"),
        (with_websocket, b""),
        (
            |listener| {
                listener.tls = None;
                with_websocket(listener);
            },
            b"GET / HTTP/1.1\r\nX: ",
        ),
        (
            |listener| {
                listener.tls = None;
                listener.proxy = Some(Proxy::V1);
            },
            b"PROXY TCP4 192.0.2.1 ",
        ),
    ];
    for (change, begun) in changes {
        let running = Running::start_within(0, None, make(&files, change));
        let mut client = running.connect();
        // The broker may have closed the connection already.
        let _ = client.write_all(begun);
        let mut told = Vec::new();
        let _ = client.read_to_end(&mut told);
        assert!(!told.starts_with(&CONNACK), "{told:02x?}");
    }
}
