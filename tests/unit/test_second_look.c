#include "lists/second_look.h"

#include "proto/verdict.h"

#include "read_rig.h"

enum { SOON_MS = 10, LATE_MS = 3600 * 1000 };

struct fixture {
    struct read_rig *rig;
    struct second_looks *looks;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    void *rig;

    CHECK(f != NULL && read_rig_setup(&rig) == 0);
    f->rig = rig;
    struct worker *worker = &f->rig->workers[0];
    f->looks = second_looks_new(f->rig->loop, worker->reader, &worker->metrics);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *rig = f->rig;

    second_looks_free(f->looks);
    free(f);
    return read_rig_teardown(&rig);
}

static unsigned n_found(struct fixture *f, enum verdict verdict)
{
    return n_counted(f->rig, COUNTER_CELL_second_reads_total + (unsigned)verdict);
}

static unsigned n_found_at_all(struct fixture *f)
{
    return n_found(f, VERDICT_UNKNOWN) + n_found(f, VERDICT_FRESH) + n_found(f, VERDICT_STALE);
}

static struct claim claim_of(const char *device)
{
    return (struct claim){.has_hash = true, .hash = hash_of(device)};
}

/* From memory that is gone afterwards. */
static void look_at(struct fixture *f, struct span user_id, const struct claim *claim,
                    uint32_t settle_ms)
{
    char *server = strdup("a.example");
    char *user = strndup(user_id.data, user_id.size);
    char *origin = strdup("b.example");
    char *device = strdup("DEVICE");

    CHECK(server != NULL && user != NULL && origin != NULL && device != NULL);
    const struct list_read_request request = {
        .server = span_str(server), .user_id = span_str(user), .origin = span_str(origin)};
    struct claim from_device = *claim;
    from_device.device_id = span_str(device);
    second_looks_add(f->looks, &request, &from_device, settle_ms);
    free(server);
    free(user);
    free(origin);
    free(device);
}

static void read_first(struct fixture *f, const char *device, int64_t position)
{
    struct asked asked;

    f->rig->device = device;
    f->rig->position = position;
    ask_for(f->rig, 0, &asked);
    RUN_UNTIL(f->rig->loop, asked.n_done > 0 && stored_is(f->rig, device));
}

struct row {
    const char *name;
    const char *claimed;
    enum verdict want;
};

/* The list was A, then B, and at the second look it is C. */
static const struct row rows[] = {
    {"newer than what was read first", "C", VERDICT_FRESH},
    {"true until just now", "B", VERDICT_STALE},
    {"true once", "A", VERDICT_STALE},
    {"never seen", "D", VERDICT_UNKNOWN},
};

static void the_second_read_tells_what_the_claim_is(void **state)
{
    struct fixture *f = *state;

    read_first(f, "A", 10);
    read_first(f, "B", 20);
    f->rig->device = "C";
    f->rig->position = 30;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct claim claim = claim_of(rows[i].claimed);
        unsigned before = n_found(f, rows[i].want);
        look_at(f, LISTS_USER, &claim, SOON_MS);
        RUN_UNTIL(f->rig->loop, n_found_at_all(f) == i + 1);
        if (n_found(f, rows[i].want) != before + 1) {
            print_error("row failed: %s\n", rows[i].name);
        }
        assert_int_equal(n_found(f, rows[i].want), before + 1);
    }
    assert_int_equal(f->rig->n_requests, 2 + sizeof rows / sizeof rows[0]);
}

static void the_first_list_ever_read_may_be_it(void **state)
{
    struct fixture *f = *state;
    struct claim claim = claim_of("A");

    look_at(f, LISTS_USER, &claim, SOON_MS);
    RUN_UNTIL(f->rig->loop, n_found_at_all(f) == 1);
    assert_int_equal(n_found(f, VERDICT_FRESH), 1);
}

/* What a lagging reader saw says nothing: neither that the claim equals it, nor that the claim is
 * in the past of what is stored. */
static void a_read_of_an_older_list_tells_nothing(void **state)
{
    struct fixture *f = *state;
    struct claim claim = claim_of("A");

    read_first(f, "A", 10);
    read_first(f, "B", 20);
    f->rig->device = "A";
    f->rig->position = 10;
    look_at(f, LISTS_USER, &claim, SOON_MS);
    RUN_UNTIL(f->rig->loop, n_reads(f->rig, FETCH_RESULT_OK) == 2);
    run_for(f->rig->loop, 20);
    assert_int_equal(n_found_at_all(f), 0);
}

static void it_waits_until_the_list_has_settled(void **state)
{
    struct fixture *f = *state;
    struct claim claim = claim_of("A");
    uint64_t start_us = clock_monotonic_us();

    look_at(f, LISTS_USER, &claim, 100);
    RUN_UNTIL(f->rig->loop, f->rig->n_requests > 0);
    assert_true(clock_monotonic_us() - start_us >= 80000); /* the loop's clock is coarse */
    RUN_UNTIL(f->rig->loop, n_found_at_all(f) == 1);
}

