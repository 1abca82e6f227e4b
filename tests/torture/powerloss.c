/* Preloaded under the daemon: watches all that is written to files of one directory, and fails it when told to.
 *
 * TORTURE_DIR      the store's directory; files elsewhere, and -shm files (never durable data), are left alone
 * TORTURE_LOG      where each operation is written down in order, with its data; without it nothing is written down
 * TORTURE_CONTROL  a mapped file of 8 octets: u32 fault (0 none, 1 no space, 2 EIO on sync, 3 EIO on write, 4 every second
 *                  write of more than a sector writes half of them), u32 unused
 * TORTURE_SYNC_US  how long a sync takes, in microseconds; a real one is not made while there is a log
 * TORTURE_KILL_AT  the number of the operation (create, write, truncate, sync, unlink, rename, from 1) behind which the process
 *                  is killed
 *
 * A sync is written down after it is done and before its caller hears of it, with the place in the log at which it began:
 * what was written down before that place is durable, all else may be lost. A write that is its own sync (RWF_DSYNC) is a
 * write and then a sync of this write alone: of what was written before it promises nothing. A cut may come between the two.
 * `materialise` in disk.py reads the log.
 * Record: u8 op, u8 length of name, u16 length of second name, u32 0, u64 a, u64 b, names, data. op: C create,
 * W write (a offset, b length), T truncate (a size), S sync (a place), Y sync of one write (a its place), D sync of the
 * directory (a place), U unlink, R rename. What is no file and no directory (a FIFO) is left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILES = 4096, NO_SPACE = 1, BAD_SYNC = 2, BAD_WRITE = 3, SHORT_WRITE = 4, SECTOR = 512 };
static char *names[FILES]; /* of watched descriptors; "" is the directory itself */
static char directory[4096];
static size_t directory_n;
static int log_fd = -1;
static uint64_t place; /* records so far */
static uint64_t done_n, kill_at; /* operations so far, and the one behind which all ends */
static volatile uint32_t *control;
static useconds_t sync_us;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) real_##name
static int (*REAL(openat))(int, const char *, int, ...);
static ssize_t (*REAL(pwrite))(int, const void *, size_t, off_t);
static ssize_t (*REAL(write))(int, const void *, size_t);
static int (*REAL(ftruncate))(int, off_t), (*REAL(fsync))(int), (*REAL(fdatasync))(int), (*REAL(close))(int);
static int (*REAL(unlink))(const char *), (*REAL(rename))(const char *, const char *);
static int (*REAL(statvfs))(const char *, struct statvfs *), (*REAL(fstatvfs))(int, struct statvfs *);
static ssize_t (*REAL(writev))(int, const struct iovec *, int);
static int (*REAL(fallocate))(int, int, off_t, off_t), (*REAL(posix_fallocate))(int, off_t, off_t);
static ssize_t (*REAL(pwritev2))(int, const struct iovec *, int, off_t, int);

__attribute__((constructor)) static void begin(void) {
    if (REAL(openat)) return;
    REAL(pwrite) = dlsym(RTLD_NEXT, "pwrite"), REAL(write) = dlsym(RTLD_NEXT, "write");
    REAL(ftruncate) = dlsym(RTLD_NEXT, "ftruncate"), REAL(fsync) = dlsym(RTLD_NEXT, "fsync");
    REAL(fdatasync) = dlsym(RTLD_NEXT, "fdatasync"), REAL(close) = dlsym(RTLD_NEXT, "close");
    REAL(unlink) = dlsym(RTLD_NEXT, "unlink"), REAL(rename) = dlsym(RTLD_NEXT, "rename");
    REAL(statvfs) = dlsym(RTLD_NEXT, "statvfs"), REAL(fstatvfs) = dlsym(RTLD_NEXT, "fstatvfs");
    REAL(writev) = dlsym(RTLD_NEXT, "writev"), REAL(pwritev2) = dlsym(RTLD_NEXT, "pwritev2");
    REAL(fallocate) = dlsym(RTLD_NEXT, "fallocate"), REAL(posix_fallocate) = dlsym(RTLD_NEXT, "posix_fallocate");
    REAL(openat) = dlsym(RTLD_NEXT, "openat");
    const char *at = getenv("TORTURE_DIR"), *to = getenv("TORTURE_LOG"), *by = getenv("TORTURE_CONTROL");
    if (!at || !realpath(at, directory)) directory[0] = 0;
    directory_n = strlen(directory);
    if (to && (log_fd = REAL(openat)(AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) < 0) abort();
    if (by) {
        int fd = REAL(openat)(AT_FDCWD, by, O_RDWR | O_CLOEXEC);
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) abort();
        REAL(close)(fd);
        control = map;
    }
    sync_us = getenv("TORTURE_SYNC_US") ? (useconds_t)atoi(getenv("TORTURE_SYNC_US")) : 0;
    kill_at = getenv("TORTURE_KILL_AT") ? strtoull(getenv("TORTURE_KILL_AT"), NULL, 10) : 0;
}

