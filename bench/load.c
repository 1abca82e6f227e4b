/* The bench's load generator: an ESME with N binds (transceivers, unless told) that submits messages, checks every answer and every
 * receipt, and prints what it saw as one line of JSON (times in microseconds). One thread, epoll. With --idle it only
 * binds, prints {"bound": N} and keeps the sessions until its standard input closes.
 *
 * Exit status: 0 when every message was answered ESME_ROK once and receipted once with the id it was given; 1 when
 * anything is missing, doubled or wrong; 2 when it could not run. */
#define _GNU_SOURCE
#include <getopt.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>

#include "ledger.h"

struct slot { uint32_t sequence, index; bool waiting; };
struct bind {
    struct conn c; /* first: epoll hands back &c */
    struct slot *slots;
    uint32_t next, inflight; /* next sequence number, answers outstanding */
    bool unbound;
};

static struct {
    const char *host, *port, *system_id, *ca, *tls_name;
    uint32_t binds, window, slot_mask, first, accounts;
    uint64_t messages, rate;
    double duration, deadline, linger, quiet;
    bool mix, links, idle, transmit, answers_only;
} opt = {.host = "127.0.0.1", .port = "2775", .system_id = "bench", .binds = 1, .accounts = 1, .window = 50, .deadline = 120, .linger = 0.1};

static struct bind *binds;
static struct bind **touched; /* binds with bytes to write or room in the window, once each */
static uint32_t touched_n, lost;
static int ep;
static uint64_t heard; /* when a peer last said something, ns */
static bool *is_touched;

static void touch(struct bind *b) {
    if (is_touched[b - binds]) return;
    is_touched[b - binds] = true;
    touched[touched_n++] = b;
}

static void lose(struct bind *b, const char *why) {
    if (b->c.fd < 0) return;
    close(b->c.fd);
    b->c.fd = -1;
    if (b->unbound) return; /* the proper end */
    fprintf(stderr, "bind %u lost: %s\n", (unsigned)(b - binds), why);
    lost++;
}

/* Connect, handshake and bind, blocking; afterwards the socket does not block. */
static void bind_open(struct bind *b, const struct addrinfo *to, void *context) {
    struct conn *c = &b->c;
    if ((c->fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0) die("socket");
    set_nodelay(c->fd);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 15}, sizeof(struct timeval));
    if (connect(c->fd, to->ai_addr, to->ai_addrlen)) die("connect");
    if (context) {
        if (!(c->ssl = tls.new(context)) || !tls.set_fd(c->ssl, c->fd)) tls_die("session");
        if (opt.tls_name && !tls.set1_host(c->ssl, opt.tls_name)) tls_die("host name");
        if (tls.connect(c->ssl) != 1) tls_die("handshake");
    }
    const char *password = getenv("SMPPD_BENCH_PASSWORD");
    char request[256], name[64];
    uint32_t command = opt.transmit ? BIND_TRANSMITTER : BIND_TRANSCEIVER;
    if (!password) password = "bench";
    if (opt.accounts > 1) /* the binds spread over all accounts, also when those are more */
        snprintf(name, sizeof name, "%s-%u", opt.system_id, (unsigned)((uint64_t)(b - binds) * opt.accounts / opt.binds));
    else snprintf(name, sizeof name, "%s", opt.system_id);
    size_t a = strlen(name) + 1, n = HEADER, z = strlen(password) + 1;
    if (a + z > sizeof request - HEADER - 8) die("system_id or password too long");
    memcpy(request + n, name, a), n += a;
    memcpy(request + n, password, z), n += z;
    memcpy(request + n, (uint8_t[]){0, 0x34, 0, 0, 0}, 5), n += 5; /* system_type "", version 3.4, no address range */
    pdu_header((uint8_t *)request, (uint32_t)n, command, 0, 1);
    if ((c->ssl ? tls.write(c->ssl, request, (int)n) : send(c->fd, request, n, MSG_NOSIGNAL)) != (ssize_t)n) die("bind");
    for (uint8_t *pdu = NULL; !pdu;) {
        uint32_t length = 0;
        bool bad = false;
        uint8_t *room = buf_room(&c->in, 65536);
        ssize_t got = c->ssl ? tls.read(c->ssl, room, 65536) : recv(c->fd, room, 65536, 0);
        if (got <= 0) die("no answer to bind");
        c->in.len += (size_t)got;
        if (!(pdu = conn_pdu(c, &length, &bad)) && !bad) continue;
        errno = 0;
        if (bad || get32(pdu + 4) != (command | RESPONSE)) die("answer to bind is none");
        if (get32(pdu + 8)) { fprintf(stderr, "bind refused: 0x%08x\n", get32(pdu + 8)); exit(2); }
    }
    b->next = 2;
    b->slots = grow(NULL, (opt.slot_mask + 1) * sizeof *b->slots);
    memset(b->slots, 0, (opt.slot_mask + 1) * sizeof *b->slots);
    set_nonblocking(c->fd);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl");
}

