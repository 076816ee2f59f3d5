#include "base/metrics.h"

#include "proto/claim.h"
#include "proto/transaction.h"
#include "proto/verdict.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { TEXT_MAX = 1 << 20 /* bytes */, PROSE_MIN = 10 /* bytes */ };

/* A terminated copy, for strstr. */
static char *text_of(struct writer *w)
{
    writer_char(w, '\0');
    assert_false(w->failed);
    return w->data;
}

static bool is_name(const char *name)
{
    return name[strspn(name, "abcdefghijklmnopqrstuvwxyz_")] == '\0' && name[0] != '\0';
}

static void every_metric_has_prose_and_a_proper_name(void **state)
{
    (void)state;
    for (size_t i = 0; metrics_row(i) != NULL; i++) {
        const struct metrics_row *row = metrics_row(i);
        size_t prose = strlen(row->prose);
        if (prose < PROSE_MIN || row->prose[prose - 1] != '.' || !is_name(row->name)) {
            print_error("row failed: %s\n", row->name);
        }
        assert_true(prose >= PROSE_MIN && row->prose[prose - 1] == '.');
        assert_null(strpbrk(row->prose, "|\n\\"));
        assert_true(is_name(row->name));
        assert_true(strcmp(row->type, "counter") != 0 || strstr(row->name, "_total") != NULL);
    }
    assert_true(metrics_row(0) != NULL);
}

static void the_text_sums_the_threads(void **state)
{
    static struct metrics a;
    static struct metrics b;
    struct metrics *const threads[] = {&a, &b};
    static const char *const want[] = {
        "freshet_transactions_total 7\n",
        "freshet_verdicts_total{verdict=\"stale\"} 3\n",
        "freshet_verdicts_total{verdict=\"fresh\"} 0\n",
        "freshet_refused_total{reason=\"not_json\"} 1\n",
        "freshet_list_reads_total{result=\"budget\"} 2\n",
        "freshet_journal_bytes 4\n",
        "freshet_store_failed -1\n",
        "# TYPE freshet_verdict_seconds histogram\n",
        "freshet_verdict_seconds_bucket{le=\"0.000100000\"} 1\n",
        "freshet_verdict_seconds_bucket{le=\"60.000000000\"} 2\n",
        "freshet_verdict_seconds_bucket{le=\"+Inf\"} 3\n",
        "freshet_verdict_seconds_sum 100.500075000\n",
        "freshet_verdict_seconds_count 3\n",
    };
    struct writer w;

    (void)state;
    metrics_init(&a);
    metrics_init(&b);
    metrics_add(&a, COUNTER_transactions_total, 3);
    metrics_add(&b, COUNTER_transactions_total, 4);
    metrics_add_by(&b, COUNTER_BY_verdicts_total, 2, 3);
    metrics_add_by(&a, COUNTER_BY_refused_total, REJECT_NOT_JSON, 1);
    metrics_add_by(&a, COUNTER_BY_list_reads_total, FETCH_RESULT_BUDGET, 2);
    metrics_gauge_set(&a, GAUGE_journal_bytes, 3);
    metrics_gauge_set(&b, GAUGE_journal_bytes, 1);
    metrics_gauge_set(&b, GAUGE_store_failed, -1);
    metrics_observe(&a, HISTOGRAM_verdict_seconds, 0.000075);
    metrics_observe(&b, HISTOGRAM_verdict_seconds, 0.5);
    metrics_observe(&b, HISTOGRAM_verdict_seconds, 100.0);
    writer_init(&w, TEXT_MAX);
    metrics_write(&w, threads, 2);
    const char *text = text_of(&w);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        if (strstr(text, want[i]) == NULL) {
            print_error("row failed: %s", want[i]);
        }
        assert_non_null(strstr(text, want[i]));
    }
    assert_null(strstr(text, "\"none\"} 0\nfreshet_refused"));
    writer_fini(&w);
}

