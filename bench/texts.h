/* The bench's messages: message number i as a submit_sm, and the check that such a message arrived unharmed.
 *
 * The last 16 characters of each body are a token: 8 hex digits of i, 8 of a checksum over both addresses, esm_class,
 * data_coding, the body before the checksum and all vendor TLVs. So the receiver needs to know nothing but the message. */
#ifndef BENCH_TEXTS_H
#define BENCH_TEXTS_H

#include "io.h"

enum { TOKEN = 16, TEXT_ROOM = 1024, KINDS = 8 };
static const uint8_t VENDOR_TLVS[] = {0x14, 0x00, 0, 5, '1', '1', '0', '1', 0, 0x14, 0x02, 0, 2, 0xFF, 0,
                                      0x14, 0x01, 0, 3, 0,   0x80, 7};

/* Both parts of a long message (kinds 4 and 5) share the first one's addresses. */
static inline uint32_t lead(uint32_t i, bool mix) { return mix && i % KINDS == 5 ? i - 1 : i; }

/* Fiction numbers only: +44 7700 900000-900999 (Ofcom) to +1 212 555 0100-0199 (NANPA); 100,000 different pairs. */
static inline void destination(uint32_t i, bool mix, char to[13]) {
    uint32_t n = lead(i, mix) % 1000;
    memcpy(to, "447700900", 9);
    to[9] = (char)('0' + n / 100), to[10] = (char)('0' + n / 10 % 10), to[11] = (char)('0' + n % 10), to[12] = 0;
}

static inline void source(uint32_t i, bool mix, char to[12]) {
    uint32_t n = lead(i, mix) / 1000 % 100;
    memcpy(to, "121255501", 9);
    to[9] = (char)('0' + n / 10), to[10] = (char)('0' + n % 10), to[11] = 0;
}

static inline uint64_t mix_in(uint64_t h, const void *from, size_t n) {
    const uint8_t *p = from;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u, h ^= h >> 32;
    }
    for (; n; n--) h = (h ^ *p++) * 0x100000001B3u;
    return h ^ h >> 29;
}

static inline void hex8(uint32_t v, uint8_t *to, unsigned step, const char *digits) {
    for (int k = 7; k >= 0; k--, v >>= 4) to[(unsigned)k * step] = (uint8_t)digits[v & 15];
}

static inline bool unhex8(const uint8_t *from, unsigned step, uint32_t *v) {
    *v = 0;
    for (unsigned k = 0; k < 8; k++) {
        const uint8_t *at = from + k * step;
        uint8_t c = *at;
        if (step == 2 && at[-1]) return false;
        if (c >= '0' && c <= '9') *v = *v << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f') *v = *v << 4 | (uint32_t)(c - 'a' + 10);
        else if (c >= 'g' && c <= 'v') *v = *v << 4 | (uint32_t)(c - 'g');
        else return false;
    }
    return true;
}

static uint32_t checksum(const struct sm *m) {
    unsigned step = m->coding == 8 ? 2 : 1;
    uint64_t h = mix_in(m->esm_class << 8 | m->coding, m->src, strlen(m->src));
    h = mix_in(h, m->dst, strlen(m->dst));
    for (const uint8_t *p = m->tlvs; p < m->end; p += 4 + get16(p + 2))
        if (get16(p) >= TAG_VENDOR_FIRST) h = mix_in(h, p, 4u + get16(p + 2));
    h = mix_in(h, m->body, m->body_len - 8 * step);
    return (uint32_t)(h ^ h >> 32);
}

/* The message's number, or -1 when anything the token covers is not as it was sent. */
__attribute__((unused)) static int64_t text_check(const struct sm *m) {
    unsigned step = m->coding == 8 ? 2 : 1;
    uint32_t number, sum;
    if (m->body_len < TOKEN * step) return -1;
    const uint8_t *token = m->body + m->body_len - TOKEN * step + (step - 1);
    if (!unhex8(token, step, &number) || !unhex8(token + 8 * step, step, &sum)) return -1;
    return sum == checksum(m) ? (int64_t)number : -1;
}