/* Sequence numbers grow by one; the slot of the next one may still wait for a very late answer. */
static inline bool has_room(const struct bind *b) {
    return b->c.fd >= 0 && b->inflight < opt.window && !b->slots[b->next & opt.slot_mask].waiting;
}

static void submit(struct bind *b, uint64_t due) {
    uint32_t index = ledger_sent(due);
    uint8_t *p = buf_room(&b->c.out, TEXT_ROOM);
    b->c.out.len += text_build(opt.first + index, opt.mix, opt.links, p);
    put32(p + 12, b->next);
    b->slots[b->next & opt.slot_mask] = (struct slot){b->next, index, true};
    b->next = b->next == 0x7FFFFFFF ? 1 : b->next + 1;
    b->inflight++;
    touch(b);
}

static void take_answer(struct bind *b, const uint8_t *pdu, uint32_t length, uint64_t now) {
    uint32_t sequence = get32(pdu + 12);
    struct slot *s = &b->slots[sequence & opt.slot_mask];
    if (!s->waiting || s->sequence != sequence) { ledger.unexpected_answers++; return; }
    s->waiting = false, b->inflight--;
    ledger_answer(s->index, get32(pdu + 8), (const char *)pdu + HEADER, strnlen((const char *)pdu + HEADER, length - HEADER), now);
}

static void take_all(struct bind *b) {
    uint64_t now = heard = now_ns();
    uint32_t length;
    bool bad = false;
    for (uint8_t *pdu; (pdu = conn_pdu(&b->c, &length, &bad));) {
        uint32_t command = get32(pdu + 4), sequence = get32(pdu + 12);
        struct sm m;
        switch (command) {
        case SUBMIT_SM | RESPONSE: case GENERIC_NACK: take_answer(b, pdu, length, now); break;
        case DELIVER_SM:
            conn_say(&b->c, DELIVER_SM | RESPONSE, 0, sequence, "");
            if (sm_read(pdu, length, &m)) ledger_receipt(&m, now); else ledger.wrong_receipts++;
            break;
        case ENQUIRE_LINK: conn_say(&b->c, ENQUIRE_LINK | RESPONSE, 0, sequence, NULL); break;
        case UNBIND: conn_say(&b->c, UNBIND | RESPONSE, 0, sequence, NULL); break;
        case UNBIND | RESPONSE: b->unbound = true; break;
        case ENQUIRE_LINK | RESPONSE: break;
        default: conn_say(&b->c, GENERIC_NACK, 3, sequence, NULL);
        }
    }
    if (bad) lose(b, "framing");
    touch(b);
}

static void flush_touched(void) {
    uint32_t n = touched_n;
    touched_n = 0;
    for (uint32_t k = 0; k < n; k++) {
        struct bind *b = touched[k];
        is_touched[b - binds] = false;
        if (b->c.fd >= 0 && !conn_flush(&b->c, ep)) lose(b, "write");
    }
}

/* Wait at most `ms`, take in what came. The timer's event only ends the wait. */
static void turn(int ms) {
    struct epoll_event events[256];
    int n = epoll_wait(ep, events, 256, ms);
    for (int k = 0; k < n; k++) {
        struct bind *b = events[k].data.ptr;
        if (!b || b->c.fd < 0) continue;
        if (events[k].events & ~(uint32_t)EPOLLOUT) {
            bool open = conn_fill(&b->c);
            take_all(b);
            if (!open) lose(b, "closed by peer");
        }
        touch(b);
    }
}

