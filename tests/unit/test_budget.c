#include "inbound/budget.h"

#include "net_rig.h"

enum {
    PROCESS = 8000, /* bytes, as all below */
    LARGE = 7000,
    ADDRESS = 1000,
    ORIGIN = 2000,
    SERVER_MIN = 1000,
    PARSE = 500,
};

#define A SPAN_LIT("a.example")
#define B SPAN_LIT("b.example")
#define C SPAN_LIT("c.example")

static const struct budget_limits limits = {
    .process = PROCESS,
    .large = LARGE,
    .address = ADDRESS,
    .origin = ORIGIN,
    .server_min = SERVER_MIN,
    .parse = PARSE,
};

struct fixture {
    struct loop *loop;
    struct metrics metrics;
    struct budgets *budgets;
    unsigned n_charged; /* callbacks so far */
};

struct request {
    struct budget_hold hold;
    struct fixture *f;
    unsigned charged; /* the how manieth callback it was; 0: none yet */
    int refused;      /* enum budget, or -1 */
    uint64_t refused_us;
};

static void on_charged(void *arg)
{
    struct request *r = arg;

    r->charged = ++r->f->n_charged;
}

static void on_refused(void *arg, enum budget which)
{
    struct request *r = arg;

    r->refused = (int)which;
    r->refused_us = clock_monotonic_us();
    budget_close(&r->hold);
}

static const struct budget_ops ops = {on_charged, on_refused};

static void init(struct fixture *f, bool shares_servers)
{
    struct budget_limits mine = limits;

    *f = (struct fixture){0};
    mine.shares_servers = shares_servers;
    metrics_init(&f->metrics);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    f->budgets = budgets_new(f->loop, &f->metrics, &mine);
}

/* Nothing may be left: the gauge says so, and budgets_free checks it of every account. */
static void fini(struct fixture *f)
{
    assert_int_equal(budgets_held(f->budgets), 0);
    assert_int_equal(atomic_load(&f->metrics.gauges[GAUGE_queue_bytes]), 0);
    budgets_free(f->budgets);
    loop_free(f->loop);
}

static void open_for(struct request *r, struct fixture *f, const char *address, struct span server,
                     bool is_large)
{
    struct in6_addr client = {0};
    const struct budget_parties parties = {
        .address = address == NULL ? NULL : &client, .server = server, .is_large = is_large};

    *r = (struct request){.f = f, .refused = -1};
    CHECK(address == NULL || inet_pton(AF_INET6, address, &client) == 1);
    budget_open(&r->hold, f->budgets, &parties, &ops, r);
}

static void open_anywhere(struct request *r, struct fixture *f, bool is_large)
{
    open_for(r, f, NULL, A, is_large);
}

static uint64_t n_waits(const struct fixture *f, enum budget which)
{
    return atomic_load(&f->metrics.cells[COUNTER_CELL_budget_waits_total + (unsigned)which]);
}

static void assert_waits(const struct request *r, enum budget which)
{
    assert_true(budget_is_waiting(&r->hold));
    assert_int_equal(r->hold.blocked_by, which);
    assert_int_equal(r->charged, 0);
}

static void limits_are_a_threads_part_and_never_less_than_two_bodies(void **state)
{
    static const uint64_t all = 512 << 20;
    struct budget_limits of_two = budget_limits_for(all, 2, 1);
    struct budget_limits of_many = budget_limits_for(all, 256, 3);

    (void)state;
    assert_int_equal(of_two.process, 256 << 20);
    assert_int_equal(of_two.address, of_two.process / 8);
    assert_int_equal(of_two.parse, 32 << 20);
    assert_false(of_two.shares_servers);
    assert_true(of_many.large >= 2ULL * BUDGET_ONE_REQUEST);
    assert_true(of_many.process > of_many.large);
    assert_int_equal(of_many.address, BUDGET_ONE_REQUEST);
    assert_int_equal(of_many.origin, BUDGET_ONE_REQUEST);
    assert_int_equal(of_many.parse, BODY_MAX);
    assert_true(of_many.shares_servers);
}

