/* The bench's SMSC: accepts any bind on loopback, answers submit_sm with an id, sends a DELIVRD receipt, and checks that
 * each text arrived once and unharmed. Prints {"listening": PORT} first and a line of JSON when SIGTERM comes or stdin
 * closes. One thread, epoll, nothing kept after a receipt is acknowledged.
 *
 * Exit status: 0 when no text was harmed or doubled; 1 otherwise; 2 when it could not run. --fault makes it misbehave in
 * every Nth message, to show that the tools notice. */
#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "texts.h"

enum { DECIMAL, HEX, HEXDEC };
enum fault { NONE, DROP, DUP, WRONGID, MANGLE, SWAP, NOANSWER, DUPANSWER, REJECT, SAMEID, FAULTS };
static const char *const FAULT_NAMES[FAULTS] = {"none", "drop", "dup", "wrongid", "mangle", "swap", "noanswer",
                                                "dupanswer", "reject", "sameid"};

struct receipt { uint64_t due, id; char src[22], dst[22]; uint8_t src_ton, src_npi, dst_ton, dst_npi, text_n, text[20]; };

struct client; /* all sessions of one system_id */
struct session {
    struct conn c; /* first: epoll hands back &c */
    struct client *client;
    struct session *next;   /* of the client, in a ring of receive-capable sessions */
    struct session *touched;
    uint32_t sequence, unacked;
    bool is_touched, receives, closing;
};
struct client {
    char name[65];
    struct session *ring; /* the session whose turn it is */
    struct receipt *queue;
    uint64_t head, tail, mask; /* ring buffer of receipts, in order of due time as the delay is constant */
    struct client *next;
};

static struct { const char *port, *cert, *key; uint32_t window, ids, every; double delay_ms; uint64_t hold; bool early; enum fault fault; } opt =
    {.port = "0", .window = 500};
static struct { uint64_t submits, mangled, duplicate_texts, rejected, no_receipt, receipts, acked, refused, early, dropped, faults,
                bad_frames, unknown, held, lost_unacked, binds, sessions, sessions_max, first_at, last_at; } count;
static struct client *clients;
static struct session *touched;
static uint8_t *seen; /* a bit a message number */
static uint64_t seen_room, ids = 1000000000, wall_second;
static char date[11];
static int ep;
static void *context;

static void touch(struct session *s) {
    if (s->is_touched || s->c.fd < 0) return;
    s->is_touched = true, s->touched = touched, touched = s;
}

static bool is_faulty(enum fault f) { return opt.fault == f && count.submits % opt.every == 0 && ++count.faults; }

static struct client *client_of(const char *name) {
    for (struct client *c = clients; c; c = c->next) if (!strncmp(c->name, name, sizeof c->name - 1)) return c;
    struct client *c = grow(NULL, sizeof *c);
    *c = (struct client){.mask = 1023, .queue = grow(NULL, 1024 * sizeof(struct receipt)), .next = clients};
    snprintf(c->name, sizeof c->name, "%s", name);
    return clients = c;
}

static void queue_receipt(struct client *c, const struct receipt *r) {
    if (c->tail - c->head > c->mask) {
        struct receipt *wider = grow(NULL, (c->mask + 1) * 2 * sizeof *wider);
        for (uint64_t k = c->head; k < c->tail; k++) wider[k & (c->mask * 2 + 1)] = c->queue[k & c->mask];
        free(c->queue);
        c->queue = wider, c->mask = c->mask * 2 + 1;
    }
    c->queue[c->tail++ & c->mask] = *r;
}

static unsigned id_text(uint64_t id, bool hex, char *to) { return (unsigned)sprintf(to, hex ? "%llX" : "%010llu", (unsigned long long)id); }

