#include "lists/reader.h"

#include "lists/read_call.h"

#include "read_rig.h"

static void assert_heard(const struct asked *asked, const char *device)
{
    struct dlh hash = hash_of(device);

    assert_int_equal(asked->n_done, 1);
    assert_true(asked->had_list);
    assert_true(asked->names_are_right);
    assert_memory_equal(&asked->after.current, &hash, sizeof hash);
}

static void assert_heard_nothing(const struct asked *asked)
{
    assert_int_equal(asked->n_done, 1);
    assert_false(asked->had_list);
}

static void what_is_read_is_told_and_stored(void **state)
{
    struct read_rig *rig = *state;

    for (size_t worker = 0; worker < N_WORKERS; worker++) {
        struct asked asked;
        int64_t before_ms = clock_ms();
        ask_for(rig, worker, &asked);
        assert_int_equal(asked.n_done, 0);
        RUN_UNTIL(rig->loop, asked.n_done > 0);
        assert_heard(&asked, "A");
        assert_false(asked.after.pushed);
        assert_int_equal(asked.after.position, 10);
        assert_int_equal(asked.after.sum.n, 1);
        assert_in_range(asked.after.read_started_ms, before_ms, clock_ms());
    }
    RUN_UNTIL(rig->loop, stored_is(rig, "A"));
    assert_int_equal(rig->n_requests, 2);
    assert_int_equal(n_reads(rig, FETCH_RESULT_OK), 2);
}

static void the_homeserver_is_asked_as_by_itself(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked;
    struct xmatrix header;
    AUTO(writer_fini) struct writer message;
    struct arena arena;

    ask_for(rig, 0, &asked);
    RUN_UNTIL(rig->loop, asked.n_done > 0);
    arena_init(&arena, LIST_ARENA_CAP);
    writer_init(&message, RECORD_MAX);
    assert_true(span_equal(writer_span(&rig->host), LISTS_SERVER));
    assert_true(span_equal(writer_span(&rig->target),
                           SPAN_LIT("/_matrix/federation/v1/user/devices/%40alice%3Aa.example")));
    assert_int_equal(xmatrix_parse(&header, &arena, writer_span(&rig->authorization)), REJECT_NONE);
    assert_true(span_equal(header.origin, LISTS_SERVER));
    assert_true(span_equal(header.destination, LISTS_SERVER));
    assert_true(span_equal(header.key_id, SPAN_LIT("ed25519:r1")));
    const struct xmatrix_request request = {.method = writer_span(&rig->method),
                                            .uri = writer_span(&rig->target),
                                            .origin = LISTS_SERVER,
                                            .destination = LISTS_SERVER};
    xmatrix_signed_bytes(&message, &request);
    assert_true(ed25519_verify(rig->key.public_key, header.signature, writer_span(&message)));
    arena_fini(&arena);
}

static void a_user_id_stays_one_segment(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked;
    struct list_read_request request =
        request_for(SPAN_LIT("@a/b?c#d%25 ~_-.\xc3\xa9\x01:a.example"));

    ask_with(rig, 1, &asked, &request);
    RUN_UNTIL(rig->loop, asked.n_done > 0);
    assert_true(asked.had_list && asked.names_are_right);
    assert_true(span_equal(writer_span(&rig->target),
                           SPAN_LIT("/_matrix/federation/v1/user/devices/"
                                    "%40a%2Fb%3Fc%23d%2525%20~_-.%C3%A9%01%3Aa.example")));
}

static void a_list_that_changed_is_counted_as_such(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked;

    ask_for(rig, 0, &asked);
    RUN_UNTIL(rig->loop, asked.n_done > 0 && stored_is(rig, "A"));
    rig->device = "B";
    rig->position = 20;
    ask_for(rig, 0, &asked);
    RUN_UNTIL(rig->loop, asked.n_done > 0 && stored_is(rig, "B"));
    assert_heard(&asked, "B");
    rig->device = "A"; /* a lagging reader: what it says tells nothing, and is no change */
    rig->position = 15;
    ask_for(rig, 0, &asked);
    RUN_UNTIL(rig->loop, asked.n_done > 0);
    assert_heard_nothing(&asked);
    assert_int_equal(n_reads(rig, FETCH_RESULT_OK), 2);
    assert_int_equal(n_reads(rig, FETCH_RESULT_CHANGED), 1);
    assert_true(stored_is(rig, "B"));
}

static bool all_done(const struct asked *asked, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (asked[i].n_done == 0) {
            return false;
        }
    }
    return true;
}

