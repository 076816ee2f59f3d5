/* Any bytes: what is whole is whole however it arrived, and is no larger than it may be. */
#include "net/proxy_header.h"
#include "proto/check.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As a receiver reads it: never a byte more than was asked for. */
static enum proxy_result decode_in_pieces(struct proxy_header *out, struct span bytes)
{
    size_t have = 0;
    enum proxy_result result;

    while ((result = proxy_header_decode(out, span_of(bytes.data, have))) == PROXY_MORE &&
           have < bytes.size) {
        CHECK(out->size > have && out->size <= PROXY_HEADER_MAX);
        have++;
    }
    return result;
}

static void check_whole(const struct proxy_header *header, struct span bytes)
{
    CHECK(header->size >= PROXY_FIXED_SIZE && header->size <= PROXY_HEADER_MAX);
    CHECK(header->size <= bytes.size);
    CHECK(span_starts_with(bytes, proxy_signature));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = span_of(data, size);
    struct proxy_header whole;
    struct proxy_header pieced;
    enum proxy_result result = proxy_header_decode(&whole, bytes);

    CHECK(decode_in_pieces(&pieced, bytes) == result);
    if (result == PROXY_WHOLE) {
        check_whole(&whole, bytes);
        CHECK(pieced.size == whole.size);
        CHECK(memcmp(&whole.address, &pieced.address, sizeof whole.address) == 0);
    }
    return 0;
}