static void what_is_over_the_process_waits_until_there_is_room(void **state)
{
    struct fixture f;
    struct request one;
    struct request two;
    struct request three;

    (void)state;
    init(&f, false);
    open_anywhere(&one, &f, true);
    open_anywhere(&two, &f, true);
    open_anywhere(&three, &f, true);
    assert_true(budget_charge(&one.hold, LARGE - 10));
    assert_true(budget_charge(&two.hold, 10));
    assert_false(budget_charge(&two.hold, 1));
    assert_waits(&two, BUDGET_PROCESS);
    assert_false(budget_charge(&three.hold, 0)); /* not before the one that waits */
    assert_int_equal(budgets_held(f.budgets), LARGE);
    run_for(f.loop, 20);
    assert_waits(&two, BUDGET_PROCESS);
    budget_release(&one.hold, 1);
    RUN_UNTIL(f.loop, three.charged != 0);
    assert_int_equal(two.charged, 1);
    assert_int_equal(three.charged, 2);
    assert_int_equal(budgets_held(f.budgets), LARGE);
    assert_int_equal(n_waits(&f, BUDGET_PROCESS), 2);
    budget_close(&one.hold);
    budget_close(&two.hold);
    budget_close(&three.hold);
    fini(&f);
}

static void small_ones_have_room_of_their_own_and_go_first(void **state)
{
    struct fixture f;
    struct request flood;
    struct request large;
    struct request small[3];

    (void)state;
    init(&f, false);
    open_anywhere(&flood, &f, true);
    open_anywhere(&large, &f, true);
    for (size_t i = 0; i < 3; i++) {
        open_anywhere(&small[i], &f, false);
    }
    assert_true(budget_charge(&flood.hold, LARGE));
    assert_false(budget_charge(&large.hold, 10));
    assert_true(budget_charge(&small[0].hold, PROCESS - LARGE));
    assert_false(budget_charge(&small[1].hold, 10));
    assert_false(budget_charge(&small[2].hold, 10));
    budget_release(&flood.hold, PROCESS - LARGE + 20);
    RUN_UNTIL(f.loop, f.n_charged == 2);
    assert_int_equal(small[1].charged, 1);
    assert_int_equal(small[2].charged, 2);
    assert_waits(&large, BUDGET_PROCESS);
    budget_release(&flood.hold, 30);
    RUN_UNTIL(f.loop, large.charged == 3);
    budget_close(&flood.hold);
    budget_close(&large.hold);
    for (size_t i = 0; i < 3; i++) {
        budget_close(&small[i].hold);
    }
    fini(&f);
}

static void address_row(size_t row, const char *one_address, const char *other_address, bool same)
{
    struct fixture f;
    struct request one;
    struct request other;

    init(&f, false);
    open_for(&one, &f, one_address, A, true);
    open_for(&other, &f, other_address, B, true);
    assert_true(budget_charge(&one.hold, ADDRESS));
    if (budget_charge(&other.hold, 10) == same) {
        fail_msg("row %zu", row);
    }
    if (same) {
        assert_waits(&other, BUDGET_ADDRESS);
        budget_close(&one.hold);
        RUN_UNTIL(f.loop, other.charged != 0);
    }
    budget_close(&one.hold);
    budget_close(&other.hold);
    fini(&f);
}

