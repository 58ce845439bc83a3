//! Files as mosquitto writes them, and malformed files.

use proptest::prelude::*;

use super::*;

/// Written by mosquitto_passwd 2.0.11 for the passwords `wonderland` and `builder`.
const ALICE: &str = "$7$101$IrMqLvWqjM1MFzG/$9w93R8P8/xMRDLydI9V9pJpPi6mPHtB53EZAJZR4ZnAnxx2GhUv+Nu/Ypq9inVbU1HvR/ZudzvweIdpfu6EeXg==";
const BOB: &str = "$6$VRpcP2oLI0fqdzdm$a2rvcW1IY2FqmahEsmp9oXtKw4+yqdIuBvXpxZBi0hxSVS8ssIh6X+Ql+18SgckFKhhUgdF64lEfDoyPMoEN+g==";
/// From the tests of the reference implementation, for the password `password`.
const ARGON: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

fn parse(text: &str) -> Result<Passwords, Vec<String>> {
    Passwords::parse("file", text.as_bytes()).map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
}

fn passes(passwords: &Passwords, user: &str, password: &str) -> bool {
    passwords.trial(user, b"key").is_some_and(|trial| trial.passes(password.as_bytes()))
}

#[test]
fn files_written_by_mosquitto_are_read() {
    let file = format!("# users\n\nalice:{ALICE}\r\n bob :{BOB}\ncarol:{ARGON}\n");
    let passwords = parse(&file).unwrap();
    assert!(passwords.warnings().is_empty());
    for (user, password) in [("alice", "wonderland"), ("bob", "builder"), ("carol", "password")] {
        assert!(passes(&passwords, user, password), "{user}");
        for wrong in ["", "x", "Wonderland", "builder\0", "password "] {
            assert!(!passes(&passwords, user, wrong), "{user} {wrong:?}");
        }
    }
}

#[test]
fn an_unknown_user_is_tried_with_the_secret_of_another_and_never_passes() {
    let passwords = parse(&format!("alice:{ALICE}\n")).unwrap();
    assert!(passwords.trial("mallory", b"key").is_some());
    assert!(!passes(&passwords, "mallory", "wonderland"));
    assert!(parse("").unwrap().trial("mallory", b"key").is_none());
}

/// A digest remembered for a user must not match a removed user, although both are compared with the same secret.
#[test]
fn a_digest_belongs_to_a_line_of_the_file() {
    let digest = |file: &str, user, password: &str| {
        let trial = parse(file).unwrap().trial(user, b"key").unwrap();
        trial.digest(b"key", user, password.as_bytes())
    };
    let (old, new) = (format!("alice:{ALICE}\n"), format!("bob:{ALICE}\n"));
    let right = digest(&old, "alice", "wonderland");
    assert_eq!(right, digest(&(old.clone() + &format!("bob:{BOB}\n")), "alice", "wonderland"));
    for other in [
        digest(&new, "alice", "wonderland"),
        digest(&new, "bob", "wonderland"),
        digest(&old, "bob", "wonderland"),
        digest(&old, "alice", "wonderlan"),
        digest(&format!("alice:{BOB}\n"), "alice", "wonderland"),
    ] {
        assert_ne!(other, right);
    }
    let trial = parse(&old).unwrap().trial("alice", b"key").unwrap();
    assert_ne!(trial.digest(b"other key", "alice", b"wonderland"), right);
}

#[test]
fn what_is_written_can_be_read_again() {
    let kinds = [Kind::Sha512, Kind::Pbkdf2 { rounds: 3 }, Kind::Argon2id, Kind::Scram { rounds: 3 }];
    for kind in kinds {
        let secret = Secret::new(kind, b"pencil", &[7; secret::SALT_LENGTH]).unwrap();
        let text = secret.to_string();
        let again = Secret::parse(&text).unwrap();
        assert_eq!(again.to_string(), text);
        assert!(again.verifies(b"pencil"), "{kind:?}");
        assert!(!again.verifies(b"pencils") && !again.verifies(b"penci"), "{kind:?}");
    }
}

#[test]
fn a_secret_is_never_printed_by_accident() {
    let passwords = parse(&format!("alice:{ALICE}\ncarol:{ARGON}\n")).unwrap();
    let printed = format!("{passwords:?} {:?}", passwords.trial("alice", b"key"));
    assert!(!printed.contains('$') && printed.contains("Pbkdf2"), "{printed}");
}

#[test]
fn a_line_without_a_colon_names_no_user() {
    let passwords = parse("wonderland\n").unwrap();
    let warnings: Vec<String> = passwords.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("file:1: no ':'"), "{warnings:?}");
    assert!(warnings[1].starts_with("file: no users"), "{warnings:?}");
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_name() {
    for text in [format!("\u{feff}alice:{ALICE}\n"), format!("\u{feff}# Users:\nalice:{ALICE}\n")] {
        let passwords = parse(&text).unwrap();
        let warnings: Vec<String> = passwords.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            ["file:1:1: a byte order mark, which mosquitto would not skip, is skipped"],
            "{text}"
        );
        assert!(passes(&passwords, "alice", "wonderland") && !passwords.contains("\u{feff}alice"), "{text}");
    }
}

