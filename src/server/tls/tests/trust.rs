//! Which certificates are sent and which are accepted, beyond what rustls does itself.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Pair, demand, setup};
use crate::core::listener::UserNameSource;
use crate::server::tls::testing::{Authority, Directory, Files, bridge_tls, listener};
use crate::server::tls::{Outcome, load, load_client};
use crate::settings::{ClientTls, Given, Listener, Tls};

const NOW: [&str; 2] = ["20200101000000Z", "20800101000000Z"];
const PAST: [&str; 2] = ["20200101000000Z", "20200102030405Z"];
const FUTURE: [&str; 2] = ["20800101000000Z", "20800102000000Z"];
const OF_LEAF: &str = "basicConstraints = CA:FALSE";
const OF_AUTHORITY: &str = "basicConstraints = CA:TRUE";

/// How many certificates a client receives that trusts the first authority, if it accepts them.
fn received(root: &Authority, files: &Files, change: impl FnOnce(&mut Tls)) -> Option<usize> {
    let mut listener = listener(files);
    change(listener.tls.as_mut().unwrap());
    let mut pair = Pair::new(&Arc::new(root.client(None)), &setup(&listener));
    pair.exchange(usize::MAX);
    let is_accepted = !pair.client.is_handshaking();
    is_accepted.then(|| pair.client.peer_certificates().unwrap().len())
}

#[test]
fn a_chain_is_completed_from_the_trusted_authorities() {
    let root = Authority::new();
    let first = root.certify("keyUsage = keyCertSign");
    let second = first.certify("");
    let files = second.issue("server", "/CN=localhost");
    let directory = Directory::new();
    let all = [root.pem(), first.pem(), second.pem()].concat();
    let file = directory.write("all.crt", &all);
    let scattered = Directory::new();
    scattered.write("1.pem", &first.pem());
    scattered.write("2.pem", &second.pem());
    assert_eq!(received(&root, &files, |_| ()), None, "it is incomplete");
    assert_eq!(received(&root, &files, |tls| tls.authorities = Some(file.clone())), Some(3));
    let of_directory = |tls: &mut Tls| tls.authorities_directory = Some(scattered.path(""));
    assert_eq!(received(&root, &files, of_directory), Some(3));
    let in_both = |tls: &mut Tls| {
        tls.authorities = Some(directory.write("second.crt", &second.pem()));
        of_directory(tls);
    };
    assert_eq!(received(&root, &files, in_both), Some(3));
    // A file with more than one certificate is sent as it is.
    let cut = directory.write("cut.crt", &[files.pem(), second.pem()].concat());
    let of_several = |tls: &mut Tls| {
        tls.certificate = cut;
        tls.authorities = Some(file.clone());
    };
    assert_eq!(received(&root, &files, of_several), None);
    // What one authority has issued itself needs nothing more.
    let short = root.issue("short", "/CN=localhost");
    assert_eq!(received(&root, &short, |tls| tls.authorities = Some(file)), Some(1));
}

#[test]
fn an_authority_of_the_right_name_must_have_the_right_key() {
    let root = Authority::new();
    let issuer = root.certify("");
    let files = issuer.issue("server", "/CN=localhost");
    let other = root.certify_as(issuer.impostor(), "");
    let directory = Directory::new();
    let file = directory.write("all.crt", &[other.pem(), issuer.pem(), issuer.impostor().pem()].concat());
    assert_eq!(received(&root, &files, |tls| tls.authorities = Some(file)), Some(2));
    let file = directory.write("other.crt", &other.pem());
    assert_eq!(received(&root, &files, |tls| tls.authorities = Some(file)), None);
}

#[test]
fn the_chain_of_a_bridge_is_completed_as_well() {
    let root = Authority::new();
    let issuer = root.certify("");
    let server = root.issue("server", "/CN=localhost");
    let client = issuer.issue("bridge", "/CN=bridge");
    let directory = Directory::new();
    let mut listener = listener(&server);
    demand(&mut listener, &server, UserNameSource::CommonName);
    let there = setup(&listener);
    for (authorities, is_accepted) in [(root.pem(), false), ([root.pem(), issuer.pem()].concat(), true)] {
        let mut tls = ClientTls {
            identity: Some([client.certificate.clone(), client.key.clone()]),
            ..bridge_tls(&server)
        };
        tls.trust.authorities = Some(directory.write("bridge.crt", &authorities));
        let here = load_client(&tls).unwrap();
        let (mut here, mut there) =
            (super::Layer::connect(&here, "localhost").unwrap(), super::Layer::new(&there).unwrap());
        let mut outcome = Outcome::Open;
        for _ in 0..4 {
            let mut bytes = Vec::new();
            here.flush(&mut bytes).unwrap();
            outcome = match there.receive(&bytes, &mut Vec::new()) {
                Outcome::Open => outcome,
                failed => failed,
            };
            let mut bytes = Vec::new();
            there.flush(&mut bytes).unwrap();
            let _ = here.receive(&bytes, &mut Vec::new());
        }
        let is_refused =
            matches!(&outcome, Outcome::Failed(why) if why.contains("not issued by an authority"));
        assert_eq!((outcome == Outcome::Open, is_refused), (is_accepted, !is_accepted), "{outcome:?}");
    }
}

