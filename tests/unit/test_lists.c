#include "lists/lists.h"

#include "lists_build.h"
#include "store_dir.h"

#include <stdatomic.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ARENA_CAP = 1 << 20, MAP_BYTES = 8 << 20, QUEUE_MAX = 1 << 16 };

struct fixture {
    struct store_dir dir;
    struct metrics metrics;
    struct metrics journal_metrics;
    struct store *store;
    struct journal *journal;
    struct list_marks *marks;
    struct lists *lists;
    struct arena arena;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    arena_init(&f->arena, ARENA_CAP);
    store_dir_make(&f->dir);
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(journal_start(&f->journal, f->store, &f->journal_metrics, QUEUE_MAX), ERR_OK);
    f->marks = list_marks_new();
    assert_int_equal(lists_new(&f->lists, f->store, f->journal, f->marks, &f->metrics), ERR_OK);
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
    arena_fini(&f->arena);
    free(f);
    return 0;
}

static void done(void *arg, enum err result)
{
    atomic_store((atomic_int *)arg, result == ERR_OK ? 1 : 2);
}

static void submit_update(struct fixture *f, const struct list_update *update)
{
    atomic_int outcome = 0;

    assert_int_equal(lists_submit_update(f->lists, update, done, &outcome), ERR_OK);
    while (atomic_load(&outcome) == 0) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&outcome), 1);
}

static void submit(struct fixture *f, const char *device, int64_t position)
{
    struct list_update update = update_of(&f->arena, device, position, position);

    submit_update(f, &update);
}

static void what_the_journal_stored_is_got_with_its_past(void **state)
{
    struct fixture *f = *state;
    struct device_list list;
    struct dlh a = hash_of("A");
    struct dlh b = hash_of("B");

    assert_int_equal(lists_get(&list, f->lists, &f->arena, LISTS_SERVER, LISTS_USER),
                     ERR_NOT_FOUND);
    submit(f, "A", 10);
    submit(f, "B", 20);
    submit(f, "C", 15); /* a lagging reader */
    assert_int_equal(lists_get(&list, f->lists, &f->arena, LISTS_SERVER, LISTS_USER), ERR_OK);
    assert_memory_equal(&list.current, &b, sizeof b);
    assert_int_equal(list.position, 20);
    assert_int_equal(list.n_history, 1);
    assert_memory_equal(&list.history[0].hash, &a, sizeof a);
    assert_int_equal(lists_get(&list, f->lists, &f->arena, SPAN_LIT("b.example"), LISTS_USER),
                     ERR_NOT_FOUND);
}

static void an_arena_that_is_full_is_said_to_be(void **state)
{
    struct fixture *f = *state;
    struct device_list list;
    struct arena small;

    submit(f, "A", 10);
    arena_init(&small, 32);
    assert_int_equal(lists_get(&list, f->lists, &small, LISTS_SERVER, LISTS_USER), ERR_NO_MEMORY);
    arena_fini(&small);
    assert_int_equal(lists_get(&list, f->lists, &f->arena, LISTS_SERVER, LISTS_USER), ERR_OK);
}

/* Holds up the journal until it is let go. */
struct gate {
    struct ticket ticket;
    atomic_bool is_open;
};

static enum err wait_for_gate(struct store_txn *txn, void *arg)
{
    struct gate *gate = arg;

    (void)txn;
    while (!atomic_load(&gate->is_open)) {
        usleep(1000);
    }
    return ERR_OK;
}

static void ignore_result(void *arg, enum err result)
{
    (void)arg;
    (void)result;
}

static void assert_known(struct fixture *f, struct lists *lists, const char *device,
                         uint32_t n_history)
{
    struct dlh hash = hash_of(device);
    struct device_list list;

    assert_int_equal(lists_get(&list, lists, &f->arena, LISTS_SERVER, LISTS_USER), ERR_OK);
    assert_memory_equal(&list.current, &hash, sizeof hash);
    assert_int_equal(list.n_history, n_history);
    assert_true(span_equal(list.user_id, LISTS_USER) && span_equal(list.server, LISTS_SERVER));
    assert_true(list.devices.size > 0);
}

static void what_is_on_its_way_is_known_before_the_disk_has_it(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.ticket = {.apply = wait_for_gate, .done = ignore_result, .arg = &gate}};
    struct list_update a = update_of(&f->arena, "A", 10, 10);
    struct list_update b = update_of(&f->arena, "B", 20, 20);
    struct list_update lagging = update_of(&f->arena, "A", 15, 30);
    struct lists *others = NULL; /* another thread's */
    struct device_list list;

    assert_int_equal(lists_new(&others, f->store, f->journal, f->marks, &f->metrics), ERR_OK);
    assert_int_equal(journal_submit(f->journal, &gate.ticket), ERR_OK);
    assert_int_equal(lists_submit_update(f->lists, &a, NULL, NULL), ERR_OK);
    assert_known(f, f->lists, "A", 0);
    assert_int_equal(lists_submit_update(f->lists, &b, NULL, NULL), ERR_OK);
    assert_int_equal(lists_submit_update(f->lists, &lagging, NULL, NULL), ERR_OK);
    assert_known(f, f->lists, "B", 1);
    assert_int_equal(lists_get(&list, others, &f->arena, LISTS_SERVER, LISTS_USER), ERR_NOT_FOUND);
    atomic_store(&gate.is_open, true);
    submit(f, "C", 40); /* so all before it are done */
    assert_known(f, others, "C", 2);
    assert_known(f, f->lists, "C", 2);
    lists_free(others);
}

