//! Layers of a client and of a server against each other: which servers are accepted, and the words about the others.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, HandshakeKind, ServerConfig};

use crate::core::listener::UserNameSource;
use crate::server::tls::testing::{Authority, Directory, Files, bridge_tls, listener};
use crate::server::tls::{ClientSetup, Layer, Outcome, Setup, load, load_client};
use crate::settings::{ClientTls, Listener};

const BARE: &str = "basicConstraints = CA:FALSE";
const NOW: [&str; 2] = ["20200101000000Z", "20800101000000Z"];
const PAST: [&str; 2] = ["20200101000000Z", "20200102030405Z"];
const FUTURE: [&str; 2] = ["20800101000000Z", "20800102000000Z"];

/// The ciphertext that waits to be sent.
fn output(layer: &mut Layer) -> Vec<u8> {
    let mut bytes = Vec::new();
    layer.flush(&mut bytes).unwrap();
    bytes
}

/// Connects to a server by this name, and returns the layer with the outcome after everything that the two have to say.
fn meet(client: &ClientSetup, name: &str, server: &Setup) -> (Layer, Outcome) {
    let (mut here, mut there) = (Layer::connect(client, name).unwrap(), Layer::new(server).unwrap());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        let sent = output(&mut here);
        // If it refuses this side, its alert says so.
        let _ = there.receive(&sent, &mut theirs);
        let answer = output(&mut there);
        if sent.is_empty() && answer.is_empty() {
            assert!(!here.is_handshaking());
            return (here, Outcome::Open);
        }
        match here.receive(&answer, &mut ours) {
            Outcome::Open => {}
            outcome => return (here, outcome),
        }
    }
}

fn serve(files: &Files, change: impl FnOnce(&mut Listener)) -> Setup {
    let mut listener = listener(files);
    change(&mut listener);
    load(&listener).unwrap().unwrap()
}

/// The outcome of connecting with these settings.
fn outcome(tls: &ClientTls, name: &str, server: &Setup) -> Outcome {
    meet(&load_client(tls).unwrap(), name, server).1
}

/// Connects to a server with this certificate. The client trusts what is in `trusted`.
fn outcome_of(files: &Files, trusted: &Files, name: &str) -> Outcome {
    outcome(&bridge_tls(trusted), name, &serve(files, |_| ()))
}

/// Connects to it without regard to its name.
fn outcome_without_name(files: &Files, trusted: &Files) -> Outcome {
    let tls = ClientTls { ignores_name: true, ..bridge_tls(trusted) };
    outcome(&tls, "elsewhere.example.org", &serve(files, |_| ()))
}

#[track_caller]
fn assert_refused(outcome: &Outcome, expected: &[&str]) {
    let Outcome::Failed(why) = outcome else { panic!("{outcome:?}, expected {expected:?}") };
    for part in expected {
        assert!(why.contains(part), "{why}, expected {part}");
    }
}

#[test]
fn a_server_must_have_the_name_that_is_connected_to() {
    let authority = Authority::new();
    let names = "subjectAltName = DNS:broker.example.org, DNS:*.wild.example.org, IP:127.0.0.1, IP:::1";
    let files = authority.issue_with("server", "/CN=common.example.org", names);
    for name in [
        "broker.example.org",
        "BROKER.example.org",
        "broker.example.org.",
        "a.wild.example.org",
        "127.0.0.1",
        "::1",
    ] {
        assert_eq!(outcome_of(&files, &files, name), Outcome::Open, "{name}");
    }
    let refused =
        ["common.example.org", "wild.example.org", "a.b.wild.example.org", "example.org", "127.0.0.2", "::2"];
    for name in refused {
        let names = "is for broker.example.org, *.wild.example.org, 127.0.0.1, ::1, not for";
        assert_refused(&outcome_of(&files, &files, name), &[names, name, "bridge_insecure"]);
    }
    assert_eq!(outcome_without_name(&files, &files), Outcome::Open);
}