/// A listener that demands certificates and trusts those in `trusted`.
fn demanding(server: &Files, trusted: Given<PathBuf>, revoked: Option<Given<PathBuf>>) -> Listener {
    let mut listener = listener(server);
    demand(&mut listener, server, UserNameSource::CommonName);
    let tls = listener.tls.as_mut().unwrap();
    (tls.authorities, tls.revoked) = (Some(trusted), revoked);
    listener
}

/// The name of a client that presents this certificate, or why it is refused.
fn admitted(authority: &Authority, listener: &Listener, shown: &Files) -> Result<String, String> {
    let mut pair = Pair::new(&Arc::new(authority.client(Some(shown))), &setup(listener));
    match pair.exchange(usize::MAX) {
        Outcome::Open => Ok(pair.layer.introduce().unwrap().to_string()),
        Outcome::Failed(why) => Err(why),
        Outcome::Closed => panic!("it does not close"),
    }
}

#[test]
fn a_client_whose_certificate_signed_itself_is_accepted_if_it_is_that_certificate() {
    let authority = Authority::new();
    let server = authority.issue("server", "/CN=localhost");
    let unknown = "the client's certificate was not issued by an authority in cafile or capath";
    for (kind, extensions) in
        [("ca", OF_AUTHORITY), ("leaf", OF_LEAF), ("eku", "extendedKeyUsage = clientAuth")]
    {
        let own = authority.self_signed(kind, "/CN=device", extensions, NOW);
        let listener = demanding(&server, own.certificate.clone(), None);
        assert_eq!(admitted(&authority, &listener, &own).as_deref(), Ok("device"), "{kind}");
        // With the same name, and even with the same key, it is another one.
        let other = authority.self_signed(&format!("{kind}-2"), "/CN=device", extensions, NOW);
        assert_eq!(admitted(&authority, &listener, &other), Err(unknown.to_owned()), "{kind}");
        let again = authority.signed_again(&own, extensions);
        assert_ne!(again.pem(), own.pem());
        assert_eq!(admitted(&authority, &listener, &again), Err(unknown.to_owned()), "{kind}");
        // Beside an authority.
        let directory = Directory::new();
        let both = directory.write("both.crt", &[authority.pem(), own.pem()].concat());
        let listener = demanding(&server, both, None);
        let issued = authority.issue(&format!("{kind}-3"), "/CN=issued");
        assert_eq!(admitted(&authority, &listener, &own).as_deref(), Ok("device"), "{kind}");
        assert_eq!(admitted(&authority, &listener, &issued).as_deref(), Ok("issued"), "{kind}");
        assert_eq!(admitted(&authority, &listener, &again), Err(unknown.to_owned()), "{kind}");
    }
    let oldest = authority.issue_v1("oldest", "/CN=oldest", "ec");
    let listener = demanding(&server, oldest.certificate.clone(), None);
    assert!(admitted(&authority, &listener, &oldest).is_err(), "it did not sign itself");
}

#[test]
fn a_certificate_that_signed_itself_is_still_judged() {
    let authority = Authority::new();
    let server = authority.issue("server", "/CN=localhost");
    for (name, dates, extensions, expected) in [
        ("past", PAST, OF_AUTHORITY, "the client's certificate has expired"),
        ("future", FUTURE, OF_LEAF, "the client's certificate is not valid yet"),
        (
            "server-only",
            NOW,
            "extendedKeyUsage = serverAuth",
            "the client's certificate is not meant for clients",
        ),
    ] {
        let own = authority.self_signed(name, "/CN=device", extensions, dates);
        let listener = demanding(&server, own.certificate.clone(), None);
        let why = admitted(&authority, &listener, &own).unwrap_err();
        assert!(why.starts_with(expected), "{why}");
    }
    let own = authority.self_signed("own", "/CN=device", OF_AUTHORITY, NOW);
    let with_list = |list| demanding(&server, own.certificate.clone(), Some(list));
    let of_another = authority.revoke(&authority.issue("revoked", "/CN=revoked"));
    let why = admitted(&authority, &with_list(of_another), &own).unwrap_err();
    assert!(why.contains("is not covered by crlfile"), "{why}");
    let innocent = with_list(authority.list_of(&own, false));
    assert_eq!(admitted(&authority, &innocent, &own).as_deref(), Ok("device"));
    // By another of the same name.
    let forger = authority.self_signed("forger", "/CN=device", OF_AUTHORITY, NOW);
    let forged = with_list(authority.list_of(&forger, false));
    let why = admitted(&authority, &forged, &own).unwrap_err();
    assert!(why.contains("is not covered by crlfile"), "{why}");
    let revoked = with_list(authority.list_of(&own, true));
    assert_eq!(admitted(&authority, &revoked, &own), Err("the client's certificate was revoked".to_owned()));
}

