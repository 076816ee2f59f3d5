/* Whether a sender's claim about a device list holds: design.md, section 4. Pure. */
#pragma once

#include "lists/device_list.h"
#include "lists/glance.h"
#include "proto/claim.h"
#include "proto/verdict.h"

#include <stdbool.h>
#include <stdint.h>

enum judge_need {
    JUDGE_DONE,
    JUDGE_READ, /* only a read that begins after the transaction was received whole can tell */
};

/* From the stored list alone; `list` is NULL if none is known. max_age_ms 0: a copy that was read
 * is never young enough. The verdict is VERDICT_UNKNOWN with JUDGE_READ. */
enum verdict judge_cached(enum judge_need *out_need, const struct device_list *list,
                          const struct claim *claim, int64_t now_ms, int64_t max_age_ms);

/* True if judge_cached would say VERDICT_FRESH of a list that looks so, as far as that shows. */
MUST_CHECK bool judge_glance(const struct list_glance *glance, const struct claim *claim,
                             int64_t now_ms, int64_t max_age_ms);

/* From the list after such a read (what device_list_apply made of it, LIST_STORED). *out_second is
 * true if the claim may be newer than what the reader saw: read again after lists.settle_ms. */
enum verdict judge_read(bool *out_second, const struct device_list *after,
                        const struct claim *claim);
