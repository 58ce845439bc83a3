//! The bytes that one connection still has to send. Small packets are copied into it, large payloads are referenced,
//! and an idle connection holds no buffer at all.
//!
//! Only [`Outbox::push`] and [`Outbox::push_with_payload`] queue bytes, and both take the list of dirty connections, so
//! that no queued byte is ever forgotten.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use crate::base::memory::{self, Audit, Bytes, Counted};
use crate::core::message::Message;
use crate::core::slots::ConnectionId;

/// The approximate size of the chunks into which packets are copied.
const CHUNK_BYTES: usize = 64 * 1024;
/// The least room of a buffer for copied packets.
const TAIL_BYTES_MINIMUM: usize = 128;
/// The most slices of one vectored write.
const SLICES_MAXIMUM: usize = 64;
/// The most places for chunks that an unused buffer keeps.
const SPARE_CHUNKS_MAXIMUM: usize = 64;
/// The most bytes of spare buffers in all; the rest goes back to the allocator.
const SPARE_BYTES_MAXIMUM: usize = 1024 * 1024;
/// The number of turns after which spare buffers that none of these turns needed are released.
const TURNS_REMEMBERED: u32 = 256;

#[derive(Debug)]
enum Chunk {
    Copied(Bytes),
    Payload(Message),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Payload(message) => message.payload(),
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// The chunks before the tail.
    chunks: VecDeque<Chunk>,
    /// What was copied last; further packets are appended here.
    tail: Bytes,
    /// The bytes of the first chunk, or else of the tail, that have been written.
    written: usize,
    /// The bytes that have not been written, in all chunks.
    length: usize,
    /// About how many packets have not been written: a write may end in the middle of any packet.
    packets: u64,
    left: Left,
    counted: Counted,
}

/// What a socket did not take when it was last written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// About how many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// The connections whose outbox is to be written in this turn, and the spare buffers.
#[derive(Debug, Default)]
pub struct DirtyList {
    connections: Vec<ConnectionId>,
    #[expect(clippy::vec_box, reason = "they go back into outboxes, which hold one word while idle")]
    spares: Vec<Box<Waiting>>,
    chunks: Vec<Bytes>,
    chunk_bytes: usize,
    /// The turns since the spare buffers were last examined, and the most connections that one of them wrote.
    turns: u32,
    most: usize,
    /// The memory of the lists; their contents count themselves.
    counted: Counted,
}

impl DirtyList {
    /// Takes the connections to write, in the order in which they became dirty, and leaves `emptied` to be filled.
    pub fn take(&mut self, emptied: Vec<ConnectionId>) -> Vec<ConnectionId> {
        self.most = self.most.max(self.connections.len());
        self.turns += 1;
        if self.turns == TURNS_REMEMBERED {
            self.forget_spares(self.most);
            (self.turns, self.most) = (0, 0);
        }
        // Both lists of connections are about as long as in the busiest turn.
        self.counted.set(
            2 * memory::allocation(self.connections.capacity() * size_of::<ConnectionId>())
                + memory::allocation(self.spares.capacity() * size_of::<Box<Waiting>>())
                + memory::allocation(self.chunks.capacity() * size_of::<Bytes>()),
        );
        std::mem::replace(&mut self.connections, emptied)
    }

    /// Keeps spare buffers for `count` connections. The oldest ones are released, and the space of the lists, too:
    /// memory left from a peak keeps the allocator from releasing the pages around it.
    pub fn forget_spares(&mut self, count: usize) {
        self.spares = self.spares.split_off(self.spares.len().saturating_sub(count));
        self.chunks = self.chunks.split_off(self.chunks.len().saturating_sub(count));
        self.chunk_bytes = self.chunks.iter().map(Bytes::memory).sum();
    }

    /// Whether no connection is to be written.
    pub const fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Adds the memory of the spare buffers to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes());
        self.chunks.iter().for_each(|chunk| audit.add(chunk.memory()));
        self.spares.iter().for_each(|waiting| waiting.audit(audit));
    }

    fn spare_chunk(&mut self) -> Bytes {
        let chunk = self.chunks.pop().unwrap_or_default();
        self.chunk_bytes -= chunk.memory();
        chunk
    }

    fn recycle_chunk(&mut self, chunk: Chunk) {
        let Chunk::Copied(mut bytes) = chunk else { return };
        let is_of_use = 0 < bytes.capacity() && bytes.capacity() <= 2 * CHUNK_BYTES;
        if is_of_use && self.chunk_bytes + bytes.memory() <= SPARE_BYTES_MAXIMUM {
            bytes.edit(Vec::clear);
            self.chunk_bytes += bytes.memory();
            self.chunks.push(bytes);
        }
    }

    /// Keeps the buffers of an outbox that has nothing more to send.
    fn recycle_waiting(&mut self, mut waiting: Box<Waiting>) {
        while let Some(chunk) = waiting.chunks.pop_front() {
            self.recycle_chunk(chunk);
        }
        self.recycle_chunk(Chunk::Copied(std::mem::take(&mut waiting.tail)));
        waiting.written = 0;
        waiting.packets = 0;
        waiting.left = Left::default();
        waiting.shrink();
        if self.spares.len() < SPARE_BYTES_MAXIMUM / 1024 {
            self.spares.push(waiting);
        }
    }
}