/* Whether a glance shows the list with that one device; NULL: whether it shows none. */
static bool glance_shows(const struct lists *lists, const char *device)
{
    struct list_glance glance;
    bool has = lists_glance(&glance, lists, LISTS_SERVER, LISTS_USER);

    if (device == NULL || !has) {
        return device == NULL && !has;
    }
    struct dlh hash = hash_of(device);
    return memcmp(&glance.current, &hash, sizeof hash) == 0;
}

static void a_glance_shows_only_what_nobody_has_changed(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.ticket = {.apply = wait_for_gate, .done = ignore_result, .arg = &gate}};
    struct list_update b = update_of(&f->arena, "B", 20, 20);
    struct lists *others = NULL; /* another thread's */

    assert_int_equal(lists_new(&others, f->store, f->journal, f->marks, &f->metrics), ERR_OK);
    submit(f, "A", 10);
    assert_true(glance_shows(f->lists, NULL) && glance_shows(others, NULL));
    assert_known(f, f->lists, "A", 0);
    assert_known(f, others, "A", 0);
    assert_true(glance_shows(f->lists, "A") && glance_shows(others, "A"));
    assert_int_equal(journal_submit(f->journal, &gate.ticket), ERR_OK);
    assert_int_equal(lists_submit_update(f->lists, &b, NULL, NULL), ERR_OK);
    assert_true(glance_shows(f->lists, NULL)); /* as soon as this thread knows better */
    assert_known(f, f->lists, "B", 1);
    assert_true(glance_shows(f->lists, NULL)); /* not from what is on its way */
    assert_known(f, others, "A", 0);
    assert_true(glance_shows(others, "A")); /* what is committed */
    atomic_store(&gate.is_open, true);
    submit(f, "C", 40);
    assert_true(glance_shows(f->lists, NULL) && glance_shows(others, NULL));
    assert_known(f, others, "C", 2);
    assert_true(glance_shows(others, "C") && glance_shows(f->lists, NULL));
    lists_free(others);
}

static void an_empty_list_is_stored_only_for_who_had_another_or_pushed_it(void **state)
{
    struct fixture *f = *state;
    const struct device_list_answer empty = {.user_id = LISTS_USER, .has_stream_id = true};
    struct list_update update;
    struct device_list list;

    CHECK(list_update_from_answer(&update, &f->arena, &empty));
    update.server = LISTS_SERVER;
    update.source = LIST_SOURCE_READ;
    submit_update(f, &update);
    assert_int_equal(lists_get(&list, f->lists, &f->arena, LISTS_SERVER, LISTS_USER),
                     ERR_NOT_FOUND);
    submit(f, "A", 10);
    update.position = 20;
    submit_update(f, &update);
    assert_int_equal(lists_get(&list, f->lists, &f->arena, LISTS_SERVER, LISTS_USER), ERR_OK);
    assert_int_equal(list.sum.n, 0);
    const struct device_list_answer bobs = {.user_id = SPAN_LIT("@bob:a.example")};
    CHECK(list_update_from_answer(&update, &f->arena, &bobs));
    update.server = LISTS_SERVER;
    update.source = LIST_SOURCE_PUSH;
    submit_update(f, &update);
    assert_int_equal(lists_get(&list, f->lists, &f->arena, LISTS_SERVER, bobs.user_id), ERR_OK);
}

static void lists_may_go_before_their_updates_are_stored(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.ticket = {.apply = wait_for_gate, .done = ignore_result, .arg = &gate}};
    struct list_update a = update_of(&f->arena, "A", 10, 10);
    struct lists *others = NULL;

    assert_int_equal(lists_new(&others, f->store, f->journal, f->marks, &f->metrics), ERR_OK);
    assert_int_equal(journal_submit(f->journal, &gate.ticket), ERR_OK);
    assert_int_equal(lists_submit_update(others, &a, NULL, NULL), ERR_OK);
    lists_free(others);
    atomic_store(&gate.is_open, true);
    submit(f, "B", 20);
    assert_known(f, f->lists, "B", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_the_journal_stored_is_got_with_its_past, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_arena_that_is_full_is_said_to_be, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_on_its_way_is_known_before_the_disk_has_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_glance_shows_only_what_nobody_has_changed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            an_empty_list_is_stored_only_for_who_had_another_or_pushed_it, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_may_go_before_their_updates_are_stored, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
