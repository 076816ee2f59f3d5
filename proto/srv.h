/* DNS messages that answer for SRV records. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SRV_RECORDS_MAX = 8,  /* of an answer, those to be tried first; the rest is left out */
    SRV_TARGET_MAX = 253, /* characters */
};

struct srv_record {
    uint16_t priority, weight, port;
    char target[SRV_TARGET_MAX + 1]; /* without the last dot; "": there is no such service */
};

struct srv_answer {
    size_t n;
    uint32_t ttl_s; /* the least of all; UINT32_MAX without records */
    struct srv_record records[SRV_RECORDS_MAX];
};

/* False for what is no DNS message. Records whose target is no host name are left out. */
MUST_CHECK bool srv_answer_decode(struct srv_answer *out, struct span message);

/* Lowest priority first, among equals by chance according to their weights. The same seed gives the
 * same order. Source: RFC 2782. */
void srv_answer_order(struct srv_answer *answer, uint64_t seed);
