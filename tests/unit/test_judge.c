#include "lists/judge.h"

#include "lists_build.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    ARENA_CAP = 1 << 20,
    NOW = 100000,   /* ms */
    MAX_AGE = 5000, /* ms */
    NO_STREAM = -1,
    STEPS_MAX = 8,
};

/* The list as it was read, one step after another: device and position. */
struct step {
    const char *device; /* NULL: no more */
    int64_t position;
};

struct row {
    const char *name;
    struct step steps[STEPS_MAX]; /* none: nothing is known */
    const char *hash;             /* of the list with that device; NULL: no hash claimed */
    int64_t stream_id;            /* NO_STREAM: none claimed */
    enum verdict want;
    bool second;
};

/* Builds the list; the last read began at started_ms. False if there are no steps. */
static bool build(struct device_list *out, struct arena *arena, const struct step *steps,
                  int64_t started_ms)
{
    struct device_list old;
    bool known = false;

    for (size_t i = 0; i < STEPS_MAX && steps[i].device != NULL; i++) {
        struct list_update update =
            update_of(arena, steps[i].device, steps[i].position, started_ms);
        CHECK(device_list_apply(out, known ? &old : NULL, &update) == LIST_STORED);
        old = *out;
        known = true;
    }
    return known;
}

static struct claim claim_of(const char *hash, int64_t stream_id)
{
    struct claim claim = {
        .has_hash = hash != NULL, .has_stream = stream_id != NO_STREAM, .stream_id = stream_id};

    if (hash != NULL) {
        claim.hash = hash_of(hash);
    }
    return claim;
}

static const struct row read_rows[] = {
    {"a claim equal to what was read is fresh", {{"A", 10}}, "A", NO_STREAM, VERDICT_FRESH, false},
    {"equal is fresh whatever stream id it names", {{"A", 10}}, "A", 99, VERDICT_FRESH, false},
    {"a list that was true once in the past is stale",
     {{"A", 10}, {"B", 20}},
     "A",
     NO_STREAM,
     VERDICT_STALE,
     false},
    {"the same with a stream id not beyond the read is stale",
     {{"A", 10}, {"B", 20}},
     "A",
     20,
     VERDICT_STALE,
     false},
    {"a claimed stream id beyond the read is unknown and read again",
     {{"A", 10}, {"B", 20}},
     "A",
     21,
     VERDICT_UNKNOWN,
     true},
    {"a list that was true twice is unknown and read again",
     {{"A", 10}, {"B", 20}, {"A", 30}, {"C", 40}},
     "A",
     NO_STREAM,
     VERDICT_UNKNOWN,
     true},
    {"the one between them was true once and is stale",
     {{"A", 10}, {"B", 20}, {"A", 30}, {"C", 40}},
     "B",
     NO_STREAM,
     VERDICT_STALE,
     false},
    {"a list that is true again is fresh",
     {{"A", 10}, {"B", 20}, {"A", 30}},
     "A",
     NO_STREAM,
     VERDICT_FRESH,
     false},
    {"a list never seen is unknown and read again",
     {{"A", 10}, {"B", 20}},
     "X",
     NO_STREAM,
     VERDICT_UNKNOWN,
     true},
    {"a first read knows no past", {{"A", 10}}, "B", NO_STREAM, VERDICT_UNKNOWN, true},
    {"a past list is stale on a server with a constant position",
     {{"A", 1}, {"B", 1}},
     "A",
     NO_STREAM,
     VERDICT_STALE,
     false},
    {"a past list is stale on a server without positions",
     {{"A", -1}, {"B", -1}},
     "A",
     NO_STREAM,
     VERDICT_STALE,
     false},
    {"a stream id that no position can be held against is unknown",
     {{"A", -1}, {"B", -1}},
     "A",
     0,
     VERDICT_UNKNOWN,
     true},
    {"a hash decides alone, though its stream id is old",
     {{"A", 10}, {"B", 20}},
     "B",
     1,
     VERDICT_FRESH,
     false},

    {"a stream id below the previous list's last position is stale",
     {{"A", 10}, {"A", 15}, {"B", 20}},
     NULL,
     14,
     VERDICT_STALE,
     false},
    {"at the previous list's last position it is unknown",
     {{"A", 10}, {"A", 15}, {"B", 20}},
     NULL,
     15,
     VERDICT_UNKNOWN,
     false},
    {"between the two lists it is unknown",
     {{"A", 10}, {"A", 15}, {"B", 20}},
     NULL,
     19,
     VERDICT_UNKNOWN,
     false},
    {"from the current list's first position on it is fresh",
     {{"A", 10}, {"A", 15}, {"B", 20}},
     NULL,
     20,
     VERDICT_FRESH,
     false},
    {"a stream id below the first list ever read is unknown",
     {{"A", 10}, {"A", 15}},
     NULL,
     9,
     VERDICT_UNKNOWN,
     false},
    {"the first list ever read is fresh once positions are seen to grow",
     {{"A", 10}, {"A", 15}},
     NULL,
     10,
     VERDICT_FRESH,
     false},
    {"one read alone shows no growth", {{"A", 10}}, NULL, 10, VERDICT_UNKNOWN, false},
    {"a constant position gives no verdict from stream ids",
     {{"A", 1}, {"B", 1}},
     NULL,
     1,
     VERDICT_UNKNOWN,
     false},
    {"nor stale from a lower one", {{"A", 1}, {"B", 1}}, NULL, 0, VERDICT_UNKNOWN, false},
    {"nor after one step of growth",
     {{"A", 1}, {"B", 1}, {"C", 2}},
     NULL,
     2,
     VERDICT_UNKNOWN,
     false},
    {"no position gives no verdict from stream ids",
     {{"A", -1}, {"B", -1}},
     NULL,
     5,
     VERDICT_UNKNOWN,
     false},
    {"a claim of nothing is unknown", {{"A", 10}}, NULL, NO_STREAM, VERDICT_UNKNOWN, false},
};

