#include "net/discovery.h"

#include "dns_stub.h"
#include "net/tls.h"
#include "net_rig.h"
#include "tls_files.h"

#include <arpa/nameser.h>

enum { N_WAITS = 3, MINUTE_S = 60, HOUR_S = 3600, NAMES_MAX = 4 };

struct fixture {
    struct tls_files files;
    struct tls_context *tls;
    struct rig rig;
    struct dns_stub dns_stub;
    struct dns *dns;
    struct fetcher *fetcher;
    struct discovery *discovery;
    char connect_to[32];
    uint64_t now_us;
    const char *cache_control; /* of what is answered */
    struct discovery_wait waits[N_WAITS];
    unsigned n_done, n_third_done;
    bool has_route;
    struct server_route route;
};

static const struct dns_row zone[] = {
    {"_matrix-fed._tcp.srv.d.test", ns_t_srv, "10 1 443 one.d.test"},
    {"_matrix-fed._tcp.srv.d.test", ns_t_srv, "20 1 444 two.d.test"},
    {"_matrix._tcp.srv.d.test", ns_t_srv, "1 1 445 three.d.test"},
    {"_matrix._tcp.old.d.test", ns_t_srv, "1 1 446 old-one.d.test"},
    {"_matrix-fed._tcp.none.d.test", ns_t_srv, "0 0 0 ."},
    {"_matrix-fed._tcp.part.d.test", ns_t_srv, "0 0 1 ."},
    {"_matrix-fed._tcp.part.d.test", ns_t_srv, "1 0 447 one.d.test"},
    {"_matrix-fed._tcp.silent.d.test", ns_t_srv, ""},
    {"_matrix-fed._tcp.named.d.test", ns_t_srv, "1 0 448 one.d.test"},
    {NULL, 0, NULL},
};

static uint64_t now_us(void *arg)
{
    const struct fixture *f = arg;

    return f->now_us;
}

static bool allow_all(void *arg, const struct in6_addr *address)
{
    (void)arg;
    (void)address;
    return true;
}