/* Append the receipt (SMPP 3.4, Appendix B, and TLVs 5.3.2.12 and 5.3.2.35) to a session's output. */
static void say_receipt(struct session *s, const struct receipt *r) {
    uint8_t *start = buf_room(&s->c.out, 512), *p = start + HEADER, *length;
    char id[24];
    unsigned id_n = id_text(r->id, opt.ids == HEX, id);
    *p++ = 0, *p++ = r->dst_ton, *p++ = r->dst_npi; /* the answer comes from the number the message went to */
    p = (uint8_t *)stpcpy((char *)p, r->dst) + 1;
    *p++ = r->src_ton, *p++ = r->src_npi;
    p = (uint8_t *)stpcpy((char *)p, r->src) + 1;
    memcpy(p, (uint8_t[]){0x04, 0, 0, 0, 0, 0, 0, 0, 0}, 9), length = p + 9, p += 10;
    p = (uint8_t *)stpcpy(stpcpy((char *)p, "id:"), id);
    p = (uint8_t *)stpcpy(stpcpy((char *)p, " sub:001 dlvrd:001 submit date:"), date);
    p = (uint8_t *)stpcpy(stpcpy((char *)p, " done date:"), date);
    p = (uint8_t *)stpcpy((char *)p, " stat:DELIVRD err:000 text:");
    memcpy(p, r->text, r->text_n), p += r->text_n;
    *length = (uint8_t)(p - length - 1);
    put16(p, TAG_RECEIPTED_ID), put16(p + 2, (uint16_t)(id_n + 1)), memcpy(p + 4, id, id_n + 1), p += id_n + 5;
    put16(p, TAG_STATE), put16(p + 2, 1), p[4] = 2, p += 5; /* DELIVERED */
    pdu_header(start, (uint32_t)(p - start), DELIVER_SM, 0, ++s->sequence);
    s->c.out.len += (size_t)(p - start), s->unacked++, count.receipts++;
    touch(s);
}

/* The client's next session that receives and has room in its window. */
static struct session *receiver(struct client *c) {
    struct session *s = c->ring;
    if (!s) return NULL;
    do {
        if (s->unacked < opt.window && !s->closing) { c->ring = s->next; return s; }
    } while ((s = s->next) != c->ring);
    return NULL;
}

/* Send what is due. Returns when the next receipt is due, 0 when none waits for time. */
static uint64_t send_due(uint64_t now) {
    uint64_t next = 0;
    for (struct client *c = clients; c; c = c->next) {
        struct session *s;
        while (c->head < c->tail && c->queue[c->head & c->mask].due <= now && (s = receiver(c)))
            say_receipt(s, &c->queue[c->head++ & c->mask]);
        if (c->head == c->tail) continue;
        uint64_t due = c->queue[c->head & c->mask].due;
        if (due > now && (!next || due < next)) next = due;
    }
    return next;
}

static bool note_text(const struct sm *m) {
    int64_t number = text_check(m);
    if (number < 0 || number >= 1 << 30) { count.mangled++; return false; }
    if ((uint64_t)number / 8 >= seen_room) {
        uint64_t room = (uint64_t)number / 4 + 4096;
        seen = grow(seen, room), memset(seen + seen_room, 0, room - seen_room);
        seen_room = room;
    }
    uint8_t bit = (uint8_t)(1u << number % 8);
    count.duplicate_texts += (seen[number / 8] & bit) != 0;
    seen[number / 8] |= bit;
    return true;
}

