#include "admin/admin.h"

#include "lists_build.h"
#include "store_dir.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MAP_BYTES = 8 << 20, QUEUE_MAX = 1 << 20 };

#define ALICE    "/admin/v1/servers/a.example/users/%40alice%3Aa.example/devices"
#define KEY_TEXT "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define DEVICE(id)                                                                                 \
    "{\"device_id\":\"" id "\",\"keys\":{\"algorithms\":[],\"device_id\":\"" id                    \
    "\",\"keys\":{\"curve25519:" id "\":\"" KEY_TEXT "\",\"ed25519:" id "\":\"" KEY_TEXT           \
    "\"},\"signatures\":{},\"user_id\":\"@alice:a.example\"}}"
#define LIST(devices) "{\"user_id\":\"@alice:a.example\",\"stream_id\":7,\"devices\":[" devices "]}"

struct fixture {
    struct store_dir dir;
    struct metrics metrics, journal_metrics;
    struct metrics *all[2];
    struct store *store;
    struct journal *journal;
    struct list_marks *marks;
    struct lists *lists;
    atomic_bool is_draining;
    struct admin_context context;
};

static bool is_hosted(void *arg, struct span server)
{
    (void)arg;
    return span_equal(server, LISTS_SERVER);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    metrics_init(&f->metrics);
    metrics_init(&f->journal_metrics);
    f->all[0] = &f->metrics;
    f->all[1] = &f->journal_metrics;
    store_dir_make(&f->dir);
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(journal_start(&f->journal, f->store, &f->journal_metrics, QUEUE_MAX), ERR_OK);
    f->marks = list_marks_new();
    assert_int_equal(lists_new(&f->lists, f->store, f->journal, f->marks, &f->metrics), ERR_OK);
    f->context = (struct admin_context){.store = f->store,
                                        .lists = f->lists,
                                        .metrics = &f->metrics,
                                        .all_metrics = f->all,
                                        .n_metrics = 2,
                                        .is_draining = &f->is_draining,
                                        .is_hosted = is_hosted};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    lists_free(f->lists);
    journal_stop(f->journal);
    list_marks_free(f->marks);
    store_close(f->store);
    store_dir_remove(&f->dir);
    free(f);
    return 0;
}

static struct admin_request request_of(const char *method, const char *target, const char *body)
{
    return (struct admin_request){span_str(method), span_str(target), span_str(body)};
}

static void on_done(void *arg, enum err result)
{
    atomic_store((atomic_int *)arg, result == ERR_OK ? 1 : 2);
}

/* The status after the commit, if the push got that far. */
static int push(struct fixture *f, struct admin_answer *answer, const char *target,
                const char *body)
{
    struct admin_request request = request_of("PUT", target, body);
    atomic_int outcome = 0;

    if (admin_push(answer, &f->context, &request, 1000, on_done, &outcome)) {
        while (atomic_load(&outcome) == 0) {
            usleep(1000);
        }
        admin_push_done(answer, &f->context, atomic_load(&outcome) == 1 ? ERR_OK : ERR_IO);
    }
    return answer->status;
}

/* The status; what the body says must contain `part`. */
static int read_part(struct fixture *f, const char *method, const char *target, const char *part)
{
    struct admin_request request = request_of(method, target, "");
    struct admin_answer answer;

    admin_answer_init(&answer);
    admin_read(&answer, &f->context, &request, 3000);
    writer_char(&answer.body, '\0');
    if (strstr(answer.body.data, part) == NULL) {
        print_error("%s %s: no %s in %s\n", method, target, part, answer.body.data);
        fail();
    }
    int status = answer.status;
    admin_answer_fini(&answer);
    return status;
}

static void only_what_is_there_can_be_read(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method, *target;
        int status;
        const char *part;
    } rows[] = {
        {"GET", "/livez", 200, "{\"alive\":true}"},
        {"GET", "/readyz", 200, "{\"ready\":true,\"reasons\":[]}"},
        {"GET", "/metrics", 200, "freshet_list_pushes_total 0"},
        {"GET", "/nothing", 404, "M_UNRECOGNIZED"},
        {"POST", "/nothing", 404, "M_UNRECOGNIZED"},
        {"POST", "/livez", 405, "M_UNRECOGNIZED"},
        {"HEAD", "/metrics", 405, "M_UNRECOGNIZED"},
        {"GET", ALICE, 404, "M_NOT_FOUND"},
        {"PUT", ALICE, 405, "M_UNRECOGNIZED"},
        {"DELETE", ALICE, 405, "M_UNRECOGNIZED"},
        {"GET", "/admin/v1/servers/c.example/users/@x:c.example/devices", 404, "not hosted"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int status = read_part(f, rows[i].method, rows[i].target, rows[i].part);
        if (status != rows[i].status) {
            fail_msg("%s %s: %d", rows[i].method, rows[i].target, status);
        }
    }
}