static void open_discovery(struct fixture *f)
{
    assert_int_equal(dns_new(&f->dns, f->rig.loop, f->dns_stub.address), ERR_OK);
    assert_int_equal(fetcher_new(&f->fetcher, f->rig.loop, f->dns), ERR_OK);
    f->discovery = discovery_new(&(struct discovery_options){.loop = f->rig.loop,
                                                             .dns = f->dns,
                                                             .fetcher = f->fetcher,
                                                             .ca_file = f->files.chain,
                                                             .connect_to = f->connect_to,
                                                             .allow_address = allow_all,
                                                             .arg = f,
                                                             .now_us = now_us,
                                                             .max_names = NAMES_MAX});
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    tls_files_make(&f->files, "DNS:*.d.test");
    assert_int_equal(
        tls_server_new(&f->tls, &(struct tls_certificate){f->files.chain, f->files.key}, 1),
        ERR_OK);
    rig_init(&f->rig, &(struct http_listener_options){.address = "127.0.0.1", .tls = f->tls});
    f->rig.answer = ANSWER_HOLD;
    snprintf(f->connect_to, sizeof f->connect_to, "127.0.0.1:%u", rig_port(&f->rig));
    dns_stub_start(&f->dns_stub, zone);
    f->now_us = 1;
    open_discovery(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    discovery_free(f->discovery);
    fetcher_free(f->fetcher);
    dns_free(f->dns);
    dns_stub_stop(&f->dns_stub);
    rig_fini(&f->rig);
    tls_context_free(f->tls);
    tls_files_remove(&f->files);
    free(f);
    return 0;
}

static void on_done(void *arg, const struct server_route *route)
{
    struct fixture *f = arg;

    f->n_done++;
    f->has_route = route != NULL;
    if (route != NULL) {
        f->route = *route;
    }
}

/* Answers the request for .well-known that is expected; NULL: 404, "": breaks off. */
static void answer_well_known(struct fixture *f, const char *delegated)
{
    struct http_header header = {SPAN_LIT("Cache-Control"),
                                 span_str(f->cache_control != NULL ? f->cache_control : "public")};
    char body[128];

    RUN_UNTIL(f->rig.loop, f->rig.exchange != NULL);
    struct http_exchange *ex = f->rig.exchange;
    f->rig.exchange = NULL;
    if (delegated == NULL) {
        http_respond(ex, 404, &header, 1, SPAN_LIT("{\"m.server\":\"evil.d.test\"}"));
    } else if (delegated[0] == '\0') {
        http_respond(ex, 503, NULL, 0, SPAN_LIT("{\"m.server\":\"evil.d.test\"}"));
    } else {
        snprintf(body, sizeof body, "{\"m.server\":\"%s\"}", delegated);
        http_respond(ex, 200, &header, 1, span_str(body));
    }
}

static void start(struct fixture *f, size_t wait, const char *server)
{
    discovery_find(f->discovery, &f->waits[wait], span_str(server), on_done, f);
}

static void wait_for(struct fixture *f, unsigned n_done)
{
    RUN_UNTIL(f->rig.loop, f->n_done == n_done);
}

/* With a request for .well-known, or fails. */
static void find_anew(struct fixture *f, const char *server, const char *delegated)
{
    unsigned n_before = f->n_done, n_heads = f->rig.n_heads;

    start(f, 0, server);
    answer_well_known(f, delegated);
    wait_for(f, n_before + 1);
    assert_int_equal(f->rig.n_heads, n_heads + 1);
}

/* Without one. */
static void find_known(struct fixture *f, const char *server)
{
    unsigned n_before = f->n_done, n_heads = f->rig.n_heads;

    start(f, 0, server);
    assert_int_equal(f->n_done, n_before); /* nothing from inside */
    wait_for(f, n_before + 1);
    assert_int_equal(f->rig.n_heads, n_heads);
}

static void pass(struct fixture *f, int seconds)
{
    f->now_us += (uint64_t)seconds * 1000 * 1000;
}

static void the_steps_lead_to_places(void **state)
{
    static const struct {
        const char *server;
        const char *delegated; /* as answer_well_known; "-": nobody asks */
        const char *host_header, *tls_name;
        const char *host; /* of the first place; NULL: there is no route */
        uint16_t port;
        uint8_t n;
        bool is_address;
    } rows[] = {
        {"1.2.3.4", "-", "1.2.3.4", "1.2.3.4", "1.2.3.4", 8448, 1, true},
        {"1.2.3.4:5", "-", "1.2.3.4:5", "1.2.3.4", "1.2.3.4", 5, 1, true},
        {"[::1]", "-", "[::1]", "::1", "::1", 8448, 1, true},
        {"[::1]:65535", "-", "[::1]:65535", "::1", "::1", 65535, 1, true},
        {"a.d.test:5", "-", "a.d.test:5", "a.d.test", "a.d.test", 5, 1, false},
        {"a.d.test:0", "-", NULL, NULL, NULL, 0, 0, false},
        {"a.d.test:65536", "-", NULL, NULL, NULL, 0, 0, false},
        {"[fade]", "-", NULL, NULL, NULL, 0, 0, false},
        {"[1.2.3.4]", "-", NULL, NULL, NULL, 0, 0, false},
        {"a.d.test", NULL, "a.d.test", "a.d.test", "a.d.test", 8448, 1, false},
        {"srv.d.test", NULL, "srv.d.test", "srv.d.test", "one.d.test", 443, 2, false},
        {"old.d.test", NULL, "old.d.test", "old.d.test", "old-one.d.test", 446, 1, false},
        {"none.d.test", NULL, NULL, NULL, NULL, 0, 0, false},
        {"part.d.test", NULL, "part.d.test", "part.d.test", "one.d.test", 447, 1, false},
        {"silent.d.test", NULL, "silent.d.test", "silent.d.test", "silent.d.test", 8448, 1, false},
        {"a.d.test", "4.3.2.1", "4.3.2.1", "4.3.2.1", "4.3.2.1", 8448, 1, true},
        {"a.d.test", "4.3.2.1:5", "4.3.2.1:5", "4.3.2.1", "4.3.2.1", 5, 1, true},
        {"a.d.test", "[::2]:5", "[::2]:5", "::2", "::2", 5, 1, true},
        {"a.d.test", "b.d.test:5", "b.d.test:5", "b.d.test", "b.d.test", 5, 1, false},
        {"a.d.test", "named.d.test", "named.d.test", "named.d.test", "one.d.test", 448, 1, false},
        {"named.d.test", "b.d.test", "b.d.test", "b.d.test", "b.d.test", 8448, 1, false},
        {"named.d.test", "b.d.test:0", "named.d.test", "named.d.test", "one.d.test", 448, 1, false},
        {"named.d.test", "", "named.d.test", "named.d.test", "one.d.test", 448, 1, false},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool is_asked = rows[i].delegated == NULL || rows[i].delegated[0] != '-';
        pass(f, 49 * HOUR_S);
        if (is_asked) {
            find_anew(f, rows[i].server, rows[i].delegated);
        } else {
            find_known(f, rows[i].server);
        }
        const struct server_route *route = &f->route;
        if (f->has_route != (rows[i].host != NULL) ||
            (f->has_route && (strcmp(route->host_header, rows[i].host_header) != 0 ||
                              strcmp(route->tls_name, rows[i].tls_name) != 0 ||
                              strcmp(route->places[0].host, rows[i].host) != 0 ||
                              route->places[0].port != rows[i].port || route->n != rows[i].n ||
                              route->is_address != rows[i].is_address))) {
            fail_msg("row failed: %s, %s", rows[i].server, rows[i].delegated);
        }
    }
}

static void what_was_found_is_kept_as_long_as_it_may_be(void **state)
{
    struct fixture *f = *state;

    f->cache_control = "max-age=36000";
    find_anew(f, "a.d.test", "b.d.test:5");
    pass(f, 9 * HOUR_S - 1);
    find_known(f, "a.d.test");
    assert_string_equal(f->route.host_header, "b.d.test:5");
    pass(f, 2 * HOUR_S + 2);
    find_anew(f, "a.d.test", "c.d.test:6");
    assert_string_equal(f->route.host_header, "c.d.test:6");
    assert_int_equal(f->route.places[0].port, 6);
}

static void records_are_kept_for_their_ttl(void **state)
{
    struct fixture *f = *state;

    atomic_store(&f->dns_stub.ttl_s, 120);
    find_anew(f, "srv.d.test", NULL);
    unsigned n_queries = atomic_load(&f->dns_stub.n_queries);
    pass(f, 119);
    find_known(f, "srv.d.test");
    assert_int_equal(atomic_load(&f->dns_stub.n_queries), n_queries);
    pass(f, 2);
    find_known(f, "srv.d.test");
    assert_true(atomic_load(&f->dns_stub.n_queries) > n_queries);
}

static void a_failure_is_remembered_longer_each_time(void **state)
{
    struct fixture *f = *state;

    find_anew(f, "a.d.test", "");
    pass(f, 5 * MINUTE_S - 1);
    find_known(f, "a.d.test");
    pass(f, MINUTE_S);
    find_anew(f, "a.d.test", "");
    pass(f, 8 * MINUTE_S);
    find_known(f, "a.d.test");
    pass(f, 4 * MINUTE_S);
    find_anew(f, "a.d.test", NULL); /* somebody says that there is none */
    pass(f, 53 * MINUTE_S);
    find_known(f, "a.d.test");
    pass(f, 8 * MINUTE_S);
    find_anew(f, "a.d.test", "b.d.test:5");
    assert_string_equal(f->route.host_header, "b.d.test:5");
}

static void a_delegation_outlives_failures_for_two_days(void **state)
{
    struct fixture *f = *state;

    f->cache_control = "max-age=3600";
    find_anew(f, "a.d.test", "b.d.test:5");
    for (size_t i = 0; i < 3; i++) {
        pass(f, 2 * HOUR_S);
        find_anew(f, "a.d.test", "");
        assert_string_equal(f->route.host_header, "b.d.test:5");
    }
    pass(f, 42 * HOUR_S);
    find_anew(f, "a.d.test", "");
    assert_string_equal(f->route.host_header, "a.d.test");
}

static void a_delegation_that_is_gone_is_forgotten_at_once(void **state)
{
    struct fixture *f = *state;

    f->cache_control = "max-age=3600";
    find_anew(f, "a.d.test", "b.d.test:5");
    pass(f, 2 * HOUR_S);
    find_anew(f, "a.d.test", NULL);
    assert_string_equal(f->route.host_header, "a.d.test");
}

static void one_request_is_for_all_who_wait(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < N_WAITS; i++) {
        start(f, i, "a.d.test");
    }
    RUN_UNTIL(f->rig.loop, f->rig.exchange != NULL);
    discovery_cancel(&f->waits[1]);
    answer_well_known(f, "b.d.test:5");
    wait_for(f, N_WAITS - 1);
    run_for(f->rig.loop, 20);
    assert_int_equal(f->n_done, N_WAITS - 1);
    assert_int_equal(f->rig.n_heads, 1);
}