/* Submit what may go out now. Returns when the next message is due (ns), 0 when only an answer can help. */
static uint64_t submit_due(uint64_t start, uint64_t total) {
    static uint32_t cursor;
    uint64_t now = now_ns();
    if (!opt.rate) {
        bool over = opt.duration > 0 && now - start > (uint64_t)(opt.duration * 1e9);
        uint32_t n = touched_n; /* submit() touches only these again, which changes nothing */
        for (uint32_t k = 0; k < n && !over; k++)
            while (ledger.sent < total && has_room(touched[k])) submit(touched[k], now);
        return 0;
    }
    while (ledger.sent < total) {
        /* Open loop: the schedule does not wait for the peer, and a late start counts as latency. */
        uint64_t due = start + (uint64_t)((double)ledger.sent * 1e9 / (double)opt.rate);
        if (due > now) return due;
        uint32_t tried = 0;
        while (tried < opt.binds && !has_room(&binds[cursor])) cursor = (cursor + 1) % opt.binds, tried++;
        if (tried == opt.binds) return 0;
        submit(&binds[cursor], due);
        cursor = (cursor + 1) % opt.binds;
    }
    return 0;
}

static bool finished(uint64_t start, uint64_t total, uint64_t now) {
    bool sent = ledger.sent == total || (!opt.rate && opt.duration > 0 && now - start > (uint64_t)(opt.duration * 1e9));
    return sent && ledger.answered == ledger.sent && (opt.answers_only || ledger.receipts == ledger.accepted);
}

static uint64_t run(uint64_t start) {
    uint64_t total = opt.messages ? opt.messages : opt.rate ? (uint64_t)(opt.duration * (double)opt.rate) : 0xF0000000u;
    uint64_t end = start + (uint64_t)(opt.deadline * 1e9), now = start, armed = 0;
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    if (timer < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, timer, &e)) die("timerfd");
    uint64_t quiet = opt.quiet > 0 ? (uint64_t)(opt.quiet * 1e9) : UINT64_MAX / 2;
    while (!lost && now < end && !finished(start, total, now)) {
        uint64_t due = submit_due(start, total);
        if (!due && now - start > quiet && now > heard && now - heard > quiet) break; /* what is missing will not come */
        if (due && due != armed) { /* finer than epoll_wait's milliseconds */
            struct itimerspec at = {.it_value = {(time_t)(due / 1000000000u), (long)(due % 1000000000u)}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
            armed = due;
        }
        flush_touched();
        turn(50);
        now = now_ns();
    }
    flush_touched(); /* the last deliver_sm_resp */
    close(timer);
    return now;
}

/* What an idle session does not need, or 10,000 of them would take a gigabyte. */
static void spare(struct buf *b) {
    if (b->at == b->len) free(b->p), *b = (struct buf){0};
}

/* Keep the sessions, answering what the peer asks, until standard input closes. True when all stood to the end. */
static bool keep_idle(void) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &e)) die("epoll_ctl");
    printf("{\"bound\": %u}\n", opt.binds), fflush(stdout);
    uint64_t swept = now_ns();
    for (struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN}; poll(&input, 1, 0) == 0;) {
        turn(1000), flush_touched();
        if (now_ns() - swept < 1000000000u) continue;
        for (uint32_t k = 0; k < opt.binds; k++) spare(&binds[k].c.in), spare(&binds[k].c.out);
        swept = now_ns();
    }
    return !lost;
}

/* Linger for late duplicates, then unbind all sessions. */
static void finish(void) {
    for (uint64_t end = now_ns() + (uint64_t)(opt.linger * 1e9); now_ns() < end;) turn(10), flush_touched();
    for (uint32_t k = 0; k < opt.binds; k++)
        if (binds[k].c.fd >= 0) conn_say(&binds[k].c, UNBIND, 0, binds[k].next, NULL), touch(&binds[k]);
    uint32_t left = lost ? 0 : opt.binds;
    for (uint64_t end = now_ns() + 3000000000u; left && now_ns() < end;) {
        flush_touched();
        turn(10);
        left = 0;
        for (uint32_t k = 0; k < opt.binds; k++) {
            if (binds[k].unbound && binds[k].c.fd >= 0) close(binds[k].c.fd), binds[k].c.fd = -1;
            left += binds[k].c.fd >= 0;
        }
    }
}

