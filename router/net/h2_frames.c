#include "net/h2_frames.h"

#include <nghttp2/nghttp2.h>

enum {
    /* A header list of 32 KiB is no longer than that on the wire, but for some bytes each field. */
    BLOCK_MAX = 33 * 1024,
    /* A peer may tell of each DATA twice, for the stream and for the connection, and later. */
    CREDIT_EACH = 3,
    CREDIT_MAX = 4096,
};

/* Source: limits.md, "HTTP/2". */
static const struct {
    uint32_t per_s, burst;
} limits[H2_COUNTED] = {
    [H2_RESETS_RECEIVED] = {20, 200}, [H2_RESETS_SENT] = {20, 100}, [H2_EMPTY_DATA] = {100, 100},
    [H2_SETTINGS] = {50, 50},         [H2_PINGS] = {100, 100},      [H2_IGNORED] = {100, 100},
    [H2_WINDOW_UPDATES] = {100, 100},
};

void h2_frames_init(struct h2_frames *f)
{
    *f = (struct h2_frames){.preface_left = NGHTTP2_CLIENT_MAGIC_LEN};
    for (size_t i = 0; i < H2_COUNTED; i++) {
        bucket_init(&f->buckets[i], limits[i].per_s, limits[i].burst);
    }
}

void h2_frames_fini(struct h2_frames *f)
{
    h2_block_fini(&f->block);
}

bool h2_frames_count(struct h2_frames *f, enum h2_counted what, uint64_t now_us)
{
    return bucket_take(&f->buckets[what], now_us);
}

void h2_frames_sent_data(struct h2_frames *f)
{
    f->window_credit += CREDIT_EACH;
    f->window_credit = f->window_credit < CREDIT_MAX ? f->window_credit : CREDIT_MAX;
}

static bool count_window_update(struct h2_frames *f, bool output_waits, uint64_t now_us)
{
    if (output_waits) {
        return true;
    }
    if (f->window_credit > 0) {
        f->window_credit--;
        return true;
    }
    return h2_frames_count(f, H2_WINDOW_UPDATES, now_us);
}

static enum h2_found judge_block(struct h2_frames *f, uint8_t type, uint8_t flags)
{
    f->block_size = (type == NGHTTP2_HEADERS ? 0 : f->block_size) + f->payload_left;
    f->in_block = (flags & NGHTTP2_FLAG_END_HEADERS) == 0;
    h2_block_frame(&f->block, type, flags, f->payload_left);
    return f->block_size > BLOCK_MAX ? H2_FOUND_BIG_BLOCK : H2_FOUND_NOTHING;
}

static enum h2_found judge(struct h2_frames *f, bool output_waits, uint64_t now_us)
{
    uint8_t type = f->head[3];
    uint8_t flags = f->head[4];
    bool is_fine = true;

    switch (type) {
    case NGHTTP2_DATA:
        is_fine = f->payload_left > 0 || (flags & NGHTTP2_FLAG_END_STREAM) != 0 ||
                  h2_frames_count(f, H2_EMPTY_DATA, now_us);
        break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
        return judge_block(f, type, flags);
    case NGHTTP2_RST_STREAM:
        return h2_frames_count(f, H2_RESETS_RECEIVED, now_us) ? H2_FOUND_NOTHING : H2_FOUND_RESETS;
    case NGHTTP2_SETTINGS:
        is_fine = h2_frames_count(f, H2_SETTINGS, now_us);
        break;
    case NGHTTP2_PING:
        is_fine = h2_frames_count(f, H2_PINGS, now_us);
        break;
    case NGHTTP2_WINDOW_UPDATE:
        is_fine = count_window_update(f, output_waits, now_us);
        break;
    default:
        is_fine = h2_frames_count(f, H2_IGNORED, now_us);
    }
    return is_fine ? H2_FOUND_NOTHING : H2_FOUND_FLOOD;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t take_head(enum h2_found *out, struct h2_frames *f, struct span bytes,
                        bool output_waits, uint64_t now_us)
{
    size_t n = least(bytes.size, H2_FRAME_HEAD_SIZE - f->head_size);

    memcpy(f->head + f->head_size, bytes.data, n);
    f->head_size += n;
    if (f->head_size == H2_FRAME_HEAD_SIZE) {
        f->payload_left = (size_t)f->head[0] << 16 | (size_t)f->head[1] << 8 | f->head[2];
        *out = judge(f, output_waits, now_us);
    }
    return n;
}

/* Some of a frame's payload, or its end. */
static enum h2_found take_payload(struct h2_frames *f, struct span payload)
{
    bool is_of_block = f->head[3] == NGHTTP2_HEADERS || f->head[3] == NGHTTP2_CONTINUATION;

    if (is_of_block && !h2_block_take(&f->block, payload)) {
        return H2_FOUND_BIG_BLOCK;
    }
    f->payload_left -= payload.size;
    if (f->payload_left > 0) {
        return H2_FOUND_NOTHING;
    }
    if (is_of_block && !f->in_block) {
        h2_block_end(&f->block);
    }
    f->head_size = 0;
    return H2_FOUND_FRAME_END;
}

size_t h2_frames_take(enum h2_found *out, struct h2_frames *f, struct span bytes, bool output_waits,
                      uint64_t now_us)
{
    size_t n = 0;

    *out = H2_FOUND_NOTHING;
    if (f->preface_left > 0) {
        n = least(bytes.size, f->preface_left);
        f->preface_left -= n;
        return n;
    }
    if (f->head_size < H2_FRAME_HEAD_SIZE) {
        n = take_head(out, f, bytes, output_waits, now_us);
        if (f->head_size < H2_FRAME_HEAD_SIZE || *out != H2_FOUND_NOTHING) {
            return n;
        }
    }
    struct span payload = span_skip(bytes, n);
    payload.size = least(payload.size, f->payload_left);
    *out = take_payload(f, payload);
    return n + payload.size;
}