static void what_nobody_waits_for_any_more_is_remembered(void **state)
{
    struct fixture *f = *state;

    start(f, 0, "a.d.test");
    RUN_UNTIL(f->rig.loop, f->rig.exchange != NULL);
    discovery_cancel(&f->waits[0]);
    answer_well_known(f, "b.d.test:5");
    run_for(f->rig.loop, 50);
    find_known(f, "a.d.test");
    assert_string_equal(f->route.host_header, "b.d.test:5");
}

/* Cancels the others and asks again, once. */
static void on_done_that_acts(void *arg, const struct server_route *route)
{
    struct fixture *f = arg;

    on_done(arg, route);
    if (f->n_done == 1) {
        discovery_cancel(&f->waits[1]);
        discovery_find(f->discovery, &f->waits[0], SPAN_LIT("a.d.test"), on_done, f);
        discovery_find(f->discovery, &f->waits[1], SPAN_LIT("b.d.test:5"), on_done, f);
    }
}

static void on_third_done(void *arg, const struct server_route *route)
{
    struct fixture *f = arg;

    on_done(arg, route);
    f->n_third_done++;
}

static void who_is_told_may_cancel_and_ask_from_inside(void **state)
{
    struct fixture *f = *state;

    discovery_find(f->discovery, &f->waits[0], SPAN_LIT("a.d.test"), on_done_that_acts, f);
    start(f, 1, "a.d.test");
    discovery_find(f->discovery, &f->waits[2], SPAN_LIT("a.d.test"), on_third_done, f);
    answer_well_known(f, "b.d.test:5");
    wait_for(f, 4); /* the first and the third; then those who asked from inside */
    run_for(f->rig.loop, 20);
    assert_int_equal(f->n_done, 4);
    assert_int_equal(f->n_third_done, 1);
    assert_int_equal(f->rig.n_heads, 1);
}