#[test]
fn a_common_name_is_the_name_where_there_is_no_other() {
    let authority = Authority::new();
    let issued = |name: &str, common_name: &str| {
        let subject = format!("/O=Acme/CN={common_name}");
        [authority.issue_with(name, &subject, BARE), authority.issue_v1(&format!("{name}-1"), &subject, "ec")]
    };
    for files in issued("host", "broker.example.org") {
        assert_eq!(outcome_of(&files, &files, "Broker.example.org"), Outcome::Open);
        let expected = ["is for broker.example.org, not for example.org;", "bridge_insecure"];
        assert_refused(&outcome_of(&files, &files, "example.org"), &expected);
        assert_eq!(outcome_without_name(&files, &files), Outcome::Open);
    }
    for files in issued("wild", "*.example.org") {
        assert_eq!(outcome_of(&files, &files, "broker.example.org"), Outcome::Open);
        assert_refused(
            &outcome_of(&files, &files, "a.broker.example.org"),
            &["is for *.example.org, not for"],
        );
    }
    for files in issued("address", "192.0.2.1") {
        assert_eq!(outcome_of(&files, &files, "192.0.2.1"), Outcome::Open);
        assert_refused(&outcome_of(&files, &files, "192.0.2.2"), &["is for 192.0.2.1, not for 192.0.2.2"]);
    }
}

#[test]
fn a_common_name_never_counts_beside_a_subject_alternative_name() {
    let authority = Authority::new();
    for (kind, names, shown) in [
        ("host", "DNS:other.example.org", "other.example.org"),
        ("address", "IP:192.0.2.1", "192.0.2.1"),
        ("mail", "email:a@example.org", "no host"),
    ] {
        let names = format!("subjectAltName = {names}");
        let files = authority.issue_with(kind, "/CN=broker.example.org", &names);
        let expected = format!("is for {shown}, not for broker.example.org");
        assert_refused(&outcome_of(&files, &files, "broker.example.org"), &[&expected]);
    }
}

#[test]
fn names_that_flood_or_forge_the_log_are_cut_and_escaped() {
    let authority = Authority::new();
    let names = (0..100).map(|number| format!("DNS:host{number}.example.org")).collect::<Vec<_>>();
    let many = authority.issue_with("many", "/CN=x", &format!("subjectAltName = {}", names.join(",")));
    let expected = "is for host0.example.org, host1.example.org, host2.example.org, host3.example.org, \
                    host4.example.org and 95 more, not for x.example.org";
    assert_refused(&outcome_of(&many, &many, "x.example.org"), &[expected]);
    let forged = authority.issue_with("forged", "/CN=x\n1700000000: a line", BARE);
    assert_refused(&outcome_of(&forged, &forged, "x"), &["is for x\\u{a}1700000000: a line, not for x;"]);
}

#[test]
fn an_authority_that_may_certify_some_names_certifies_no_common_name() {
    let authority = Authority::new();
    let limited = authority.certify("nameConstraints = critical, permitted;DNS:example.org");
    let free = authority.certify("keyUsage = keyCertSign");
    for (between, extensions, is_accepted) in [
        (&limited, "subjectAltName = DNS:broker.example.org", true),
        (&limited, "subjectAltName = DNS:broker.example.com", false),
        (&limited, BARE, false),
        (&free, BARE, true),
    ] {
        let files = between.issue_with("server", "/CN=broker.example.org", extensions);
        let chain = [files.pem(), between.pem()].concat();
        let directory = Directory::new();
        let mut chained = files.clone();
        chained.certificate = directory.write("chain.crt", &chain);
        let mut tls = bridge_tls(&files);
        tls.trust.authorities = Some(directory.write("authority.crt", &authority.pem()));
        let name = "broker.example.org";
        let found = outcome(&tls, name, &serve(&chained, |_| ()));
        assert_eq!(found == Outcome::Open, is_accepted, "{extensions} {found:?}");
        // As an authority at the root, it is limited as well.
        tls.trust.authorities = Some(directory.write("between.crt", &between.pem()));
        let found = outcome(&tls, name, &serve(&files, |_| ()));
        assert_eq!(found == Outcome::Open, is_accepted, "{extensions} {found:?}");
    }
}