static void a_claim_is_judged_by_what_was_read(void **state)
{
    for (size_t i = 0; i < sizeof read_rows / sizeof read_rows[0]; i++) {
        const struct row *row = &read_rows[i];
        struct device_list list;
        struct claim claim = claim_of(row->hash, row->stream_id);
        bool second = !row->second;
        CHECK(build(&list, *state, row->steps, NOW));
        enum verdict got = judge_read(&second, &list, &claim);
        if (got != row->want || second != row->second) {
            print_error("row failed: %s\n", row->name);
        }
        assert_int_equal(got, row->want);
        assert_int_equal(second, row->second);
    }
}

struct cached_row {
    const char *name;
    struct step steps[STEPS_MAX];
    bool pushed;
    int64_t age_ms, max_age_ms;
    const char *hash;
    int64_t stream_id;
    enum verdict want;
    enum judge_need need;
};

static const struct cached_row cached_rows[] = {
    {"equal to a pushed list is fresh without a read",
     {{"A", 10}},
     true,
     1 << 30,
     MAX_AGE,
     "A",
     NO_STREAM,
     VERDICT_FRESH,
     JUDGE_DONE},
    {"a pushed list needs no max_age",
     {{"A", 10}},
     true,
     1,
     0,
     "A",
     NO_STREAM,
     VERDICT_FRESH,
     JUDGE_DONE},
    {"a pushed list is its own confirming read",
     {{"A", 10}, {"B", 20}},
     true,
     1 << 30,
     MAX_AGE,
     "A",
     NO_STREAM,
     VERDICT_STALE,
     JUDGE_DONE},
    {"what a pushed list never was is unknown",
     {{"A", 10}},
     true,
     1,
     MAX_AGE,
     "X",
     NO_STREAM,
     VERDICT_UNKNOWN,
     JUDGE_DONE},
    {"equal to a copy that is young enough is fresh without a read",
     {{"A", 10}},
     false,
     MAX_AGE,
     MAX_AGE,
     "A",
     NO_STREAM,
     VERDICT_FRESH,
     JUDGE_DONE},
    {"equal to an old copy is read",
     {{"A", 10}},
     false,
     MAX_AGE + 1,
     MAX_AGE,
     "A",
     NO_STREAM,
     VERDICT_UNKNOWN,
     JUDGE_READ},
    {"with max_age 0 no copy is young",
     {{"A", 10}},
     false,
     0,
     0,
     "A",
     NO_STREAM,
     VERDICT_UNKNOWN,
     JUDGE_READ},
    {"a copy from the future is not young",
     {{"A", 10}},
     false,
     -1,
     MAX_AGE,
     "A",
     NO_STREAM,
     VERDICT_UNKNOWN,
     JUDGE_READ},
    {"a difference is always read, never stale from a copy",
     {{"A", 10}, {"B", 20}},
     false,
     0,
     MAX_AGE,
     "A",
     NO_STREAM,
     VERDICT_UNKNOWN,
     JUDGE_READ},
    {"a list that is not known is read",
     {{NULL, 0}},
     false,
     0,
     MAX_AGE,
     "A",
     NO_STREAM,
     VERDICT_UNKNOWN,
     JUDGE_READ},
    {"a stream id of the current list is fresh without a read",
     {{"A", 10}, {"B", 20}},
     false,
     0,
     MAX_AGE,
     NULL,
     20,
     VERDICT_FRESH,
     JUDGE_DONE},
    {"an old stream id is read before it is stale",
     {{"A", 10}, {"B", 20}},
     false,
     0,
     MAX_AGE,
     NULL,
     5,
     VERDICT_UNKNOWN,
     JUDGE_READ},
    {"a claim of nothing needs no read",
     {{"A", 10}},
     false,
     0,
     MAX_AGE,
     NULL,
     NO_STREAM,
     VERDICT_UNKNOWN,
     JUDGE_DONE},
};