static void many_share_one_read_that_began_after_they_came(void **state)
{
    enum { N = 20 };
    struct read_rig *rig = *state;
    struct asked asked[N];

    rig->mode = MODE_HOLD;
    ask_for(rig, 0, &asked[0]);
    RUN_UNTIL(rig->loop, rig->n_held == 1);
    for (size_t i = 1; i < N; i++) {
        ask_for(rig, i % N_WORKERS, &asked[i]);
    }
    run_for(rig->loop, 20);
    assert_int_equal(rig->n_requests, 1);
    homeserver_release(rig);
    RUN_UNTIL(rig->loop, asked[0].n_done > 0 && rig->n_held == 1);
    assert_heard(&asked[0], "A");
    assert_false(all_done(&asked[1], 1));
    rig->device = "B";
    rig->position = 20;
    homeserver_release(rig);
    RUN_UNTIL(rig->loop, all_done(asked, N));
    for (size_t i = 1; i < N; i++) {
        assert_heard(&asked[i], "B");
    }
    run_for(rig->loop, 20);
    assert_int_equal(rig->n_requests, 2);
}

static void each_list_has_reads_of_its_own(void **state)
{
    struct read_rig *rig = *state;
    struct list_read_request bob = request_for(SPAN_LIT("@bob:a.example"));
    struct asked asked[2];

    rig->mode = MODE_HOLD;
    ask_for(rig, 0, &asked[0]);
    ask_with(rig, 0, &asked[1], &bob);
    RUN_UNTIL(rig->loop, rig->n_held == 2);
    homeserver_release(rig);
    RUN_UNTIL(rig->loop, all_done(asked, 2));
    assert_true(asked[0].names_are_right && asked[1].names_are_right);
}

static void a_read_that_waits_outlives_one_that_fails(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked[2];

    rig->mode = MODE_HOLD;
    ask_for(rig, 0, &asked[0]);
    RUN_UNTIL(rig->loop, rig->n_held == 1);
    ask_for(rig, 1, &asked[1]);
    run_for(rig->loop, 20);
    rig->mode = MODE_STATUS_500;
    homeserver_release(rig);
    rig->mode = MODE_LIST;
    RUN_UNTIL(rig->loop, all_done(asked, 2));
    assert_heard_nothing(&asked[0]);
    assert_heard(&asked[1], "A");
}

static void over_the_budget_nothing_is_read(void **state)
{
    struct read_rig *rig = *state;
    struct list_read_request bob = request_for(SPAN_LIT("@bob:a.example"));
    struct asked asked[2];

    rig->reads_per_s = 1;
    rig->mode = MODE_HOLD;
    ask_for(rig, 0, &asked[0]);
    ask_with(rig, 1, &asked[1], &bob); /* at the other worker, but of the same server */
    RUN_UNTIL(rig->loop, rig->n_held == 1 && asked[1].n_done > 0);
    assert_heard_nothing(&asked[1]);
    homeserver_release(rig);
    RUN_UNTIL(rig->loop, all_done(asked, 2));
    assert_heard(&asked[0], "A");
    assert_int_equal(n_reads(rig, FETCH_RESULT_BUDGET), 1);
    assert_int_equal(n_reads(rig, FETCH_RESULT_OK), 1);
    assert_int_equal(rig->n_requests, 1);
}

static void who_shares_a_read_needs_no_budget(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked[4];

    rig->reads_per_s = 4; /* an origin's share is 2: one read that runs, and one that waits */
    rig->mode = MODE_HOLD;
    for (size_t i = 0; i < 4; i++) {
        ask_for(rig, 0, &asked[i]);
    }
    RUN_UNTIL(rig->loop, rig->n_held == 1);
    rig->mode = MODE_LIST;
    homeserver_release(rig);
    RUN_UNTIL(rig->loop, all_done(asked, 4));
    for (size_t i = 0; i < 4; i++) {
        assert_heard(&asked[i], "A");
    }
    assert_int_equal(rig->n_requests, 2);
    assert_int_equal(n_reads(rig, FETCH_RESULT_BUDGET), 0);
}

static void one_origin_leaves_room_for_others(void **state)
{
    struct read_rig *rig = *state;
    struct list_read_request bob = request_for(SPAN_LIT("@bob:a.example"));
    struct list_read_request other = request_for(SPAN_LIT("@carol:a.example"));
    struct asked asked[3];

    rig->reads_per_s = 2;
    other.origin = SPAN_LIT("c.example");
    ask_for(rig, 0, &asked[0]);
    ask_with(rig, 0, &asked[1], &bob);
    ask_with(rig, 0, &asked[2], &other);
    RUN_UNTIL(rig->loop, all_done(asked, 3));
    assert_heard(&asked[0], "A");
    assert_heard_nothing(&asked[1]);
    assert_true(asked[2].had_list);
}

