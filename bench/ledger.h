/* What the load generator knows about each message: its state, its time, and whose id is whose.
 *
 * Ids are compared by a 64-bit hash, so two different ids pass for one with a chance of 1 in 10^7 at a million messages. */
#ifndef BENCH_LEDGER_H
#define BENCH_LEDGER_H

#include "hist.h"
#include "texts.h"

enum { SENT = 1, ANSWERED = 2, ACCEPTED = 4, RECEIPTED = 8 };
enum { EARLY = 0x80000000u, VACANT = 0xFFFFFFFFu, STATUSES = 64 };

struct message { uint64_t at; uint8_t state; };                                  /* at: when it was due, ns */
struct early { uint64_t at; char src[24], dst[24]; uint32_t times; bool known; }; /* a receipt before its answer */
struct id { uint64_t hash; uint32_t owner; };                                    /* message, or EARLY | early */

static struct {
    struct message *messages;
    uint32_t sent, room, first; /* first: number of message 0, so that runs against one SMSC do not repeat numbers */
    bool mix;
    struct id *ids;
    uint64_t ids_used, ids_mask;
    struct early *early;
    uint32_t earlies, early_room;
    uint64_t answered, accepted, receipts, early_receipts;
    uint64_t unexpected_answers, duplicate_ids, empty_ids, duplicate_receipts, wrong_receipts, without_tlv;
    struct { uint32_t code; uint64_t times; } statuses[STATUSES];
    struct hist answer_us, receipt_us;
} ledger;

static void ids_resize(uint64_t slots) {
    struct id *old = ledger.ids;
    uint64_t count = old ? ledger.ids_mask + 1 : 0;
    ledger.ids = grow(NULL, slots * sizeof *ledger.ids), ledger.ids_mask = slots - 1;
    for (uint64_t k = 0; k < slots; k++) ledger.ids[k].owner = VACANT; /* touches each page before the clock runs */
    for (uint64_t k = 0; k < count; k++) {
        if (old[k].owner == VACANT) continue;
        uint64_t at = old[k].hash & ledger.ids_mask;
        while (ledger.ids[at].owner != VACANT) at = (at + 1) & ledger.ids_mask;
        ledger.ids[at] = old[k];
    }
    free(old);
}

static void ledger_open(uint64_t expected, uint32_t first, bool mix) {
    uint64_t slots = 1 << 12;
    while (slots < expected * 2) slots *= 2;
    ids_resize(slots);
    ledger.room = (uint32_t)expected + 16, ledger.first = first, ledger.mix = mix;
    ledger.messages = grow(NULL, ledger.room * sizeof *ledger.messages);
    memset(ledger.messages, 0, ledger.room * sizeof *ledger.messages);
}

/* The entry of an id, a new vacant one if it was never seen. */
static struct id *ids_find(const char *text, size_t n) {
    if (ledger.ids_used * 2 > ledger.ids_mask) ids_resize((ledger.ids_mask + 1) * 2);
    uint64_t hash = mix_in(n, text, n), at = (hash ^ hash >> 32) & ledger.ids_mask;
    hash = hash ^ hash >> 32;
    while (ledger.ids[at].owner != VACANT && ledger.ids[at].hash != hash) at = (at + 1) & ledger.ids_mask;
    if (ledger.ids[at].owner == VACANT) ledger.ids[at].hash = hash, ledger.ids_used++;
    return &ledger.ids[at];
}

/* Count message number ledger.sent as sent; `due` is when it should have gone out. Returns its index. */
static inline uint32_t ledger_sent(uint64_t due) {
    if (ledger.sent == ledger.room) ledger.messages = grow(ledger.messages, (ledger.room *= 2) * sizeof *ledger.messages);
    ledger.messages[ledger.sent] = (struct message){.at = due, .state = SENT};
    return ledger.sent++;
}