static void take_submit(struct session *s, uint8_t *pdu, uint32_t length, uint64_t now) {
    static struct receipt before;
    uint32_t sequence = get32(pdu + 12);
    struct sm m;
    char id[24];
    if (!count.submits++) count.first_at = now;
    count.last_at = now;
    if (!sm_read(pdu, length, &m)) {
        count.mangled++;
        conn_say(&s->c, SUBMIT_SM | RESPONSE, 2, sequence, ""); /* ESME_RINVCMDLEN */
        return;
    }
    if (is_faulty(MANGLE)) ((uint8_t *)(uintptr_t)m.body)[m.body_len / 2] ^= 0x20; /* as a relay that harms bodies would */
    note_text(&m);
    if (is_faulty(REJECT)) {
        count.rejected++;
        conn_say(&s->c, SUBMIT_SM | RESPONSE, 8, sequence, ""); /* ESME_RSYSERR */
        return;
    }
    struct receipt r = {.due = now + (uint64_t)(opt.delay_ms * 1e6), .id = is_faulty(SAMEID) ? ids : ++ids,
                        .src_ton = m.src_ton, .src_npi = m.src_npi, .dst_ton = m.dst_ton, .dst_npi = m.dst_npi};
    snprintf(r.src, sizeof r.src, "%s", m.src), snprintf(r.dst, sizeof r.dst, "%s", m.dst);
    id_text(r.id, opt.ids != DECIMAL, id);
    if (m.coding == 0 && !(m.esm_class & 0x40)) {
        r.text_n = (uint8_t)(m.body_len < sizeof r.text ? m.body_len : sizeof r.text);
        memcpy(r.text, m.body, r.text_n);
    }
    bool wanted = (m.registered & 3) == 1, answer = !is_faulty(NOANSWER), faulty_twice = is_faulty(DUP);
    struct receipt later = r;
    if (is_faulty(WRONGID)) later.id += 5000000000u;
    if (is_faulty(SWAP) && before.id) memcpy(later.src, before.src, sizeof r.src), memcpy(later.dst, before.dst, sizeof r.dst);
    before = r;
    if (!wanted) count.no_receipt++;
    else if (count.held < opt.hold) count.held++;
    else if (is_faulty(DROP)) count.dropped++;
    else {
        struct session *to = opt.early && opt.delay_ms == 0 && s->client->head == s->client->tail ? receiver(s->client) : NULL;
        if (to) { /* on another session this is early only when that one is written first */
            say_receipt(to, &later), count.early++;
            if (to != s && conn_flush(&to->c, ep)) {} /* a broken one is found when it is read */
        } else queue_receipt(s->client, &later);
        if (faulty_twice) queue_receipt(s->client, &later);
    }
    if (answer) conn_say(&s->c, SUBMIT_SM | RESPONSE, 0, sequence, id);
    if (is_faulty(DUPANSWER)) conn_say(&s->c, SUBMIT_SM | RESPONSE, 0, sequence, id);
}

static void take_bind(struct session *s, uint32_t command, const uint8_t *pdu, uint32_t length) {
    const char *name = (const char *)pdu + HEADER;
    if (s->client || !memchr(name, 0, length - HEADER)) {
        conn_say(&s->c, command | RESPONSE, s->client ? 5 : 2, get32(pdu + 12), "");
        return;
    }
    s->client = client_of(name), s->receives = command != BIND_TRANSMITTER;
    count.binds++;
    if (s->receives) {
        struct session **ring = &s->client->ring;
        if (*ring) s->next = (*ring)->next, (*ring)->next = s; else s->next = s, *ring = s;
    }
    conn_say(&s->c, command | RESPONSE, 0, get32(pdu + 12), "bench-smsc");
}

static bool take_all(struct session *s) {
    uint64_t now = now_ns();
    uint32_t length;
    bool bad = false;
    for (uint8_t *pdu; (pdu = conn_pdu(&s->c, &length, &bad));) {
        uint32_t command = get32(pdu + 4), sequence = get32(pdu + 12);
        switch (command) {
        case BIND_RECEIVER: case BIND_TRANSMITTER: case BIND_TRANSCEIVER: take_bind(s, command, pdu, length); break;
        case SUBMIT_SM:
            if (s->client) take_submit(s, pdu, length, now);
            else conn_say(&s->c, SUBMIT_SM | RESPONSE, 4, sequence, ""); /* ESME_RINVBNDSTS */
            break;
        case DELIVER_SM | RESPONSE:
            if (s->unacked) s->unacked--;
            if (get32(pdu + 8)) count.refused++; else count.acked++;
            break;
        case ENQUIRE_LINK: conn_say(&s->c, ENQUIRE_LINK | RESPONSE, 0, sequence, NULL); break;
        case UNBIND: conn_say(&s->c, UNBIND | RESPONSE, 0, sequence, NULL), s->closing = true; break;
        case ENQUIRE_LINK | RESPONSE: case UNBIND | RESPONSE: case GENERIC_NACK: break;
        default: count.unknown++, conn_say(&s->c, GENERIC_NACK, 3, sequence, NULL); /* ESME_RINVCMDID */
        }
    }
    count.bad_frames += bad;
    touch(s);
    return !bad;
}