static void what_may_wait_leaves_half_of_the_budget(void **state)
{
    struct read_rig *rig = *state;
    struct list_read_request request = request_for(SPAN_LIT("@bob:a.example"));
    struct asked asked[3];

    rig->reads_per_s = 3;
    request.may_wait = true;
    ask_for(rig, 0, &asked[0]);
    ask_with(rig, 0, &asked[1], &request); /* two of three are left, but the share is spent */
    request.origin = SPAN_LIT("c.example");
    request.user_id = SPAN_LIT("@carol:a.example");
    ask_with(rig, 0, &asked[2], &request);
    RUN_UNTIL(rig->loop, all_done(asked, 3));
    assert_true(asked[0].had_list);
    assert_heard_nothing(&asked[1]);
    assert_true(asked[2].had_list);
    request.origin = SPAN_LIT("d.example");
    ask_with(rig, 0, &asked[0], &request); /* one of three is left */
    request.may_wait = false;
    ask_with(rig, 0, &asked[1], &request);
    RUN_UNTIL(rig->loop, all_done(asked, 2));
    assert_heard_nothing(&asked[0]);
    assert_true(asked[1].had_list);
}

struct failure_row {
    const char *name;
    enum homeserver_mode mode;
};

static const struct failure_row failures[] = {
    {"an error", MODE_STATUS_500},
    {"no JSON", MODE_NOT_JSON},
    {"JSON of another shape", MODE_OTHER_SHAPE},
    {"another user's list", MODE_OTHER_USER},
    {"a body that says it is too large", MODE_TOO_LARGE},
    {"a body that turns out too large", MODE_TOO_LARGE_CHUNKED},
    {"more devices than a list with a hash has", MODE_TOO_MANY_DEVICES},
    {"a body that breaks off", MODE_CUT},
};

static void an_answer_that_is_no_list_counts_as_failed(void **state)
{
    struct read_rig *rig = *state;

    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        struct asked asked;
        rig->mode = failures[i].mode;
        ask_for(rig, 0, &asked);
        RUN_UNTIL(rig->loop, asked.n_done > 0);
        if (asked.had_list || n_reads(rig, FETCH_RESULT_FAILED) != i + 1) {
            print_error("row failed: %s\n", failures[i].name);
        }
        assert_heard_nothing(&asked);
        assert_int_equal(n_reads(rig, FETCH_RESULT_FAILED), i + 1);
    }
    assert_int_equal(n_reads(rig, FETCH_RESULT_OK), 0);
    assert_int_equal(rig->n_requests, sizeof failures / sizeof failures[0]);
}

static void no_homeserver_is_a_failed_read(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked;

    http_listener_free(TAKE(rig->listener));
    ask_for(rig, 0, &asked);
    RUN_UNTIL(rig->loop, asked.n_done > 0);
    assert_heard_nothing(&asked);
    assert_int_equal(n_reads(rig, FETCH_RESULT_FAILED), 1);
}

static void who_cannot_be_asked_is_not_asked(void **state)
{
    struct read_rig *rig = *state;
    struct list_read_request no_user;
    struct asked asked[4];
    char *name = make_bytes(70000);

    rig->has_key = false;
    ask_for(rig, 0, &asked[0]);
    RUN_UNTIL(rig->loop, asked[0].n_done > 0);
    rig->has_key = true;
    rig->is_hosted = false;
    ask_for(rig, 1, &asked[1]);
    RUN_UNTIL(rig->loop, asked[1].n_done > 0);
    rig->is_hosted = true;
    no_user = request_for(span_of(name, 70000));
    ask_with(rig, 0, &asked[2], &no_user);
    no_user = request_for(LISTS_USER);
    no_user.server = SPAN_LIT("other.example");
    ask_with(rig, 0, &asked[3], &no_user);
    RUN_UNTIL(rig->loop, all_done(asked, 4));
    for (size_t i = 0; i < 4; i++) {
        assert_heard_nothing(&asked[i]);
    }
    for (unsigned result = 0; result < FETCH_RESULT_COUNT; result++) {
        assert_int_equal(n_reads(rig, result), 0);
    }
    assert_int_equal(rig->n_requests, 0);
    free(name);
}

