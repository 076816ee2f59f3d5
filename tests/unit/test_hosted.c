#include "inbound/hosted.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum {
    N_UPSTREAMS = 3,
    N_ORIGINS = 1000,
    LONGEST = 300, /* bytes of a host with its port */
};

static const char *const a_hosts[] = {"a.example", "matrix.A.example", "[2001:db8::1]"};
static const char *const b_hosts[] = {"a.example:8449", "b.example:8448", "[2001:db8::1]:8449"};

struct fixture {
    struct hosted_upstream upstreams[N_UPSTREAMS];
    struct hosted_server servers[2];
    struct hosted *hosted;
    unsigned n_released;
};

static void on_release(void *arg)
{
    struct fixture *f = arg;

    f->n_released++;
}

static void fixture_init(struct fixture *f)
{
    *f = (struct fixture){.servers = {{.name = SPAN_LIT("a.example"),
                                       .hosts = a_hosts,
                                       .n_hosts = sizeof a_hosts / sizeof a_hosts[0]},
                                      {.name = SPAN_LIT("a.example:8449"),
                                       .hosts = b_hosts,
                                       .n_hosts = sizeof b_hosts / sizeof b_hosts[0]}}};
    for (size_t i = 0; i < 2; i++) {
        f->servers[i].upstreams = f->upstreams;
        f->servers[i].n_upstreams = N_UPSTREAMS;
    }
    f->hosted = hosted_new(f->servers, 2, on_release, f);
}

static void fixture_fini(struct fixture *f)
{
    hosted_unref(f->hosted);
    assert_int_equal(f->n_released, 1);
}

struct row {
    struct span key;
    int server; /* -1: none */
};

static const struct row names[] = {
    {SPAN_INIT("a.example"), 0},         {SPAN_INIT("a.example:8449"), 1},
    {SPAN_INIT("A.example"), -1},        {SPAN_INIT("a.example:8448"), -1},
    {SPAN_INIT("a.example:"), -1},       {SPAN_INIT("b.example"), -1},
    {SPAN_INIT("matrix.A.example"), -1}, {SPAN_INIT(""), -1},
    {SPAN_INIT("a.exampl"), -1},         {SPAN_INIT("a.example\0"), -1},
};

static const struct row hosts[] = {
    /* Host and port exactly first, then the host alone. */
    {SPAN_INIT("a.example:8449"), 1},
    {SPAN_INIT("a.example"), 0},
    {SPAN_INIT("a.example:8448"), 0},
    {SPAN_INIT("a.example:443"), 0},
    {SPAN_INIT("a.example:84490"), 0},
    {SPAN_INIT("b.example:8448"), 1},
    {SPAN_INIT("b.example"), -1},
    {SPAN_INIT("b.example:443"), -1},
    /* In any case, on both sides. */
    {SPAN_INIT("A.EXAMPLE:8449"), 1},
    {SPAN_INIT("A.Example"), 0},
    {SPAN_INIT("Matrix.a.example"), 0},
    {SPAN_INIT("mATRIX.a.example:1"), 0},
    {SPAN_INIT("[2001:DB8::1]"), 0},
    {SPAN_INIT("[2001:db8::1]:443"), 0},
    {SPAN_INIT("[2001:DB8::1]:8449"), 1},
    {SPAN_INIT("[2001:db8::2]"), -1},
    {SPAN_INIT("2001:db8::1"), -1},
    {SPAN_INIT("c.example"), -1},
    {SPAN_INIT("x.a.example"), -1},
    {SPAN_INIT("a.example."), -1},
    {SPAN_INIT("a.example:x"), -1},
    {SPAN_INIT(":8449"), -1},
    {SPAN_INIT(""), -1},
    {SPAN_INIT("a.example:8449\0"), -1},
};

static void assert_found(const struct fixture *f, const struct row *row,
                         const struct hosted_server *found)
{
    const struct hosted_server *expected = row->server < 0 ? NULL : &f->servers[row->server];

    if (found != expected) {
        print_error("\"%.*s\"\n", (int)row->key.size, row->key.data);
    }
    assert_ptr_equal(found, expected);
}

static void a_server_is_found_by_its_exact_name(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_found(&f, &names[i], hosted_by_name(f.hosted, names[i].key));
    }
    fixture_fini(&f);
}

static void a_server_is_found_by_host_and_port_then_by_host(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        assert_found(&f, &hosts[i], hosted_by_host(f.hosted, hosts[i].key));
    }
    fixture_fini(&f);
}