/* Close the socket; the struct stays, as the turn's events and lists may still name it. */
static void end_session(struct session *s) {
    if (s->c.fd < 0) return;
    if (s->receives) {
        struct session *before = s;
        while (before->next != s) before = before->next;
        before->next = s->next;
        if (s->client->ring == s) s->client->ring = before == s ? NULL : before;
    }
    count.lost_unacked += s->unacked, count.sessions--;
    close(s->c.fd);
    if (s->c.ssl) tls.free(s->c.ssl);
    free(s->c.in.p), free(s->c.out.p);
    s->c = (struct conn){.fd = -1};
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct session *s = grow(NULL, sizeof *s);
        memset(s, 0, sizeof *s);
        s->c.fd = fd;
        set_nodelay(fd);
        if (context) {
            if (!(s->c.ssl = tls.new(context)) || !tls.set_fd(s->c.ssl, fd)) tls_die("session");
            tls.set_accept_state(s->c.ssl); /* the first read shakes hands */
        }
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e)) die("epoll_ctl");
        if (++count.sessions > count.sessions_max) count.sessions_max = count.sessions;
    }
}

static void flush_touched(void) {
    while (touched) {
        struct session *s = touched;
        touched = s->touched, s->is_touched = false;
        if (s->c.fd < 0) continue;
        if (!conn_flush(&s->c, ep) || (s->closing && s->c.out.at == s->c.out.len)) end_session(s);
    }
}

static bool report(uint64_t cpu) {
    bool ok = !(count.mangled + count.duplicate_texts + count.bad_frames);
    uint64_t waiting = 0, unacked = count.lost_unacked;
    for (struct client *c = clients; c; c = c->next) {
        waiting += c->tail - c->head;
        struct session *s = c->ring;
        if (s) do unacked += s->unacked; while ((s = s->next) != c->ring);
    }
#define N(name) ", \"" #name "\": %llu"
#define V(name) (unsigned long long)count.name
    printf("{\"ok\": %s" N(submits) N(mangled) N(duplicate_texts) N(rejected) N(no_receipt) N(receipts) N(acked) N(refused)
           N(early) N(dropped) N(faults) N(bad_frames) N(unknown) N(held) N(binds) N(sessions_max)
           ", \"unacked\": %llu, \"waiting\": %llu, \"submit_seconds\": %.6f, \"cpu_us\": %llu}\n",
           ok ? "true" : "false", V(submits), V(mangled), V(duplicate_texts), V(rejected), V(no_receipt), V(receipts),
           V(acked), V(refused), V(early), V(dropped), V(faults), V(bad_frames), V(unknown), V(held), V(binds), V(sessions_max),
           (unsigned long long)unacked, (unsigned long long)waiting, (double)(count.last_at - count.first_at) / 1e9,
           (unsigned long long)cpu);
    return ok;
}

static void usage(void) __attribute__((noreturn));
static void usage(void) {
    fprintf(stderr, "usage: smsc [--port P] [--ids decimal|hex|hexdec] [--receipt-delay MS] [--hold N] [--early] [--window W]\n"
                    "            [--tls-cert PEM --tls-key PEM] [--fault NAME=N]  NAME:");
    for (int k = 1; k < FAULTS; k++) fprintf(stderr, " %s", FAULT_NAMES[k]);
    fprintf(stderr, "\nhexdec: hex in the answer, decimal in the receipt; hold: the first N messages get no receipt\n");
    exit(2);
}

