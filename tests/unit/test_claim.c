#include "proto/claim.h"

#include "data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 1 << 20 };

#define HASH                 "dlh1:df9f509a924bae6a78095ed37895106c"
#define OTHER                "dlh1:69c171c09bdd8e700c7b824315290fdd"
#define EDU(claims, devices) "{" claims "\"messages\":{\"@a:a.example\":" devices "}}"
#define CLAIMS(entry)        "\"io.freshet.device_lists\":{\"@a:a.example\":" entry "},"
#define INSIDE(entry)        "{\"io.freshet.device_list\":" entry "}"

struct row {
    const char *name;
    struct span content;
    enum claim_result result;
    bool per_device;
    const char *label;
};

static const struct row rows[] = {
    {"none", SPAN_INIT(EDU("", "{\"D\":{}}")), CLAIM_NONE, false, "none"},
    {"a hash", SPAN_INIT(EDU(CLAIMS("{\"hash\":\"" HASH "\"}"), "{}")), CLAIM_USABLE, false,
     "hash"},
    {"a hash and a stream id",
     SPAN_INIT(EDU(CLAIMS("{\"hash\":\"" HASH "\",\"stream_id\":5}"), "{}")), CLAIM_USABLE, false,
     "hash"},
    {"a stream id alone", SPAN_INIT(EDU(CLAIMS("{\"stream_id\":0}"), "{}")), CLAIM_USABLE, false,
     "stream"},
    {"for somebody else",
     SPAN_INIT(EDU("\"io.freshet.device_lists\":{\"@b:a.example\":{\"stream_id\":1}},", "{}")),
     CLAIM_NONE, false, "none"},
    {"of an unknown prefix", SPAN_INIT(EDU(CLAIMS("{\"hash\":\"dlh2:00\",\"stream_id\":1}"), "{}")),
     CLAIM_UNUSABLE, false, "unusable"},
    {"with an odd stream id",
     SPAN_INIT(EDU(CLAIMS("{\"hash\":\"" HASH "\",\"stream_id\":\"5\"}"), "{}")), CLAIM_UNUSABLE,
     false, "unusable"},
    {"with a negative stream id", SPAN_INIT(EDU(CLAIMS("{\"stream_id\":-1}"), "{}")),
     CLAIM_UNUSABLE, false, "unusable"},
    {"with nothing in it", SPAN_INIT(EDU(CLAIMS("{}"), "{}")), CLAIM_UNUSABLE, false, "unusable"},
    {"a string", SPAN_INIT(EDU(CLAIMS("\"" HASH "\""), "{}")), CLAIM_UNUSABLE, false, "unusable"},
    {"claims that are no object", SPAN_INIT(EDU("\"io.freshet.device_lists\":[1,2],", "{}")),
     CLAIM_UNUSABLE, false, "unusable"},
    {"inside one device's content",
     SPAN_INIT(
         EDU("", "{\"D\":{},\"E\":" INSIDE("{\"hash\":\"" HASH "\",\"device_id\":\"B\"}") "}")),
     CLAIM_USABLE, true, "hash"},
    {"the same inside two",
     SPAN_INIT(EDU("", "{\"D\":" INSIDE("{\"hash\":\"" HASH
                                        "\"}") ",\"E\":" INSIDE("{\"hash\":\"" HASH "\"}") "}")),
     CLAIM_USABLE, true, "hash"},
    {"two that contradict each other",
     SPAN_INIT(EDU("", "{\"D\":" INSIDE("{\"hash\":\"" HASH
                                        "\"}") ",\"E\":" INSIDE("{\"hash\":\"" OTHER "\"}") "}")),
     CLAIM_UNUSABLE, false, "unusable"},
    {"two from different devices",
     SPAN_INIT(
         EDU("", "{\"D\":" INSIDE("{\"hash\":\"" HASH "\",\"device_id\":\"A\"}") ",\"E\":" INSIDE(
                     "{\"hash\":\"" HASH "\",\"device_id\":\"B\"}") "}")),
     CLAIM_UNUSABLE, false, "unusable"},
    {"one that can be used and one that cannot",
     SPAN_INIT(EDU("", "{\"D\":" INSIDE("{\"hash\":\"" HASH "\"}") ",\"E\":" INSIDE("7") "}")),
     CLAIM_UNUSABLE, false, "unusable"},
    {"the EDU's wins over a device's",
     SPAN_INIT(
         EDU(CLAIMS("{\"hash\":\"" HASH "\"}"), "{\"D\":" INSIDE("{\"hash\":\"" OTHER "\"}") "}")),
     CLAIM_USABLE, false, "hash"},
    {"a device's stands where the EDU's cannot be used",
     SPAN_INIT(
         EDU(CLAIMS("{\"hash\":\"dlh2:\"}"), "{\"D\":" INSIDE("{\"hash\":\"" HASH "\"}") "}")),
     CLAIM_USABLE, true, "hash"},
};

static void every_claim_is_read_as_the_row_says(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct edu edu = {.type = EDU_TO_DEVICE};
        struct claim claim;
        struct dlh hash;
        assert_int_equal(json_parse(&edu.content, &arena, rows[i].content), JSON_OK);
        edu.messages = json_get(edu.content, SPAN_LIT("messages"));
        enum claim_result result = claim_decode(&claim, &edu, SPAN_LIT("@a:a.example"));
        assert_true(dlh_parse(&hash, SPAN_LIT(HASH)));
        bool is_hash = !claim.has_hash || memcmp(&hash, &claim.hash, sizeof hash) == 0;
        if (result != rows[i].result || claim.per_device != rows[i].per_device || !is_hash ||
            strcmp(claim_label(result, &claim), rows[i].label) != 0) {
            fail_msg("row failed: %s", rows[i].name);
        }
    }
    arena_fini(&arena);
}

static void a_claim_gives_its_parts(void **state)
{
    struct arena arena;
    struct edu edu = {.type = EDU_TO_DEVICE};
    struct claim claim;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    assert_int_equal(json_parse(&edu.content, &arena, rows[2].content), JSON_OK);
    assert_int_equal(claim_decode(&claim, &edu, SPAN_LIT("@a:a.example")), CLAIM_USABLE);
    assert_true(claim.has_hash && claim.has_stream && claim.stream_id == 5);
    assert_int_equal(json_parse(&edu.content, &arena, rows[11].content), JSON_OK);
    edu.messages = json_get(edu.content, SPAN_LIT("messages"));
    assert_int_equal(claim_decode(&claim, &edu, SPAN_LIT("@a:a.example")), CLAIM_USABLE);
    assert_true(claim.per_device && span_equal(claim.device_id, SPAN_LIT("B")));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_claim_is_read_as_the_row_says),
        cmocka_unit_test(a_claim_gives_its_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
