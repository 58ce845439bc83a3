//! A port that stays while brokers come and go: what connects to it is led to the broker that serves now.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

pub struct Relay {
    port: u16,
    target: Arc<AtomicU16>,
}

impl Relay {
    /// Leads to no broker at first. It ends with the process.
    #[expect(clippy::disallowed_methods, reason = "it stands outside of the brokers")]
    pub fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let target = Arc::new(AtomicU16::new(0));
        let relay = Self { port, target: Arc::clone(&target) };
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let port = target.load(Ordering::SeqCst);
                if let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                    couple(near, far);
                }
            }
        });
        relay
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }
}

/// Passes on bytes in both directions until either side ends.
#[expect(clippy::disallowed_methods, reason = "it stands outside of the brokers")]
fn couple(near: TcpStream, far: TcpStream) {
    let copies = [near.try_clone(), far.try_clone()].map(|copy| copy.expect("a socket can be shared"));
    let [near_too, far_too] = copies;
    for (mut from, mut to) in [(near, far), (far_too, near_too)] {
        thread::spawn(move || {
            // Whether it was the end or an error makes no difference.
            let _ = io::copy(&mut from, &mut to);
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}