static void a_read_that_waits_is_not_begun_without_a_key(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked[2];

    rig->mode = MODE_HOLD;
    ask_for(rig, 0, &asked[0]);
    RUN_UNTIL(rig->loop, rig->n_held == 1);
    ask_for(rig, 0, &asked[1]);
    run_for(rig->loop, 20);
    rig->has_key = false;
    homeserver_release(rig);
    RUN_UNTIL(rig->loop, all_done(asked, 2));
    assert_heard(&asked[0], "A");
    assert_heard_nothing(&asked[1]);
    rig->has_key = true;
    rig->mode = MODE_LIST;
    ask_for(rig, 0, &asked[1]);
    RUN_UNTIL(rig->loop, asked[1].n_done > 0);
    assert_heard(&asked[1], "A");
}

static void who_went_away_hears_nothing(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked[2];

    rig->mode = MODE_HOLD;
    ask_for(rig, 0, &asked[0]);
    ask_for(rig, 1, &asked[1]);
    RUN_UNTIL(rig->loop, rig->n_held == 1);
    list_read_cancel(rig->workers[0].reader, &asked[0].read);
    list_read_cancel(rig->workers[0].reader, &asked[0].read);
    rig->mode = MODE_LIST;
    homeserver_release(rig);
    RUN_UNTIL(rig->loop, asked[1].n_done > 0);
    assert_int_equal(asked[0].n_done, 0);
}

static void readers_may_be_freed_in_the_middle_of_reads(void **state)
{
    struct read_rig *rig = *state;
    struct asked asked[3];

    rig->mode = MODE_HOLD;
    ask_for(rig, 0, &asked[0]);
    RUN_UNTIL(rig->loop, rig->n_held == 1);
    ask_for(rig, 1, &asked[1]);
    run_for(rig->loop, 20);
    ask_for(rig, 1, &asked[2]); /* still in the mailbox */
    list_read_cancel(rig->workers[0].reader, &asked[0].read);
    list_read_cancel(rig->workers[1].reader, &asked[1].read);
    list_read_cancel(rig->workers[1].reader, &asked[2].read);
    read_rig_free_readers(rig);
    RUN_UNTIL(rig->loop, rig->n_aborts == 1);
    assert_int_equal(asked[0].n_done + asked[1].n_done + asked[2].n_done, 0);
}

static void call_on_done(void *arg, const struct list_update *update)
{
    asked_on_done(arg, NULL);
    assert_null(update);
}

static void a_read_has_its_time(void **state)
{
    struct read_rig *rig = *state;
    struct read_source source;
    struct read_call *call;
    struct asked asked = {.user_id = LISTS_USER};

    assert_true(read_rig_source_of(rig, LISTS_SERVER, &source));
    const struct read_call_options options = {.loop = rig->loop,
                                              .source = &source,
                                              .server = LISTS_SERVER,
                                              .user_id = LISTS_USER,
                                              .within_ms = 50,
                                              .on_done = call_on_done,
                                              .arg = &asked};
    rig->mode = MODE_HOLD;
    uint64_t start_us = clock_monotonic_us();
    assert_int_equal(read_call_start(&call, &options), ERR_OK);
    RUN_UNTIL(rig->loop, asked.n_done > 0);
    assert_heard_nothing(&asked);
    assert_in_range(clock_monotonic_us() - start_us, 45000, 5000000);
    RUN_UNTIL(rig->loop, rig->n_held == 0); /* the connection is gone too */
}

int main(void)
{
#define READER_TEST(name) cmocka_unit_test_setup_teardown(name, read_rig_setup, read_rig_teardown)
    const struct CMUnitTest tests[] = {
        READER_TEST(what_is_read_is_told_and_stored),
        READER_TEST(the_homeserver_is_asked_as_by_itself),
        READER_TEST(a_user_id_stays_one_segment),
        READER_TEST(a_list_that_changed_is_counted_as_such),
        READER_TEST(many_share_one_read_that_began_after_they_came),
        READER_TEST(each_list_has_reads_of_its_own),
        READER_TEST(a_read_that_waits_outlives_one_that_fails),
        READER_TEST(over_the_budget_nothing_is_read),
        READER_TEST(who_shares_a_read_needs_no_budget),
        READER_TEST(one_origin_leaves_room_for_others),
        READER_TEST(what_may_wait_leaves_half_of_the_budget),
        READER_TEST(an_answer_that_is_no_list_counts_as_failed),
        READER_TEST(no_homeserver_is_a_failed_read),
        READER_TEST(who_cannot_be_asked_is_not_asked),
        READER_TEST(a_read_that_waits_is_not_begun_without_a_key),
        READER_TEST(who_went_away_hears_nothing),
        READER_TEST(readers_may_be_freed_in_the_middle_of_reads),
        READER_TEST(a_read_has_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