static void whether_a_host_is_a_servers_is_told_without_regard_to_others(void **state)
{
    static const struct {
        const char *host;
        bool is_a, is_b;
    } rows[] = {
        {"a.example", true, false},         {"A.example:8449", true, true},
        {"a.example:1", true, false},       {"MATRIX.a.example:8448", true, false},
        {"b.example:8448", false, true},    {"b.example", false, false},
        {"[2001:db8::1]:8449", true, true}, {"", false, false},
    };
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span host = span_str(rows[i].host);
        if (hosted_has_host(&f.servers[0], host) != rows[i].is_a ||
            hosted_has_host(&f.servers[1], host) != rows[i].is_b) {
            fail_msg("\"%s\"", rows[i].host);
        }
    }
    fixture_fini(&f);
}

static void the_longest_host_is_found_and_a_longer_one_is_nobodys(void **state)
{
    char host[LONGEST + 2];
    const char *entry = host;
    struct hosted_upstream upstream = {0};
    struct hosted_server server = {.name = span_of(host, LONGEST),
                                   .hosts = &entry,
                                   .n_hosts = 1,
                                   .upstreams = &upstream,
                                   .n_upstreams = 1};
    struct fixture f = {0};

    (void)state;
    memset(host, 'a', sizeof host);
    host[LONGEST] = '\0';
    f.hosted = hosted_new(&server, 1, on_release, &f);
    assert_ptr_equal(hosted_by_host(f.hosted, span_of(host, LONGEST)), &server);
    assert_ptr_equal(hosted_by_name(f.hosted, span_of(host, LONGEST)), &server);
    host[LONGEST] = 'a';
    assert_null(hosted_by_host(f.hosted, span_of(host, LONGEST - 1)));
    assert_null(hosted_by_host(f.hosted, span_of(host, LONGEST + 1)));
    host[LONGEST] = ':'; /* the host without its port would be found */
    assert_null(hosted_by_host(f.hosted, span_of(host, LONGEST + 1)));
    fixture_fini(&f);
}

static void it_is_released_once_with_the_last_reference(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    assert_ptr_equal(hosted_ref(f.hosted), f.hosted);
    assert_ptr_equal(hosted_ref(f.hosted), f.hosted);
    hosted_unref(f.hosted);
    hosted_unref(f.hosted);
    assert_int_equal(f.n_released, 0);
    assert_non_null(hosted_by_name(f.hosted, SPAN_LIT("a.example")));
    hosted_unref(NULL);
    fixture_fini(&f);
}

static size_t upstream_for(const struct hosted_server *server, struct span origin)
{
    const struct hosted_upstream *upstream = hosted_upstream_for(server, origin);

    assert_in_range(upstream - server->upstreams, 0, server->n_upstreams - 1);
    return (size_t)(upstream - server->upstreams);
}

static void an_origin_stays_with_one_upstream_and_origins_are_spread(void **state)
{
    size_t n[N_UPSTREAMS] = {0};
    char origin[32];
    char copy[32];
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (unsigned i = 0; i < N_ORIGINS; i++) {
        snprintf(origin, sizeof origin, "server%u.example", i);
        memcpy(copy, origin, sizeof copy);
        size_t at = upstream_for(&f.servers[0], span_str(origin));
        assert_int_equal(upstream_for(&f.servers[0], span_str(copy)), at);
        assert_int_equal(upstream_for(&f.servers[1], span_str(copy)), at);
        n[at]++;
    }
    for (size_t i = 0; i < N_UPSTREAMS; i++) {
        assert_in_range(n[i], N_ORIGINS / N_UPSTREAMS * 3 / 4, N_ORIGINS / N_UPSTREAMS * 5 / 4);
    }
    fixture_fini(&f);
}

static void requests_without_an_origin_have_one_upstream_too(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    assert_int_equal(upstream_for(&f.servers[0], span_of(NULL, 0)),
                     upstream_for(&f.servers[0], SPAN_LIT("")));
    f.servers[0].n_upstreams = 1;
    assert_int_equal(upstream_for(&f.servers[0], SPAN_LIT("c.example")), 0);
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_found_by_its_exact_name),
        cmocka_unit_test(a_server_is_found_by_host_and_port_then_by_host),
        cmocka_unit_test(whether_a_host_is_a_servers_is_told_without_regard_to_others),
        cmocka_unit_test(the_longest_host_is_found_and_a_longer_one_is_nobodys),
        cmocka_unit_test(it_is_released_once_with_the_last_reference),
        cmocka_unit_test(an_origin_stays_with_one_upstream_and_origins_are_spread),
        cmocka_unit_test(requests_without_an_origin_have_one_upstream_too),
    };

    return cmocka_run_group_tests_name("hosted", tests, NULL, NULL);
}
