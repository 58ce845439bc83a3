//! The file of a Unix socket: its owner, its permissions, and when it goes.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::place::{Place, end};
use crate::server::brooklet;

/// A listener at a socket in the directory, with these options, beside one that tells its port.
fn listeners(place: &Place, options: &str) -> String {
    format!("listener 0 127.0.0.1\nlistener 0 {}\n{options}", socket(place).display())
}

fn socket(place: &Place) -> PathBuf {
    place.0.join("mqtt.sock")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("the socket is there").permissions().mode() & 0o777
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[test]
#[cfg(feature = "system")]
fn a_socket_belongs_to_the_user_of_the_broker_and_goes_with_it() {
    let place = Place::new("socket-owner");
    let path = socket(&place);
    fs::set_permissions(&place.0, fs::Permissions::from_mode(0o777)).expect("the directory is ours");
    let own = fs::metadata("/proc/self").expect("there is one");
    let (own_group, other_group) = if is_root() { (65_534, 1) } else { (own.gid(), own.gid()) };
    for (options, permissions, group) in [
        (String::new(), 0o770, own_group),
        (format!("socket_mode 0607\nsocket_group {other_group}\n"), 0o607, other_group),
    ] {
        // Only root becomes another user.
        place.configure_for("nobody", &listeners(&place, &options));
        let server = place.serve();
        let found = fs::symlink_metadata(&path).expect("the socket is there");
        let owner = if is_root() { 65_534 } else { own.uid() };
        assert_eq!((found.uid(), found.gid(), mode(&path)), (owner, group, permissions), "{options}");
        assert!(UnixStream::connect(&path).is_ok());
        end(server);
        assert!(!path.exists());
    }
}

#[test]
fn a_socket_that_a_crash_has_left_is_replaced_and_a_live_one_is_not() {
    let place = Place::new("socket-left");
    place.configure(&listeners(&place, ""));
    // It is killed.
    drop(place.serve());
    assert!(UnixStream::connect(socket(&place)).is_err() && socket(&place).exists());
    let server = place.serve();
    let second = Place::new("socket-second");
    second.configure(&listeners(&place, ""));
    let output = brooklet().arg("-c").arg(second.0.join("conf")).stderr(Stdio::piped()).output();
    let output = output.expect("the binary can be started");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("another broker answers there"), "{told}");
    UnixStream::connect(socket(&place)).expect("the first one still listens");
    end(server);
    assert!(!socket(&place).exists());
}

#[test]
fn the_socket_of_a_later_broker_stays() {
    let place = Place::new("socket-later");
    place.configure(&listeners(&place, ""));
    let first = place.serve();
    fs::remove_file(socket(&place)).expect("it is there");
    let second = Place::new("socket-later-2");
    second.configure(&listeners(&place, ""));
    let later = second.serve();
    end(first);
    UnixStream::connect(socket(&place)).expect("the later broker listens");
    end(later);
    assert!(!socket(&place).exists());
}

#[test]
#[cfg(feature = "system")]
fn a_reload_changes_the_permissions_or_nothing() {
    let place = Place::new("socket-reload");
    place.configure(&listeners(&place, ""));
    let server = place.serve();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it has an address").port();
    let wrong = format!("{}listener {port} 127.0.0.1\n", listeners(&place, "socket_mode 0600\n"));
    place.configure(&wrong);
    server.signal("HUP");
    server.wait_for_line("The configuration stays as it was.");
    assert_eq!(mode(&socket(&place)), 0o770);
    place.configure(&listeners(&place, "socket_mode 0600\n"));
    server.signal("HUP");
    server.wait_for_line("socket_mode changed from 0770 to 0600");
    assert_eq!(mode(&socket(&place)), 0o600);
    end(server);
}
