/* A socket with or without TLS: bytes in through a callback, bytes out through a capped buffer. */
#pragma once

#include "net/loop.h"
#include "proto/own.h"
#include "proto/span.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream;
struct tls_context;

enum stream_end {
    STREAM_END_EOF,     /* an orderly end of input */
    STREAM_END_BROKEN,  /* reset, a fault in TLS, or more output than output_max */
    STREAM_END_TIMEOUT, /* no progress in writing within write_ms; accepted: not ready in time */
    STREAM_END_REFUSED, /* never ready: connect or handshake failed, or took over ready_ms */
    STREAM_END_TLS,     /* accepted: the peer had begun a handshake that failed */
};

/* All from the loop, none from inside a stream_ function. Each may free the stream. */
struct stream_ops {
    void (*on_ready)(void *arg); /* connected, handshake done; reading begins if not paused */
    void (*on_bytes)(void *arg, struct span bytes); /* up to LOOP_SCRATCH_SIZE; for the call */
    void (*on_drained)(void *arg); /* there was output, and all of it is with the kernel */
    void (*on_closed)(void *arg, enum stream_end why); /* the last one; the owner frees it */
};

/* Borrowed for the call, `ops`, `arg` and `tls` for the stream's life. */
struct stream_options {
    const struct stream_ops *ops;
    void *arg;
    struct tls_context *tls; /* NULL: none */
    const char *tls_name;    /* of the server, for a connecting stream */
    uint32_t ready_ms, write_ms;
    size_t output_max; /* bytes */
    /* For an accepting stream. NULL: no PROXY header may come. Else it is called before on_ready if
     * one has come: the client's address, or NULL for a malformed header. False: the stream ends
     * with STREAM_END_REFUSED. A header without an address is passed over. */
    bool (*on_client)(void *arg, const struct in6_addr *client);
};

/* Takes the file descriptor. on_ready comes soon. */
struct stream *stream_accept(struct loop *loop, int fd, const struct stream_options *options);

/* Failures come to on_closed. */
struct stream *stream_connect(struct loop *loop, const struct sockaddr *address, socklen_t size,
                              const struct stream_options *options);

/* From now on the callbacks go to another owner. */
void stream_hand_over(struct stream *stream, const struct stream_ops *ops, void *arg);

/* Whether ALPN has chosen HTTP/2; known from on_ready on. */
bool stream_is_http2(const struct stream *stream);

/* Whether the certificate that the other end was shown has the host's name, which may come with a
 * port; true without TLS. */
bool stream_tls_covers(const struct stream *stream, struct span host);

/* Copied and sent soon; allowed before on_ready. */
void stream_write(struct stream *stream, struct span bytes);

/* The same without a copy: the bytes must stay until no output is left, or the stream is cut. */
void stream_write_borrowed(struct stream *stream, struct span bytes);
size_t stream_output_size(const struct stream *stream);

void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

/* Gives the stream up; no callback follows. What was written is still sent, within write_ms for
 * each bit of progress, and then input is dropped for a moment so that a reset does not overtake
 * it. */
void stream_finish(struct stream *stream);

/* Closes at once; with a reset, so that nobody takes what was sent for the whole. */
void stream_cut(struct stream *stream);
