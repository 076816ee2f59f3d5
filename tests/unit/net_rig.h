/* What the tests of net/ share: a loop that is run until something holds, raw peers, a server that
 * records what reaches it. All bounded in time. */
#pragma once

#include "base/clock.h"
#include "net/http_server.h"
#include "proto/check.h"
#include "proto/writer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    PATIENCE_MS = 8000, /* that anything may take, also under a sanitizer */
    MEGABYTE = 1 << 20,
    RECORD_MAX = 8 << 20, /* bytes */
};

static inline void run_a_little(struct loop *loop, uint64_t end_us, const char *waited_for)
{
    loop_run_for(loop, 5);
    if (clock_monotonic_us() > end_us) {
        fail_msg("never came true: %s", waited_for);
    }
}

/* Runs the loop until the condition holds. */
#define RUN_UNTIL(loop, condition)                                                                 \
    do {                                                                                           \
        uint64_t end_us_ = clock_monotonic_us() + PATIENCE_MS * 1000ULL;                           \
        while (!(condition)) {                                                                     \
            run_a_little((loop), end_us_, #condition);                                             \
        }                                                                                          \
    } while (0)

static inline void run_for(struct loop *loop, uint64_t ms)
{
    uint64_t end_us = clock_monotonic_us() + ms * 1000;

    while (clock_monotonic_us() < end_us) {
        loop_run_for(loop, 2);
    }
}

/* A pattern in which a lost or doubled piece shows. */
static inline char *make_bytes(size_t size)
{
    char *bytes = malloc(size);

    CHECK(bytes != NULL);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (char)('!' + (i * 7 + i / 251) % 90);
    }
    return bytes;
}

static inline struct sockaddr_in on_loopback(uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
}

