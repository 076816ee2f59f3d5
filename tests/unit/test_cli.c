#include "cli.h"

#include "proto/check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* What one call printed; freed by told_fini. */
struct told {
    int status;
    char *out, *err;
    size_t out_size, err_size;
};

static struct told run(int argc, const char *const *argv)
{
    struct told told = {.status = -1};
    FILE *out = open_memstream(&told.out, &told.out_size);
    FILE *err = open_memstream(&told.err, &told.err_size);

    assert_non_null(out);
    assert_non_null(err);
    told.status = cli_run(argc, argv, out, err);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(fclose(err), 0);
    return told;
}

static void told_fini(struct told *told)
{
    free(told->out);
    free(told->err);
}

static void a_wrong_call_prints_the_usage_as_an_error(void **state)
{
    (void)state;
    static const char *const rows[][4] = {
        {"freshet"},
        {"freshet", "--hepl"},
        {"freshet", "hash"},
        {"freshet", "check-config"},
        {"freshet", "check-config", "a", "b"},
        {"freshet", "docs", "poems"},
        {"freshet", "--version", "x"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int argc = 0;
        while (argc < 4 && rows[i][argc] != NULL) {
            argc++;
        }
        struct told told = run(argc, rows[i]);
        if (told.status != 2 || told.out_size != 0 || strstr(told.err, "Usage:") == NULL) {
            print_error("row %zu: status %d, printed %s\n", i, told.status, told.out);
            fail();
        }
        told_fini(&told);
    }
}

static void help_and_version_go_to_standard_output(void **state)
{
    (void)state;
    struct told help = run(2, (const char *const[]){"freshet", "--help"});
    struct told version = run(2, (const char *const[]){"freshet", "--version"});

    assert_int_equal(help.status, 0);
    assert_non_null(strstr(help.out, "check-config FILE"));
    assert_int_equal(version.status, 0);
    assert_int_equal(strncmp(version.out, "freshet 0.", 10), 0);
    told_fini(&help);
    told_fini(&version);
}

static void check_config_says_what_is_wrong_or_what_each_server_gets(void **state)
{
    (void)state;
    const char *example = TEST_DATA "/../../deploy/freshet.example.yaml";
    struct told good = run(3, (const char *const[]){"freshet", "check-config", example});
    struct told bad =
        run(3, (const char *const[]){"freshet", "check-config", TEST_DATA "/fuzz/config/refused"});
    struct told none = run(3, (const char *const[]){"freshet", "check-config", "/nonexistent/x"});

    assert_int_equal(good.status, 1); /* it names files that are not there */
    assert_non_null(strstr(good.out, "a.example\n  relay: yes"));
    assert_non_null(strstr(good.out, "PROBLEM: cannot read /etc/freshet/freshet.signing.key"));
    assert_int_equal(bad.status, 1);
    assert_int_equal(bad.out_size, 0);
    assert_non_null(strstr(bad.err, "refused:1: 'ledger' is not supported by this version yet"));
    assert_non_null(strstr(bad.err, "refused:3: unknown key 'max_age_s'"));
    assert_int_equal(none.status, 1);
    assert_non_null(strstr(none.err, "/nonexistent/x: "));
    told_fini(&good);
    told_fini(&bad);
    told_fini(&none);
}

static void the_documents_are_what_the_tables_say(void **state)
{
    (void)state;
    static const struct {
        const char *what, *file;
    } rows[] = {{"config", TEST_DATA "/../../docs/config.md"},
                {"metrics", TEST_DATA "/../../docs/metrics.md"}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct told told = run(3, (const char *const[]){"freshet", "docs", rows[i].what});
        FILE *file = fopen(rows[i].file, "rbe");
        char *text = malloc(told.out_size + 1);
        CHECK(file != NULL && text != NULL);
        size_t n = fread(text, 1, told.out_size + 1, file);
        bool same = told.status == 0 && n == told.out_size && memcmp(text, told.out, n) == 0;
        fclose(file);
        free(text);
        told_fini(&told);
        if (!same) {
            fail_msg("stale: write it anew with freshet docs %s > docs/%s.md", rows[i].what,
                     rows[i].what);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_call_prints_the_usage_as_an_error),
        cmocka_unit_test(help_and_version_go_to_standard_output),
        cmocka_unit_test(check_config_says_what_is_wrong_or_what_each_server_gets),
        cmocka_unit_test(the_documents_are_what_the_tables_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
