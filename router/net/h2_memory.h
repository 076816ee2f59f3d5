/* The memory that nghttp2 asks for, because of one large piece: the buffer in which it puts frames
 * together, which a connection at rest gives back to the system. For net/ alone. */
#pragma once

#include <nghttp2/nghttp2.h>

#include <stddef.h>

struct h2_memory {
    void *frame; /* pages of its own; NULL: not asked for yet */
    size_t frame_size;
};

/* *memory must outlive the session. */
void h2_memory_init(nghttp2_mem *out, struct h2_memory *memory);

/* What is in the buffer is lost: nothing may be on its way out of the session. */
void h2_memory_rest(struct h2_memory *memory);
