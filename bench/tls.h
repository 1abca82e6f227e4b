/* OpenSSL loaded at run time, with prototypes of our own: a fresh machine has the library (Python's ssl needs it) but
 * not its headers. Used for the load generator's side and, in tests, the SMSC's. SMPPD_BENCH_LIBSSL names another file. */
#ifndef BENCH_TLS_H
#define BENCH_TLS_H

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static struct {
    void *(*client_method)(void);
    void *(*server_method)(void);
    void *(*ctx_new)(const void *method);
    long (*ctx_ctrl)(void *ctx, int command, long larg, void *parg);
    void (*ctx_set_verify)(void *ctx, int mode, void *callback);
    int (*ctx_load_verify_locations)(void *ctx, const char *file, const char *dir);
    int (*ctx_use_certificate_chain_file)(void *ctx, const char *file);
    int (*ctx_use_private_key_file)(void *ctx, const char *file, int type);
    void *(*new)(void *ctx);
    void (*free)(void *ssl);
    int (*set_fd)(void *ssl, int fd);
    int (*set1_host)(void *ssl, const char *name);
    void (*set_accept_state)(void *ssl);
    int (*connect)(void *ssl);
    int (*read)(void *ssl, void *to, int n);
    int (*write)(void *ssl, const void *from, int n);
    int (*get_error)(const void *ssl, int result);
    void (*clear_errors)(void);
    unsigned long (*next_error)(void);
    void (*error_text)(unsigned long error, char *to, size_t room);
} tls;

/* Constants of openssl/ssl.h, stable since 1.1.0. */
enum { TLS_CTRL_MODE = 33, TLS_CTRL_READ_AHEAD = 41, TLS_PARTIAL_WRITE = 1, TLS_MOVING_BUFFER = 2, TLS_VERIFY_PEER = 1,
       TLS_PEM = 1, TLS_WANT_READ = 2, TLS_WANT_WRITE = 3 };

static void tls_die(const char *what) __attribute__((noreturn));
static void tls_die(const char *what) {
    char text[256] = "no detail";
    unsigned long error = tls.next_error ? tls.next_error() : 0;
    if (error) tls.error_text(error, text, sizeof text);
    fprintf(stderr, "TLS: %s: %s\n", what, text);
    exit(2);
}

static void tls_load(void) {
    const char *names[] = {getenv("SMPPD_BENCH_LIBSSL"), "libssl.so.3", "libssl.so.1.1", "libssl.so"};
    void *lib = NULL;
    for (size_t i = 0; !lib && i < sizeof names / sizeof *names; i++)
        if (names[i]) lib = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
    if (!lib) {
        fprintf(stderr, "TLS needs libssl.so.3 (Debian: libssl3), or SMPPD_BENCH_LIBSSL=its file: %s\n", dlerror());
        exit(2);
    }
    struct { void *slot; const char *name; } wanted[] = {
        {&tls.client_method, "TLS_client_method"}, {&tls.server_method, "TLS_server_method"},
        {&tls.ctx_new, "SSL_CTX_new"}, {&tls.ctx_ctrl, "SSL_CTX_ctrl"}, {&tls.ctx_set_verify, "SSL_CTX_set_verify"},
        {&tls.ctx_load_verify_locations, "SSL_CTX_load_verify_locations"},
        {&tls.ctx_use_certificate_chain_file, "SSL_CTX_use_certificate_chain_file"},
        {&tls.ctx_use_private_key_file, "SSL_CTX_use_PrivateKey_file"}, {&tls.new, "SSL_new"}, {&tls.free, "SSL_free"},
        {&tls.set_fd, "SSL_set_fd"}, {&tls.set1_host, "SSL_set1_host"},
        {&tls.set_accept_state, "SSL_set_accept_state"}, {&tls.connect, "SSL_connect"}, {&tls.read, "SSL_read"},
        {&tls.write, "SSL_write"}, {&tls.get_error, "SSL_get_error"}, {&tls.clear_errors, "ERR_clear_error"},
        {&tls.next_error, "ERR_get_error"}, {&tls.error_text, "ERR_error_string_n"},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!(*(void **)wanted[i].slot = dlsym(lib, wanted[i].name))) {
            fprintf(stderr, "TLS: this OpenSSL has no %s\n", wanted[i].name);
            exit(2);
        }
}

static void *tls_context(void *method) {
    void *ctx = tls.ctx_new(method);
    if (!ctx) tls_die("context");
    tls.ctx_ctrl(ctx, TLS_CTRL_MODE, TLS_PARTIAL_WRITE | TLS_MOVING_BUFFER, NULL);
    tls.ctx_ctrl(ctx, TLS_CTRL_READ_AHEAD, 1, NULL); /* one recv a record instead of two */
    return ctx;
}

/* ca: PEM file the peer's certificate must chain to. */
__attribute__((unused)) static void *tls_client(const char *ca) {
    tls_load();
    void *ctx = tls_context(tls.client_method());
    if (!tls.ctx_load_verify_locations(ctx, ca, NULL)) tls_die("CA file");
    tls.ctx_set_verify(ctx, TLS_VERIFY_PEER, NULL);
    return ctx;
}

__attribute__((unused)) static void *tls_server(const char *certificate, const char *key) {
    tls_load();
    void *ctx = tls_context(tls.server_method());
    if (tls.ctx_use_certificate_chain_file(ctx, certificate) != 1) tls_die("certificate");
    if (tls.ctx_use_private_key_file(ctx, key, TLS_PEM) != 1) tls_die("key");
    return ctx;
}

/* After a read or write that returned `result` <= 0: true when it only has to wait. */
static bool tls_would_block(void *ssl, int result) {
    int error = tls.get_error(ssl, result);
    bool wait = error == TLS_WANT_READ || error == TLS_WANT_WRITE;
    if (!wait) tls.clear_errors();
    return wait;
}

#endif