static bool report(double elapsed, uint64_t cpu) {
    uint64_t orphans = ledger_orphans(), refused = ledger.answered - ledger.accepted;
    uint64_t missing_answers = ledger.sent - ledger.answered;
    uint64_t missing_receipts = opt.answers_only ? 0 : ledger.accepted - ledger.receipts;
    uint64_t duplicates = ledger.unexpected_answers + ledger.duplicate_ids + ledger.duplicate_receipts;
    uint64_t wrong = ledger.wrong_receipts + ledger.empty_ids + orphans;
    bool ok = ledger.sent && !(refused + missing_answers + missing_receipts + duplicates + wrong + lost);
    printf("{\"ok\": %s, \"sent\": %u, \"acked\": %llu, \"accepted\": %llu, \"receipts\": %llu, \"errors\": {",
           ok ? "true" : "false", ledger.sent, (unsigned long long)ledger.answered, (unsigned long long)ledger.accepted,
           (unsigned long long)ledger.receipts);
    for (int k = 0; k < STATUSES && ledger.statuses[k].times; k++)
        printf("%s\"0x%08x\": %llu", k ? ", " : "", ledger.statuses[k].code, (unsigned long long)ledger.statuses[k].times);
    printf("}, \"missing\": %llu, \"missing_answers\": %llu, \"missing_receipts\": %llu, \"duplicates\": %llu, "
           "\"unexpected_answers\": %llu, \"duplicate_ids\": %llu, \"duplicate_receipts\": %llu, \"wrong\": %llu, "
           "\"orphan_receipts\": %llu, \"early_receipts\": %llu, \"receipts_without_tlv\": %llu, \"lost_sessions\": %u, ",
           (unsigned long long)(missing_answers + missing_receipts), (unsigned long long)missing_answers,
           (unsigned long long)missing_receipts, (unsigned long long)duplicates,
           (unsigned long long)ledger.unexpected_answers, (unsigned long long)ledger.duplicate_ids,
           (unsigned long long)ledger.duplicate_receipts, (unsigned long long)wrong, (unsigned long long)orphans,
           (unsigned long long)ledger.early_receipts, (unsigned long long)ledger.without_tlv, lost);
    hist_json(&ledger.answer_us, "answer_us"), printf(", ");
    hist_json(&ledger.receipt_us, "receipt_us");
    printf(", \"elapsed\": %.6f, \"rate\": %.1f, \"cpu_us\": %llu, \"tls\": %s}\n", elapsed,
           elapsed > 0 ? (double)ledger.receipts / elapsed : 0, (unsigned long long)cpu, opt.ca ? "true" : "false");
    return ok;
}

static void usage(void) __attribute__((noreturn));
static void usage(void) {
    fprintf(stderr, "usage: load [--host H] [--port P] [--system-id S] [--binds N] [--window W]\n"
                    "            --messages M | --duration SECONDS  [--rate PER_SECOND] [--first NUMBER] [--mix] [--links]\n"
                    "            [--tls-ca PEM [--tls-name HOST]] [--deadline SECONDS] [--quiet SECONDS] [--linger SECONDS]\n"
                    "            [--accounts N] [--transmitter] [--answers-only]\n"
                    "       load --idle [--binds N] ...\n"
                    "quiet: give up when nothing has come for so long; linger: wait for duplicates at the end\n"
                    "accounts: the binds are spread over S-0 to S-(N-1); answers-only: receipts are not waited for\n"
                    "password: environment SMPPD_BENCH_PASSWORD (default: bench)\n");
    exit(2);
}