static uint32_t fault(void) { return control ? control[0] : 0; }

/* The name inside the directory, "" for itself, NULL for anything else. */
static const char *inside(const char *path) {
    static _Thread_local char whole[4096];
    if (!directory_n) return NULL;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole) || strlen(whole) + strlen(path) + 2 > sizeof whole) return NULL;
        strcat(whole, "/"), strcat(whole, path);
        if (strncmp(whole, directory, directory_n)) return NULL;
        path = whole + directory_n;
    } else {
        if (strncmp(path, directory, directory_n)) return NULL;
        path += directory_n;
    }
    if (!*path) return "";
    if (*path != '/' || strchr(path + 1, '/')) return NULL;
    size_t n = strlen(++path);
    return n > 4 && !strcmp(path + n - 4, "-shm") ? NULL : path;
}

static const char *watched(int fd) { return fd >= 0 && fd < FILES ? names[fd] : NULL; }

/* With the lock held. One write to the log is one record: a kill leaves at most the last one incomplete. */
static void note(char op, const char *name, const char *second, uint64_t a, uint64_t b, const void *data) {
    done_n++;
    if (log_fd < 0) {
        if (done_n == kill_at) kill(getpid(), SIGKILL);
        return;
    }
    uint8_t head[24] = {(uint8_t)op, (uint8_t)strlen(name)};
    uint16_t second_n = second ? (uint16_t)strlen(second) : 0;
    memcpy(head + 2, &second_n, 2), memcpy(head + 8, &a, 8), memcpy(head + 16, &b, 8);
    struct iovec parts[] = {{head, 24}, {(void *)(uintptr_t)name, head[1]}, {(void *)(uintptr_t)(second ? second : ""), second_n},
                            {(void *)(uintptr_t)data, data ? b : 0}};
    ssize_t whole = (ssize_t)(24 + head[1] + second_n + (data ? b : 0));
    if (REAL(writev)(log_fd, parts, 4) != whole) {
        fprintf(stderr, "torture: the log cannot be written\n");
        abort();
    }
    place++;
    if (done_n == kill_at) kill(getpid(), SIGKILL);
}

static void not_modelled(const char *call) {
    fprintf(stderr, "torture: %s on a file of the store is not modelled\n", call);
    abort();
}

