#include "lists/glance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define A SPAN_LIT("a.example")
#define B SPAN_LIT("b.example")

enum { N_LISTS = 2 * GLANCES_MAX, NAME_SIZE = 32 };

/* The list of user number n, told apart by its hash and time. */
static struct device_list list_of(char name[NAME_SIZE], struct span server, uint32_t n)
{
    int size = snprintf(name, NAME_SIZE, "@user%u:a.example", n);
    struct device_list list = {.server = server,
                               .user_id = span_of(name, (size_t)size),
                               .read_started_ms = n,
                               .pushed = n % 2 == 0};

    memcpy(list.current.bytes, &n, sizeof n);
    memcpy(list.current.bytes + sizeof n, server.data, 1);
    return list;
}

static void put(struct glances *glances, const struct device_list *list)
{
    glances_put(glances, list, glances_mark(glances, list->server, list->user_id));
}

/* False if nothing is seen; what is seen is that list's. */
static bool sees(const struct glances *glances, const struct device_list *list)
{
    struct list_glance glance;

    if (!glances_get(&glance, glances, list->server, list->user_id)) {
        return false;
    }
    assert_memory_equal(&glance.current, &list->current, sizeof glance.current);
    assert_int_equal(glance.read_started_ms, list->read_started_ms);
    assert_int_equal(glance.pushed, list->pushed);
    return true;
}

static void however_many_are_seen_none_is_taken_for_another(void **state)
{
    struct list_marks *marks = list_marks_new();
    struct glances *glances = glances_new(marks);
    char name[NAME_SIZE];
    size_t n_seen = 0;

    (void)state;
    for (uint32_t n = 0; n < N_LISTS; n++) {
        struct device_list list = list_of(name, n % 3 == 0 ? B : A, n);
        assert_false(sees(glances, &list));
        put(glances, &list);
        assert_true(sees(glances, &list));
    }
    for (uint32_t n = 0; n < N_LISTS; n++) {
        struct device_list list = list_of(name, n % 3 == 0 ? B : A, n);
        struct device_list of_other_server = list_of(name, n % 3 == 0 ? A : B, n);
        n_seen += sees(glances, &list);
        assert_false(sees(glances, &of_other_server));
    }
    assert_in_range(n_seen, GLANCES_MAX / 2, GLANCES_MAX);
    glances_free(glances);
    list_marks_free(marks);
}

static void a_change_is_seen_by_all_and_by_one_who_was_reading_meanwhile(void **state)
{
    struct list_marks *marks = list_marks_new();
    struct glances *glances = glances_new(marks);
    struct glances *others = glances_new(marks);
    char name[NAME_SIZE];
    struct device_list list = list_of(name, A, 1);

    (void)state;
    put(glances, &list);
    put(others, &list);
    assert_true(sees(glances, &list) && sees(others, &list));
    uint64_t before = glances_mark(others, list.server, list.user_id);
    list_marks_changed(marks, list.server, list.user_id);
    assert_false(sees(glances, &list) || sees(others, &list));
    glances_put(others, &list, before);
    assert_false(sees(others, &list));
    put(glances, &list);
    assert_true(sees(glances, &list));
    glances_free(glances);
    glances_free(others);
    list_marks_free(marks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(however_many_are_seen_none_is_taken_for_another),
        cmocka_unit_test(a_change_is_seen_by_all_and_by_one_who_was_reading_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
