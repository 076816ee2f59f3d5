/* A token bucket: so many a second on average, so many at once. */
#pragma once

#include "proto/own.h"

#include <stdbool.h>
#include <stdint.h>

struct bucket {
    uint64_t per_s;
    uint64_t burst;
    uint64_t millionths; /* of a token, now in the bucket */
    uint64_t filled_us;  /* monotonic, when that was true */
};

/* Full at first. A bucket of 0 per second gives its burst and then nothing. */
void bucket_init(struct bucket *bucket, uint32_t per_s, uint32_t burst);

/* True if there was a token. Time that goes back fills nothing. */
MUST_CHECK bool bucket_take(struct bucket *bucket, uint64_t now_us);
MUST_CHECK bool bucket_take_n(struct bucket *bucket, uint32_t n, uint64_t now_us);

/* us from now until a token is there; UINT64_MAX if there never will be. */
uint64_t bucket_wait_us(const struct bucket *bucket, uint64_t now_us);

/* Whole tokens in the bucket now. */
uint64_t bucket_tokens(const struct bucket *bucket, uint64_t now_us);
