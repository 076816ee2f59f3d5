#include "base/bucket.h"

enum { MILLION = 1000000 };

void bucket_init(struct bucket *bucket, uint32_t per_s, uint32_t burst)
{
    *bucket = (struct bucket){
        .per_s = per_s, .burst = burst, .millionths = (uint64_t)burst * MILLION, .filled_us = 0};
}

/* One token a second is one millionth a us, so nothing is lost to rounding. */
static uint64_t millionths_at(const struct bucket *bucket, uint64_t now_us)
{
    uint64_t full = bucket->burst * MILLION;
    uint64_t missing = full - bucket->millionths;

    if (now_us <= bucket->filled_us || bucket->per_s == 0) {
        return bucket->millionths;
    }
    uint64_t elapsed = now_us - bucket->filled_us;
    return elapsed >= missing / bucket->per_s + 1 ? full
                                                  : bucket->millionths + elapsed * bucket->per_s;
}

bool bucket_take_n(struct bucket *bucket, uint32_t n, uint64_t now_us)
{
    uint64_t need = (uint64_t)n * MILLION;

    bucket->millionths = millionths_at(bucket, now_us);
    bucket->filled_us = now_us > bucket->filled_us ? now_us : bucket->filled_us;
    if (bucket->millionths < need) {
        return false;
    }
    bucket->millionths -= need;
    return true;
}

bool bucket_take(struct bucket *bucket, uint64_t now_us)
{
    return bucket_take_n(bucket, 1, now_us);
}

uint64_t bucket_wait_us(const struct bucket *bucket, uint64_t now_us)
{
    uint64_t have = millionths_at(bucket, now_us);

    if (have >= MILLION) {
        return 0;
    }
    if (bucket->per_s == 0 || bucket->burst == 0) {
        return UINT64_MAX;
    }
    return (MILLION - have + bucket->per_s - 1) / bucket->per_s;
}

uint64_t bucket_tokens(const struct bucket *bucket, uint64_t now_us)
{
    return millionths_at(bucket, now_us) / MILLION;
}
