/* One connection that speaks HTTP/2, as its parts see it. For net/ alone. */
#pragma once

#include "net/h2_frames.h"
#include "net/h2_head.h"
#include "net/h2_memory.h"
#include "net/http_listener.h"
#include "net/http_transport.h"
#include "net/stream.h"

#include <nghttp2/nghttp2.h>

struct evbuffer;

/* Source: limits.md, "HTTP/2". */
enum {
    H2_STREAMS_MAX = 100,
    H2_STREAM_WINDOW = LOOP_SCRATCH_SIZE, /* bytes; a paused handler is promised no more */
    H2_CONNECTION_WINDOW = 1 << 20,       /* bytes */
    H2_HEADER_TABLE = 4096,               /* bytes */
    H2_STREAM_OUTPUT_MAX = 64 * 1024,     /* bytes that wait for the peer */
    H2_OUTPUT_MAX = 1 << 20,              /* of all streams together */
    /* Bytes that cut the connection: handlers pause when one more piece would exceed the two above,
     * but each of them may have begun with its first, and an answer that has ended waits on. */
    H2_OUTPUT_CUT = H2_OUTPUT_MAX + H2_STREAMS_MAX * LOOP_SCRATCH_SIZE,
};

struct h2_connection {
    struct http_served served;
    struct loop_task task; /* frees the memory */
    struct loop_task kick; /* sends what there is */
    struct http_listener *listener;
    struct stream *stream;
    nghttp2_session *session;
    struct h2_memory memory; /* of the session */
    struct in6_addr peer;
    struct timer idle;     /* without a request; at first, for the preface */
    uint32_t idle_left_ms; /* after that */
    struct timer block;    /* for the rest of a header block */
    struct list streams;
    size_t n_streams;
    uint32_t n_requests;
    struct h2_frames frames;
    size_t output_size;   /* bytes that wait, of all streams */
    size_t unconsumed;    /* bytes of bodies that no window was given back for yet */
    enum reject broken;   /* it is to be closed for this */
    uint32_t broken_code; /* what GOAWAY says then */
    unsigned schemes;     /* of enum h2_scheme: what its requests may say */
    bool is_leaving, is_closed;
    bool has_fault; /* the library found one, and it was counted */
};

struct h2_stream {
    struct link link;
    struct h2_connection *connection;
    struct http_exchange exchange;
    int32_t id;
    struct h2_head *fields; /* NULL once the exchange is over */
    struct http_head head;
    bool has_exchange;
    bool request_is_whole, is_paused, wants_continue;
    bool has_response, response_ended;
    struct http_answer_body answer;
    bool is_waiting;         /* the library waits to be told of more output */
    bool is_drained;         /* the handler has to be told */
    struct timer body_timer; /* for the request's body */
    struct timer write_timer;
    uint64_t body_bytes, body_used_us, body_since_us;
    size_t unconsumed;
    struct evbuffer *output; /* NULL: none yet */
    size_t output_size;
};

/* Takes over a connection that turned out to speak HTTP/2; bytes go to h2_connection_bytes.
 * `is_proxy`: the other end is one that is trusted, whoever the peer behind it is. */
struct h2_connection *h2_connection_accept(struct http_listener *listener, struct stream *stream,
                                           struct in6_addr peer, bool is_proxy);
void h2_connection_bytes(struct h2_connection *c, struct span bytes);

/* For its parts. The end comes once the present callback has returned. */
void h2_connection_break(struct h2_connection *c, enum reject why, uint32_t code);
void h2_connection_kick(struct h2_connection *c);
void h2_connection_idle(struct h2_connection *c);  /* no request is left */
void h2_connection_leave(struct h2_connection *c); /* GOAWAY; streams go on */

/* The library's callbacks about requests. */
void h2_stream_set_callbacks(nghttp2_session_callbacks *callbacks);

void h2_stream_reset(struct h2_stream *s, uint32_t code);
/* The same, counted; with on_abort if its request is in flight. */
void h2_stream_refuse(struct h2_stream *s, enum reject why, uint32_t code);
void h2_stream_free(struct h2_stream *s); /* with on_abort too */
void h2_stream_pause(struct h2_stream *s, bool is_paused);
void h2_stream_forget(struct h2_stream *s); /* the exchange is over; nobody is told */
void h2_stream_answered(struct h2_connection *c, int32_t id); /* the answer is out */

/* h2_respond.c */
extern const struct http_transport h2_transport;
void h2_respond_error(struct h2_stream *s, enum reject why);
void h2_respond_continue(struct h2_stream *s);
void h2_output_free(struct h2_stream *s);
void h2_output_stalled(void *arg); /* of write_timer */
