#include "base/clock.h"

#include "proto/check.h"

#include <time.h>

int64_t clock_ms(void)
{
    struct timespec now;

    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint64_t us_of(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000 + (uint64_t)time->tv_nsec / 1000;
}

uint64_t clock_monotonic_us(void)
{
    struct timespec now;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return us_of(&now);
}

uint64_t clock_coarse_us(void)
{
    struct timespec now;

    CHECK(clock_gettime(CLOCK_MONOTONIC_COARSE, &now) == 0);
    return us_of(&now);
}

uint64_t clock_coarse_tick_us(void)
{
    struct timespec tick;

    CHECK(clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0);
    return us_of(&tick);
}
