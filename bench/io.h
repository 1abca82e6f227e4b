/* Sockets, buffers, clocks and SMPP framing that the load generator and the SMSC share. Linux only: epoll, timerfd. */
#ifndef BENCH_IO_H
#define BENCH_IO_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tls.h"

/* SMPP 3.4, section 5.1.2.1 */
enum {
    GENERIC_NACK = 0x80000000, BIND_RECEIVER = 1, BIND_TRANSMITTER = 2, BIND_TRANSCEIVER = 9, SUBMIT_SM = 4,
    DELIVER_SM = 5, UNBIND = 6, ENQUIRE_LINK = 0x15, RESPONSE = 0x80000000,
};
enum { TAG_RECEIPTED_ID = 0x001E, TAG_PAYLOAD = 0x0424, TAG_STATE = 0x0427, TAG_VENDOR_FIRST = 0x1400 };
enum { PDU_MAX = 65536, HEADER = 16 };

static void die(const char *what) __attribute__((noreturn));
static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "failed");
    exit(2);
}

static void *grow(void *old, size_t bytes) {
    void *fresh = realloc(old, bytes);
    if (!fresh) die("out of memory");
    return fresh;
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Allow as many sockets as the system lets us: each session is one. */
static void allow_files(void) {
    struct rlimit files;
    if (!getrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files);
}

/* User and system time of this process so far, in microseconds. */
static uint64_t cpu_us(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000u + (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static inline uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline void put32(uint8_t *p, uint32_t v) { p[0] = v >> 24; p[1] = v >> 16; p[2] = v >> 8; p[3] = v; }
static inline void put16(uint8_t *p, uint16_t v) { p[0] = v >> 8; p[1] = v; }

struct buf { uint8_t *p; size_t at, len, cap; }; /* what is waiting is p[at..len) */

static inline uint8_t *buf_room(struct buf *b, size_t n) {
    if (b->at == b->len) b->at = b->len = 0;
    if (b->cap - b->len < n) {
        if (b->at) memmove(b->p, b->p + b->at, b->len - b->at);
        b->len -= b->at, b->at = 0;
        if (b->cap - b->len < n) b->p = grow(b->p, b->cap = (b->len + n) * 2);
    }
    return b->p + b->len;
}

struct conn {
    int fd;
    void *ssl;            /* NULL: plain */
    struct buf in, out;
    bool dirty, blocked;  /* has bytes to write; waits for EPOLLOUT */
};

/* Take everything the peer sent into c->in. False when the connection has ended. */
static bool conn_fill(struct conn *c) {
    for (;;) {
        uint8_t *room = buf_room(&c->in, 65536);
        ssize_t n;
        if (c->ssl) {
            n = tls.read(c->ssl, room, (int)(c->in.cap - c->in.len));
            if (n <= 0) return tls_would_block(c->ssl, (int)n);
        } else {
            n = recv(c->fd, room, c->in.cap - c->in.len, 0);
            if (n == 0) return false;
            if (n < 0) return errno == EAGAIN || errno == EINTR;
        }
        c->in.len += (size_t)n;
        /* A short read emptied a plain socket; epoll is level-triggered, so a wrong guess costs one more turn. */
        if (!c->ssl && c->in.len < c->in.cap) return true;
    }
}

/* Write what waits in c->out; what does not fit waits for EPOLLOUT. False when the connection has ended. */
static bool conn_flush(struct conn *c, int ep) {
    bool ok = true;
    while (ok && c->out.at < c->out.len) {
        ssize_t n;
        if (c->ssl) {
            size_t left = c->out.len - c->out.at;
            n = tls.write(c->ssl, c->out.p + c->out.at, (int)(left > 1 << 20 ? 1 << 20 : left));
            if (n <= 0) { ok = tls_would_block(c->ssl, (int)n); break; }
        } else {
            n = send(c->fd, c->out.p + c->out.at, c->out.len - c->out.at, MSG_NOSIGNAL);
            if (n < 0) { ok = errno == EAGAIN || errno == EINTR; break; }
        }
        c->out.at += (size_t)n;
    }
    bool waiting = c->out.at < c->out.len;
    if (ok && waiting != c->blocked) {
        struct epoll_event e = {.events = EPOLLIN | (waiting ? EPOLLOUT : 0), .data.ptr = c};
        if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e)) die("epoll_ctl");
        c->blocked = waiting;
    }
    c->dirty = false;
    return ok;
}

/* The next whole PDU in c->in, or NULL; *bad is set when the length field cannot be right (framing is lost). */
static inline uint8_t *conn_pdu(struct conn *c, uint32_t *length, bool *bad) {
    size_t have = c->in.len - c->in.at;
    if (have < HEADER) return NULL;
    uint8_t *p = c->in.p + c->in.at;
    *length = get32(p);
    if (*length < HEADER || *length > PDU_MAX) { *bad = true; return NULL; }
    if (have < *length) return NULL;
    c->in.at += *length;
    return p;
}

static inline void pdu_header(uint8_t *p, uint32_t length, uint32_t command, uint32_t status, uint32_t sequence) {
    put32(p, length), put32(p + 4, command), put32(p + 8, status), put32(p + 12, sequence);
}

/* Append a PDU that is a header and at most one C-octet string (responses, enquire_link, unbind). */
static inline void conn_say(struct conn *c, uint32_t command, uint32_t status, uint32_t sequence, const char *text) {
    size_t body = text ? strlen(text) + 1 : 0;
    uint8_t *p = buf_room(&c->out, HEADER + body);
    pdu_header(p, (uint32_t)(HEADER + body), command, status, sequence);
    if (text) memcpy(p + HEADER, text, body);
    c->out.len += HEADER + body, c->dirty = true;
}

__attribute__((unused)) static void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }
static void set_nodelay(int fd) { int one = 1; setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); }

