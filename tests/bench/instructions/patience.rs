//! Waiting with a time limit.

use std::time::{Duration, Instant};

use crate::packets::Fault;

/// How long the broker may take for one step. It runs some fifty times slower than normally.
const LONGEST: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_micros(200);

#[derive(Debug)]
pub struct Patience {
    what: &'static str,
    end: Instant,
}

impl Patience {
    /// Starts to wait for `what`.
    pub fn new(what: &'static str) -> Self {
        Self { what, end: Instant::now() + LONGEST }
    }

    /// Waits a little, or fails if it has been too long.
    pub fn pause(&self) -> Result<(), Fault> {
        if Instant::now() > self.end {
            return Err(format!("waited in vain for {}", self.what));
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }
}