static void a_pushed_list_is_there_once_the_answer_is(void **state)
{
    struct fixture *f = *state;
    struct admin_answer answer;

    admin_answer_init(&answer);
    assert_int_equal(push(f, &answer, ALICE, LIST(DEVICE("A") "," DEVICE("B"))), 200);
    assert_int_equal(read_part(f, "GET", ALICE, "\"source\":\"pushed\""), 200);
    read_part(f, "GET", ALICE, "{\"hash\":\"dlh1:");
    read_part(f, "GET", ALICE, "\"user_id\":\"@alice:a.example\"");
    read_part(f, "GET", ALICE, "\"age_ms\":2000,\"unchanged_for_ms\":2000,\"stream_id\":7");
    read_part(f, "GET", ALICE, "{\"device_id\":\"A\",\"hash\":\"");
    read_part(f, "GET", ALICE, "\"history\":[]}");
    read_part(f, "GET", "/metrics", "freshet_list_pushes_total 1");
    assert_int_equal(push(f, &answer, ALICE, LIST(DEVICE("A"))), 200);
    read_part(f, "GET", ALICE, "\"history\":[{\"hash\":\"dlh1:");
    assert_int_equal(push(f, &answer, ALICE, LIST("")), 200);
    read_part(f, "GET", ALICE, "\"devices\":[]");
    admin_answer_fini(&answer);
}

static void a_bad_push_is_refused_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *target, *body;
        int status;
    } rows[] = {
        {ALICE, "", 400},
        {ALICE, "hello", 400},
        {ALICE, "[]", 400},
        {ALICE, "{\"user_id\":\"@alice:a.example\",\"stream_id\":1}", 400},
        {ALICE, "{\"user_id\":\"@eve:a.example\",\"stream_id\":1,\"devices\":[]}", 400},
        {"/admin/v1/servers/a.example/users/@x:c.example/devices",
         "{\"user_id\":\"@x:c.example\",\"stream_id\":1,\"devices\":[]}", 400},
        {"/admin/v1/servers/c.example/users/@x:c.example/devices",
         "{\"user_id\":\"@x:c.example\",\"stream_id\":1,\"devices\":[]}", 404},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct admin_answer answer;
        admin_answer_init(&answer);
        int status = push(f, &answer, rows[i].target, rows[i].body);
        bool has_errcode =
            answer.body.size > 12 && memcmp(answer.body.data, "{\"errcode\":", 11) == 0;
        admin_answer_fini(&answer);
        if (status != rows[i].status || !has_errcode) {
            fail_msg("%s %s: %d", rows[i].target, rows[i].body, status);
        }
    }
    assert_int_equal(read_part(f, "GET", ALICE, "M_NOT_FOUND"), 404);
    read_part(f, "GET", "/metrics", "freshet_list_pushes_total 0");
}

static void only_a_put_of_a_users_devices_is_a_push(void **state)
{
    (void)state;
    struct admin_request put = request_of("PUT", ALICE, "");
    struct admin_request get = request_of("GET", ALICE, "");
    struct admin_request other = request_of("PUT", "/metrics", "");

    assert_true(admin_is_push(&put));
    assert_false(admin_is_push(&get));
    assert_false(admin_is_push(&other));
}

static void a_drain_is_not_ready_but_alive(void **state)
{
    struct fixture *f = *state;

    atomic_store(&f->is_draining, true);
    assert_int_equal(read_part(f, "GET", "/readyz", "\"reasons\":[\"draining\"]"), 503);
    assert_int_equal(read_part(f, "GET", "/livez", "true"), 200);
    atomic_store(&f->is_draining, false);
}

static void a_store_that_failed_or_is_full_is_said_to_be(void **state)
{
    struct fixture *f = *state;
    struct admin_answer answer;

    admin_answer_init(&answer);
    admin_push_done(&answer, &f->context, ERR_IO);
    assert_int_equal(answer.status, 503);
    admin_push_done(&answer, &f->context, ERR_FULL);
    assert_int_equal(answer.status, 503);
    writer_char(&answer.body, '\0');
    assert_non_null(strstr(answer.body.data, "M_LIMIT_EXCEEDED"));
    admin_answer_fini(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_is_there_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pushed_list_is_there_once_the_answer_is, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_push_is_refused_and_changes_nothing, setup, teardown),
        cmocka_unit_test(only_a_put_of_a_users_devices_is_a_push),
        cmocka_unit_test_setup_teardown(a_drain_is_not_ready_but_alive, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_failed_or_is_full_is_said_to_be, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
