/* Counts the fields of header blocks as they come, before the library has them: it tells nothing of
 * those it only passes over, of streams that it refuses or behind a field that is none. For net/
 * alone. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct h2_block {
    nghttp2_hd_inflater *inflater; /* a second one; NULL: no block has come yet */
    size_t n_fields, list_size;    /* of the block so far; bytes as SETTINGS counts them */
    size_t skip_left;              /* bytes of the frame's payload before its part of the block */
    size_t left;                   /* bytes of that part */
    bool has_padding;              /* its size, a byte, is still to come */
    bool is_broken;                /* the library will say so */
};

/* Of zeroed memory. */
void h2_block_fini(struct h2_block *b);

/* The head of a HEADERS or CONTINUATION frame. */
void h2_block_frame(struct h2_block *b, uint8_t type, uint8_t flags, size_t payload_size);

/* What comes of its payload. False: more fields or bytes of them than a head may have. */
MUST_CHECK bool h2_block_take(struct h2_block *b, struct span payload);

/* The block is whole. */
void h2_block_end(struct h2_block *b);
