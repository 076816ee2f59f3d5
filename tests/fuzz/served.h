/* What the fuzz targets of the HTTP server share: any bytes on a connection of its own, and a
 * handler that checks what it is told. */
#pragma once

#include "memory_stream.h"

#include "net/http_connection.h"
#include "net/http_server.h"
#include "net/loop.h"
#include "proto/check.h"

#include <stdint.h>
#include <stdlib.h>

enum {
    SERVED_INPUT_MAX = 64 * 1024, /* bytes */
    SERVED_PIECES_MAX = 256,      /* bytes of an input that comes byte by byte */
    SERVED_ROUNDS_MAX = 1000,     /* of the loop, after each piece */
};

/* How the handler behaves, by bits of the input's first byte. */
enum served_manner {
    SERVED_EARLY = 1,    /* answers at the head already */
    SERVED_REJECTS = 2,  /* instead of answering */
    SERVED_PAUSES = 4,   /* after each piece of a body */
    SERVED_CUTS = 8,     /* the answer in the middle */
    SERVED_STREAMS = 16, /* an answer of no known length */
    SERVED_PIECES = 32,  /* the input comes byte by byte */
    SERVED_DRAINS = 64,  /* in the middle of it all */
};

struct served {
    struct loop *loop;
    struct http_listener *listener;
    unsigned manner;
    unsigned n_live, live_max;
};

/* One exchange. */
struct served_exchange {
    struct served *served;
    const struct http_head *head;
    uint64_t n_body;
    bool has_ended;
};

static inline void served_over(struct http_exchange *ex)
{
    struct served_exchange *x = ex->user;

    x->served->n_live--;
    free(x);
}

static inline void served_answer(struct http_exchange *ex)
{
    static const struct http_header headers[] = {{SPAN_INIT("X-Own"), SPAN_INIT("1")},
                                                 {SPAN_INIT("Connection"), SPAN_INIT("x")}};
    const struct served *served = ex->arg;

    served_over(ex);
    if ((served->manner & SERVED_REJECTS) != 0) {
        http_respond_reject(ex, REJECT_NOT_RELAYED);
    } else if ((served->manner & SERVED_CUTS) != 0) {
        http_respond_head(ex, 200, headers, 2, 100);
        http_respond_body(ex, SPAN_LIT("part"));
        http_respond_cut(ex);
    } else if ((served->manner & SERVED_STREAMS) != 0) {
        http_respond_head(ex, 200, headers, 2, -1);
        http_respond_body(ex, SPAN_LIT("a body"));
        http_respond_end(ex);
    } else {
        http_respond(ex, 200, headers, 2, SPAN_LIT("a body"));
    }
}

static inline void served_check_text(struct span text, bool may_have_blanks)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        CHECK(c != 0x7f && (c > 0x20 || (may_have_blanks && (c == ' ' || c == '\t'))));
    }
}

static inline void served_check_target(const struct http_head *head)
{
    CHECK(head->target.size > 0 && head->target.size <= HTTP_TARGET_MAX);
    CHECK(head->target.data[0] == '/' || span_equal(head->target, SPAN_LIT("*")));
    served_check_text(head->target, false);
}

static inline void served_check_headers(const struct http_head *head)
{
    CHECK(head->n_headers <= HTTP_HEADERS_MAX);
    for (size_t i = 0; i < head->n_headers; i++) {
        CHECK(http_name_is_valid(head->headers[i].name));
        served_check_text(head->headers[i].value, true);
    }
}

/* What every handler counts on, whichever HTTP it was. */
static inline void served_check_head(const struct http_head *head)
{
    CHECK(head->method.size > 0);
    served_check_text(head->method, false);
    served_check_target(head);
    CHECK(http_header_count(head, SPAN_LIT("host")) == 1);
    CHECK(http_header_count(head, SPAN_LIT("content-length")) <= 1);
    CHECK(http_header_count(head, SPAN_LIT("upgrade")) == 0);
    CHECK(!head->chunked || !head->has_content_length);
    served_check_headers(head);
}