static void take_receipt(uint32_t index, uint64_t now, const char *src, const char *dst) {
    struct message *m = &ledger.messages[index];
    char to[13], from[12];
    destination(ledger.first + index, ledger.mix, to), source(ledger.first + index, ledger.mix, from);
    if (strcmp(src, to) || strcmp(dst, from)) { ledger.wrong_receipts++; return; } /* another message's receipt */
    if (m->state & RECEIPTED) { ledger.duplicate_receipts++; return; }
    m->state |= RECEIPTED;
    ledger.receipts++;
    hist_add(&ledger.receipt_us, now > m->at ? (now - m->at) / 1000 : 0);
}

/* submit_sm_resp for message `index`. */
static void ledger_answer(uint32_t index, uint32_t status, const char *text, size_t n, uint64_t now) {
    struct message *m = &ledger.messages[index];
    m->state |= ANSWERED;
    ledger.answered++;
    hist_add(&ledger.answer_us, (now - m->at) / 1000);
    if (status) {
        int k = 0;
        while (k < STATUSES - 1 && ledger.statuses[k].times && ledger.statuses[k].code != status) k++;
        ledger.statuses[k].code = status, ledger.statuses[k].times++;
        return;
    }
    m->state |= ACCEPTED;
    ledger.accepted++;
    if (!n) { ledger.empty_ids++; return; }
    struct id *id = ids_find(text, n);
    if (id->owner == VACANT) { id->owner = index; return; }
    struct early *e = id->owner & EARLY ? &ledger.early[id->owner & ~EARLY] : NULL;
    if (!e) { ledger.duplicate_ids++; return; }
    id->owner = index, e->known = true;
    ledger.early_receipts++;
    for (uint32_t k = 0; k < e->times; k++) take_receipt(index, e->at, e->src, e->dst);
}

/* The value of `tag`, or NULL. */
static const uint8_t *tlv(const struct sm *m, uint16_t tag, uint16_t *length) {
    for (const uint8_t *p = m->tlvs; p < m->end; p += 4 + get16(p + 2))
        if (get16(p) == tag) { *length = get16(p + 2); return p + 4; }
    return NULL;
}

/* A deliver_sm; everything the bench receives must be the DELIVRD receipt of a message it sent. */
static void ledger_receipt(const struct sm *m, uint64_t now) {
    const char *text = (const char *)m->body, *blank, *id_text = text + 3;
    uint16_t n = 0, state_n = 0;
    if ((m->esm_class & 0x3C) != 4 || m->body_len < 20 || memcmp(text, "id:", 3) ||
        !(blank = memchr(text, ' ', m->body_len)) || !memmem(text, m->body_len, "stat:DELIVRD", 12)) {
        ledger.wrong_receipts++;
        return;
    }
    size_t id_n = (size_t)(blank - id_text);
    const uint8_t *by_tlv = tlv(m, TAG_RECEIPTED_ID, &n), *state = tlv(m, TAG_STATE, &state_n);
    if (by_tlv && n && !by_tlv[n - 1]) n--;
    if ((by_tlv && (n != id_n || memcmp(by_tlv, id_text, n))) || (state && (state_n != 1 || *state != 2))) {
        ledger.wrong_receipts++; /* text and TLV contradict each other */
        return;
    }
    ledger.without_tlv += !by_tlv || !state;
    struct id *id = ids_find(id_text, id_n);
    if (id->owner != VACANT && !(id->owner & EARLY)) { take_receipt(id->owner, now, m->src, m->dst); return; }
    if (id->owner == VACANT) {
        if (ledger.earlies == ledger.early_room)
            ledger.early = grow(ledger.early, (ledger.early_room = ledger.early_room * 2 + 64) * sizeof *ledger.early);
        struct early *e = &ledger.early[ledger.earlies];
        *e = (struct early){.at = now};
        snprintf(e->src, sizeof e->src, "%s", m->src), snprintf(e->dst, sizeof e->dst, "%s", m->dst);
        id->owner = EARLY | ledger.earlies++;
    }
    ledger.early[id->owner & ~EARLY].times++;
}

/* Receipts whose id no answer ever carried. */
static uint64_t ledger_orphans(void) {
    uint64_t orphans = 0;
    for (uint32_t k = 0; k < ledger.earlies; k++) orphans += ledger.early[k].known ? 0 : ledger.early[k].times;
    return orphans;
}

#endif