#[test]
fn a_file_of_another_kind_costs_a_bounded_number_of_lines() {
    let wrong = parse(&"a:b\n".repeat(1_000)).unwrap_err();
    assert_eq!((wrong.len(), wrong[100].as_str()), (101, "file: 900 more were omitted"));
    assert_eq!(parse(&"a\n".repeat(1_000)).unwrap().warnings().len(), 102, "and that there are no users");
}

#[test]
fn every_fault_is_reported_without_quoting_the_secret() {
    let salt = "AAAAAAAAAAAAAAAA";
    let digest = "A".repeat(86) + "==";
    for (line, begin) in [
        ("alice:secret".to_owned(), "file:1:7: a plain password, expected a hash; `brooklet passwd -U`"),
        ("alice:$5$secret".to_owned(), "file:1:7: unknown kind of hash"),
        ("alice:".to_owned(), "file:1:7: no password after ':', expected a hash"),
        ("alice: \r".to_owned(), "file:1:7: no password after ':', expected a hash"),
        ("\n\u{feff}alice:x".to_owned(), "file:2:1: a byte order mark inside the file"),
        (":x".to_owned(), "file:1:1: no user name"),
        (format!("alice:{ALICE}\nalice:{ALICE}"), "file:2:1: the user alice a second time"),
        ("a:$6$x".to_owned(), "file:1:3: a cut hash"),
        (format!("a:$6$AAAA${digest}"), "file:1:3: a salt"),
        (format!("a:$6${salt}$AAAA"), "file:1:3: a digest"),
        (format!("a:$7$0${salt}${digest}"), "file:1:3: rounds out of range"),
        (format!("a:$7$5000001${salt}${digest}"), "file:1:3: rounds out of range"),
        (format!("a:$7$x${salt}${digest}"), "file:1:3: rounds out of range"),
        (
            format!("a:{}", ARGON.replace("m=256", "m=65537")),
            "file:1:3: too much memory in KiB for one login: 65537",
        ),
        (format!("a:{}", ARGON.replace("t=2", "t=65")), "file:1:3: too much passes"),
        (format!("a:{}", ARGON.replace("p=1", "p=64")), "file:1:3: too much lanes"),
        (format!("a:{}", ARGON.replace("m=256", "m=1")), "file:1:3: argon2id does not accept"),
        (format!("a:{}", ARGON.replace("v=19", "v=16")), "file:1:3: a cut hash"),
        ("a:SCRAM-SHA-256$0:AAAA$A:A".to_owned(), "file:1:3: rounds of a verifier"),
        ("a:SCRAM-SHA-256$1:AAAA$A:A".to_owned(), "file:1:3: a verifier that"),
    ] {
        let wrong = parse(&line).unwrap_err();
        assert!(wrong.len() == 1 && wrong[0].starts_with(begin), "{line}: {wrong:?}");
        assert!(!wrong[0].contains("secret") && !wrong[0].contains("AAAA"), "{wrong:?}");
    }
    let wrong = Passwords::parse("file", b"# \xFF\nab\xFF:x\n").unwrap_err();
    assert_eq!(wrong.len(), 2);
    assert_eq!(wrong[1].to_string(), "file:2:3: not UTF-8");
}

#[test]
fn versions_of_a_file_are_compared_by_user() {
    let old = parse(&format!("alice:{ALICE}\nbob:{BOB}\n")).unwrap();
    let new = parse(&format!("bob:{BOB}\nalice:{BOB}\n")).unwrap();
    assert!(new.agrees_with(&old, "bob") && new.agrees_with(&old, "nobody"));
    assert!(!new.agrees_with(&old, "alice") && !new.agrees_with(&parse("").unwrap(), "bob"));
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(b"alice:".to_vec()), Just(b"\n".to_vec()), Just(b"$7$101$".to_vec()), Just(b"$6$".to_vec()),
                Just(b"$argon2id$v=19$m=8,t=1,p=1$".to_vec()), Just(b"SCRAM-SHA-256$1:".to_vec()), Just(b"$".to_vec()),
                Just(b"AAAAAAAAAAAAAAAA".to_vec()), Just(b"#".to_vec()), Just(b":".to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..12,
        ),
    ) {
        let bytes = pieces.concat();
        match Passwords::parse("file", &bytes) {
            Ok(passwords) => prop_assert!(passwords.secrets().count() <= pieces.len()),
            Err(wrong) => prop_assert!(wrong.iter().all(|error| error.place.starts_with("file:"))),
        }
    }
}
