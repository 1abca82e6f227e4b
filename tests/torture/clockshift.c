/* Preloaded under the daemon: its wall clock is off by as many nanoseconds as the mapped file TORTURE_CLOCK says (i64).
 * CLOCK_MONOTONIC stays what it is, as it does when an operator or NTP sets a real machine's time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    if (real_clock_gettime) return;
    const char *by = getenv("TORTURE_CLOCK");
    int fd = by ? open(by, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (by && map == MAP_FAILED) abort();
    if (by) offset = map;
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    begin();
    int status = real_clock_gettime(clock, at);
    if (!status && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t now = (int64_t)at->tv_sec * 1000000000 + at->tv_nsec + *offset;
        at->tv_sec = now / 1000000000, at->tv_nsec = now % 1000000000;
    }
    return status;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
