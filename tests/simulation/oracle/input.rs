//! The effects of packets from clients.

use std::collections::BTreeMap;

use brooklet::base::time::Time;
use brooklet::core::journal::Room;
use brooklet::core::slots::ConnectionId;
use brooklet::protocol::codec::{
    Acknowledgement, Connect, Delivery, Disconnect, Packet, ProtocolVersion, Publish, ReasonCode, Status,
    Subscribe, Unsubscribe, decode, frame,
};
use brooklet::protocol::topic::TopicFilter;

use super::Oracle;
use super::progress::Begun;
use super::room::Admission;
use super::state::{Answer, Copy, Debt, Key, Progress, Session, Subject};

const QUEUED: &[ReasonCode] = &[ReasonCode::Success];

pub(super) fn key_of(filter: TopicFilter<'_>) -> Key {
    (filter.share_name().map(ToOwned::to_owned), filter.pattern().to_owned())
}

impl Oracle {
    /// The core has processed this many more packets of the connection.
    pub fn processed(&mut self, id: ConnectionId, count: u64) {
        for _ in 0..count {
            let line = self.lines.get_mut(&id).expect("it stays open while packets are processed");
            let bytes = line.sent.pop_front().expect("the broker counts packets that were sent");
            line.last_heard = self.now;
            let Ok(Status::Complete(frame)) = frame(&bytes, usize::MAX) else {
                panic!("devices send whole packets")
            };
            let packet = decode(&frame, line.version).expect("devices send good packets");
            self.tell(id, "from", &packet);
            self.handle(id, &packet);
        }
    }

    /// The bytes of whole packets that the broker has not processed.
    pub fn backlog(&self, id: ConnectionId) -> usize {
        self.lines.get(&id).map_or(0, |line| line.sent.iter().map(Vec::len).sum())
    }

    /// The broker reads from this connection, or has stopped; when it starts again, the client's Keep Alive starts
    /// anew.
    pub fn paused(&mut self, id: ConnectionId, is_paused: bool) {
        if let Some(line) = self.lines.get_mut(&id) {
            if line.is_paused && !is_paused {
                line.last_heard = self.now;
            }
            line.is_paused = is_paused;
        }
    }