static int open_any(int at, const char *path, int flags, mode_t mode) {
    begin();
    const char *name = at == AT_FDCWD || path[0] == '/' ? inside(path) : NULL;
    if (at >= 0 && path[0] != '/' && watched(at)) not_modelled("openat");
    if (!name) return REAL(openat)(at, path, flags, mode);
    if (flags & O_DSYNC) not_modelled("O_DSYNC");
    pthread_mutex_lock(&lock);
    struct stat before;
    int fresh = *name && stat(path, &before) != 0;
    if (fresh && flags & O_CREAT && fault() == NO_SPACE) {
        pthread_mutex_unlock(&lock);
        errno = ENOSPC;
        return -1;
    }
    int fd = REAL(openat)(at, path, flags, mode);
    int error = errno;
    struct stat now;
    if (fd >= 0 && fd < FILES && !fstat(fd, &now) && (S_ISREG(now.st_mode) || S_ISDIR(now.st_mode))) {
        free(names[fd]);
        names[fd] = strdup(name);
        if (fresh && flags & O_CREAT) note('C', name, NULL, 0, 0, NULL);
        else if (flags & O_TRUNC) note('T', name, NULL, 0, 0, NULL);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list v; va_start(v, flags); mode = va_arg(v, mode_t); va_end(v); }
int open(const char *path, int flags, ...) { MODE return open_any(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_any(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return open_any(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return open_any(at, path, flags, mode); }

int close(int fd) {
    begin();
    if (watched(fd)) {
        pthread_mutex_lock(&lock);
        free(names[fd]), names[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return REAL(close)(fd);
}

static int grows(int fd, off_t end) {
    struct stat at;
    return !fstat(fd, &at) && end > at.st_size;
}

/* Writes `n` octets of `data`; a write that is its own sync has `synced`. */
static ssize_t put(int fd, const void *data, size_t n, off_t at, int positioned, int synced) {
    static unsigned turn;
    pthread_mutex_lock(&lock);
    const char *name = watched(fd);
    ssize_t done = -1;
    int error = 0;
    uint64_t written = place;
    if (!positioned) {
        struct stat now;
        at = fcntl(fd, F_GETFL) & O_APPEND && !fstat(fd, &now) ? now.st_size : lseek(fd, 0, SEEK_CUR);
    }
    if (fault() == SHORT_WRITE && ++turn % 2) {
        off_t half = (at + (off_t)(n / 2)) & ~(off_t)(SECTOR - 1);
        if (half > at) n = (size_t)(half - at);
    }
    if (fault() == BAD_WRITE) error = EIO;
    else if (fault() == NO_SPACE && grows(fd, at + (off_t)n)) error = ENOSPC;
    else {
        struct iovec whole = {(void *)(uintptr_t)data, n};
        if (synced && log_fd < 0) done = REAL(pwritev2)(fd, &whole, 1, at, fault() == BAD_SYNC ? 0 : RWF_DSYNC);
        else done = positioned ? REAL(pwrite)(fd, data, n, at) : REAL(write)(fd, data, n);
        error = errno;
        if (done > 0 && name) note('W', name, NULL, (uint64_t)at, (uint64_t)done, data);
    }
    pthread_mutex_unlock(&lock);
    if (synced && done > 0) {
        if (fault() == BAD_SYNC) done = -1, error = EIO;
        else {
            if (sync_us) usleep(sync_us);
            pthread_mutex_lock(&lock);
            name = watched(fd);
            if (name) note('Y', name, NULL, written, 0, NULL);
            pthread_mutex_unlock(&lock);
        }
    }
    errno = error;
    return done;
}

/* One write of several parts, which may be its own sync. */
static ssize_t put_parts(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    size_t n = 0, filled = 0;
    if (flags & ~(RWF_DSYNC | RWF_SYNC)) not_modelled("pwritev2 with other flags");
    for (int i = 0; i < count; i++) n += parts[i].iov_len;
    void *whole = NULL;
    /* What goes past the page cache (O_DIRECT) begins where a page begins. */
    if (posix_memalign(&whole, 4096, n ? n : 1)) abort();
    char *data = whole;
    for (int i = 0; i < count; i++) memcpy(data + filled, parts[i].iov_base, parts[i].iov_len), filled += parts[i].iov_len;
    ssize_t done = put(fd, data, n, at, 1, flags != 0);
    int error = errno;
    free(data);
    errno = error;
    return done;
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    begin();
    return watched(fd) ? put_parts(fd, parts, count, at, flags) : REAL(pwritev2)(fd, parts, count, at, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
    return pwritev2(fd, parts, count, at, flags);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev2(fd, parts, count, at, 0); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return pwritev2(fd, parts, count, at, 0); }

ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
    begin();
    return watched(fd) ? put(fd, data, n, at, 1, 0) : REAL(pwrite)(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return pwrite(fd, data, n, at); }
ssize_t write(int fd, const void *data, size_t n) {
    begin();
    return watched(fd) ? put(fd, data, n, 0, 0, 0) : REAL(write)(fd, data, n);
}

/* Nobody writes to the store like this; who begins to must be seen here. */
ssize_t writev(int fd, const struct iovec *parts, int n) {
    begin();
    if (watched(fd)) not_modelled("writev");
    return REAL(writev)(fd, parts, n);
}
int fallocate(int fd, int mode, off_t at, off_t n) {
    begin();
    if (watched(fd)) not_modelled("fallocate");
    return REAL(fallocate)(fd, mode, at, n);
}
int fallocate64(int fd, int mode, off64_t at, off64_t n) { return fallocate(fd, mode, at, n); }
int posix_fallocate(int fd, off_t at, off_t n) {
    begin();
    if (watched(fd)) not_modelled("posix_fallocate");
    return REAL(posix_fallocate)(fd, at, n);
}
int posix_fallocate64(int fd, off64_t at, off64_t n) { return posix_fallocate(fd, at, n); }

int ftruncate(int fd, off_t size) {
    begin();
    const char *name = watched(fd);
    if (!name) return REAL(ftruncate)(fd, size);
    pthread_mutex_lock(&lock);
    int status = -1, error = 0;
    if (fault() == BAD_WRITE) error = EIO;
    else if (fault() == NO_SPACE && grows(fd, size)) error = ENOSPC;
    else {
        status = REAL(ftruncate)(fd, size), error = errno;
        if (!status) note('T', name, NULL, (uint64_t)size, 0, NULL);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return status;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

static int sync_any(int fd, int (*real)(int)) {
    const char *name = watched(fd);
    if (!name) return real(fd);
    if (fault() == BAD_SYNC) {
        errno = EIO;
        return -1;
    }
    pthread_mutex_lock(&lock);
    uint64_t begun = place;
    pthread_mutex_unlock(&lock);
    if (sync_us) usleep(sync_us);
    int status = log_fd < 0 ? real(fd) : 0, error = errno;
    pthread_mutex_lock(&lock);
    if (!status) note(*name ? 'S' : 'D', name, NULL, begun, 0, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return status;
}
int fsync(int fd) { begin(); return sync_any(fd, REAL(fsync)); }
int fdatasync(int fd) { begin(); return sync_any(fd, REAL(fdatasync)); }

int unlink(const char *path) {
    begin();
    const char *name = inside(path);
    if (!name) return REAL(unlink)(path);
    pthread_mutex_lock(&lock);
    int status = REAL(unlink)(path), error = errno;
    if (!status) note('U', name, NULL, 0, 0, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return status;
}

int rename(const char *from, const char *to) {
    begin();
    const char *a = inside(from), *b = inside(to);
    if (!a || !b) {
        if (a || b) abort(); /* into or out of the store: not modelled */
        return REAL(rename)(from, to);
    }
    pthread_mutex_lock(&lock);
    int status = REAL(rename)(from, to), error = errno;
    if (!status) note('R', a, b, 0, 0, NULL);
    pthread_mutex_unlock(&lock);
    errno = error;
    return status;
}

static int full(int status, struct statvfs *at) {
    if (!status && fault() == NO_SPACE) at->f_bavail = at->f_bfree = 0;
    return status;
}
int statvfs(const char *path, struct statvfs *at) { begin(); return full(REAL(statvfs)(path, at), at); }
int statvfs64(const char *path, struct statvfs64 *at) { return statvfs(path, (struct statvfs *)at); }
int fstatvfs(int fd, struct statvfs *at) { begin(); return full(REAL(fstatvfs)(fd, at), at); }
int fstatvfs64(int fd, struct statvfs64 *at) { return fstatvfs(fd, (struct statvfs *)at); }