static void options(int argc, char **argv) {
    enum { HOST, PORT, SYSTEM, BINDS, WINDOW, MESSAGES, DURATION, RATE, FIRST, MIX, LINKS, CA, NAME, DEADLINE, LINGER, QUIET,
           ACCOUNTS, TRANSMITTER, ANSWERS, IDLE };
    static const struct option known[] = {
        {"host", 1, 0, HOST}, {"port", 1, 0, PORT}, {"system-id", 1, 0, SYSTEM}, {"binds", 1, 0, BINDS},
        {"window", 1, 0, WINDOW}, {"messages", 1, 0, MESSAGES}, {"duration", 1, 0, DURATION}, {"rate", 1, 0, RATE},
        {"first", 1, 0, FIRST}, {"mix", 0, 0, MIX}, {"links", 0, 0, LINKS}, {"tls-ca", 1, 0, CA}, {"tls-name", 1, 0, NAME},
        {"deadline", 1, 0, DEADLINE}, {"linger", 1, 0, LINGER}, {"quiet", 1, 0, QUIET},
        {"accounts", 1, 0, ACCOUNTS}, {"transmitter", 0, 0, TRANSMITTER}, {"answers-only", 0, 0, ANSWERS},
        {"idle", 0, 0, IDLE}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(argc, argv, "", known, NULL)) >= 0;) {
        switch (o) {
        case HOST: opt.host = optarg; break;
        case PORT: opt.port = optarg; break;
        case SYSTEM: opt.system_id = optarg; break;
        case BINDS: opt.binds = (uint32_t)strtoul(optarg, NULL, 10); break;
        case WINDOW: opt.window = (uint32_t)strtoul(optarg, NULL, 10); break;
        case MESSAGES: opt.messages = strtoull(optarg, NULL, 10); break;
        case DURATION: opt.duration = strtod(optarg, NULL); break;
        case RATE: opt.rate = strtoull(optarg, NULL, 10); break;
        case FIRST: opt.first = (uint32_t)strtoul(optarg, NULL, 10); break;
        case MIX: opt.mix = true; break;
        case LINKS: opt.links = true; break;
        case CA: opt.ca = optarg; break;
        case NAME: opt.tls_name = optarg; break;
        case DEADLINE: opt.deadline = strtod(optarg, NULL); break;
        case LINGER: opt.linger = strtod(optarg, NULL); break;
        case QUIET: opt.quiet = strtod(optarg, NULL); break;
        case ACCOUNTS: opt.accounts = (uint32_t)strtoul(optarg, NULL, 10); break;
        case TRANSMITTER: opt.transmit = true; break;
        case ANSWERS: opt.answers_only = true; break;
        case IDLE: opt.idle = true, opt.window = 1; break;
        default: usage();
        }
    }
    if (optind != argc || !opt.binds || !opt.window || !opt.accounts || (!opt.idle && !opt.messages && opt.duration <= 0)) usage();
    for (opt.slot_mask = 1; opt.slot_mask < opt.window * 8; opt.slot_mask *= 2) {}
    opt.slot_mask--;
}

int main(int argc, char **argv) {
    options(argc, argv);
    allow_files();
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes with write(2) */
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *to = NULL;
    if (getaddrinfo(opt.host, opt.port, &hints, &to)) { fprintf(stderr, "cannot resolve %s\n", opt.host); return 2; }
    void *context = opt.ca ? tls_client(opt.ca) : NULL;
    double guess = opt.messages ? (double)opt.messages : opt.duration * (opt.rate ? (double)opt.rate : 60000);
    ledger_open((uint64_t)guess, opt.first, opt.mix);
    if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll");
    binds = grow(NULL, opt.binds * sizeof *binds), memset(binds, 0, opt.binds * sizeof *binds);
    touched = grow(NULL, opt.binds * sizeof *touched);
    is_touched = grow(NULL, opt.binds), memset(is_touched, 0, opt.binds);
    for (uint32_t k = 0; k < opt.binds; k++) {
        bind_open(&binds[k], to, context);
        if (!opt.idle) continue;
        spare(&binds[k].c.in);
        if (k % 64 == 63) turn(0), flush_touched(); /* the first ones are asked whether they live before the last are up */
    }
    if (opt.idle) {
        bool stood = keep_idle();
        finish();
        return stood ? 0 : 1;
    }
    uint64_t start = now_ns(), cpu = cpu_us();
    for (uint32_t k = 0; k < opt.binds; k++) { /* may hold what came behind the bind's answer, also inside OpenSSL */
        bool open = conn_fill(&binds[k].c);
        take_all(&binds[k]);
        if (!open) lose(&binds[k], "closed by peer");
    }
    uint64_t end = run(start);
    cpu = cpu_us() - cpu;
    finish();
    return report((double)(end - start) / 1e9, cpu) ? 0 : 1;
}
