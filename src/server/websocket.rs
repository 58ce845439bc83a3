//! WebSocket at listeners and towards other servers, built on `protocol::websocket`.

use std::rc::Rc;

use crate::auth::access_control::random;
use crate::protocol::codec::PACKET_SIZE_MAXIMUM;
use crate::protocol::websocket::{Demands, Resource};
use crate::settings::{ConfigError, Listener, Protocol};

pub(super) use crate::protocol::websocket::{Outcome, WebSocket};

/// Frames up to this length in bytes are accepted even if packets must be shorter: a client may put many packets into
/// one frame.
const FRAME_MINIMUM: usize = 64 * 1024;

/// The setup of a listener's WebSocket connections.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    demands: Rc<Demands>,
    frame_maximum: usize,
}

/// The WebSocket setup of a listener; `None` if it does not speak WebSocket.
pub(super) fn set_up(listener: &Listener) -> Result<Option<Setup>, ConfigError> {
    let Protocol::WebSocket { origins, headers } = &listener.protocol else { return Ok(None) };
    let demands = Demands { origins: origins.clone(), request_maximum: *headers };
    let frame_maximum = listener.options.packet_size.max(FRAME_MINIMUM);
    Ok(Some(Setup { demands: Rc::new(demands), frame_maximum }))
}

pub(super) fn open(setup: &Setup) -> WebSocket {
    WebSocket::new(Rc::clone(&setup.demands), setup.frame_maximum)
}

/// The client's side of a connection to a server that speaks MQTT at this path. The payload of frames is passed on at
/// once, so they may be as long as packets.
pub(super) fn request(host: &str, port: u16, path: &str) -> Result<WebSocket, String> {
    let resource = Resource::new(host, Some(port), path)
        .ok_or_else(|| "the host or the path cannot be part of an HTTP request".to_owned())?;
    let seed = random().map_err(|why| format!("no random bytes: {why}"))?;
    Ok(WebSocket::request(&resource, PACKET_SIZE_MAXIMUM, seed))
}
