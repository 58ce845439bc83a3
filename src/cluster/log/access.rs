//! Whether clients can use the log. The engine counts as away when there is no connection, or nothing can be read, or nothing
//! was stored for two seconds. Clients wait for a while then, and are refused after it.

use log::Level;

use crate::base::time::{Duration, Time};

/// For how long the engine has to be away until that counts: a server that ends is left for another one in no time.
const SILENCE: Duration = Duration::from_seconds(2);

/// Whether clients can use the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The node has not joined.
    Joining,
    /// They can.
    Open,
    /// The engine is away, and they wait.
    Held,
    /// It was away for too long.
    Away,
}

/// What is known about the engine.
#[derive(Debug)]
pub struct Judge {
    patience: Duration,
    /// Since when the engine is away.
    away: Option<Time>,
    access: Access,
}

impl Judge {
    /// One for a node that has not joined, whose clients wait so long.
    pub const fn new(patience: Duration) -> Self {
        Self { patience, away: None, access: Access::Joining }
    }

    /// Whether clients can use the log.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// When it may change if nothing happens before. The engine has stored nothing `since` then, if there is something.
    pub fn next_deadline(&self, since: Option<Time>) -> Time {
        match (self.access, self.away) {
            (Access::Open, Some(away)) => away + SILENCE,
            (Access::Held, Some(away)) => away + self.patience,
            (Access::Open, None) => since.map_or(Time::NEVER, |since| since + SILENCE),
            _ => Time::NEVER,
        }
    }

    /// Looks at the engine. Returns what is to be said if clients are treated otherwise from now on.
    pub fn judge(&mut self, is_here: bool, since: Option<Time>, now: Time) -> Option<(Level, String)> {
        let slow = since.filter(|since| *since + SILENCE <= now);
        match (is_here, slow) {
            (true, None) => self.away = None,
            _ => self.away = self.away.or(slow).or(Some(now)),
        }
        let access = match self.away {
            None => Access::Open,
            Some(_) if self.access == Access::Joining => Access::Joining,
            Some(away) if now < away + SILENCE => self.access,
            Some(away) if now < away + self.patience => Access::Held,
            Some(_) => Access::Away,
        };
        let before = std::mem::replace(&mut self.access, access);
        (before != access).then(|| self.line(before))
    }

    fn line(&self, before: Access) -> (Level, String) {
        match self.access {
            Access::Open if before == Access::Joining => {
                (Level::Info, "This node has joined the cluster and takes clients".to_owned())
            }
            Access::Open => (Level::Info, "The log of the cluster can be used again".to_owned()),
            Access::Held => {
                let seconds = self.patience.seconds();
                let line = format!(
                    "Warning: the log of the cluster cannot be used: messages of QoS 1 and 2, and those to be retained, \
                     wait for {seconds} s (cluster_patience)"
                );
                (Level::Warn, line)
            }
            Access::Joining | Access::Away => {
                let line = "Warning: the log of the cluster cannot be used: clients are refused, and publishers are told \
                            or cut off";
                (Level::Warn, line.to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time::from_milliseconds(milliseconds)
    }

    /// What clients may do after each look.
    fn course(patience: u64, looks: &[(u64, bool, Option<u64>)]) -> Vec<Access> {
        let mut judge = Judge::new(Duration::from_milliseconds(patience));
        let access = |&(time, is_here, since): &(u64, bool, Option<u64>)| {
            let before = judge.access();
            let line = judge.judge(is_here, since.map(at), at(time));
            assert_eq!(line.is_some(), before != judge.access(), "each change is said once");
            judge.access()
        };
        looks.iter().map(access).collect()
    }

    #[test]
    fn clients_wait_for_an_engine_that_is_away_and_are_refused_after_a_while() {
        use Access::{Away, Held, Joining, Open};
        let looks = [
            (0, false, None),
            (9_000, false, None),
            (10_000, true, None),
            (20_000, false, None),
            (21_999, false, None),
            (22_000, false, None),
            (29_999, false, None),
            (30_000, false, None),
            (31_000, true, None),
        ];
        assert_eq!(course(10_000, &looks), [Joining, Joining, Open, Open, Open, Held, Held, Away, Open]);
        assert_eq!(course(0, &looks), [Joining, Joining, Open, Open, Open, Away, Away, Away, Open]);
    }

    #[test]
    fn an_engine_that_stores_nothing_is_away() {
        use Access::{Away, Held, Open};
        let looks = [
            (0, true, None),
            (1_000, true, Some(500)),
            (2_499, true, Some(500)),
            (2_500, true, Some(500)),
            (10_500, true, Some(500)),
            (10_600, true, None),
        ];
        assert_eq!(course(10_000, &looks), [Open, Open, Open, Held, Away, Open]);
    }

    #[test]
    fn it_looks_again_in_time() {
        let mut judge = Judge::new(Duration::from_milliseconds(10_000));
        assert_eq!(
            judge.next_deadline(Some(at(1))),
            Time::NEVER,
            "a node that has not joined waits for the engine"
        );
        judge.judge(true, None, at(0));
        assert_eq!((judge.next_deadline(None), judge.next_deadline(Some(at(100)))), (Time::NEVER, at(2_100)));
        judge.judge(false, None, at(1_000));
        assert_eq!(judge.next_deadline(None), at(3_000));
        judge.judge(false, None, at(3_000));
        assert_eq!(judge.next_deadline(None), at(11_000));
    }
}