    fn handle(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        if let Packet::Connect(connect) = packet {
            self.handle_connect(id, connect);
            return;
        }
        let line = &self.lines[&id];
        let client = line.serves().expect("only packets of a connected client are processed").to_owned();
        self.finish_all(&client);
        match packet {
            Packet::Publish(publish) => self.handle_publish(id, &client, publish),
            Packet::PubAck(answer) => self.settle(id, &client, answer),
            Packet::PubRec(answer) => self.handle_pubrec(id, &client, answer),
            Packet::PubRel(answer) => self.handle_pubrel(id, &client, answer),
            Packet::PubComp(answer) => self.settle(id, &client, answer),
            Packet::Subscribe(subscribe) => self.handle_subscribe(id, &client, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(id, &client, unsubscribe),
            Packet::PingReq => self.owe(id, Answer::PingResp),
            Packet::Disconnect(disconnect) => self.handle_disconnect(id, &client, disconnect),
            _ => panic!("devices do not send {}", packet.name()),
        }
    }

    pub(super) fn owe(&mut self, id: ConnectionId, answer: Answer) {
        self.owe_about(id, answer, Subject::Nothing);
    }

    fn owe_about(&mut self, id: ConnectionId, answer: Answer, subject: Subject) {
        let debt = Debt { answer, subject, batch: self.batch(), is_optional: false };
        self.lines.get_mut(&id).expect("it is there").answers.push_back(debt);
    }

    /// It cannot be observed whether the last packet is answered.
    fn make_answer_optional(&mut self, id: ConnectionId) {
        let line = self.lines.get_mut(&id).expect("it is there");
        line.answers.back_mut().expect("it was just owed").is_optional = true;
    }

    pub(super) fn session(&mut self, client: &str) -> &mut Session {
        self.sessions.get_mut(client).expect("a connected client has a session")
    }

    fn handle_connect(&mut self, id: ConnectionId, connect: &Connect<'_>) {
        let client = connect.client_identifier.to_owned();
        let expiry = self.granted_expiry(connect);
        let line = self.lines.get_mut(&id).expect("it is there");
        assert_eq!(line.progress, Progress::Greeting, "a device sends one CONNECT");
        line.version = connect.version;
        let keep_alive = self.granted_keep_alive(connect);
        let can_not_be_told = connect.version != ProtocolVersion::V5 && keep_alive != connect.keep_alive;
        let is_full = self.sessions.len() >= self.limits.sessions && !self.sessions.contains_key(&client);
        let will = connect.will.as_ref().map(|will| self.will(&client, will));
        let lacks_room = !self.has_room_for(&client, connect, expiry, will.as_ref());
        let needs_no_room = self.needs_no_room(&client, connect, expiry);
        let is_room_gone = self.room == Room::Gone;
        let line = self.lines.get_mut(&id).expect("it is there");
        if can_not_be_told || is_full || lacks_room {
            if connect.version != ProtocolVersion::V5 {
                line.version = ProtocolVersion::V311;
            }
            line.progress = Progress::Ending(None);
            self.owe(id, Answer::ConnAck { is_present: false, is_refused: true });
            return;
        }
        if let Some(older) = self.sessions.get(&client).and_then(|session| session.connection) {
            self.depart(older, false);
            let older = self.lines.get_mut(&older).expect("it is closed later");
            older.progress = Progress::Ending(Some(ReasonCode::SessionTakenOver));
        }
        if connect.clean_start && self.sessions.contains_key(&client) {
            self.end_session(&client);
        }
        let is_present = self.sessions.contains_key(&client);
        let properties = connect.properties;
        let number = self.number();
        let session = self.sessions.entry(client.clone()).or_insert_with(|| Session::new(number));
        session.connection = Some(id);
        let adrift: Vec<Copy> = session.take_adrift().collect();
        session.greeting = number;
        session.version = connect.version;
        session.ends = Time::NEVER;
        session.will = will;
        session.expiry = expiry;
        session.is_persistent |= session.expiry > 0;
        let size = properties.maximum_packet_size().unwrap_or(u32::MAX);
        session.maximum_packet_size = usize::try_from(size).expect("it fits");
        self.renew_replays(&client);
        let line = self.lines.get_mut(&id).expect("it is there");
        line.progress = Progress::Serving;
        line.needs_no_room = needs_no_room;
        line.is_loose = needs_no_room && is_room_gone;
        line.at_most_once.extend(adrift);
        line.client = Some(client);
        let window = properties.receive_maximum().unwrap_or(u16::MAX).min(self.limits.in_flight);
        line.window = usize::from(window);
        line.alias_maximum = properties.topic_alias_maximum().unwrap_or(0);
        if let Some(size) = properties.maximum_packet_size() {
            line.maximum_packet_size = usize::try_from(size).expect("it is small");
        }
        line.keep_alive = keep_alive;
        self.owe(id, Answer::ConnAck { is_present, is_refused: false });
    }

    /// The Keep Alive that applies to this client.
    fn granted_keep_alive(&self, connect: &Connect<'_>) -> u16 {
        match connect.keep_alive {
            0 if self.limits.keep_alive_maximum < u16::MAX => self.limits.keep_alive_maximum,
            wanted => wanted.min(self.limits.keep_alive_maximum),
        }
    }

    /// The time that the session of this client outlives its connection.
    fn granted_expiry(&self, connect: &Connect<'_>) -> u32 {
        let wanted = match connect.properties.session_expiry_interval() {
            interval if connect.version == ProtocolVersion::V5 => interval.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        wanted.min(self.limits.session_expiry_maximum)
    }

    fn handle_publish(&mut self, id: ConnectionId, client: &str, publish: &Publish<'_>) {
        let identifier = publish.delivery.packet_identifier().map_or(0, |identifier| identifier.value());
        let topic = self.topic_of(id, publish);
        let is_v5 = self.lines[&id].version == ProtocolVersion::V5;
        let is_exact = matches!(publish.delivery, Delivery::ExactlyOnce(_));
        let session = self.session(client);
        let is_uncertain = is_exact && session.uncertain.contains(&identifier);
        if is_exact && !is_uncertain && session.incoming.contains(&identifier) {
            self.owe(id, Answer::PubRec(identifier, QUEUED.to_vec()));
            return;
        }
        let publication = self.publication(client, &topic, publish);
        let number = publication.number;
        let subject = Subject::Publication(number);
        let can_carry_a_reason = is_v5 && publish.delivery != Delivery::AtMostOnce;
        let admission = self.admit(id, &publication, is_uncertain);
        let mut reasons = match admission {
            Admission::Taken => self.publish(publication, is_uncertain, can_carry_a_reason),
            Admission::PerhapsTaken => self.publish(publication, true, can_carry_a_reason),
            Admission::Refused(reason) => vec![reason],
            Admission::Unanswered if is_uncertain => {
                // It may count already, and a repeat is answered whatever space there is.
                self.owe(id, Answer::PubRec(identifier, QUEUED.to_vec()));
                self.make_answer_optional(id);
                return;
            }
            Admission::Unanswered => return,
        };
        if is_exact {
            self.identify(client, number, identifier);
        }
        if is_uncertain {
            // Perhaps it was refused before and counts now, perhaps it is a repeat.
            reasons.push(ReasonCode::Success);
        }
        if !is_v5 {
            reasons = QUEUED.to_vec();
        }
        let session = self.session(client);
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(_) => self.owe_about(id, Answer::PubAck(identifier, reasons), subject),
            Delivery::ExactlyOnce(_) => {
                if reasons.iter().any(|reason| !reason.is_error()) {
                    session.incoming.insert(identifier);
                }
                let is_perhaps_refused = reasons.len() > 1 && reasons.iter().any(|reason| reason.is_error());
                if is_perhaps_refused || matches!(admission, Admission::PerhapsTaken) {
                    session.uncertain.insert(identifier);
                }
                self.owe_about(id, Answer::PubRec(identifier, reasons), subject);
            }
        }
        if matches!(admission, Admission::PerhapsTaken) {
            self.make_answer_optional(id);
        }
    }

    /// The topic of a message, by its name or by an alias. Even a repeat binds an alias: the client cannot know that
    /// the broker takes it for one.
    fn topic_of(&mut self, id: ConnectionId, publish: &Publish<'_>) -> String {
        let line = self.lines.get_mut(&id).expect("it is there");
        let alias = publish.properties.topic_alias();
        match publish.topic {
            Some(topic) => {
                alias
                    .into_iter()
                    .for_each(|alias| drop(line.inbound.insert(alias, topic.as_str().to_owned())));
                topic.as_str().to_owned()
            }
            None => {
                let alias = alias.expect("checked by the codec");
                line.inbound.get(&alias).expect("devices bind aliases first").clone()
            }
        }
    }

    /// Handles a PUBACK or PUBCOMP.
    fn settle(&mut self, id: ConnectionId, client: &str, answer: &Acknowledgement<'_>) {
        let identifier = answer.packet_identifier.value();
        if let Some(flight) = self.session(client).in_flight.remove(&identifier) {
            self.settled(&flight.copy);
        }
        let line = self.lines.get_mut(&id).expect("it is there");
        line.unsettled.remove(&identifier);
        line.settled.insert(identifier);
    }

    fn handle_pubrec(&mut self, id: ConnectionId, client: &str, answer: &Acknowledgement<'_>) {
        if answer.reason_code.is_error() {
            self.settle(id, client, answer);
            return;
        }
        let identifier = answer.packet_identifier.value();
        let now = self.now;
        let is_v5 = self.lines[&id].version == ProtocolVersion::V5;
        let reason = match self.session(client).in_flight.get_mut(&identifier) {
            Some(flight) => {
                flight.released_at.get_or_insert(now);
                ReasonCode::Success
            }
            None if is_v5 => ReasonCode::PacketIdentifierNotFound,
            None => ReasonCode::Success,
        };
        self.owe(id, Answer::PubRel(identifier, reason));
    }

    fn handle_pubrel(&mut self, id: ConnectionId, client: &str, answer: &Acknowledgement<'_>) {
        let identifier = answer.packet_identifier.value();
        let is_v5 = self.lines[&id].version == ProtocolVersion::V5;
        let session = self.session(client);
        session.uncertain.remove(&identifier);
        let is_known = session.incoming.remove(&identifier);
        let reason =
            if is_known || !is_v5 { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.owe(id, Answer::PubComp(identifier, reason));
    }

    fn handle_subscribe(&mut self, id: ConnectionId, client: &str, subscribe: &Subscribe<'_>) {
        self.subscribe_until(id, client, subscribe, subscribe.subscriptions.iter().count());
        let Begun { codes, changes, .. } = self.take_begun(id);
        let answer = Answer::SubAck(subscribe.packet_identifier.value(), codes);
        self.owe_about(id, answer, Subject::Subscriptions(changes));
    }

    /// Finishes a packet with filters. Of several changes of one subscription, only the last one counts.
    fn take_begun(&mut self, id: ConnectionId) -> Begun {
        let mut begun = std::mem::take(&mut self.lines.get_mut(&id).expect("it is there").begun);
        let last: BTreeMap<Key, _> = begun.changes.drain(..).collect();
        begun.changes.extend(last);
        begun
    }

    fn handle_unsubscribe(&mut self, id: ConnectionId, client: &str, unsubscribe: &Unsubscribe<'_>) {
        self.unsubscribe_until(id, client, unsubscribe, unsubscribe.filters.iter().count());
        let Begun { codes, changes, .. } = self.take_begun(id);
        let answer = Answer::UnsubAck(unsubscribe.packet_identifier.value(), codes);
        self.owe_about(id, answer, Subject::Subscriptions(changes));
    }

    fn handle_disconnect(&mut self, id: ConnectionId, client: &str, disconnect: &Disconnect<'_>) {
        if let Some(interval) = disconnect.properties.session_expiry_interval() {
            self.session(client).expiry = interval.min(self.limits.session_expiry_maximum);
        }
        self.depart(id, disconnect.reason_code == ReasonCode::Success);
        let line = self.lines.get_mut(&id).expect("it is closed later");
        line.progress = Progress::Ending(None);
    }
}