#[test]
fn a_stranger_is_refused_whatever_its_name() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let trusted = authority.issue("trusted", "/CN=localhost");
    let refused = |files: &Files, expected: &[&str]| {
        assert_refused(&outcome_of(files, &trusted, "localhost"), expected);
        assert_refused(&outcome_without_name(files, &trusted), expected);
    };
    let path = trusted.authority.display().to_string();
    let unknown =
        ["was not issued by an authority in bridge_cafile", &path, "; add the certificate of its authority"];
    refused(&stranger.issue("stranger", "/CN=localhost"), &unknown);
    refused(&stranger.issue_with("bare", "/CN=localhost", BARE), &unknown);
    refused(&stranger.issue_v1("old", "/CN=localhost", "ec"), &unknown);
    let impostor = authority.impostor();
    let forged = ["was not signed by the issuer that it names", "RSA from 2048 bits"];
    refused(&impostor.issue("forged", "/CN=localhost"), &forged);
    refused(&impostor.issue_with("bare", "/CN=localhost", BARE), &forged);
    refused(&impostor.issue_v1("old", "/CN=localhost", "ec"), &forged);
}

#[test]
fn a_certificate_is_worth_nothing_without_its_key() {
    let authority = Authority::new();
    let itself = authority.self_signed("itself", "/CN=localhost", "basicConstraints = CA:TRUE", NOW);
    let thief = Authority::new().issue("thief", "/CN=localhost");
    let provider = Arc::new(ring::default_provider());
    for files in [
        authority.issue("server", "/CN=localhost"),
        authority.issue_with("bare", "/CN=localhost", BARE),
        authority.issue_v1("old", "/CN=localhost", "ec"),
        itself,
    ] {
        let client = load_client(&bridge_tls(&files)).unwrap();
        for (version, key, is_accepted) in [
            (&TLS12, &files.key, true),
            (&TLS12, &thief.key, false),
            (&TLS13, &files.key, true),
            (&TLS13, &thief.key, false),
        ] {
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            let key = provider.key_provider.load_private_key(key).unwrap();
            let shown = CertifiedKey::new(vec![files.certificate_der().into()], key);
            let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
            let builder = builder.with_protocol_versions(&[version]).unwrap().with_no_client_auth();
            let config = Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown))));
            let server = Setup { config, user_name: UserNameSource::Connect, record_size: 16_384 };
            let (_, outcome) = meet(&client, "localhost", &server);
            if is_accepted {
                assert_eq!(outcome, Outcome::Open);
            } else {
                assert_refused(&outcome, &["or the server does not have its key"]);
            }
        }
    }
}

#[test]
fn dates_and_purposes_are_verified_whatever_the_name() {
    let authority = Authority::new();
    let trusted = authority.issue("trusted", "/CN=localhost");
    let expired = ["has expired (it was valid until 2020-01-02 03:04:05 UTC, and it is 20", "set the clock"];
    let early =
        ["is not valid yet (it will be from 2080-01-01 00:00:00 UTC on, and it is 20", "set the clock"];
    let for_clients = authority.issue_with("client", "/CN=localhost", "extendedKeyUsage = clientAuth");
    for (files, expected) in [
        (authority.issue_dated("old", "/CN=localhost", PAST), &expired[..]),
        (authority.issue_dated("new", "/CN=localhost", FUTURE), &early),
        (for_clients, &["is not meant for servers"]),
    ] {
        assert_refused(&outcome_of(&files, &trusted, "localhost"), expected);
        assert_refused(&outcome_without_name(&files, &trusted), expected);
    }
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_if_it_is_in_the_file() {
    let maker = Authority::new();
    let names = "subjectAltName = DNS:localhost";
    for (kind, extensions) in [
        ("root", "basicConstraints = critical, CA:TRUE"),
        ("leaf", BARE),
        ("named-root", &format!("basicConstraints = CA:TRUE\n{names}")),
        ("named-leaf", &format!("{BARE}\n{names}")),
        (
            "for-servers",
            &format!("basicConstraints = CA:TRUE\n{names}\nextendedKeyUsage = clientAuth, serverAuth"),
        ),
    ] {
        let files = maker.self_signed(kind, "/CN=localhost", extensions, NOW);
        assert_eq!(outcome_of(&files, &files, "localhost"), Outcome::Open, "{kind}");
        assert_refused(
            &outcome_of(&files, &files, "example.org"),
            &["is for localhost, not for example.org"],
        );
        assert_eq!(outcome_without_name(&files, &files), Outcome::Open, "{kind}");
        // The same subject, with another key.
        let other = maker.self_signed(&format!("{kind}-2"), "/CN=localhost", extensions, NOW);
        for found in [outcome_of(&files, &other, "localhost"), outcome_without_name(&files, &other)] {
            assert!(matches!(found, Outcome::Failed(_)), "{kind} {found:?}");
        }
        let stranger = maker.issue("stranger", "/CN=stranger");
        let unknown = ["was not issued by an authority in bridge_cafile", "or itself if it is self-signed"];
        assert_refused(&outcome_of(&files, &stranger, "localhost"), &unknown);
        assert_refused(&outcome_without_name(&files, &stranger), &unknown);
        for (dates, expected) in [(PAST, "has expired"), (FUTURE, "is not valid yet")] {
            let files = maker.self_signed(kind, "/CN=localhost", extensions, dates);
            assert_refused(&outcome_of(&files, &files, "localhost"), &[expected]);
            assert_refused(&outcome_without_name(&files, &files), &[expected]);
        }
    }
    let extensions = "basicConstraints = CA:TRUE\nextendedKeyUsage = clientAuth";
    let files = maker.self_signed("client", "/CN=localhost", extensions, NOW);
    assert_refused(&outcome_of(&files, &files, "localhost"), &["is not meant for servers"]);
}

#[test]
fn a_certificate_in_the_file_that_did_not_sign_itself_is_no_authority() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let mut trusted = files.clone();
    trusted.authority = files.certificate.clone();
    let errors = load_client(&bridge_tls(&trusted)).map(|_| ()).unwrap_err();
    let expected = "TLS to another server needs an authority in bridge_cafile or bridge_capath";
    assert!(errors.len() == 1 && errors[0].text.starts_with(expected), "{errors:?}");
    let directory = Directory::new();
    let pem = [files.pem(), Authority::new().pem()].concat();
    trusted.authority = directory.write("both.crt", &pem);
    assert_refused(&outcome_of(&files, &trusted, "localhost"), &["was not issued by an authority in"]);
}

