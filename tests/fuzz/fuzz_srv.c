/* Any bytes as a DNS answer: refused, or records that are host names; the order loses none. */
#include "proto/check.h"
#include "proto/srv.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_target(const struct srv_record *record)
{
    size_t n = strnlen(record->target, sizeof record->target);

    CHECK(n <= SRV_TARGET_MAX);
    for (size_t i = 0; i < n; i++) {
        char c = record->target[i];
        CHECK(c > ' ' && c < 127 && c != '/' && c != '@' && c != ':' && c != '%');
    }
}

static uint64_t sum_of(const struct srv_answer *answer)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < answer->n; i++) {
        sum += answer->records[i].port * UINT64_C(31) + answer->records[i].weight;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct srv_answer answer;

    if (!srv_answer_decode(&answer, span_of(data, size))) {
        return 0;
    }
    CHECK(answer.n <= SRV_RECORDS_MAX && (answer.n == 0) == (answer.ttl_s == UINT32_MAX));
    uint64_t sum = sum_of(&answer);
    srv_answer_order(&answer, size);
    CHECK(sum_of(&answer) == sum);
    for (size_t i = 0; i < answer.n; i++) {
        check_target(&answer.records[i]);
        CHECK(i == 0 || answer.records[i - 1].priority <= answer.records[i].priority);
    }
    return 0;
}
