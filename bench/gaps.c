/* The bench's probe of the machine itself: sleeps a millisecond, or so many as its argument says, again and again and notes
 * how late it was woken. Run with the priority and on the core of what is measured beside it, so that a pause of the machine
 * can be told from one of ours. Prints a line of JSON (times in microseconds) when its standard input closes or SIGTERM comes. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "hist.h"

static volatile sig_atomic_t ended;
static void end(int number) { (void)number, ended = 1; }

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int count, char **words) {
    const uint64_t nap = 1000000u * (uint64_t)(count > 1 ? atoi(words[1]) : 1);
    static struct hist late_us;
    signal(SIGTERM, end);
    struct pollfd input = {.fd = 0, .events = POLLIN};
    for (uint64_t began = now_ns(); !ended;) {
        struct timespec until = {(time_t)((began + nap) / 1000000000u), (long)((began + nap) % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        uint64_t woke = now_ns();
        hist_add(&late_us, woke > began + nap ? (woke - began - nap) / 1000 : 0);
        began = woke;
        if ((nap > 1000000u || late_us.count % 64 == 0) && poll(&input, 1, 0) != 0) break;
    }
    printf("{"), hist_json(&late_us, "late_us"), printf("}\n");
    return 0;
}