/// The bytes that one connection still has to send, in order.
#[derive(Debug)]
pub struct Outbox {
    connection: ConnectionId,
    waiting: Option<Box<Waiting>>,
    is_dirty: bool,
    /// Whether the socket takes nothing any longer.
    is_lost: bool,
    /// Whether QoS 0 messages are not put here at once but wait in the queue of the session, after others of that QoS.
    pub queues_at_most_once: bool,
    /// Whether a QoS 0 message was dropped since the socket last took everything.
    pub is_losing: bool,
    /// All bytes written since the connection began.
    sent: u64,
}

impl Outbox {
    /// Makes an empty outbox.
    pub const fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            waiting: None,
            is_dirty: false,
            is_lost: false,
            queues_at_most_once: false,
            is_losing: false,
            sent: 0,
        }
    }

    /// The bytes that have not been written yet.
    #[inline]
    pub fn len(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.length)
    }

    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that the socket takes nothing any longer. Queued and further bytes stay here until they are discarded.
    pub const fn lose(&mut self) {
        self.is_lost = true;
    }

    /// Whether the socket takes nothing any longer.
    pub const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether more than `most` bytes are queued for a peer that could read them.
    #[inline]
    pub fn holds_up(&self, most: usize) -> bool {
        self.len() > most && !self.is_lost
    }

    /// The bytes that have been written since the connection began.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// What the socket did not take at the last write.
    pub fn left(&self) -> Left {
        self.waiting.as_ref().map_or_else(Left::default, |waiting| waiting.left)
    }

    /// The position after the last queued byte, comparable with [`Outbox::sent`].
    pub fn end(&self) -> u64 {
        self.sent + self.len() as u64
    }

    /// Queues the bytes that `encode` appends to the buffer it is given.
    #[inline]
    pub fn push(&mut self, dirty: &mut DirtyList, encode: impl FnOnce(&mut Vec<u8>)) {
        let waiting = Self::mark(self.connection, &mut self.waiting, &mut self.is_dirty, dirty);
        if waiting.tail.len() >= CHUNK_BYTES || waiting.tail.capacity() == 0 {
            waiting.begin_tail(dirty);
        }
        let before = waiting.tail.len();
        waiting.tail.edit(encode);
        let added = waiting.tail.len() - before;
        waiting.length += added;
        waiting.packets += u64::from(added > 0);
    }

    /// Queues the bytes that `encode` appends, and after them the payload of `message` without copying it.
    pub fn push_with_payload(
        &mut self,
        dirty: &mut DirtyList,
        encode: impl FnOnce(&mut Vec<u8>),
        message: &Message,
    ) {
        self.push(dirty, encode);
        if let Some(waiting) = &mut self.waiting {
            waiting.length += message.payload_length();
            waiting.close_tail();
            waiting.append(Chunk::Payload(message.clone()));
        }
    }

    /// Moves the bytes that were pushed last, in one piece and from position `from` on, to position `to`. Both
    /// positions are from [`Outbox::end`], and nothing has been written since.
    pub fn bring_forward(&mut self, from: u64, to: u64) {
        let end = self.end();
        let behind = |position| usize::try_from(end - position).expect("it is in memory");
        let (length, all) = (behind(from), behind(to));
        let Some(waiting) = &mut self.waiting else { return };
        let kept = waiting.tail.len() - length;
        let moved = waiting.tail.edit(|tail| tail.split_off(kept));
        waiting.insert(&moved, all - length);
    }

    /// Marks the connection dirty and returns its queued bytes.
    #[inline]
    fn mark<'a>(
        connection: ConnectionId,
        waiting: &'a mut Option<Box<Waiting>>,
        is_dirty: &mut bool,
        dirty: &mut DirtyList,
    ) -> &'a mut Waiting {
        if !*is_dirty {
            *is_dirty = true;
            dirty.connections.push(connection);
        }
        waiting.get_or_insert_with(|| dirty.spares.pop().unwrap_or_default())
    }

    /// Marks the connection dirty again, because its socket takes bytes again.
    pub fn wake(&mut self, dirty: &mut DirtyList) {
        if !self.is_empty() {
            Self::mark(self.connection, &mut self.waiting, &mut self.is_dirty, dirty);
        }
    }

    /// Skips this write; the connection stays out of the dirty list until [`Outbox::wake`] or the next push.
    pub fn rest(&mut self) {
        self.is_dirty = false;
    }

    /// Writes until everything is written or the writer would block. Returns the number of bytes written. A connection
    /// that would block stays out of the dirty list until [`Outbox::wake`] or the next push.
    ///
    /// # Errors
    ///
    /// Those of the writer, except for [`io::ErrorKind::WouldBlock`].
    pub fn write_to(&mut self, dirty: &mut DirtyList, writer: &mut impl Write) -> io::Result<usize> {
        self.is_dirty = false;
        let Some(mut waiting) = self.waiting.take() else { return Ok(0) };
        let mut total = 0;
        let outcome = loop {
            if waiting.length == 0 {
                break Ok(());
            }
            match waiting.write_once(writer) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    total += count;
                    waiting.advance(count, dirty);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.sent += total as u64;
        if waiting.length == 0 {
            self.is_losing = false;
            dirty.recycle_waiting(waiting);
        } else {
            waiting.leave(total);
            self.waiting = Some(waiting);
        }
        outcome.map(|()| total)
    }

    /// Discards everything that has not been written.
    pub fn clear(&mut self, dirty: &mut DirtyList) {
        if let Some(mut waiting) = self.waiting.take() {
            waiting.length = 0;
            dirty.recycle_waiting(waiting);
        }
    }

    /// Adds the memory that it holds to an audit.
    pub fn audit(&self, audit: &mut Audit) {
        if let Some(waiting) = &self.waiting {
            waiting.audit(audit);
        }
    }

    /// Asserts that the sums are right.
    pub fn check_invariants(&self) {
        if let Some(waiting) = &self.waiting {
            let before_tail: usize = waiting.chunks.iter().map(|chunk| chunk.bytes().len()).sum();
            let length = before_tail + waiting.tail.len();
            assert_eq!(length - waiting.written, waiting.length, "the outbox counts its bytes");
            assert!(waiting.length > 0 || self.is_dirty, "an outbox without bytes holds no buffer");
        }
    }
}

