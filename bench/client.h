/* One connection that sends transactions, over HTTP/1.1 or HTTP/2. */
#pragma once

#include "bench/traffic.h"
#include "bench/wire.h"
#include "proto/own.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CLIENT_HEAD_MAX = 16 * 1024,   /* bytes of an answer's head */
    CLIENT_BODY_MAX = 1024 * 1024, /* bytes of an answer */
    CLIENT_STREAMS_MAX = 1000,     /* calls at once on a connection */
    CLIENT_READ_SIZE = 64 * 1024,  /* bytes read at once */
};

/* One request under way. */
struct call {
    const struct request *request;
    struct client *client;
    uint64_t intended_ns; /* when it should have been begun */
    uint64_t begun_ns;
    size_t n_sent; /* bytes: of the whole over HTTP/1.1, of the body over HTTP/2 */
    int status;
    int32_t stream_id;
    bool is_busy;
    bool is_submitted; /* HTTP/2 */
    struct writer body;
};

struct client_ops {
    /* The call is over, its answer in call->status and call->body, both valid for this time. */
    void (*on_answer)(void *arg, struct call *call);
    /* It will have none. */
    void (*on_failure)(void *arg, struct call *call);
};

/* Shared by all clients of a run; borrowed. */
struct client_options {
    struct wire_target target;
    const char *const *servers; /* names; a connection is for one of them, in turn */
    uint32_t n_servers;
    const struct client_ops *ops;
    void *arg;
    int epoll_fd;
    bool is_http2;
    uint32_t n_streams;   /* calls at once; 1 with HTTP/1.1 */
    uint32_t n_calls_max; /* until the connection is closed and another is opened; 0: no end */
    char *scratch;        /* CLIENT_READ_SIZE bytes */
};

struct nghttp2_session;

struct client {
    const struct client_options *options;
    struct wire wire;
    uint32_t number;
    uint32_t n_busy;
    uint32_t n_begun; /* calls, on this connection */
    uint64_t n_connects;
    struct call *calls; /* n_streams of them */

    struct nghttp2_session *h2;
    struct writer out; /* frames that the wire did not take yet */
    size_t n_out_sent;

    char *head; /* HTTP/1.1: of the answer, up to its end */
    size_t n_head;
    bool is_in_body;
    bool closes; /* after this answer */
    uint64_t body_left;

    bool is_listed; /* by the run, as ready for a call or resting after a failure */
    uint64_t rests_until_ns;
    struct client *next; /* there */
};

void client_init(struct client *client, const struct client_options *options, uint32_t number);
void client_fini(struct client *client); /* without a word to on_failure */

uint32_t client_server(const struct client *client); /* which of the servers it is for */

/* Connects if it is not connected. False if that fails at once. */
MUST_CHECK bool client_connect(struct client *client);

bool client_has_room(const struct client *client);

/* There must be room. Connects if need be; what fails is said by on_failure, perhaps at once. */
void client_begin(struct client *client, const struct request *request, uint64_t intended_ns,
                  uint64_t now_ns);

/* For what epoll says of it. */
void client_on_event(struct client *client, uint32_t events);

/* Closes it; each call under way fails. */
void client_fail(struct client *client);

/* For client_http1.c and client_http2.c. They return false if the connection is to be failed. */
MUST_CHECK bool client_http1_write(struct client *client);
MUST_CHECK bool client_http1_read(struct client *client, const char *data, size_t size);
MUST_CHECK bool client_http2_open(struct client *client);
void client_http2_close(struct client *client);
MUST_CHECK bool client_http2_write(struct client *client);
MUST_CHECK bool client_http2_read(struct client *client, const char *data, size_t size);
void client_answered(struct call *call);
void client_lost(struct call *call); /* this one alone */
