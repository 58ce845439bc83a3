/*
 * The floor: the cost of relaying MQTT over TCP on one thread, with nothing done but relaying.
 *
 * It is not a broker. It accepts any CONNECT and exact topics only, copies each PUBLISH to all clients that have
 * subscribed to exactly that topic, answers QoS 1 at once, has no sessions, holds nothing back and checks nothing. What
 * remains is the kernel's work and one copy per receiver, so the figures of a broker can be divided by its figures.
 *
 *     cc -O2 -o floor floor.c && ./floor PORT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEERS_MAXIMUM = 1 << 16, TOPICS_MAXIMUM = 1 << 16, EVENTS_A_TURN = 512, READ_BYTES = 256 * 1024 };
enum { CONNECT = 1, PUBLISH = 3, SUBSCRIBE = 8, PINGREQ = 12, DISCONNECT = 14 };

struct bytes {
    uint8_t *data;
    size_t length, capacity;
};

/* One connection. Its index in `peers` is its file descriptor. */
struct peer {
    bool open, version_5, has_output, has_ended;
    uint16_t packet_identifier;
    uint32_t generation; /* distinguishes earlier connections with the same descriptor */
    size_t written;
    struct bytes cut;    /* the beginning of a packet whose end has not come yet */
    struct bytes output;
};

struct subscriber {
    int descriptor;
    uint32_t generation;
};

struct topic {
    uint8_t *name;
    uint16_t length;
    int count, capacity;
    struct subscriber *subscribers;
};

static struct peer peers[PEERS_MAXIMUM];
static struct topic topics[TOPICS_MAXIMUM];
static int to_write[PEERS_MAXIMUM], to_write_count;
static uint8_t read_buffer[READ_BYTES];
static int poller;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint8_t *extend(struct bytes *bytes, size_t count) {
    if (bytes->length + count > bytes->capacity) {
        bytes->capacity = 2 * (bytes->length + count);
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (!bytes->data) fail("memory");
    }
    uint8_t *added = bytes->data + bytes->length;
    bytes->length += count;
    return added;
}

/* Makes room for `count` bytes at the end of the output of `peer`. */
static uint8_t *output(struct peer *peer, size_t count) {
    if (!peer->has_output) {
        peer->has_output = true;
        to_write[to_write_count++] = (int)(peer - peers);
    }
    return extend(&peer->output, count);
}

static void answer(struct peer *peer, const char *bytes, size_t count) {
    memcpy(output(peer, count), bytes, count);
}

static unsigned read_16(const uint8_t *at) {
    return (unsigned)at[0] << 8 | at[1];
}

/* The topic with that name; an empty slot if it is new. */
static struct topic *place_of(const uint8_t *name, unsigned length) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (unsigned i = 0; i < length; i++) hash = (hash ^ name[i]) * 0x100000001b3u;
    for (size_t place = hash;; place++) {
        struct topic *topic = &topics[place % TOPICS_MAXIMUM];
        if (!topic->name) return topic;
        if (topic->length == length && !memcmp(topic->name, name, length)) return topic;
    }
}

static void subscribe(struct peer *peer, const uint8_t *name, unsigned length) {
    struct topic *topic = place_of(name, length);
    if (!topic->name) {
        topic->name = malloc(length + 1u);
        memcpy(topic->name, name, length);
        topic->length = (uint16_t)length;
    }
    if (topic->count == topic->capacity) {
        topic->capacity = topic->capacity ? 2 * topic->capacity : 1;
        topic->subscribers = realloc(topic->subscribers, (size_t)topic->capacity * sizeof *topic->subscribers);
    }
    topic->subscribers[topic->count++] = (struct subscriber){(int)(peer - peers), peer->generation};
}

static void take_subscribe(struct peer *peer, const uint8_t *body, size_t length) {
    uint8_t reply[128] = {0x90, 0, body[0], body[1]};
    size_t size = 4, at = 2;
    if (peer->version_5) {
        at += 1u + body[2];
        reply[size++] = 0;
    }
    while (at + 3 <= length && size < sizeof reply) {
        unsigned name_length = read_16(body + at);
        subscribe(peer, body + at + 2, name_length);
        at += 2 + name_length;
        reply[size++] = body[at++] & 3;
    }
    reply[1] = (uint8_t)(size - 2);
    memcpy(output(peer, size), reply, size);
}