static void a_gauge_by_worker_has_a_sample_of_each_worker_alone(void **state)
{
    static struct metrics all[3];
    struct metrics *const threads[] = {&all[0], &all[1], &all[2]};
    static const char *const want[] = {
        "# TYPE freshet_connections gauge\n"
        "freshet_connections{worker=\"0\"} 5\n"
        "freshet_connections{worker=\"12\"} 7\n"
        "# HELP freshet_upstream_connections",
        "gauge\nfreshet_upstream_connections{worker=\"0\"} 0\n",
        "gauge\nfreshet_queue_bytes{worker=\"0\"} 0\nfreshet_queue_bytes{worker=\"12\"} -1\n#",
        "\nfreshet_journal_bytes 9\n",
    };
    struct writer w;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        metrics_init(&all[i]);
        assert_int_equal(all[i].worker, -1);
    }
    metrics_set_worker(&all[0], 0);
    metrics_set_worker(&all[2], 12);
    metrics_gauge_set(&all[0], GAUGE_connections, 5);
    metrics_gauge_set(&all[1], GAUGE_connections, 6);
    metrics_gauge_set(&all[2], GAUGE_connections, 7);
    metrics_gauge_set(&all[2], GAUGE_queue_bytes, -1);
    metrics_gauge_set(&all[1], GAUGE_journal_bytes, 9);
    writer_init(&w, TEXT_MAX);
    metrics_write(&w, threads, 3);
    const char *text = text_of(&w);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        if (strstr(text, want[i]) == NULL) {
            fail_msg("row failed: %s", want[i]);
        }
    }
    writer_fini(&w);
}

/* The values of the counter must be these, in this order, and no others. */
static void assert_values(const char *text, const char *name, const char *label,
                          const char *(*label_of)(unsigned value), unsigned n_values)
{
    char want[1024];
    size_t size = 0;

    for (unsigned i = 0; i < n_values; i++) {
        size += (size_t)snprintf(want + size, sizeof want - size, "freshet_%s{%s=\"%s\"} %u\n",
                                 name, label, label_of(i), i + 1);
    }
    assert_in_range(size, 1, sizeof want - 2);
    snprintf(want + size, sizeof want - size, "#");
    if (strstr(text, want) == NULL) {
        fail_msg("not in the text:\n%s", want);
    }
}

static const char *edu_label(unsigned value)
{
    return edu_type_label((enum edu_type)value);
}

static const char *label_of_verdict(unsigned value)
{
    return verdict_label((enum verdict)value);
}

static const char *claim_kind(unsigned value)
{
    static const struct claim with_hash = {.has_hash = true, .has_stream = true};
    static const struct claim with_stream = {.has_stream = true};

    return value == CLAIM_KIND_HASH       ? claim_label(CLAIM_USABLE, &with_hash)
           : value == CLAIM_KIND_STREAM   ? claim_label(CLAIM_USABLE, &with_stream)
           : value == CLAIM_KIND_UNUSABLE ? claim_label(CLAIM_UNUSABLE, NULL)
                                          : claim_label(CLAIM_NONE, NULL);
}

static void values_are_labelled_as_proto_names_them(void **state)
{
    static struct metrics metrics;
    struct metrics *const threads[] = {&metrics};
    struct writer w;

    (void)state;
    metrics_init(&metrics);
    for (unsigned i = 0; i < EDU_TYPE_COUNT; i++) {
        metrics_add_by(&metrics, COUNTER_BY_edus_total, i, i + 1);
    }
    for (unsigned i = 0; i < VERDICT_COUNT; i++) {
        metrics_add_by(&metrics, COUNTER_BY_verdicts_total, i, i + 1);
        metrics_add_by(&metrics, COUNTER_BY_second_reads_total, i, i + 1);
    }
    for (unsigned i = 0; i < CLAIM_KIND_COUNT; i++) {
        metrics_add_by(&metrics, COUNTER_BY_claims_total, i, i + 1);
    }
    writer_init(&w, TEXT_MAX);
    metrics_write(&w, threads, 1);
    const char *text = text_of(&w);
    assert_values(text, "edus_total", "type", edu_label, EDU_TYPE_COUNT);
    assert_values(text, "verdicts_total", "verdict", label_of_verdict, VERDICT_COUNT);
    assert_values(text, "second_reads_total", "result", label_of_verdict, VERDICT_COUNT);
    assert_values(text, "claims_total", "kind", claim_kind, CLAIM_KIND_COUNT);
    writer_fini(&w);
}

static void the_documentation_names_every_metric(void **state)
{
    struct writer w;

    (void)state;
    writer_init(&w, TEXT_MAX);
    metrics_write_docs(&w);
    const char *text = text_of(&w);
    for (size_t i = 0; metrics_row(i) != NULL; i++) {
        char row[128];
        snprintf(row, sizeof row, "| `freshet_%s` | %s | ", metrics_row(i)->name,
                 metrics_row(i)->type);
        assert_non_null(strstr(text, row));
        assert_non_null(strstr(text, metrics_row(i)->prose));
    }
    writer_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_has_prose_and_a_proper_name),
        cmocka_unit_test(the_text_sums_the_threads),
        cmocka_unit_test(a_gauge_by_worker_has_a_sample_of_each_worker_alone),
        cmocka_unit_test(values_are_labelled_as_proto_names_them),
        cmocka_unit_test(the_documentation_names_every_metric),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
