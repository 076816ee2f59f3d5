#include "net/h2_block.h"

#include "net/http.h"
#include "proto/check.h"

/* Bytes. Source: RFC 9113 6.2 and 6.5.2. */
enum { PRIORITY_SIZE = 5, FIELD_OVERHEAD = 32 };

void h2_block_fini(struct h2_block *b)
{
    if (b->inflater != NULL) { /* the library would look into it */
        nghttp2_hd_inflate_del(b->inflater);
    }
    *b = (struct h2_block){.inflater = NULL};
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

void h2_block_frame(struct h2_block *b, uint8_t type, uint8_t flags, size_t payload_size)
{
    bool is_first = type == NGHTTP2_HEADERS;

    if (b->inflater == NULL) {
        CHECK(nghttp2_hd_inflate_new(&b->inflater) == 0);
    }
    b->skip_left = 0;
    b->left = payload_size;
    b->has_padding = is_first && (flags & NGHTTP2_FLAG_PADDED) != 0;
    if (is_first) {
        b->n_fields = b->list_size = 0;
    }
    if (is_first && (flags & NGHTTP2_FLAG_PRIORITY) != 0) {
        b->skip_left = least(PRIORITY_SIZE, b->left);
        b->left -= b->skip_left;
    }
}

/* Takes up to one field of the piece; false if that is all there is to learn from it. */
static bool inflate(struct h2_block *b, struct span *piece)
{
    nghttp2_nv field;
    int flags = 0;
    ssize_t n = nghttp2_hd_inflate_hd2(b->inflater, &field, &flags, (const uint8_t *)piece->data,
                                       piece->size, 0);

    if (n < 0) {
        b->is_broken = true;
        return false;
    }
    *piece = span_skip(*piece, (size_t)n);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        b->n_fields++;
        b->list_size += field.namelen + field.valuelen + FIELD_OVERHEAD;
        return true;
    }
    return n > 0 && piece->size > 0;
}

static bool is_small(const struct h2_block *b)
{
    return b->n_fields <= HTTP_HEADERS_MAX && b->list_size <= HTTP_HEADER_BYTES_MAX;
}

/* What stands before the part of the block; says how many bytes that was. */
static size_t skip_start(struct h2_block *b, struct span payload)
{
    size_t n = 0;

    if (b->has_padding && payload.size > 0) {
        b->has_padding = false;
        b->left -= least(b->left, 1);
        b->left -= least(b->left, (unsigned char)payload.data[0]);
        n = 1;
    }
    size_t skipped = least(b->skip_left, payload.size - n);
    b->skip_left -= skipped;
    return n + skipped;
}

bool h2_block_take(struct h2_block *b, struct span payload)
{
    struct span piece = span_skip(payload, skip_start(b, payload));

    piece.size = least(piece.size, b->left);
    b->left -= piece.size;
    while (piece.size > 0 && !b->is_broken && is_small(b) && inflate(b, &piece)) {
    }
    return is_small(b);
}

void h2_block_end(struct h2_block *b)
{
    CHECK(nghttp2_hd_inflate_end_headers(b->inflater) == 0);
}
