/* Any bytes: whatever decodes as an answer has a hash or is refused, within the arena. */
#include "proto/check.h"
#include "proto/device_list_answer.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARENA_CAP = 1 << 20 /* bytes */ };

static void check_hash(const struct device_list_answer *answer)
{
    struct dlh hash;
    struct dlh_sum sum;

    if (device_list_answer_hash(&hash, &sum, answer)) {
        CHECK(sum.n <= answer->n_devices);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct device_list_answer one;
    struct device_list_answer *many;
    uint32_t n = 0;
    const struct json_value *root = NULL;

    arena_init(&arena, ARENA_CAP);
    if (json_parse(&root, &arena, span_of(data, size)) == JSON_OK) {
        if (device_list_answer_decode(&one, &arena, root)) {
            check_hash(&one);
        }
        bool decoded = keys_query_answer_decode(&many, &n, &arena, root);
        for (uint32_t i = 0; decoded && i < n; i++) {
            check_hash(&many[i]);
        }
    }
    arena_fini(&arena);
    return 0;
}