static void one_address_waits_for_itself_alone(void **state)
{
    static const struct {
        const char *one, *other;
        bool same;
    } rows[] = {
        {"::ffff:192.0.2.1", "::ffff:192.0.2.1", true},
        {"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
        {"2001:db8::1", "2001:db8::ffff:0:0:1", true},
        {"2001:db8::1", "2001:db8:0:1::1", false},
        {NULL, "2001:db8::1", false},
        {"2001:db8::1", NULL, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        address_row(i, rows[i].one, rows[i].other, rows[i].same);
    }
}

static void bytes_move_to_the_origin_when_it_is_known_and_only_then(void **state)
{
    struct fixture f;
    struct request forger;
    struct request victim;
    struct request more;

    (void)state;
    init(&f, false);
    open_for(&forger, &f, "2001:db8:1::", A, true);
    open_for(&victim, &f, "2001:db8:2::", A, true);
    open_for(&more, &f, "2001:db8:2::", A, true);
    assert_true(budget_charge(&forger.hold, ADDRESS)); /* in the victim's name: not verified */
    assert_true(budget_charge(&victim.hold, ADDRESS));
    assert_false(budget_charge(&more.hold, ADDRESS));
    assert_waits(&more, BUDGET_ADDRESS);
    assert_true(budget_move_to_origin(&victim.hold, SPAN_LIT("victim")));
    RUN_UNTIL(f.loop, more.charged != 0); /* the address is free again */
    assert_true(budget_move_to_origin(&more.hold, SPAN_LIT("victim")));
    assert_int_equal(budgets_held(f.budgets), 3 * ADDRESS);
    assert_true(budget_move_to_origin(&forger.hold, SPAN_LIT("forger")));
    budget_close(&forger.hold);
    budget_close(&victim.hold);
    budget_close(&more.hold);
    fini(&f);
}

static void an_origin_over_its_own_waits_and_others_pass(void **state)
{
    struct fixture f;
    struct request noisy[3];
    struct request other;

    (void)state;
    init(&f, false);
    for (size_t i = 0; i < 3; i++) {
        open_anywhere(&noisy[i], &f, true);
        assert_true(budget_charge(&noisy[i].hold, ORIGIN / 2));
    }
    open_anywhere(&other, &f, true);
    assert_true(budget_charge(&other.hold, ORIGIN));
    assert_true(budget_move_to_origin(&noisy[0].hold, SPAN_LIT("noisy")));
    assert_true(budget_move_to_origin(&noisy[1].hold, SPAN_LIT("noisy")));
    assert_false(budget_move_to_origin(&noisy[2].hold, SPAN_LIT("noisy")));
    assert_waits(&noisy[2], BUDGET_ORIGIN);
    assert_true(budget_move_to_origin(&other.hold, SPAN_LIT("other")));
    assert_int_equal(budgets_held(f.budgets), ORIGIN * 5 / 2);
    budget_close(&noisy[0].hold);
    RUN_UNTIL(f.loop, noisy[2].charged != 0);
    assert_int_equal(budgets_held(f.budgets), ORIGIN * 2);
    for (size_t i = 0; i < 3; i++) {
        budget_close(&noisy[i].hold);
    }
    budget_close(&other.hold);
    fini(&f);
}

static void one_hosted_server_leaves_room_for_others(void **state)
{
    struct fixture f;
    struct request flooded;
    struct request other;
    struct request third;

    (void)state;
    init(&f, true);
    open_for(&flooded, &f, NULL, A, true);
    open_for(&other, &f, NULL, B, true);
    open_for(&third, &f, NULL, C, true);
    assert_true(budget_charge(&flooded.hold, LARGE / 2));
    assert_false(budget_charge(&flooded.hold, 1));
    assert_waits(&flooded, BUDGET_SERVER);
    assert_true(budget_charge(&other.hold, LARGE / 4)); /* half of what is left */
    assert_false(budget_charge(&other.hold, 1));
    assert_waits(&other, BUDGET_SERVER);
    assert_true(budget_charge(&third.hold, SERVER_MIN)); /* whatever others do */
    assert_false(budget_charge(&third.hold, 1));
    budget_close(&flooded.hold);
    RUN_UNTIL(f.loop, other.charged != 0 && third.charged != 0);
    budget_close(&other.hold);
    budget_close(&third.hold);
    fini(&f);
    init(&f, false);
    open_for(&flooded, &f, NULL, A, true);
    assert_true(budget_charge(&flooded.hold, LARGE)); /* the only one has it all */
    budget_close(&flooded.hold);
    fini(&f);
}

static void whoever_waits_too_long_is_refused_and_told_why(void **state)
{
    struct fixture f;
    struct request one;
    struct request two;
    uint64_t began_us = clock_monotonic_us();

    (void)state;
    init(&f, false);
    open_anywhere(&one, &f, true);
    open_anywhere(&two, &f, true);
    assert_true(budget_charge(&one.hold, LARGE));
    assert_false(budget_charge(&two.hold, 1));
    run_for(f.loop, 1500);
    assert_int_equal(two.refused, -1);
    budget_release(&one.hold, 1);
    RUN_UNTIL(f.loop, two.charged != 0);
    assert_false(budget_charge(&two.hold, 1)); /* the time that it waited before counts */
    RUN_UNTIL(f.loop, two.refused != -1);
    assert_int_equal(two.refused, BUDGET_PROCESS);
    assert_in_range(two.refused_us - began_us, BUDGET_WAIT_MS * 1000ULL - 10000,
                    (BUDGET_WAIT_MS + 1000) * 1000ULL);
    budget_close(&one.hold);
    /* Nobody stands behind the one that has gone. */
    open_anywhere(&one, &f, true);
    assert_true(budget_charge(&one.hold, LARGE));
    budget_close(&one.hold);
    fini(&f);
}

static void what_is_here_already_is_charged_up_to_a_point(void **state)
{
    struct fixture f;
    struct request one;
    struct request two;

    (void)state;
    init(&f, false);
    open_anywhere(&one, &f, true);
    open_anywhere(&two, &f, false);
    assert_true(budget_charge(&one.hold, LARGE));
    assert_false(budget_charge(&two.hold, PROCESS));
    assert_true(budget_charge_now(&two.hold, PROCESS - LARGE)); /* off what it waits for */
    assert_int_equal(two.hold.wants, LARGE);
    assert_true(budget_charge_now(&two.hold, PROCESS / 8));
    assert_false(budget_charge_now(&two.hold, 1));
    assert_int_equal(budgets_held(f.budgets), PROCESS + PROCESS / 8 + 1);
    budget_close(&two.hold);
    budget_close(&one.hold);
    fini(&f);
}

static void what_large_ones_bring_along_leaves_room_for_small_ones(void **state)
{
    struct fixture f;
    struct request one;
    struct request two;
    struct request small;

    (void)state;
    init(&f, false);
    open_anywhere(&one, &f, true);
    open_anywhere(&two, &f, true);
    open_anywhere(&small, &f, false);
    assert_true(budget_charge(&one.hold, LARGE));
    assert_false(budget_charge(&two.hold, 1));
    assert_true(budget_charge_now(&two.hold, (PROCESS - LARGE) / 2));
    assert_true(budget_charge(&small.hold, (PROCESS - LARGE) / 2));
    assert_false(budget_charge_now(&two.hold, 1));
    budget_close(&one.hold);
    budget_close(&small.hold);
    assert_true(budget_charge_now(&two.hold, 1));
    budget_close(&two.hold);
    fini(&f);
}

static void documents_have_a_budget(void **state)
{
    struct fixture f;

    (void)state;
    init(&f, false);
    assert_true(budget_parse_begin(f.budgets, PARSE - 10));
    assert_false(budget_parse_begin(f.budgets, 11));
    assert_true(budget_parse_begin(f.budgets, 10));
    budget_parse_end(f.budgets, PARSE - 10);
    assert_true(budget_parse_begin(f.budgets, 11));
    budget_parse_end(f.budgets, 21);
    fini(&f);
}

static void new_limits_hold_at_once(void **state)
{
    struct fixture f;
    struct request one;
    struct request two;
    struct budget_limits wider = limits;

    (void)state;
    init(&f, false);
    open_anywhere(&one, &f, true);
    open_anywhere(&two, &f, true);
    assert_true(budget_charge(&one.hold, LARGE));
    assert_false(budget_charge(&two.hold, 10));
    wider.process = wider.large = UINT64_C(2) * PROCESS;
    budgets_set(f.budgets, &wider);
    RUN_UNTIL(f.loop, two.charged != 0);
    budget_close(&one.hold);
    budget_close(&two.hold);
    fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_a_threads_part_and_never_less_than_two_bodies),
        cmocka_unit_test(what_is_over_the_process_waits_until_there_is_room),
        cmocka_unit_test(small_ones_have_room_of_their_own_and_go_first),
        cmocka_unit_test(one_address_waits_for_itself_alone),
        cmocka_unit_test(bytes_move_to_the_origin_when_it_is_known_and_only_then),
        cmocka_unit_test(an_origin_over_its_own_waits_and_others_pass),
        cmocka_unit_test(one_hosted_server_leaves_room_for_others),
        cmocka_unit_test(whoever_waits_too_long_is_refused_and_told_why),
        cmocka_unit_test(what_is_here_already_is_charged_up_to_a_point),
        cmocka_unit_test(what_large_ones_bring_along_leaves_room_for_small_ones),
        cmocka_unit_test(documents_have_a_budget),
        cmocka_unit_test(new_limits_hold_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
