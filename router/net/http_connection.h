/* One connection that speaks HTTP/1.1, as its two halves see it. For net/ alone. */
#pragma once

#include "net/http_head.h"
#include "net/http_listener.h"
#include "net/http_transport.h"
#include "net/stream.h"

#include <llhttp.h>

enum http_connection_state {
    HTTP_CONNECTION_IDLE,     /* not a byte of the next request */
    HTTP_CONNECTION_HEAD,     /* its head is coming */
    HTTP_CONNECTION_BODY,     /* its body is coming */
    HTTP_CONNECTION_WAITING,  /* it is here whole */
    HTTP_CONNECTION_FLUSHING, /* answered; the next one waits until the answer is out */
    HTTP_CONNECTION_CLOSED,
};

struct http_connection {
    struct http_served served;
    struct loop_task task;
    struct http_listener *listener;
    struct stream *stream;
    struct timer timer; /* of the state */
    enum http_connection_state state;
    struct in6_addr peer;
    bool is_proxy; /* the socket's other end is trusted, whoever the peer is */
    uint32_t n_requests;
    llhttp_t parser;
    struct head_builder *builder; /* NULL between requests */
    struct http_head head;
    enum reject why;   /* the parser was stopped for this */
    size_t head_bytes; /* taken while in HEAD */
    size_t extension_bytes, trailer_bytes;
    uint64_t body_bytes;   /* so far */
    uint64_t body_used_us; /* of the peer's time, up to body_since_us */
    uint64_t body_since_us;
    char *left; /* pipelined bytes, up to LOOP_SCRATCH_SIZE; NULL: none */
    size_t left_at, left_size;

    struct http_exchange exchange;
    bool has_exchange;
    bool request_is_whole, wants_continue, is_paused;
    bool may_be_http2;   /* all there was so far is its preface */
    size_t preface_size; /* bytes of it that are not parsed yet */
    bool closes;         /* after the response */
    bool has_response, response_is_chunked;
    struct http_answer_body answer;
};

void http_connection_accept(struct http_listener *listener, int fd, struct in6_addr peer);

/* Closes at once, with on_abort if a request is in flight. */
void http_connection_abort(struct http_connection *c);

/* Closes after what was written; no request may be in flight. */
void http_connection_finish(struct http_connection *c);

/* What its exchanges are carried by. */
extern const struct http_transport http_connection_transport;

/* The response has ended, and with it the exchange. */
void http_connection_response_ended(struct http_connection *c);

void http_connection_pause(struct http_connection *c, bool is_paused);

/* A Matrix error and the end of the connection; no request may be in flight. */
void http_connection_refuse(struct http_connection *c, enum reject why);

/* 100 Continue, if that is asked for and of any use. */
void http_connection_continue(struct http_connection *c);