#[test]
fn authorities_of_a_directory_are_trusted_like_those_of_a_file() {
    let authority = Authority::new();
    let issued = authority.issue("server", "/CN=localhost");
    let itself = authority.self_signed("itself", "/CN=localhost", "basicConstraints = CA:TRUE", NOW);
    for files in [&issued, &itself] {
        let directory = Directory::new();
        let mut tls = bridge_tls(files);
        tls.trust.authorities = None;
        tls.trust.authorities_directory = Some(directory.path(""));
        directory.write("0a1b2c3d.0", &files.authority_pem());
        assert_eq!(outcome(&tls, "localhost", &serve(files, |_| ())), Outcome::Open);
        let stranger = Authority::new().issue("server", "/CN=localhost");
        let refused = outcome(&tls, "localhost", &serve(&stranger, |_| ()));
        assert_refused(&refused, &["was not issued by an authority in bridge_capath"]);
    }
}

#[test]
fn a_signature_that_is_not_supported_is_named() {
    let root = Authority::new();
    let large = root.certify_as(Authority::of_p521(), "");
    let directory = Directory::new();
    let mut files = large.issue("server", "/CN=localhost");
    files.certificate = directory.write("chain.crt", &[files.pem(), large.pem()].concat());
    files.authority = directory.write("root.crt", &root.pem());
    assert_refused(&outcome_of(&files, &files, "localhost"), &["such as P-521", "ECDSA with P-256 or P-384"]);
}

#[test]
fn a_server_that_requires_a_certificate_gets_one() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let stranger = Authority::new().issue("stranger", "/CN=stranger");
    for is_1_3_only in [false, true] {
        let server = serve(&files, |listener| {
            let tls = listener.tls.as_mut().unwrap();
            tls.authorities = Some(files.authority.clone());
            (tls.requires_certificate, tls.is_1_3_only) = (true, is_1_3_only);
        });
        let with = |identity: Option<&Files>| {
            let identity = identity.map(|files| [files.certificate.clone(), files.key.clone()]);
            outcome(&ClientTls { identity, ..bridge_tls(&files) }, "localhost", &server)
        };
        assert_refused(&with(None), &["requires a certificate; set bridge_certfile and bridge_keyfile"]);
        assert_eq!(with(Some(&authority.issue("client", "/CN=client"))), Outcome::Open);
        assert_eq!(with(Some(&authority.issue_v1("old", "/CN=client", "rsa"))), Outcome::Open);
        assert_refused(
            &with(Some(&stranger)),
            &["does not trust the certificate of this broker", "bridge_certfile"],
        );
    }
}

