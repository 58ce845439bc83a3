//! How the connection to the other broker ends.

use super::Machine;
use super::aliases::Aliases;
use super::connect::DISCONNECTED;
use super::remote::{Next, RemoteState};
use super::signals::Action;
use crate::base::time::{Duration, Time};
use crate::protocol::codec::{Delivery, Disconnect, Packet, ReasonCode};

/// How long the last packets may take to be sent.
const ENDING_PATIENCE: Duration = Duration::from_seconds(5);

impl Machine {
    /// Says in the other broker that the bridge is not connected, and ends the connection after that.
    pub(super) fn leave_remote(&mut self, next: Next, now: Time) {
        if !matches!(self.remote.state, RemoteState::SettingUp { .. } | RemoteState::Running { .. }) {
            return self.hang_up(next);
        }
        // At QoS 0 it needs no Packet Identifier, which a message of this broker may have.
        self.publish_there(DISCONNECTED, Delivery::AtMostOnce);
        let version = self.remote.variant.version;
        let packet = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        self.remote.output.write(|into| packet.encode(version, into));
        self.remote.input.clear();
        self.remote.state = RemoteState::Ending { deadline: now + ENDING_PATIENCE, next };
    }

    /// Closes the connection once everything was sent, or once that takes too long. Returns whether it did.
    pub(super) fn finish_remote(&mut self, now: Time) -> bool {
        let RemoteState::Ending { deadline, next } = self.remote.state else { return false };
        if !self.remote.output.is_empty() && now < deadline {
            return false;
        }
        self.hang_up(next);
        true
    }

    /// Closes the connection or stops connecting at once.
    pub(super) fn hang_up(&mut self, next: Next) {
        if self.remote.is_open() || matches!(self.remote.state, RemoteState::Dialling) {
            self.signals.act(Action::HangUp);
        }
        self.rest(next);
    }

    /// There is no connection any longer.
    pub(super) fn rest(&mut self, next: Next) {
        self.remote.state = match next {
            Next::Idle => RemoteState::Idle,
            Next::Wait(until) => RemoteState::Waiting { until },
            Next::Over => RemoteState::Over,
        };
        self.remote.input.clear();
        self.remote.output.clear();
        self.remote.lowered.clear();
        self.remote.aliases = Aliases::default();
        self.remote.skipping = 0;
    }
}