static inline int raw_connect(uint16_t port)
{
    struct sockaddr_in address = on_loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

static inline int raw_listen(uint16_t *port)
{
    struct sockaddr_in address = on_loopback(0);
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(fd, 16) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static inline int raw_accept(struct loop *loop, int listener)
{
    int fd;

    RUN_UNTIL(loop, (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0);
    return fd;
}

/* False if the peer has closed. */
static inline bool raw_send(struct loop *loop, int fd, struct span bytes)
{
    while (bytes.size > 0) {
        ssize_t n = send(fd, bytes.data, bytes.size, MSG_NOSIGNAL);
        if (n > 0) {
            bytes = span_skip(bytes, (size_t)n);
        } else if (errno != EAGAIN) {
            return false;
        }
        loop_run_for(loop, 1);
    }
    return true;
}

/* What there is to read now goes to *out; false at the end of it all. */
static inline bool raw_read(struct writer *out, int fd)
{
    char piece[16384];
    ssize_t n = recv(fd, piece, sizeof piece, 0);

    if (n > 0) {
        writer_bytes(out, span_of(piece, (size_t)n));
    }
    return n > 0 || (n < 0 && errno == EAGAIN);
}

static inline void raw_read_to_end(struct writer *out, struct loop *loop, int fd)
{
    RUN_UNTIL(loop, !raw_read(out, fd));
}

static inline bool has_text(const struct writer *w, const char *text)
{
    return w->size > 0 && memmem(w->data, w->size, text, strlen(text)) != NULL;
}

static inline size_t count_text(const struct writer *w, const char *text)
{
    const char *at = w->data;
    size_t n = 0;

    while (at != NULL && (at = memmem(at, w->size - (size_t)(at - w->data), text, strlen(text)))) {
        at += strlen(text);
        n++;
    }
    return n;
}

static inline void raw_read_until(struct writer *out, struct loop *loop, int fd, const char *text)
{
    RUN_UNTIL(loop, (raw_read(out, fd), has_text(out, text)));
}

/* How the server of a rig answers. */
enum answer {
    ANSWER_ECHO,    /* the body, or "METHOD TARGET" if it was empty, with its length */
    ANSWER_CHUNKED, /* the same, chunked, in pieces with back-pressure */
    ANSWER_HOLD,    /* nothing by itself */
    ANSWER_EARLY,   /* 200 "early" at the head already */
    ANSWER_REJECT,  /* REJECT_NOT_RELAYED at the head */
    ANSWER_204,
    ANSWER_INJECT, /* a header with a line end in its value */
    ANSWER_SHORT,  /* fewer bytes than announced */
};

struct rig {
    struct loop *loop;
    struct http_listener *listener;
    enum answer answer;
    struct http_exchange *exchange; /* in flight; NULL: none */
    unsigned n_heads, n_ends, n_aborts, n_refused;
    enum reject refused;
    size_t n_bytes;     /* of bodies, whether kept or not */
    struct writer log;  /* "METHOD TARGET\n" for each head */
    struct writer body; /* of the latest request */
    size_t body_sent;
    bool pauses; /* after each piece of a body, for a while */
    struct timer resume;
    unsigned n_pauses;
    struct in6_addr peer;
};

enum {
    PIECE = 50000,              /* bytes of a chunked answer */
    OUTPUT_ENOUGH = 128 * 1024, /* bytes that may wait before the rest does */
};

static inline void rig_go_on_chunked(struct rig *rig)
{
    struct http_exchange *ex = rig->exchange;

    while (rig->body_sent < rig->body.size && http_output_size(ex) < OUTPUT_ENOUGH) {
        struct span rest = span_skip(writer_span(&rig->body), rig->body_sent);
        rest.size = rest.size < PIECE ? rest.size : PIECE;
        http_respond_body(ex, rest);
        rig->body_sent += rest.size;
    }
    if (rig->body_sent == rig->body.size) {
        rig->exchange = NULL;
        http_respond_end(ex);
    }
}

static inline void rig_answer(struct rig *rig, enum answer answer)
{
    static const struct http_header type[] = {{SPAN_INIT("Content-Type"), SPAN_INIT("text/plain")},
                                              {SPAN_INIT("Content-Length"), SPAN_INIT("1")},
                                              {SPAN_INIT("Connection"), SPAN_INIT("upgrade")}};
    static const struct http_header evil = {SPAN_INIT("X-Evil"), SPAN_INIT("a\r\nX-Injected: b")};
    struct http_exchange *ex = rig->exchange;

    if (answer == ANSWER_CHUNKED) {
        http_respond_head(ex, 200, type, 3, -1);
        rig->body_sent = 0;
        rig_go_on_chunked(rig);
        return;
    }
    rig->exchange = NULL;
    if (answer == ANSWER_ECHO) {
        http_respond(ex, 200, type, 3, writer_span(&rig->body));
    } else if (answer == ANSWER_EARLY) {
        http_respond(ex, 200, type, 3, SPAN_LIT("early"));
    } else if (answer == ANSWER_REJECT) {
        http_respond_reject(ex, REJECT_NOT_RELAYED);
    } else if (answer == ANSWER_204) {
        http_respond(ex, 204, NULL, 0, SPAN_LIT("dropped"));
    } else if (answer == ANSWER_INJECT) {
        http_respond(ex, 200, &evil, 1, SPAN_LIT("body"));
    } else if (answer == ANSWER_SHORT) {
        http_respond_head(ex, 200, NULL, 0, 10);
        http_respond_body(ex, SPAN_LIT("short"));
        http_respond_end(ex);
    }
}

static inline void rig_on_head(struct http_exchange *ex, const struct http_head *head)
{
    struct rig *rig = ex->arg;

    assert_null(rig->exchange);
    rig->n_heads++;
    rig->peer = http_peer_address(ex);
    rig->exchange = ex;
    writer_reset(&rig->body);
    writer_bytes(&rig->log, head->method);
    writer_char(&rig->log, ' ');
    writer_bytes(&rig->log, head->target);
    writer_char(&rig->log, '\n');
    if (!head->chunked && head->content_length == 0) {
        writer_bytes(&rig->body, head->method);
        writer_char(&rig->body, ' ');
        writer_bytes(&rig->body, head->target);
    }
    if (rig->answer == ANSWER_EARLY || rig->answer == ANSWER_REJECT) {
        rig_answer(rig, rig->answer);
    }
}

static inline void rig_on_body(struct http_exchange *ex, struct span bytes)
{
    struct rig *rig = ex->arg;

    assert_ptr_equal(rig->exchange, ex);
    rig->n_bytes += bytes.size;
    writer_bytes(&rig->body, bytes);
    if (rig->pauses) {
        rig->n_pauses++;
        http_read_pause(ex);
        timer_start(&rig->resume, 2);
    }
}

static inline void rig_on_resume(void *arg)
{
    struct rig *rig = arg;

    if (rig->exchange != NULL) {
        http_read_resume(rig->exchange);
    }
}

static inline void rig_on_end(struct http_exchange *ex)
{
    struct rig *rig = ex->arg;

    assert_ptr_equal(rig->exchange, ex);
    rig->n_ends++;
    if (rig->answer != ANSWER_HOLD) {
        rig_answer(rig, rig->answer);
    }
}

static inline void rig_on_drained(struct http_exchange *ex)
{
    struct rig *rig = ex->arg;

    if (rig->answer == ANSWER_CHUNKED) {
        rig_go_on_chunked(rig);
    }
}

static inline void rig_on_abort(struct http_exchange *ex)
{
    struct rig *rig = ex->arg;

    assert_ptr_equal(rig->exchange, ex);
    rig->n_aborts++;
    rig->exchange = NULL;
}

static inline void rig_on_refused(void *arg, enum reject why)
{
    struct rig *rig = arg;

    rig->n_refused++;
    rig->refused = why;
}

static const struct http_server_ops rig_ops = {
    .on_head = rig_on_head,
    .on_body = rig_on_body,
    .on_end = rig_on_end,
    .on_drained = rig_on_drained,
    .on_abort = rig_on_abort,
    .on_refused = rig_on_refused,
};

/* Options may be NULL: cleartext on 127.0.0.1. */
static inline void rig_init(struct rig *rig, const struct http_listener_options *options)
{
    const struct http_listener_options simple = {.address = "127.0.0.1"};

    *rig = (struct rig){.answer = ANSWER_ECHO};
    writer_init(&rig->log, RECORD_MAX);
    writer_init(&rig->body, RECORD_MAX);
    assert_int_equal(loop_new(&rig->loop), ERR_OK);
    timer_init(&rig->resume, rig->loop, rig_on_resume, rig);
    assert_int_equal(http_listener_open(&rig->listener, rig->loop,
                                        options != NULL ? options : &simple, &rig_ops, rig),
                     ERR_OK);
}

static inline void rig_fini(struct rig *rig)
{
    http_listener_free(rig->listener);
    timer_fini(&rig->resume);
    loop_free(rig->loop);
    writer_fini(&rig->log);
    writer_fini(&rig->body);
}

static inline uint16_t rig_port(const struct rig *rig)
{
    return http_listener_port(rig->listener);
}