#[test]
fn the_protocol_is_negotiated() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let server = serve(&files, |_| ());
    let offer = |alpn: Option<&str>| {
        let alpn = alpn.map(Into::into);
        outcome(&ClientTls { alpn, ..bridge_tls(&files) }, "localhost", &server)
    };
    assert_eq!((offer(None), offer(Some("mqtt"))), (Outcome::Open, Outcome::Open));
    assert_refused(&offer(Some("x-amzn-mqtt-ca")), &["does not speak the protocol in bridge_alpn"]);
}

#[test]
fn versions_are_those_that_are_allowed() {
    let files = Authority::new().issue("server", "/CN=localhost");
    for (is_1_3_only, servers_is, expected) in [(false, false, true), (true, false, true), (true, true, true)]
    {
        let server = serve(&files, |listener| listener.tls.as_mut().unwrap().is_1_3_only = servers_is);
        let tls = ClientTls { is_1_3_only, ..bridge_tls(&files) };
        assert_eq!(outcome(&tls, "localhost", &server) == Outcome::Open, expected);
    }
    // The server hello of one that speaks only TLS 1.2.
    let hello = [&[22, 3, 3, 0, 42, 2, 0, 0, 38, 3, 3][..], &[7; 32], &[0, 0xc0, 0x2b, 0]].concat();
    let strict = ClientTls { is_1_3_only: true, ..bridge_tls(&files) };
    let mut layer = Layer::connect(&load_client(&strict).unwrap(), "localhost").unwrap();
    let expected = ["speaks no version of TLS that is allowed here: only TLS 1.3 (bridge_tls_version)"];
    assert_refused(&layer.receive(&hello, &mut Vec::new()), &expected);
}

#[test]
fn alerts_are_explained() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    let plain = bridge_tls(&files);
    let identity = Some([files.certificate.clone(), files.key]);
    let with_certificate = ClientTls { identity, is_1_3_only: true, ..plain.clone() };
    let (trusts, kind) =
        ("does not trust the certificate of this broker", "of another kind than bridge_certfile");
    let set = "set bridge_certfile and bridge_keyfile";
    for (alert, expected, expected_with_certificate) in [
        (AlertDescription::HandshakeFailure, "it may require a certificate", "such as P-521"),
        (AlertDescription::CertificateRequired, set, kind),
        (AlertDescription::UnknownCA, set, trusts),
        (AlertDescription::CertificateRevoked, trusts, "bridge_certfile needs one that it trusts"),
        (
            AlertDescription::ProtocolVersion,
            "allowed here: TLS 1.2 and 1.3",
            "only TLS 1.3 (bridge_tls_version)",
        ),
        (AlertDescription::NoApplicationProtocol, "bridge_alpn", "bridge_alpn"),
        (AlertDescription::UnrecognisedName, "host name", "host name"),
        (AlertDescription::InternalError, "its log", "its log"),
        (AlertDescription::DecodeError, "(DecodeError)", "(DecodeError)"),
    ] {
        for (tls, expected) in [(&plain, expected), (&with_certificate, expected_with_certificate)] {
            let mut layer = Layer::connect(&load_client(tls).unwrap(), "localhost").unwrap();
            let refused = layer.receive(&[21, 3, 3, 0, 2, 2, u8::from(alert)], &mut Vec::new());
            assert_refused(&refused, &["the server", expected]);
        }
    }
    let mut layer = Layer::connect(&load_client(&plain).unwrap(), "localhost").unwrap();
    assert_refused(&layer.receive(b"\x20\x02\0\x01", &mut Vec::new()), &["the server does not speak TLS"]);
}

#[test]
fn a_session_with_a_server_is_resumed() {
    let files = Authority::new().issue("server", "/CN=localhost");
    let server = serve(&files, |_| ());
    let client = load_client(&bridge_tls(&files)).unwrap();
    let kinds = [(); 2].map(|()| {
        let (layer, outcome) = meet(&client, "localhost", &server);
        assert_eq!(outcome, Outcome::Open);
        layer.connection.handshake_kind().unwrap()
    });
    assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed]);
}
