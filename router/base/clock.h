/* What time it is. Pure code takes the time as a parameter instead. */
#pragma once

#include <stdint.h>

/* Wall clock, ms since 1970. Settable by the operator: never for measuring durations. */
int64_t clock_ms(void);

/* Never goes back; us since some start. */
uint64_t clock_monotonic_us(void);

/* The same, up to a tick behind, at a fraction of the cost. */
uint64_t clock_coarse_us(void);
uint64_t clock_coarse_tick_us(void);