static inline void served_on_head(struct http_exchange *ex, const struct http_head *head)
{
    struct served *served = ex->arg;
    struct served_exchange *x = calloc(1, sizeof *x);

    CHECK(x != NULL && ex->user == NULL);
    *x = (struct served_exchange){.served = served, .head = head};
    ex->user = x;
    served->n_live++;
    CHECK(served->n_live <= served->live_max);
    served_check_head(head);
    if ((served->manner & SERVED_EARLY) != 0) {
        served_answer(ex);
    }
}

static inline void served_on_body(struct http_exchange *ex, struct span bytes)
{
    struct served_exchange *x = ex->user;

    CHECK(!x->has_ended && bytes.size > 0);
    x->n_body += bytes.size;
    CHECK(x->head->chunked || x->n_body <= x->head->content_length);
    if ((x->served->manner & SERVED_PAUSES) != 0) {
        http_read_pause(ex);
        if (x->n_body % 2 == 0) {
            http_read_resume(ex);
        }
    }
}

static inline void served_on_end(struct http_exchange *ex)
{
    struct served_exchange *x = ex->user;

    CHECK(!x->has_ended);
    CHECK(x->head->chunked || x->n_body == x->head->content_length);
    x->has_ended = true;
    served_check_head(x->head); /* still there */
    served_answer(ex);
}

static inline void served_on_drained(struct http_exchange *ex)
{
    CHECK(ex->user != NULL);
}

static inline void served_on_abort(struct http_exchange *ex)
{
    served_over(ex);
}

static inline void served_on_refused(void *arg, enum reject why)
{
    CHECK(arg != NULL && why != REJECT_NONE && why < REJECT_COUNT);
}

/* Until all has been done that needs no more input. */
static inline void served_run(struct served *served)
{
    unsigned n = 0;

    do {
        loop_run_for(served->loop, 0);
        n++;
    } while (memory_stream_is_busy() && n < SERVED_ROUNDS_MAX);
}

static inline void served_send(struct served *served, struct span bytes)
{
    bool by_byte = (served->manner & SERVED_PIECES) != 0 && bytes.size < SERVED_PIECES_MAX;

    while (bytes.size > 0 && *memory_stream_latest() != NULL) {
        size_t n = by_byte ? 1 : bytes.size;
        memory_stream_give(span_of(bytes.data, n));
        served_run(served);
        bytes = span_skip(bytes, n);
    }
}

static inline void served_drain(const struct served *served)
{
    struct link *link = list_first(&served->listener->connections);

    if (link != NULL) {
        struct http_served *connection = LIST_ENTRY(link, struct http_served, link);
        connection->drain(connection);
    }
}

static inline void served_abort(const struct served *served)
{
    struct link *link;

    while ((link = list_first(&served->listener->connections)) != NULL) {
        struct http_served *connection = LIST_ENTRY(link, struct http_served, link);
        connection->abort(connection);
    }
}

/* One loop and one listener for all inputs. */
static inline void served_init(struct served *served)
{
    static const struct http_server_ops ops = {served_on_head,  served_on_body,
                                               served_on_end,   served_on_drained,
                                               served_on_abort, served_on_refused};

    CHECK(loop_new(&served->loop) == ERR_OK);
    CHECK(http_listener_open(&served->listener, served->loop,
                             &(struct http_listener_options){.address = "127.0.0.1"}, &ops,
                             served) == ERR_OK);
}

/* The first byte is the manner; the rest follows `start`. At most `live_max` exchanges at once. */
static inline void serve(struct span start, struct span input, unsigned live_max)
{
    static struct served served;

    if (input.size == 0 || input.size > SERVED_INPUT_MAX) {
        return;
    }
    if (served.loop == NULL) {
        served_init(&served);
    }
    served.live_max = live_max;
    served.manner = (unsigned char)input.data[0];
    http_connection_accept(served.listener, -1, (struct in6_addr)IN6ADDR_LOOPBACK_INIT);
    served_send(&served, start);
    served_send(&served, span_skip(input, 1));
    if ((served.manner & SERVED_DRAINS) != 0) {
        served_drain(&served);
    } else {
        memory_stream_give_eof();
    }
    served_run(&served);
    served_abort(&served);
    CHECK(served.n_live == 0 && http_listener_n_connections(served.listener) == 0);
    loop_run_for(served.loop, 0);
}
