#include "base/table.h"

#include "base/list.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { N_KEYS = 5000 };

static struct span key_of(char text[16], int i)
{
    return span_of(text, (size_t)snprintf(text, 16, "k%d", i));
}

static void what_was_put_is_found_until_it_is_removed(void **state)
{
    static char values[N_KEYS];
    struct table table;
    char text[16];

    (void)state;
    table_init(&table);
    for (int i = 0; i < N_KEYS; i++) {
        assert_null(table_put(&table, key_of(text, i), &values[i]));
    }
    assert_int_equal(table.n, N_KEYS);
    for (int i = 0; i < N_KEYS; i += 2) {
        assert_ptr_equal(table_remove(&table, key_of(text, i)), &values[i]);
    }
    for (int i = 0; i < N_KEYS; i++) {
        assert_ptr_equal(table_get(&table, key_of(text, i)), i % 2 == 0 ? NULL : &values[i]);
    }
    assert_null(table_remove(&table, SPAN_LIT("never put")));
    table_fini(&table);
}

static void putting_again_gives_back_the_old_value(void **state)
{
    struct table table;
    int a;
    int b;

    (void)state;
    table_init(&table);
    assert_null(table_put(&table, SPAN_LIT(""), &a));
    assert_ptr_equal(table_put(&table, (struct span){0}, &b), &a);
    assert_ptr_equal(table_get(&table, SPAN_LIT("")), &b);
    assert_int_equal(table.n, 1);
    table_fini(&table);
}

static void keys_are_copied_and_may_hold_nul(void **state)
{
    struct table table;
    char text[] = {'a', 0, 'b'};
    int value;

    (void)state;
    table_init(&table);
    table_put(&table, span_of(text, sizeof text), &value);
    text[2] = 'c';
    assert_null(table_get(&table, span_of(text, sizeof text)));
    assert_ptr_equal(table_get(&table, SPAN_LIT("a\0b")), &value);
    table_fini(&table);
}

static void an_iteration_may_remove_what_it_returned(void **state)
{
    static char values[N_KEYS];
    struct table table;
    struct span key;
    char text[16];
    char *value;
    int n = 0;

    (void)state;
    table_init(&table);
    for (int i = 0; i < N_KEYS; i++) {
        table_put(&table, key_of(text, i), &values[i]);
    }
    struct table_iter iter = table_iterate(&table);
    while ((value = table_next(&iter, &key)) != NULL) {
        assert_ptr_equal(table_remove(&table, key_of(text, (int)(value - values))), value);
        n++;
    }
    assert_int_equal(n, N_KEYS);
    assert_int_equal(table.n, 0);
    table_fini(&table);
}

struct job {
    int id;
    struct link link;
};

static void a_list_keeps_its_order_when_links_leave(void **state)
{
    struct job jobs[3] = {{.id = 0}, {.id = 1}, {.id = 2}};
    struct list list;

    (void)state;
    list_init(&list);
    assert_true(list_is_empty(&list) && list_first(&list) == NULL);
    list_append(&list, &jobs[1].link);
    list_append(&list, &jobs[2].link);
    list_prepend(&list, &jobs[0].link);
    list_remove(&jobs[1].link);
    list_remove(&jobs[1].link);
    assert_false(link_is_linked(&jobs[1].link));
    struct link *first = list_first(&list);
    assert_ptr_equal(first, &jobs[0].link);
    first = &jobs[0].link; /* the same, which the compiler cannot know */
    assert_int_equal(LIST_ENTRY(first, struct job, link)->id, 0);
    assert_ptr_equal(list_next(&list, first), &jobs[2].link);
    assert_null(list_next(&list, &jobs[2].link));
    assert_ptr_equal(list_take_first(&list), &jobs[0].link);
    assert_ptr_equal(list_take_first(&list), &jobs[2].link);
    assert_null(list_take_first(&list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_found_until_it_is_removed),
        cmocka_unit_test(putting_again_gives_back_the_old_value),
        cmocka_unit_test(keys_are_copied_and_may_hold_nul),
        cmocka_unit_test(an_iteration_may_remove_what_it_returned),
        cmocka_unit_test(a_list_keeps_its_order_when_links_leave),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
