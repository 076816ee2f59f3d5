#include "net/http_pools.h"

#include "net_rig.h"

enum { LONGEST_HOST = 255 /* bytes */ };

struct fixture {
    struct rig rig;
    struct rig other; /* on a loop of its own, run only for its connections to be accepted */
    struct http_pools *pools;
    unsigned n_ends;
};

static void fixture_init(struct fixture *f)
{
    f->n_ends = 0;
    rig_init(&f->rig, NULL);
    rig_init(&f->other, NULL);
    f->pools = http_pools_new(f->rig.loop);
}

static void fixture_fini(struct fixture *f)
{
    http_pools_free(f->pools);
    rig_fini(&f->other);
    rig_fini(&f->rig);
}

static void on_head(void *arg, const struct http_head *head)
{
    (void)arg;
    assert_int_equal(head->status, 200);
}

static void on_body(void *arg, struct span bytes)
{
    (void)arg;
    (void)bytes;
}

static void on_end(void *arg)
{
    struct fixture *f = arg;

    f->n_ends++;
}

static void on_failed(void *arg, enum http_call_failure failure)
{
    (void)arg;
    fail_msg("%s", http_call_failure_label(failure));
}

static const struct http_call_ops call_ops = {on_head, on_body, on_end, on_failed, NULL};

static struct http_pool_options options_to(uint16_t port)
{
    return (struct http_pool_options){.host = "127.0.0.1", .port = port, .max_connections = 2};
}

static void the_same_upstream_with_the_same_limits_has_one_pool(void **state)
{
    struct http_pool_limits limits = http_pool_limits_default;
    char host[] = "127.0.0.1";
    struct http_pool_options options = options_to(80);
    struct fixture f;

    (void)state;
    fixture_init(&f);
    options.host = host;
    struct http_pool *pool = http_pools_get(f.pools, &options);
    assert_non_null(pool);
    memset(host, 'x', sizeof host - 1); /* copied */
    options = options_to(80);
    assert_ptr_equal(http_pools_get(f.pools, &options), pool);
    options.limits = &limits; /* the default, spelled out */
    assert_ptr_equal(http_pools_get(f.pools, &options), pool);
    assert_int_equal(http_pools_n_connections(f.pools), 0);
    fixture_fini(&f);
}

/* One option other than the default in each. */
static struct http_pool_options different(int row, struct http_pool_limits *limits)
{
    struct http_pool_options options = options_to(80);

    *limits = http_pool_limits_default;
    options.limits = limits;
    switch (row) {
    case 0:
        break;
    case 1:
        options.host = "127.0.0.2";
        break;
    case 2:
        options.host = "127.0.0.11"; /* longer by what could be a port's byte */
        break;
    case 3:
        options.port = 81;
        break;
    case 4:
        options.port = 80 + 256;
        break;
    case 5:
        options.max_connections = 3;
        break;
    case 6:
        limits->connect_ms++;
        break;
    case 7:
        limits->queue_ms++;
        break;
    case 8:
        limits->head_ms++;
        break;
    case 9:
        limits->body_ms++;
        break;
    case 10:
        limits->write_ms++;
        break;
    default:
        limits->idle_ms++;
    }
    return options;
}

static void assert_another(struct http_pool *const *pools, int row)
{
    for (int i = 0; i < row; i++) {
        if (pools[i] == pools[row]) {
            fail_msg("rows %d and %d", i, row);
        }
    }
}

static void each_option_tells_pools_apart(void **state)
{
    enum { N = 12 };
    struct http_pool *pools[N];
    struct http_pool_limits limits;
    struct fixture f;

    (void)state;
    fixture_init(&f);
    for (int i = 0; i < N; i++) {
        struct http_pool_options options = different(i, &limits);
        pools[i] = http_pools_get(f.pools, &options);
        assert_non_null(pools[i]);
        assert_another(pools, i);
    }
    for (int i = 0; i < N; i++) {
        struct http_pool_options options = different(i, &limits);
        assert_ptr_equal(http_pools_get(f.pools, &options), pools[i]);
    }
    fixture_fini(&f);
}

static void the_longest_host_has_a_pool(void **state)
{
    struct http_pool_options options = options_to(UINT16_MAX);
    char host[LONGEST_HOST + 1];
    struct fixture f;

    (void)state;
    fixture_init(&f);
    memset(host, 'a', LONGEST_HOST);
    host[LONGEST_HOST] = '\0';
    options.host = host;
    struct http_pool *pool = http_pools_get(f.pools, &options);
    assert_non_null(pool);
    host[LONGEST_HOST - 1] = 'b';
    assert_ptr_not_equal(http_pools_get(f.pools, &options), pool);
    fixture_fini(&f);
}

static void get_from(struct fixture *f, struct rig *rig)
{
    const struct http_head get = {.method = SPAN_LIT("GET"), .target = SPAN_LIT("/")};
    struct http_pool_options options = options_to(rig_port(rig));
    unsigned n_before = f->n_ends;
    struct http_call *call;

    assert_int_equal(http_call_start(&call, http_pools_get(f->pools, &options), &get, &call_ops, f),
                     ERR_OK);
    RUN_UNTIL(f->rig.loop, (loop_run_for(f->other.loop, 1), f->n_ends > n_before));
}

static void connections_of_all_pools_are_counted_and_go_with_them(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    get_from(&f, &f.rig);
    assert_int_equal(http_pools_n_connections(f.pools), 1);
    get_from(&f, &f.other);
    get_from(&f, &f.other); /* the same again */
    assert_int_equal(http_pools_n_connections(f.pools), 2);
    http_pools_free(f.pools);
    RUN_UNTIL(f.rig.loop, http_listener_n_connections(f.rig.listener) == 0);
    RUN_UNTIL(f.other.loop, http_listener_n_connections(f.other.listener) == 0);
    f.pools = NULL; /* may be freed too */
    fixture_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_upstream_with_the_same_limits_has_one_pool),
        cmocka_unit_test(each_option_tells_pools_apart),
        cmocka_unit_test(the_longest_host_has_a_pool),
        cmocka_unit_test(connections_of_all_pools_are_counted_and_go_with_them),
    };

    return cmocka_run_group_tests_name("http_pools", tests, NULL, NULL);
}
