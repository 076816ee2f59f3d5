#include "lists/judged.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

enum { N_CLAIMS = 100 };

static void only_the_very_same_was_judged_before(void **state)
{
    (void)state;
    struct judged *judged = judged_new();
    const struct dlh list = {{1}};
    const struct dlh other_list = {{2}};
    const struct claim claim = {.has_hash = true, .hash = {{3}}};
    const struct claim other_hash = {.has_hash = true, .hash = {{4}}};
    const struct claim with_stream = {.has_hash = true, .hash = {{3}}, .has_stream = true};
    const struct judged_claim what = {.server = SPAN_LIT("a.example"),
                                      .user_id = SPAN_LIT("@alice:a.example"),
                                      .origin = SPAN_LIT("b.example"),
                                      .claim = &claim,
                                      .list = &list};
    struct judged_claim others[6] = {what, what, what, what, what, what};

    others[0].server = SPAN_LIT("c.example");
    others[1].user_id = SPAN_LIT("@alicf:a.example");
    others[2].origin = SPAN_LIT("c.example");
    others[3].claim = &other_hash;
    others[4].claim = &with_stream;
    others[5].list = &other_list;
    assert_false(judged_before(judged, &what));
    judged_remember(judged, &what);
    assert_true(judged_before(judged, &what));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(judged_before(judged, &others[i]));
    }
    judged_free(judged);
}

static void many_are_remembered(void **state)
{
    (void)state;
    struct judged *judged = judged_new();
    const struct dlh list = {{1}};
    struct claim claims[N_CLAIMS];
    unsigned n_known = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < N_CLAIMS; i++) {
            claims[i] = (struct claim){.has_stream = true, .stream_id = (int64_t)i};
            const struct judged_claim what = {.server = SPAN_LIT("a.example"),
                                              .user_id = SPAN_LIT("@alice:a.example"),
                                              .claim = &claims[i],
                                              .list = &list};
            if (pass == 0) {
                judged_remember(judged, &what);
            } else {
                n_known += judged_before(judged, &what);
            }
        }
    }
    assert_in_range(n_known, N_CLAIMS - 10, N_CLAIMS); /* a few may have met in one slot */
    judged_free(judged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_very_same_was_judged_before),
        cmocka_unit_test(many_are_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