/// Its owner would otherwise be anyone.
#[test]
fn a_certificate_that_is_no_authority_issues_none() {
    let authority = Authority::new();
    let server = authority.issue("server", "/CN=localhost");
    for (kind, extensions, is_authority) in [
        ("ca", OF_AUTHORITY, true),
        ("leaf", OF_LEAF, false),
        ("bare", "extendedKeyUsage = clientAuth", false),
        ("usage", "basicConstraints = CA:TRUE\nkeyUsage = digitalSignature", false),
    ] {
        let own = authority.self_signed(kind, "/CN=device", extensions, NOW);
        let directory = Directory::new();
        let issued = authority.issued_by(&own, &format!("{kind}-2"), "/CN=admin");
        let both = directory.write("both.crt", &[authority.pem(), own.pem()].concat());
        for trusted in [own.certificate.clone(), both] {
            let name = admitted(&authority, &demanding(&server, trusted, None), &issued);
            assert_eq!(name.is_ok(), is_authority, "{kind}: {name:?}");
        }
    }
}

#[test]
fn p_521_is_refused_wherever_it_is_named() {
    const ADVICE: &str = "is on the curve P-521, which is not supported; make one on P-256 or P-384";
    let authority = Authority::new();
    let (good, large) = (authority.issue("good", "/CN=localhost"), Authority::of_p521());
    let files = authority.issue_with_key("large", "/CN=localhost", "p521");
    let directory = Directory::new();
    directory.write("large.crt", &large.pem());
    let in_file = directory.path("large.crt");
    type Change<'a> = &'a dyn Fn(&mut Tls);
    let changes: [(Change<'_>, &[&str]); 4] = [
        (
            &|tls| (tls.certificate, tls.key) = (files.certificate.clone(), files.key.clone()),
            &["certfile", "keyfile"],
        ),
        (&|tls| tls.key = files.key.clone(), &["keyfile"]),
        (&|tls| tls.authorities = Some(in_file.clone()), &["cafile"]),
        (&|tls| tls.authorities_directory = Some(directory.path("")), &["capath"]),
    ];
    for (change, keywords) in changes {
        let mut listener = listener(&good);
        change(listener.tls.as_mut().unwrap());
        let errors = load(&listener).map(|_| ()).unwrap_err();
        assert!(!errors.is_empty() && errors.len() <= 2, "{errors:?}");
        for error in errors.iter().map(ToString::to_string) {
            let is_named = keywords.iter().any(|keyword| error.ends_with(&format!("({keyword})")));
            assert!(error.contains(ADVICE) && is_named, "{error}");
        }
    }
    let mut tls = bridge_tls(&good);
    tls.identity = Some([files.certificate.clone(), files.key.clone()]);
    tls.trust.authorities = Some(in_file);
    let errors: Vec<String> =
        load_client(&tls).map(|_| ()).unwrap_err().iter().map(ToString::to_string).collect();
    for keyword in ["bridge_cafile", "bridge_keyfile"] {
        let is_named = |error: &String| error.contains(ADVICE) && error.ends_with(&format!("({keyword})"));
        assert!(errors.iter().any(is_named), "{keyword}: {errors:?}");
    }
    // Other authorities of a directory are trusted.
    directory.write("small.crt", &authority.pem());
    let mut listener = listener(&good);
    listener.tls.as_mut().unwrap().authorities_directory = Some(directory.path(""));
    assert!(load(&listener).is_ok());
}

#[test]
fn records_are_as_small_as_the_operator_wants() {
    let authority = Authority::new();
    let files = authority.issue("server", "/CN=localhost");
    for size in [None, Some(512), Some(4096), Some(16_384)] {
        let mut listener = listener(&files);
        listener.tls.as_mut().unwrap().record_size = size;
        let mut pair = Pair::new(&Arc::new(authority.client(None)), &setup(&listener));
        assert_eq!(pair.exchange(usize::MAX), Outcome::Open);
        let sent = vec![7; 50_000];
        assert_eq!(pair.write(&sent).unwrap(), sent.len());
        pair.layer.flush(&mut pair.socket).unwrap();
        let mut records = &pair.socket.taken[..];
        let mut longest = 0;
        while let Some((header, rest)) = records.split_first_chunk::<5>() {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
            longest = longest.max(length);
            records = &rest[length..];
        }
        let most = usize::from(size.unwrap_or(16_384));
        assert!((most..=most + 24).contains(&longest), "{longest} for {size:?}");
        assert_eq!(pair.exchange(usize::MAX), Outcome::Open);
        assert!(pair.received == sent);
    }
}