/* The fields of a submit_sm or deliver_sm (SMPP 3.4, 4.4.1 and 4.6.1) that the bench looks at; pointers into the PDU. */
struct sm {
    const char *src, *dst;
    uint8_t src_ton, src_npi, dst_ton, dst_npi, esm_class, registered, coding;
    const uint8_t *body;       /* short_message, or message_payload when that is there */
    uint32_t body_len;
    const uint8_t *tlvs, *end; /* all TLVs */
};

static inline const uint8_t *skip_string(const uint8_t *p, const uint8_t *end) {
    const uint8_t *nul = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;
    return nul ? nul + 1 : end + 1;
}

/* False when a field reaches beyond the PDU. */
static bool sm_read(const uint8_t *pdu, uint32_t length, struct sm *m) {
    const uint8_t *end = pdu + length, *p = skip_string(pdu + HEADER, end);
    if (p + 3 > end) return false;
    m->src_ton = p[0], m->src_npi = p[1], m->src = (const char *)p + 2;
    if ((p = skip_string(p + 2, end)) + 3 > end) return false;
    m->dst_ton = p[0], m->dst_npi = p[1], m->dst = (const char *)p + 2;
    if ((p = skip_string(p + 2, end)) + 3 > end) return false;
    m->esm_class = p[0];
    p = skip_string(skip_string(p + 3, end), end); /* schedule_delivery_time, validity_period */
    if (p + 5 > end) return false;
    m->registered = p[0], m->coding = p[2], m->body_len = p[4], m->body = p + 5;
    p += 5 + m->body_len;
    if (p > end) return false;
    m->tlvs = p, m->end = end;
    while (p < end) {
        if (p + 4 > end || p + 4 + get16(p + 2) > end) return false;
        if (get16(p) == TAG_PAYLOAD) m->body = p + 4, m->body_len = get16(p + 2);
        p += 4 + get16(p + 2);
    }
    return true;
}

#endif