impl Waiting {
    fn audit(&self, audit: &mut Audit) {
        audit.add(self.counted.bytes() + self.tail.memory());
        for chunk in &self.chunks {
            match chunk {
                Chunk::Copied(bytes) => audit.add(bytes.memory()),
                Chunk::Payload(message) => message.audit(audit),
            }
        }
    }

    /// Moves the tail to the end of the chunks, where nothing more is appended to it.
    fn close_tail(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            self.append(Chunk::Copied(tail));
        }
    }

    /// Begins a new tail with a spare buffer.
    #[cold]
    fn begin_tail(&mut self, dirty: &mut DirtyList) {
        self.close_tail();
        self.tail = dirty.spare_chunk();
        self.tail.edit(|tail| tail.reserve(TAIL_BYTES_MINIMUM));
        if self.counted.bytes() == 0 {
            self.counted.set(memory::allocation(size_of::<Self>()));
        }
    }

    /// Inserts bytes before the last `behind` ones, of which the first were copied.
    fn insert(&mut self, inserted: &[u8], mut behind: usize) {
        let insert =
            |bytes: &mut Bytes, at| bytes.edit(|bytes| drop(bytes.splice(at..at, inserted.iter().copied())));
        if let Some(at) = self.tail.len().checked_sub(behind) {
            insert(&mut self.tail, at);
            return;
        }
        behind -= self.tail.len();
        for chunk in self.chunks.iter_mut().rev() {
            let length = chunk.bytes().len();
            match chunk {
                Chunk::Copied(bytes) if behind <= length => {
                    insert(bytes, length - behind);
                    return;
                }
                _ => behind -= length,
            }
        }
    }

    fn append(&mut self, chunk: Chunk) {
        self.chunks.push_back(chunk);
        self.count();
    }

    /// Releases the places of a peak.
    fn shrink(&mut self) {
        if self.chunks.capacity() > SPARE_CHUNKS_MAXIMUM {
            self.chunks.shrink_to(SPARE_CHUNKS_MAXIMUM);
            self.count();
        }
    }

    fn count(&mut self) {
        let chunks = memory::allocation(self.chunks.capacity() * size_of::<Chunk>());
        self.counted.set(memory::allocation(size_of::<Self>()) + chunks);
    }

    fn write_once(&self, writer: &mut impl Write) -> io::Result<usize> {
        if self.chunks.is_empty() {
            return writer.write(&self.tail[self.written..]);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAXIMUM];
        let mut count = 0;
        let all = self.chunks.iter().map(Chunk::bytes).chain([&*self.tail]);
        for (slice, bytes) in slices.iter_mut().zip(all) {
            let skipped = if count == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&bytes[skipped..]);
            count += 1;
        }
        writer.write_vectored(&slices[..count])
    }

    /// Notes what is left after a write of this many bytes: packets in proportion to bytes.
    fn leave(&mut self, written: usize) {
        let (bytes, all) = (self.length as u64, (self.length + written) as u64);
        self.packets = (self.packets * bytes).div_ceil(all.max(1));
        self.left = Left { packets: self.packets, bytes };
    }

    fn advance(&mut self, count: usize, dirty: &mut DirtyList) {
        self.length -= count;
        self.written += count;
        while let Some(first) = self.chunks.front() {
            let length = first.bytes().len();
            if self.written < length {
                break;
            }
            self.written -= length;
            let chunk = self.chunks.pop_front().expect("it was just seen");
            dirty.recycle_chunk(chunk);
        }
    }
}