static void who_cancels_before_the_search_began_is_not_told(void **state)
{
    struct fixture *f = *state;

    start(f, 0, "a.d.test:5");
    discovery_cancel(&f->waits[0]);
    run_for(f->rig.loop, 20);
    assert_int_equal(f->n_done, 0);
}

/* teardown finds a request and queries under way. */
static void a_search_ends_with_its_owner(void **state)
{
    struct fixture *f = *state;

    find_anew(f, "a.d.test", NULL);
    start(f, 0, "silent.d.test");
    answer_well_known(f, NULL);
    run_for(f->rig.loop, 20);
    discovery_cancel(&f->waits[0]);
    start(f, 1, "b.d.test");
    RUN_UNTIL(f->rig.loop, f->rig.exchange != NULL);
    discovery_cancel(&f->waits[1]);
}

static void only_so_many_names_are_remembered(void **state)
{
    char name[16];
    struct fixture *f = *state;

    for (int i = 0; i < NAMES_MAX + 2; i++) {
        snprintf(name, sizeof name, "n%d.d.test", i);
        find_anew(f, name, "b.d.test:5");
        if (i == 1) {
            find_anew(f, "used.d.test", "b.d.test:5");
        }
        if (i > 1) {
            find_known(f, "used.d.test");
        }
    }
    assert_int_equal(discovery_n_names(f->discovery), NAMES_MAX);
    find_known(f, name);
    find_anew(f, "n0.d.test", "b.d.test:5");
}

static void times_are_within_their_bounds(void **state)
{
    static const struct {
        int64_t lifetime_s;
        uint64_t least, most; /* as chance goes from 0 to 255 */
    } rows[] = {
        {-1, 77760, 95040},       {0, 300, 330},
        {299, 300, 330},          {1000, 900, 1100},
        {172800, 155520, 172800}, {1000000000, 155520, 172800},
    };
    static const struct {
        unsigned n_failures;
        uint64_t least, most;
    } failures[] = {
        {0, 300, 330},   {1, 300, 330},   {2, 540, 660},      {3, 1080, 1320},
        {4, 2160, 2640}, {5, 3600, 3600}, {1000, 3600, 3600},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(discovery_keep_s(rows[i].lifetime_s, 0), rows[i].least);
        assert_int_equal(discovery_keep_s(rows[i].lifetime_s, 255), rows[i].most);
    }
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        uint64_t least = discovery_keep_failure_s(false, failures[i].n_failures, 0);
        uint64_t most = discovery_keep_failure_s(false, failures[i].n_failures, 255);
        if (least != failures[i].least || most != failures[i].most) {
            fail_msg("after %u failures: %llu to %llu", failures[i].n_failures,
                     (unsigned long long)least, (unsigned long long)most);
        }
    }
    assert_int_equal(discovery_keep_failure_s(true, 1, 0), 3240);
    assert_int_equal(discovery_keep_failure_s(true, 1, 255), 3600);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_steps_lead_to_places),
        TEST(what_was_found_is_kept_as_long_as_it_may_be),
        TEST(records_are_kept_for_their_ttl),
        TEST(a_failure_is_remembered_longer_each_time),
        TEST(a_delegation_outlives_failures_for_two_days),
        TEST(a_delegation_that_is_gone_is_forgotten_at_once),
        TEST(one_request_is_for_all_who_wait),
        TEST(what_nobody_waits_for_any_more_is_remembered),
        TEST(who_is_told_may_cancel_and_ask_from_inside),
        TEST(who_cancels_before_the_search_began_is_not_told),
        TEST(a_search_ends_with_its_owner),
        TEST(only_so_many_names_are_remembered),
        cmocka_unit_test(times_are_within_their_bounds),
    };

    return cmocka_run_group_tests_name("discovery", tests, NULL, NULL);
}
