#include "base/log.h"

#include "base/err.h"
#include "proto/check.h"
#include "proto/json.h"

#include <stdio.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { TEXT_MAX = 65536, ARENA_CAP = 1 << 20 };

/* Standard error, caught in a file while a test writes to it. */
struct caught {
    FILE *file;
    int stderr_copy;
    char text[TEXT_MAX];
};

static void catch_begin(struct caught *caught)
{
    caught->file = tmpfile();
    CHECK(caught->file != NULL);
    caught->stderr_copy = dup(STDERR_FILENO);
    CHECK(caught->stderr_copy >= 0);
    CHECK(dup2(fileno(caught->file), STDERR_FILENO) == STDERR_FILENO);
}

static struct span catch_end(struct caught *caught)
{
    CHECK(dup2(caught->stderr_copy, STDERR_FILENO) == STDERR_FILENO);
    close(caught->stderr_copy);
    CHECK(fseek(caught->file, 0, SEEK_SET) == 0);
    size_t size = fread(caught->text, 1, sizeof caught->text, caught->file);
    fclose(caught->file);
    return span_of(caught->text, size);
}

static size_t n_lines(struct span text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.size; i++) {
        n += text.data[i] == '\n';
    }
    return n;
}

static const struct json_value *parse_line(struct arena *arena, struct span text)
{
    const struct json_value *root = NULL;

    assert_true(text.size > 0 && text.data[text.size - 1] == '\n');
    assert_int_equal(json_parse(&root, arena, span_of(text.data, text.size - 1)), JSON_OK);
    return root;
}

static void assert_text(const struct json_value *root, const char *key, struct span want)
{
    struct span got = json_get_string(root, span_str(key));

    if (!span_equal(got, want)) {
        print_error("%s is \"%.*s\"\n", key, (int)got.size, got.data);
    }
    assert_true(span_equal(got, want));
}

static void every_field_is_json_whatever_its_bytes(void **state)
{
    static struct caught caught;
    struct arena arena;
    int64_t number = 0;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    catch_begin(&caught);
    log_event(LOG_WARN, "odd_things", F_STR("quote", "a\"\\\n"), F_SPAN("high", SPAN_LIT("\xff\0")),
              F_U64("u", 7), F_I64("i", -7), F_BOOL("b", true), F_SPAN("none", (struct span){0}));
    const struct json_value *root = parse_line(&arena, catch_end(&caught));
    assert_text(root, "event", SPAN_LIT("odd_things"));
    assert_text(root, "level", SPAN_LIT("warn"));
    assert_text(root, "quote", SPAN_LIT("a\"\\\n"));
    assert_text(root, "high", SPAN_LIT("\xc3\xbf\0"));
    assert_text(root, "none", SPAN_LIT(""));
    assert_true(json_integer(&number, json_get(root, SPAN_LIT("i"))) && number == -7);
    assert_true(json_integer(&number, json_get(root, SPAN_LIT("u"))) && number == 7);
    assert_true(json_bool(json_get(root, SPAN_LIT("b"))));
    assert_int_equal(json_get_string(root, SPAN_LIT("time")).size, 24);
    arena_fini(&arena);
}

static void a_long_value_is_cut(void **state)
{
    static struct caught caught;
    static char value[LOG_VALUE_MAX * 4];
    struct arena arena;

    (void)state;
    memset(value, 'x', sizeof value);
    arena_init(&arena, ARENA_CAP);
    catch_begin(&caught);
    log_event(LOG_WARN, "long", F_SPAN("value", span_of(value, sizeof value)));
    const struct json_value *root = parse_line(&arena, catch_end(&caught));
    assert_int_equal(json_get_string(root, SPAN_LIT("value")).size, LOG_VALUE_MAX);
    arena_fini(&arena);
}

static void an_event_needs_no_fields_and_a_low_level_is_dropped(void **state)
{
    static struct caught caught;
    enum log_level level = LOG_INFO;

    (void)state;
    assert_true(log_level_parse(&level, SPAN_LIT("error")) && level == LOG_ERROR);
    assert_false(log_level_parse(&level, SPAN_LIT("loud")));
    log_init(LOG_ERROR);
    catch_begin(&caught);
    log_event(LOG_WARN, "dropped");
    log_event(LOG_ERROR, "kept");
    struct span text = catch_end(&caught);
    log_init(LOG_INFO);
    assert_int_equal(n_lines(text), 1);
    assert_non_null(strstr(caught.text, "\"event\":\"kept\""));
}

static void one_place_writes_ten_lines_a_second_and_says_what_it_left_out(void **state)
{
    static struct caught caught;
    struct log_site site = {0};
    const struct log_field none[] = {F_END};

    (void)state;
    catch_begin(&caught);
    for (int i = 0; i < 1000; i++) {
        log_write(&site, LOG_WARN, "often", none);
    }
    atomic_store(&site.second, 0); /* as if a second had passed */
    log_write(&site, LOG_WARN, "often", none);
    struct span text = catch_end(&caught);
    /* The loop may have run across the border of a second. */
    assert_in_range(n_lines(text), LOG_LINES_PER_S + 1, 2 * LOG_LINES_PER_S + 1);
    assert_non_null(strstr(caught.text, "\"suppressed\":9"));
}

static void an_error_is_logged_once_with_its_place(void **state)
{
    static struct caught caught;
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_CAP);
    catch_begin(&caught);
    enum err result = err_raise(ERR_TIMEOUT, "after %d s", 5);
    struct span text = catch_end(&caught);
    assert_int_equal(result, ERR_TIMEOUT);
    const struct json_value *root = parse_line(&arena, text);
    assert_text(root, "code", SPAN_LIT("timeout"));
    assert_text(root, "text", SPAN_LIT("after 5 s"));
    assert_non_null(json_get(root, SPAN_LIT("line")));
    for (unsigned code = 0; code < ERR_COUNT; code++) {
        assert_non_null(err_label((enum err)code));
    }
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_json_whatever_its_bytes),
        cmocka_unit_test(a_long_value_is_cut),
        cmocka_unit_test(an_event_needs_no_fields_and_a_low_level_is_dropped),
        cmocka_unit_test(one_place_writes_ten_lines_a_second_and_says_what_it_left_out),
        cmocka_unit_test(an_error_is_logged_once_with_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