static void the_same_claim_is_looked_at_once(void **state)
{
    struct fixture *f = *state;
    struct claim claim = claim_of("A");
    struct claim with_stream = claim;
    struct claim stream_alone = {.has_stream = true, .stream_id = 5};
    struct claim per_device = claim;

    with_stream.has_stream = true;
    with_stream.stream_id = 5;
    per_device.per_device = true;
    look_at(f, LISTS_USER, &claim, SOON_MS);
    look_at(f, LISTS_USER, &claim, SOON_MS);
    look_at(f, LISTS_USER, &per_device, SOON_MS);
    look_at(f, LISTS_USER, &with_stream, SOON_MS);
    look_at(f, LISTS_USER, &stream_alone, SOON_MS);
    look_at(f, SPAN_LIT("@bob:a.example"), &claim, SOON_MS);
    RUN_UNTIL(f->rig->loop, n_found_at_all(f) >= 4);
    run_for(f->rig->loop, 50);
    assert_int_equal(n_found_at_all(f), 4);
    look_at(f, LISTS_USER, &claim, SOON_MS); /* none waits any more */
    RUN_UNTIL(f->rig->loop, n_found_at_all(f) == 5);
}

static void without_a_read_nothing_is_counted(void **state)
{
    struct fixture *f = *state;
    struct claim claim = claim_of("A");

    f->rig->mode = MODE_STATUS_500;
    look_at(f, LISTS_USER, &claim, SOON_MS);
    RUN_UNTIL(f->rig->loop, n_reads(f->rig, FETCH_RESULT_FAILED) == 1);
    run_for(f->rig->loop, 20);
    assert_int_equal(n_found_at_all(f), 0);
    f->rig->mode = MODE_LIST;
    look_at(f, LISTS_USER, &claim, SOON_MS); /* and none waits any more */
    RUN_UNTIL(f->rig->loop, n_found_at_all(f) == 1);
}

/* It only spares the sender a stale list later on: verdicts in answers come first. */
static void it_leaves_half_of_the_budget(void **state)
{
    struct fixture *f = *state;
    struct list_read_request other = request_for(LISTS_USER);
    struct claim claim = claim_of("A");
    struct asked asked[2];

    f->rig->reads_per_s = 3;
    other.origin = SPAN_LIT("c.example");
    ask_with(f->rig, 0, &asked[0], &other);
    other.origin = SPAN_LIT("d.example");
    other.user_id = SPAN_LIT("@bob:a.example");
    ask_with(f->rig, 0, &asked[1], &other);
    look_at(f, SPAN_LIT("@carol:a.example"), &claim, 0);
    RUN_UNTIL(f->rig->loop, n_reads(f->rig, FETCH_RESULT_BUDGET) == 1);
    RUN_UNTIL(f->rig->loop, asked[0].n_done + asked[1].n_done == 2);
    assert_true(asked[0].had_list && asked[1].had_list);
    assert_int_equal(n_found_at_all(f), 0);
}

static void what_is_over_the_cap_is_left_out(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; i < SECOND_LOOKS_MAX; i++) {
        struct claim claim = {.has_stream = true, .stream_id = i};
        look_at(f, LISTS_USER, &claim, LATE_MS);
    }
    struct claim claim = claim_of("A");
    look_at(f, LISTS_USER, &claim, 0);
    run_for(f->rig->loop, 50);
    assert_int_equal(f->rig->n_requests, 0);
    second_looks_free(f->looks);
    struct worker *worker = &f->rig->workers[0];
    f->looks = second_looks_new(f->rig->loop, worker->reader, &worker->metrics);
    look_at(f, LISTS_USER, &claim, 0);
    RUN_UNTIL(f->rig->loop, n_found_at_all(f) == 1);
}

static void they_may_be_freed_in_the_middle_of_reads(void **state)
{
    struct fixture *f = *state;
    struct claim claim = claim_of("A");
    struct claim other = claim_of("B");

    f->rig->mode = MODE_HOLD;
    look_at(f, LISTS_USER, &claim, 0);
    look_at(f, LISTS_USER, &other, LATE_MS);
    RUN_UNTIL(f->rig->loop, f->rig->n_held == 1);
    second_looks_free(TAKE(f->looks));
    f->rig->mode = MODE_LIST;
    homeserver_release(f->rig);
    RUN_UNTIL(f->rig->loop, n_reads(f->rig, FETCH_RESULT_OK) == 1);
    run_for(f->rig->loop, 20);
    assert_int_equal(n_found_at_all(f), 0);
}

int main(void)
{
#define LOOK_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        LOOK_TEST(the_second_read_tells_what_the_claim_is),
        LOOK_TEST(the_first_list_ever_read_may_be_it),
        LOOK_TEST(a_read_of_an_older_list_tells_nothing),
        LOOK_TEST(it_waits_until_the_list_has_settled),
        LOOK_TEST(the_same_claim_is_looked_at_once),
        LOOK_TEST(without_a_read_nothing_is_counted),
        LOOK_TEST(it_leaves_half_of_the_budget),
        LOOK_TEST(what_is_over_the_cap_is_left_out),
        LOOK_TEST(they_may_be_freed_in_the_middle_of_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
