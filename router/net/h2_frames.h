/* Looks at the frames of an HTTP/2 connection as they come, and counts those that cost us more than
 * the peer. For net/ alone. */
#pragma once

#include "base/bucket.h"
#include "net/h2_block.h"
#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { H2_FRAME_HEAD_SIZE = 9 /* bytes. Source: RFC 9113 4.1 */ };

enum h2_counted {
    H2_RESETS_RECEIVED,
    H2_RESETS_SENT,
    H2_EMPTY_DATA,
    H2_SETTINGS,
    H2_PINGS,
    H2_IGNORED,        /* PRIORITY, and frames we do not know */
    H2_WINDOW_UPDATES, /* while no output waits */
    H2_COUNTED,
};

struct h2_frames {
    struct bucket buckets[H2_COUNTED];
    size_t preface_left; /* bytes of the client's preface to come */
    size_t head_size, payload_left;
    uint32_t window_credit; /* WINDOW_UPDATEs that DATA of ours has earned the peer */
    bool in_block;          /* a header block is not whole yet */
    size_t block_size;      /* bytes of it, as they are on the wire */
    struct h2_block block;
    uint8_t head[H2_FRAME_HEAD_SIZE];
};

void h2_frames_init(struct h2_frames *f);
void h2_frames_fini(struct h2_frames *f);

enum h2_found {
    H2_FOUND_NOTHING,   /* worth a look */
    H2_FOUND_FRAME_END, /* the bytes end a frame, or the preface */
    H2_FOUND_FLOOD,     /* too many of a kind */
    H2_FOUND_RESETS,    /* too many RST_STREAM */
    H2_FOUND_BIG_BLOCK, /* more of a header block, or of its fields, than a sound request has */
};

/* How many of the bytes, at least one, belong together; and what is to be said of them. */
size_t h2_frames_take(enum h2_found *out, struct h2_frames *f, struct span bytes, bool output_waits,
                      uint64_t now_us);

/* False: too many. */
MUST_CHECK bool h2_frames_count(struct h2_frames *f, enum h2_counted what, uint64_t now_us);

void h2_frames_sent_data(struct h2_frames *f);