static void a_read_is_wanted_only_where_the_copy_cannot_tell(void **state)
{
    for (size_t i = 0; i < sizeof cached_rows / sizeof cached_rows[0]; i++) {
        const struct cached_row *row = &cached_rows[i];
        struct device_list list;
        struct claim claim = claim_of(row->hash, row->stream_id);
        enum judge_need need;
        bool known = build(&list, *state, row->steps, NOW - row->age_ms);
        list.pushed = known && row->pushed;
        enum verdict got = judge_cached(&need, known ? &list : NULL, &claim, NOW, row->max_age_ms);
        if (got != row->want || need != row->need) {
            print_error("row failed: %s\n", row->name);
        }
        assert_int_equal(got, row->want);
        assert_int_equal(need, row->need);
    }
}

static void a_glance_shows_what_is_fresh_by_its_hash_and_nothing_else(void **state)
{
    size_t n_shown = 0;

    for (size_t i = 0; i < sizeof cached_rows / sizeof cached_rows[0]; i++) {
        const struct cached_row *row = &cached_rows[i];
        struct device_list list;
        struct claim claim = claim_of(row->hash, row->stream_id);
        if (!build(&list, *state, row->steps, NOW - row->age_ms)) {
            continue;
        }
        struct list_glance glance = {.current = list.current,
                                     .read_started_ms = list.read_started_ms,
                                     .pushed = row->pushed};
        bool is_shown = judge_glance(&glance, &claim, NOW, row->max_age_ms);
        if (is_shown != (row->want == VERDICT_FRESH && row->hash != NULL)) {
            print_error("row failed: %s\n", row->name);
            fail();
        }
        n_shown += is_shown;
    }
    assert_true(n_shown >= 2);
}

static int setup(void **state)
{
    static struct arena arena;

    arena_init(&arena, ARENA_CAP);
    *state = &arena;
    return 0;
}

static int teardown(void **state)
{
    arena_fini(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_is_judged_by_what_was_read),
        cmocka_unit_test(a_read_is_wanted_only_where_the_copy_cannot_tell),
        cmocka_unit_test(a_glance_shows_what_is_fresh_by_its_hash_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