static void options(int argc, char **argv) {
    enum { PORT, IDS, DELAY, HOLD, EARLY_, WINDOW, CERT, KEY, FAULT };
    static const struct option known[] = {{"port", 1, 0, PORT}, {"ids", 1, 0, IDS}, {"receipt-delay", 1, 0, DELAY}, {"hold", 1, 0, HOLD},
        {"early", 0, 0, EARLY_}, {"window", 1, 0, WINDOW}, {"tls-cert", 1, 0, CERT}, {"tls-key", 1, 0, KEY},
        {"fault", 1, 0, FAULT}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", known, NULL)) >= 0;) {
        switch (o) {
        case PORT: opt.port = optarg; break;
        case IDS: opt.ids = !strcmp(optarg, "hex") ? HEX : !strcmp(optarg, "hexdec") ? HEXDEC : DECIMAL; break;
        case DELAY: opt.delay_ms = strtod(optarg, NULL); break;
        case HOLD: opt.hold = strtoull(optarg, NULL, 10); break;
        case EARLY_: opt.early = true; break;
        case WINDOW: opt.window = (uint32_t)strtoul(optarg, NULL, 10); break;
        case CERT: opt.cert = optarg; break;
        case KEY: opt.key = optarg; break;
        case FAULT: {
            char *n = strchr(optarg, '=');
            opt.every = n ? (uint32_t)strtoul(n + 1, NULL, 10) : 0;
            for (int k = 1; n && k < FAULTS; k++)
                if (strlen(FAULT_NAMES[k]) == (size_t)(n - optarg) && !strncmp(optarg, FAULT_NAMES[k], (size_t)(n - optarg)))
                    opt.fault = (enum fault)k;
            if (!opt.every || opt.fault == NONE) usage();
            break;
        }
        default: usage();
        }
    }
    if (optind != argc || !opt.window || !opt.cert != !opt.key) usage();
}

static int listen_on(const char *port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof at;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, n) || listen(fd, 1024) || getsockname(fd, (struct sockaddr *)&at, &n)) die("listen");
    printf("{\"listening\": %u}\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void watch(int fd, void *tag, bool required) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = tag};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) && required) die("epoll_ctl");
}

int main(int argc, char **argv) {
    options(argc, argv);
    allow_files();
    signal(SIGPIPE, SIG_IGN);
    if (opt.cert) context = tls_server(opt.cert, opt.key);
    static char listener_tag, signal_tag, stdin_tag, timer_tag;
    sigset_t ends;
    sigemptyset(&ends), sigaddset(&ends, SIGTERM), sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll");
    int listener = listen_on(opt.port), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    watch(listener, &listener_tag, true), watch(timer, &timer_tag, true);
    watch(signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC), &signal_tag, true);
    watch(STDIN_FILENO, &stdin_tag, false); /* refused for /dev/null and files, whose end means nothing */
    for (bool running = true; running;) {
        struct epoll_event events[256];
        int n = epoll_wait(ep, events, 256, 1000);
        time_t wall = time(NULL);
        if ((uint64_t)wall != wall_second) {
            struct tm at;
            wall_second = (uint64_t)wall;
            strftime(date, sizeof date, "%y%m%d%H%M", gmtime_r(&wall, &at));
        }
        for (int k = 0; k < n; k++) {
            void *tag = events[k].data.ptr;
            char scrap[256];
            if (tag == &listener_tag) accept_all(listener);
            else if (tag == &signal_tag) running = false;
            else if (tag == &stdin_tag) running = read(STDIN_FILENO, scrap, sizeof scrap) > 0;
            else if (tag == &timer_tag) { if (read(timer, scrap, 8) < 0) {} }
            else {
                struct session *s = tag;
                if (s->c.fd < 0) continue;
                if (events[k].events & ~(uint32_t)EPOLLOUT) {
                    bool open = conn_fill(&s->c);
                    if (!take_all(s) || !open) end_session(s);
                }
                touch(s);
            }
        }
        uint64_t due = send_due(now_ns());
        if (due) {
            struct itimerspec at = {.it_value = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        }
        flush_touched();
    }
    return report(cpu_us()) ? 0 : 1;
}