/* Fill `to` with n characters of harmless prose, starting at a place that depends on i. */
static inline void prose(uint32_t i, uint8_t *to, unsigned n) {
    static const char words[] = "Your parcel is on its way and will be handed over tomorrow between nine and eleven "
                                "at the desk near the north gate, please bring this message with you. ";
    unsigned at = i * 7 % (sizeof words - 1);
    while (n) {
        unsigned take = (unsigned)sizeof words - 1 - at;
        if (take > n) take = n;
        memcpy(to, words + at, take), to += take, n -= take, at = 0;
    }
}

/* Write message i as a submit_sm into `to` (TEXT_ROOM octets); the caller sets the sequence number. Returns its length.
 * Without mix: 100 septets of GSM 03.38, one octet each; with links a third of them has one. With mix, by i % 8: GSM; GSM with @, extension and vendor TLVs;
 * UCS-2; 8-bit binary; two parts with a UDH; message_payload; a text of 20 characters. */
__attribute__((unused)) static uint32_t text_build(uint32_t i, bool mix, bool links, uint8_t *to) {
    unsigned kind = mix ? i % KINDS : 0, step = kind == 2 ? 2 : 1, body, used = 0;
    static const unsigned lengths[KINDS] = {100, 120, 140, 116, 140, 120, 400, 20};
    uint8_t *p = to + HEADER;
    struct sm m = {.coding = kind == 2 ? 8 : kind == 3 ? 4 : 0, .esm_class = kind == 4 || kind == 5 ? 0x40 : 0};
    *p++ = 0, *p++ = 1, *p++ = 1, m.src = (char *)p;
    source(i, mix, (char *)p), p += 12;
    *p++ = 1, *p++ = 1, m.dst = (char *)p;
    destination(i, mix, (char *)p), p += 13;
    *p++ = m.esm_class;
    memcpy(p, (uint8_t[]){0, 0, 0, 0, 1, 0, m.coding, 0}, 8), p += 8; /* registered_delivery 1, all else default */
    body = lengths[kind];
    if (kind == 6) { *p++ = 0, put16(p, TAG_PAYLOAD), put16(p + 2, (uint16_t)body), p += 4; } else *p++ = (uint8_t)body;
    m.body = p, m.body_len = body;
    if (m.esm_class) { /* 3GPP TS 23.040, 9.2.3.24.1 */
        memcpy(p, (uint8_t[]){5, 0, 3, (uint8_t)(i / KINDS), 2, (uint8_t)(kind - 3)}, 6);
        used = 6;
    }
    unsigned free_room = body - used - TOKEN * step;
    if (kind == 2)
        for (unsigned k = 0; k < free_room; k += 2) put16(p + k, (uint16_t)(0x0410 + (i + k) % 64)); /* Cyrillic */
    else if (kind == 3)
        for (unsigned k = 0; k < free_room; k++) p[k] = (uint8_t)(i * 31 + k * 5);
    else
        prose(i, p + used, free_room);
    if (links && kind == 0 && i % 3 == 0) memcpy(p + 20, " https://track.parcels.example/p/1234 ", 37);
    if (kind == 1) memcpy(p + 40, (uint8_t[]){0x00, 0x1B, 0x65, 0x05, 0x11, 0x1B, 0x3C, 0x7F}, 8); /* @ EUR e-acute _ [ a-grave */
    uint8_t *token = p + body - TOKEN * step;
    memset(token, 0, TOKEN * step);
    /* Letters alone where rules read the text: a word of digits among letters would be read as one in disguise, each time. */
    const char *digits = links ? "ghijklmnopqrstuv" : "0123456789abcdef";
    hex8(i, token + step - 1, step, digits);
    p += body;
    m.tlvs = m.end = p;
    if (kind == 1) memcpy(p, VENDOR_TLVS, sizeof VENDOR_TLVS), p += sizeof VENDOR_TLVS, m.end = p;
    hex8(checksum(&m), token + 8 * step + step - 1, step, digits);
    pdu_header(to, (uint32_t)(p - to), SUBMIT_SM, 0, 0);
    return (uint32_t)(p - to);
}

#endif
