//! WebSocket at listeners and towards other servers, by the room of that name.

use std::rc::Rc;

use crate::auth::access_control::random;
use crate::protocol::codec::PACKET_SIZE_MAXIMUM;
use crate::protocol::websocket::{Demands, Resource};
use crate::settings::{ConfigError, Listener, Protocol};

pub(super) use crate::protocol::websocket::{Outcome, WebSocket};

/// So long a frame is taken wherever packets must be shorter, in bytes: a client may put many of them into one.
const FRAME_MINIMUM: usize = 64 * 1024;

/// What a listener opens its WebSocket connections with.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    demands: Rc<Demands>,
    frame_maximum: usize,
}

/// What this listener needs; `None` if it does not speak WebSocket.
pub(super) fn set_up(listener: &Listener) -> Result<Option<Setup>, ConfigError> {
    let Protocol::WebSocket { origins, headers } = &listener.protocol else { return Ok(None) };
    let demands = Demands { origins: origins.clone(), request_maximum: *headers };
    let frame_maximum = listener.options.packet_size.max(FRAME_MINIMUM);
    Ok(Some(Setup { demands: Rc::new(demands), frame_maximum }))
}

pub(super) fn open(setup: &Setup) -> WebSocket {
    WebSocket::new(Rc::clone(&setup.demands), setup.frame_maximum)
}

/// The client's side of a connection to a server, where this path leads to MQTT. What comes in frames is handed on at
/// once, so they may be as long as packets are.
pub(super) fn request(host: &str, port: u16, path: &str) -> Result<WebSocket, String> {
    let resource = Resource::new(host, Some(port), path)
        .ok_or_else(|| "host and path can not stand in a request of HTTP".to_owned())?;
    let seed = random().map_err(|why| format!("no random bytes: {why}"))?;
    Ok(WebSocket::request(&resource, PACKET_SIZE_MAXIMUM, seed))
}
