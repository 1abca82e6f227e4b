/* A histogram of microseconds with 128 steps an octave (under 0.8 % error), after HdrHistogram's idea: constant time and
 * memory however many values, so that measuring does not disturb what is measured. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>
#include <stdio.h>

enum { HIST_STEPS = 128, HIST_SHIFT = 7, HIST_SLOTS = HIST_STEPS * 34, HIST_SLOW = 50000 };

struct hist { uint64_t slot[HIST_SLOTS], count, max, sum, slow; }; /* slow: values over HIST_SLOW */

static inline void hist_add(struct hist *h, uint64_t us) {
    unsigned octave = us < HIST_STEPS * 2 ? 0 : 63 - (unsigned)__builtin_clzll(us) - HIST_SHIFT;
    size_t at = octave ? (size_t)octave * HIST_STEPS + (us >> octave) : us;
    h->slot[at < HIST_SLOTS ? at : HIST_SLOTS - 1]++;
    h->count++, h->sum += us;
    h->slow += us > HIST_SLOW;
    if (us > h->max) h->max = us;
}

/* The smallest recorded value (lower edge of its step) that `share` (0..1) of all values do not exceed. */
static uint64_t hist_at(const struct hist *h, double share) {
    uint64_t want = (uint64_t)((double)h->count * share + 0.5), seen = 0;
    for (size_t at = 0; at < HIST_SLOTS; at++) {
        if ((seen += h->slot[at]) < want || !h->slot[at]) continue;
        unsigned octave = at < HIST_STEPS * 2 ? 0 : (unsigned)(at / HIST_STEPS) - 1;
        return octave ? (uint64_t)(at - (size_t)octave * HIST_STEPS) << octave : at;
    }
    return h->max;
}

static void hist_json(const struct hist *h, const char *name) {
    printf("\"%s\": {\"count\": %llu, \"mean\": %.1f, \"p50\": %llu, \"p99\": %llu, \"p999\": %llu, \"max\": %llu, "
           "\"slow\": %llu}", name,
           (unsigned long long)h->count, h->count ? (double)h->sum / (double)h->count : 0.0,
           (unsigned long long)hist_at(h, 0.5), (unsigned long long)hist_at(h, 0.99),
           (unsigned long long)hist_at(h, 0.999), (unsigned long long)h->max, (unsigned long long)h->slow);
}

#endif
