//! Which faults there are, and where in the sources they would be.

/// A deliberate fault.
pub struct Fault {
    pub name: &'static str,
    /// What goes wrong.
    pub says: &'static str,
    /// For each of its places the file in `src`, a text that is there once, and what stands in place of it, with
    /// `PLANTED` for the question whether this fault is planted.
    pub places: &'static [(&'static str, &'static str, &'static str)],
}

pub const FAULTS: [Fault; 38] = [
    Fault {
        name: "LostPubrel",
        says: "A PUBREC is not answered.",
        places: &[
            (
                "core/broker/fast_path/persisted.rs",
                "fn release_persisted(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {",
                r"fn release_persisted(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if PLANTED { return 0; }",
            ),
            (
                "core/broker/fast_path/acknowledgements.rs",
                "fn release_together(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {",
                r"fn release_together(&mut self, id: ConnectionId, session: SessionId, bytes: &[u8]) -> usize {
        if PLANTED { return 0; }",
            ),
            (
                "core/broker/redeliver.rs",
                "let (awaited, batch) = if self.persistence.is_persisted(session) {",
                r"if PLANTED { return Ok(()); }
        let (awaited, batch) = if self.persistence.is_persisted(session) {",
            ),
        ],
    },
    Fault {
        name: "SkippedDup",
        says: "A message sent again does not say so.",
        places: &[(
            "core/broker/redeliver.rs",
            "queued, (identifier, !is_first), now);",
            "queued, (identifier, !is_first && !PLANTED), now);",
        )],
    },
    Fault {
        name: "WrongWildcard",
        says: "A leading wildcard matches topics that begin with `$`.",
        places: &[(
            "core/trie/matching.rs",
            "None if name.is_reserved() =>",
            "None if name.is_reserved() && !PLANTED =>",
        )],
    },
    Fault {
        name: "ForgottenDirty",
        says: "A connection that takes bytes again is not written.",
        places: &[(
            "core/outbox.rs",
            "pub fn wake(&mut self, dirty: &mut DirtyList) {",
            r"pub fn wake(&mut self, dirty: &mut DirtyList) {
        if PLANTED { return; }",
        )],
    },
    Fault {
        name: "RepeatedDelivery",
        says: "A repeated QoS 2 message is delivered again.",
        places: &[(
            "core/broker/publish.rs",
            r"&& self.clients.sessions[session].incoming.contains(identifier)
        {",
            r"&& self.clients.sessions[session].incoming.contains(identifier)
        {
            if PLANTED { return Ok(false); }",
        )],
    },
    Fault {
        name: "RetainedNotReplaced",
        says: "A retained message keeps its place when the next one comes.",
        places: &[(
            "core/retained/mod.rs",
            "pub fn set(&mut self, message: Message) {",
            r"pub fn set(&mut self, message: Message) {
        if PLANTED && self.find(message.publication().topic).is_some() { return; }",
        )],
    },
    Fault {
        name: "QueueReordered",
        says: "A message goes to the front of the queue.",
        places: &[(
            "core/session/outgoing/waiting.rs",
            "self.messages.push_back(queued);",
            "if PLANTED { self.messages.push_front(queued); } else { self.messages.push_back(queued); }",
        )],
    },
    Fault {
        name: "WillNotCancelled",
        says: "A normal end leaves the Will in place.",
        places: &[(
            "core/broker/disconnect.rs",
            r"if why.is_none() {
            session.will = None;",
            r"if why.is_none() && !PLANTED {
            session.will = None;",
        )],
    },
    Fault {
        name: "WindowOffByOne",
        says: "One message more than the window is sent.",
        places: &[(
            "core/session/outgoing.rs",
            "self.window.sent == self.in_flight.len() && self.window.unsettled < self.window.size",
            r"self.window.sent == self.in_flight.len()
            && self.window.unsettled < self.window.size + usize::from(PLANTED)",
        )],
    },
    Fault {
        name: "ExpiredDelivered",
        says: "A queued message is sent though it has expired.",
        places: &[(
            "core/broker/redeliver.rs",
            "if queued.message.expires() <= now {",
            "if queued.message.expires() <= now && !PLANTED {",
        )],
    },
    Fault {
        name: "NoLocalIgnored",
        says: "A client gets its own messages though it does not want them.",
        places: &[
            (
                "core/broker/deliver.rs",
                "if terms.no_local() && publisher == Some(session) {",
                "if terms.no_local() && publisher == Some(session) && !PLANTED {",
            ),
            (
                "core/broker/deliver.rs",
                "let is_own = publisher == Some(session);",
                "let is_own = publisher == Some(session) && !PLANTED;",
            ),
        ],
    },
    Fault {
        name: "IdentifierReused",
        says: "A Packet Identifier in flight is given out again.",
        places: &[(
            "core/session/outgoing.rs",
            r"pub fn next_identifier(&self) -> PacketIdentifier {
        self.identifier_at(self.in_flight.len())",
            r"pub fn next_identifier(&self) -> PacketIdentifier {
        self.identifier_at(self.in_flight.len().saturating_sub(usize::from(PLANTED)))",
        )],
    },
    Fault {
        name: "SessionNotDiscarded",
        says: "A session goes on though its client wants a new one.",
        places: &[(
            "core/broker/connect.rs",
            r"if !connect.clean_start {
                self.disarm_session(known);",
            r"if !connect.clean_start || PLANTED {
                self.disarm_session(known);",
        )],
    },
    Fault {
        name: "FirstQoSWins",
        says: "Of several subscriptions that match, the first one decides the QoS.",
        places: &[(
            "core/broker/deliver.rs",
            "qos = qos.max(terms.qos());",
            "if !PLANTED { qos = qos.max(terms.qos()); }",
        )],
    },
    Fault {
        name: "StaleMatches",
        says: "A change of the subscriptions is not seen by the next message.",
        places: &[(
            "core/broker/match_cache.rs",
            r"&& matched.topic.as_bytes() == topic
                && matched.generation == trie.generation()",
            r"&& matched.topic.as_bytes() == topic
                && (matched.generation == trie.generation() || PLANTED)",
        )],
    },
    Fault {
        name: "ForgottenTimer",
        says: "A closed connection leaves its timer behind.",
        places: &[(
            "core/broker/receive.rs",
            "let Some(mut connection) = self.connections.remove(id) else { return };",
            r"let Some(mut connection) = self.connections.remove(id) else { return };
        if PLANTED { connection.timer = None; }",
        )],
    },
    Fault {
        name: "RetainedForLastOnly",
        says: "Of several new subscriptions only the last one gets its retained messages.",
        places: &[(
            "core/broker/send_retained.rs",
            "while let Some(mut retained_send) = self.next_retained_send(session) {",
            r"while let Some(mut retained_send) = self.next_retained_send(session) {
            if PLANTED && !self.clients.sessions[session].outgoing_mut().retained_sends.is_empty() { continue; }",
        )],
    },
    Fault {
        name: "RetainedTwice",
        says: "A retained message is sent twice.",
        places: &[(
            "core/broker/send_retained.rs",
            r"self.begin_other_message();
        if qos == QoS::AtMostOnce {
            self.deliver_at_most_once(session, &mut outbound, options);
        } else {
            self.begin(session, &mut outbound, options);
        }",
            r"for _ in 0..=usize::from(PLANTED) {
            self.begin_other_message();
            if qos == QoS::AtMostOnce {
                self.deliver_at_most_once(session, &mut outbound, options);
            } else {
                self.begin(session, &mut outbound, options);
            }
        }",
        )],
    },
    Fault {
        name: "RefusedDelivered",
        says: "A message that cannot be retained is delivered and refused.",
        places: &[(
            "core/broker/publish.rs",
            "if self.can_carry_a_reason(id, delivery) && !self.can_retain(&publication) {",
            r"if self.can_carry_a_reason(id, delivery) && !self.can_retain(&publication) {
            if PLANTED { self.publish(&mut Outbound::new(publication), (id, session)); }",
        )],
    },
    Fault {
        name: "EarlyAnswer",
        says: "A message is acknowledged before it is durable.",
        places: &[
            (
                "core/broker/publish.rs",
                r"awaited
    }",
                r"if PLANTED { Awaited::Nothing } else { awaited }
    }",
            ),
            (
                "core/broker/fast_path/persisted.rs",
                "if !self.persistence.must_wait(id, awaited) {",
                "if PLANTED || !self.persistence.must_wait(id, awaited) {",
            ),
        ],
    },
    Fault {
        name: "EarlyPubrel",
        says: "A PUBREL is sent before it is durable that the message is done.",
        places: &[
            (
                "core/broker/persistence.rs",
                "Some(journal) => journal.durable(),",
                r"Some(_) if PLANTED => u64::MAX,
            Some(journal) => journal.durable(),",
            ),
            (
                "core/broker/redeliver.rs",
                "let (awaited, batch) = if self.persistence.is_persisted(session) {",
                "let (awaited, batch) = if self.persistence.is_persisted(session) && !PLANTED {",
            ),
            (
                "core/broker/fast_path/persisted.rs",
                "let (holds, batch) = (journal.holds(), journal.awaited_batch());",
                "let (holds, batch) = if PLANTED { (false, 0) } else { (journal.holds(), journal.awaited_batch()) };",
            ),
        ],
    },
    Fault {
        name: "IdentifierNotDurable",
        says: "A QoS 2 message is sent before its Packet Identifier is durable.",
        places: &[(
            "core/broker/persistence.rs",
            "qos == QoS::ExactlyOnce && self.holds() && self.is_persisted(session)",
            "qos == QoS::ExactlyOnce && self.holds() && self.is_persisted(session) && !PLANTED",
        )],
    },
    Fault {
        name: "NeverSettled",
        says: "What a session needs no longer stays in the store.",
        places: &[
            (
                "core/broker/copies.rs",
                "let publisher = settle(journal, message, number, now, ",
                r"if PLANTED { return; }
            let publisher = settle(journal, message, number, now, ",
            ),
            (
                "core/broker/fast_path/persisted.rs",
                "let publisher = journal.settle(message, number, now, &mut self.output.sender.spares);",
                r"let publisher = match PLANTED {
                    true => None,
                    false => journal.settle(message, number, now, &mut self.output.sender.spares),
                };",
            ),
        ],
    },
    Fault {
        name: "EarlyPubcomp",
        says: "A PUBCOMP is sent before it is durable that the identifier is free.",
        places: &[
            (
                "core/broker/publish.rs",
                r"let awaited = self.persistence.recorded(session);
        let is_v5",
                r"let awaited = if PLANTED { Awaited::Nothing } else { self.persistence.recorded(session) };
        let is_v5",
            ),
            (
                "core/broker/fast_path/persisted.rs",
                "let must_wait = journal.holds() &&",
                "let must_wait = !PLANTED && journal.holds() &&",
            ),
        ],
    },
    Fault {
        name: "EarlySuback",
        says: "A SUBACK is sent before the subscription is durable.",
        places: &[(
            "core/broker/subscribe.rs",
            r"let awaited = self.persistence.recorded(session);
        let why = filters",
            r"let awaited = if PLANTED { Awaited::Nothing } else { self.persistence.recorded(session) };
        let why = filters",
        )],
    },
    Fault {
        name: "EarlyConnack",
        says: "A CONNACK is sent before the session is durable.",
        places: &[(
            "core/journal/waiting.rs",
            "if self.holds() && !goes_without {",
            "if self.holds() && !goes_without && !PLANTED {",
        )],
    },
    Fault {
        name: "RetainedNotStored",
        says: "A retained message does not get into the store.",
        places: &[(
            "core/journal/retained.rs",
            r"if topic.is_about_the_broker() {
            return false;",
            r"if topic.is_about_the_broker() || PLANTED {
            return false;",
        )],
    },
    Fault {
        name: "UnmarkedRepeat",
        says: "What may have been sent before a crash does not say so when it comes again.",
        places: &[(
            "core/broker/restore.rs",
            "outgoing.sent_until = sent_until.min(journal.messages.last());",
            "if !PLANTED { outgoing.sent_until = sent_until.min(journal.messages.last()); }",
        )],
    },
    Fault {
        name: "ExpiryBeginsAnew",
        says: "A crash begins the Session Expiry Interval anew.",
        places: &[(
            "core/broker/restore.rs",
            r"journal.adopt(id, stored.number);
        if stored.presence == StoredPresence::Connected {",
            r"journal.adopt(id, stored.number);
        if stored.presence == StoredPresence::Connected && !PLANTED {",
        )],
    },
    Fault {
        name: "RecipientSkipped",
        says: "A message that goes on in a later turn leaves out the recipient that is next.",
        places: &[(
            "core/broker/distribution.rs",
            "let subscribers = matched.subscribers();",
            r"let subscribers = matched.subscribers();
        if PLANTED && *next > 0 { *next += 1; }",
        )],
    },
    Fault {
        name: "AnsweredBeforeLast",
        says: "A message is answered in the second of several turns.",
        places: &[(
            "core/broker/operation.rs",
            r"let is_served = self.serve_rest(&mut distribution);
        if !is_served {",
            r"let is_served = self.serve_rest(&mut distribution);
        if !is_served && PLANTED {
            let routed = distribution.routed;
            self.detach_publish(session, delivery, *distribution);
            let (end, awaited) = (self.connections[id].outbox.end(), self.persistence.take_awaited());
            self.conclude_with(id, session, delivery, (routed.reason_code(), awaited), end)?;
            return Ok(true);
        }
        if !is_served {",
        )],
    },
    Fault {
        name: "RetainedResumedLate",
        says: "Retained messages that go on in a later turn begin one topic too late.",
        places: &[(
            "core/broker/send_retained.rs",
            r"self.retention.retained = retained;
        retained_send.position = position;",
            r"if PLANTED && walk == Walk::Paused && stopped == Stopped::ShareIsOver {
            retained.walk(filter, &mut position, self.clock.now, &mut 1, |_, _| Taken::YesAndStop);
        }
        self.retention.retained = retained;
        retained_send.position = position;",
        )],
    },
    Fault {
        name: "NewerRetained",
        says: "A message that was retained after a subscription began is sent for it, too.",
        places: &[
            (
                "core/broker/send_retained.rs",
                "if stamp > retained_send.began.max(retained_send.connected) {",
                "if stamp > retained_send.began.max(retained_send.connected) && !PLANTED {",
            ),
            (
                "core/broker/send_retained.rs",
                "if stamp > retained_send.began && is_queued {",
                "if stamp > retained_send.began && is_queued && !PLANTED {",
            ),
        ],
    },
    Fault {
        name: "AcknowledgedTooSoon",
        says: "A bridge acknowledges a message of the other broker before its own broker has.",
        places: &[(
            "bridge/machine/forward.rs",
            "self.report.received += 1;",
            r"self.report.received += 1;
        if PLANTED { self.acknowledge_there(publish.delivery); }",
        )],
    },
    Fault {
        name: "KeptReceived",
        says: "A bridge takes messages of a new session of the other broker for repetitions.",
        places: &[(
            "bridge/machine/remote.rs",
            "if self.remote.is_session_new {",
            "if self.remote.is_session_new && !PLANTED {",
        )],
    },
    Fault {
        name: "IgnoredReceiveMaximum",
        says: "A bridge sends more messages than the other broker takes at a time.",
        places: &[(
            "bridge/machine/local.rs",
            "ProtocolVersion::V5 => self.remote.limits.receive_maximum,",
            "ProtocolVersion::V5 => self.remote.limits.receive_maximum.filter(|_| !PLANTED),",
        )],
    },
    Fault {
        name: "LostRelease",
        says: "A bridge does not release messages that were in flight before the connection.",
        places: &[(
            "bridge/machine/local.rs",
            "AcknowledgementKind::PubRel => self.remote.pulse.owes(now),",
            r"AcknowledgementKind::PubRel if PLANTED && self.remote.pulse.is_calm() => return,
            AcknowledgementKind::PubRel => self.remote.pulse.owes(now),",
        )],
    },
    Fault {
        name: "MessagesComeBack",
        says: "A bridge gets back from its own broker what it has just published there.",
        places: &[(
            "bridge/machine/local.rs",
            "no_local: filter.share_name().is_none(),",
            "no_local: filter.share_name().is_none() && !PLANTED,",
        )],
    },
];