/* `body` lies inside the packet, after its fixed header. */
static void relay(struct peer *from, const uint8_t *packet, size_t size, const uint8_t *body) {
    unsigned qos = packet[0] >> 1 & 3, name_length = read_16(body);
    struct topic *topic = place_of(body + 2, name_length);
    size_t identifier_at = (size_t)(body - packet) + 2 + name_length;
    for (int i = 0; i < topic->count; i++) {
        struct subscriber *subscriber = &topic->subscribers[i];
        struct peer *to = &peers[subscriber->descriptor];
        if (!to->open || to->generation != subscriber->generation) {
            *subscriber = topic->subscribers[--topic->count];
            i--;
            continue;
        }
        uint8_t *copy = output(to, size);
        memcpy(copy, packet, size);
        if (qos) {
            if (++to->packet_identifier == 0) to->packet_identifier = 1;
            copy[identifier_at] = (uint8_t)(to->packet_identifier >> 8);
            copy[identifier_at + 1] = (uint8_t)to->packet_identifier;
        }
    }
    if (qos == 1) {
        const char reply[] = {0x40, 2, (char)packet[identifier_at], (char)packet[identifier_at + 1]};
        answer(from, reply, sizeof reply);
    }
}

static void take(struct peer *peer, const uint8_t *packet, size_t size, const uint8_t *body) {
    switch (packet[0] >> 4) {
    case CONNECT:
        peer->version_5 = body[6] == 5;
        if (peer->version_5) answer(peer, "\x20\x03\x00\x00\x00", 5);
        else answer(peer, "\x20\x02\x00\x00", 4);
        break;
    case PUBLISH: relay(peer, packet, size, body); break;
    case SUBSCRIBE: take_subscribe(peer, body, size - (size_t)(body - packet)); break;
    case PINGREQ: answer(peer, "\xd0\x00", 2); break;
    case DISCONNECT: peer->has_ended = true; break;
    default: break;
    }
}

/* Handles the whole packets in `bytes` and returns how many bytes they are. */
static size_t take_all(struct peer *peer, const uint8_t *bytes, size_t length) {
    size_t taken = 0;
    for (;;) {
        size_t at = taken + 1, remaining = 0;
        unsigned shift = 0;
        bool more = true;
        while (more && at < length) {
            remaining |= (size_t)(bytes[at] & 127) << shift;
            more = bytes[at++] & 128;
            shift += 7;
        }
        if (more || length - at < remaining) return taken;
        take(peer, bytes + taken, at + remaining - taken, bytes + at);
        taken = at + remaining;
    }
}

static void end(struct peer *peer) {
    close((int)(peer - peers));
    free(peer->cut.data);
    free(peer->output.data);
    *peer = (struct peer){.generation = peer->generation, .has_output = peer->has_output};
}

static void read_from(struct peer *peer) {
    ssize_t count;
    do {
        count = read((int)(peer - peers), read_buffer, sizeof read_buffer);
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) {
            end(peer);
            return;
        }
        const uint8_t *bytes = read_buffer;
        size_t length = (size_t)count;
        bool was_cut = peer->cut.length > 0;
        if (was_cut) {
            memcpy(extend(&peer->cut, length), read_buffer, length);
            bytes = peer->cut.data;
            length = peer->cut.length;
        }
        size_t taken = take_all(peer, bytes, length);
        if (was_cut) {
            memmove(peer->cut.data, bytes + taken, length - taken);
            peer->cut.length = length - taken;
        } else if (taken < length) {
            memcpy(extend(&peer->cut, length - taken), bytes + taken, length - taken);
        }
        if (peer->has_ended) {
            end(peer);
            return;
        }
    } while (count == sizeof read_buffer);
}

static void write_to(struct peer *peer) {
    while (peer->written < peer->output.length) {
        const struct bytes *waiting = &peer->output;
        ssize_t count = write((int)(peer - peers), waiting->data + peer->written, waiting->length - peer->written);
        if (count < 0) {
            if (errno != EAGAIN) end(peer);
            return;
        }
        peer->written += (size_t)count;
    }
    peer->written = peer->output.length = 0;
}

static void watch(int descriptor, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event)) fail("watch");
}

static void accept_all(int listener) {
    int descriptor, on = 1;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (descriptor >= PEERS_MAXIMUM) {
            close(descriptor);
            continue;
        }
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        peers[descriptor].open = true;
        peers[descriptor].generation++;
        watch(descriptor, EPOLLIN | EPOLLOUT | EPOLLET);
    }
}

static int listen_on(int port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    return listener;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: floor PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(0);
    int listener = listen_on(atoi(arguments[1]));
    watch(listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS_A_TURN];
        int happened = epoll_wait(poller, events, EVENTS_A_TURN, -1);
        for (int i = 0; i < happened; i++) {
            int descriptor = events[i].data.fd;
            struct peer *peer = &peers[descriptor];
            if (descriptor == listener) {
                accept_all(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT && peer->output.length) output(peer, 0);
            if (events[i].events & ~(uint32_t)EPOLLOUT) read_from(peer);
        }
        for (int i = 0; i < to_write_count; i++) {
            struct peer *peer = &peers[to_write[i]];
            peer->has_output = false;
            if (peer->open) write_to(peer);
        }
        to_write_count = 0;
    }
}
