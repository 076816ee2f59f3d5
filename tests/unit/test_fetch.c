#include "net/fetch.h"

#include "net/address.h"
#include "net/tls.h"
#include "net_rig.h"
#include "tls_files.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

struct fixture {
    struct tls_files files, other;
    struct tls_context *tls;
    struct rig rig;
    struct fetcher *fetcher;
    char url[64], connect_to[32];
    struct fetch *fetch;
    unsigned n_done;
    enum fetch_failure failure;
    char detail[256];
    int status;
    bool was_connected;
    struct writer body;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL);
    tls_files_make(&f->files, "DNS:a.test");
    tls_files_make(&f->other, "DNS:a.test");
    assert_int_equal(
        tls_server_new(&f->tls, &(struct tls_certificate){f->files.chain, f->files.key}, 1),
        ERR_OK);
    rig_init(&f->rig, &(struct http_listener_options){.address = "127.0.0.1", .tls = f->tls});
    assert_int_equal(fetcher_new(&f->fetcher, f->rig.loop, NULL), ERR_OK);
    snprintf(f->url, sizeof f->url, "https://a.test:%u/key?x=%%2F", rig_port(&f->rig));
    snprintf(f->connect_to, sizeof f->connect_to, "127.0.0.1:%u", rig_port(&f->rig));
    writer_init(&f->body, RECORD_MAX);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    fetcher_free(f->fetcher);
    rig_fini(&f->rig);
    tls_context_free(f->tls);
    tls_files_remove(&f->files);
    tls_files_remove(&f->other);
    writer_fini(&f->body);
    free(f);
    return 0;
}

static struct fetch_request request_of(const struct fixture *f)
{
    return (struct fetch_request){.url = f->url,
                                  .timeout_ms = PATIENCE_MS,
                                  .max_bytes = 64 * 1024,
                                  .connect_to = f->connect_to,
                                  .ca_file = f->files.chain,
                                  .is_internal = true};
}

static void on_done(void *arg, const struct fetch_answer *answer)
{
    struct fixture *f = arg;

    f->n_done++;
    f->failure = answer->failure;
    snprintf(f->detail, sizeof f->detail, "%.*s", (int)answer->detail.size, answer->detail.data);
    f->status = answer->status;
    f->was_connected = answer->was_connected;
    writer_bytes(&f->body, answer->body);
}

static enum fetch_failure run(struct fixture *f, const struct fetch_request *request)
{
    unsigned n_before = f->n_done;

    writer_reset(&f->body);
    assert_int_equal(fetch_start(&f->fetch, f->fetcher, request, on_done, f), ERR_OK);
    assert_int_equal(f->n_done, n_before); /* nothing from inside */
    RUN_UNTIL(f->rig.loop, f->n_done > n_before);
    return f->failure;
}

static void a_document_is_fetched_over_tls(void **state)
{
    static const struct http_header headers[] = {{SPAN_INIT("X-One"), SPAN_INIT("1")},
                                                 {SPAN_INIT("X-Empty"), SPAN_INIT("")}};
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    request.headers = headers;
    request.n_headers = 2;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NONE);
    assert_int_equal(f->status, 200);
    assert_true(span_equal(writer_span(&f->body), SPAN_LIT("GET /key?x=%2F")));
    assert_true(span_equal(writer_span(&f->rig.log), SPAN_LIT("GET /key?x=%2F\n")));
}

static void another_status_is_an_answer_too(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    f->rig.answer = ANSWER_REJECT;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NONE);
    assert_int_equal(f->status, 404);
    assert_true(has_text(&f->body, "M_UNRECOGNIZED"));
}

static void a_certificate_must_be_trusted_and_fit_the_name(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);
    char url[64];

    request.ca_file = f->other.chain;
    assert_int_equal(run(f, &request), FETCH_FAILURE_TLS);
    request.ca_file = NULL;
    assert_int_equal(run(f, &request), FETCH_FAILURE_TLS);
    snprintf(url, sizeof url, "https://b.test:%u/", rig_port(&f->rig));
    request = request_of(f);
    request.url = url;
    assert_int_equal(run(f, &request), FETCH_FAILURE_TLS);
    assert_int_equal(f->rig.n_heads, 0);
}

static void an_answer_over_the_limit_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    request.max_bytes = 5;
    for (int i = 0; i < 2; i++) {
        f->rig.answer = i == 0 ? ANSWER_ECHO : ANSWER_CHUNKED;
        assert_int_equal(run(f, &request), FETCH_FAILURE_TOO_LARGE);
        assert_int_equal(f->body.size, 0);
    }
}

static void an_answer_that_does_not_come_times_out(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    f->rig.answer = ANSWER_HOLD;
    request.timeout_ms = 80;
    assert_int_equal(run(f, &request), FETCH_FAILURE_TIMEOUT);
    RUN_UNTIL(f->rig.loop, f->rig.n_aborts == 1);
}

static void an_answer_that_breaks_off_is_none(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    f->rig.answer = ANSWER_SHORT;
    assert_int_equal(run(f, &request), FETCH_FAILURE_CLOSED);
    assert_int_equal(f->body.size, 0);
}

static void nobody_there_is_no_answer(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    http_listener_free(f->rig.listener);
    f->rig.listener = NULL;
    assert_int_equal(run(f, &request), FETCH_FAILURE_UNREACHABLE);
}

static void whether_somebody_was_there_is_told(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    assert_int_equal(run(f, &request), FETCH_FAILURE_NONE);
    assert_true(f->was_connected);
    request.ca_file = f->other.chain;
    assert_int_equal(run(f, &request), FETCH_FAILURE_TLS);
    assert_true(f->was_connected);
    request.is_internal = false;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NOT_ALLOWED);
    assert_false(f->was_connected);
    request = request_of(f);
    http_listener_free(f->rig.listener);
    f->rig.listener = NULL;
    assert_int_equal(run(f, &request), FETCH_FAILURE_UNREACHABLE);
    assert_false(f->was_connected);
}

static void assert_fails(struct fixture *f, const struct fetch_request *request,
                         enum fetch_failure failure, const char *detail)
{
    run(f, request);
    if (f->failure != failure || strstr(f->detail, detail) == NULL ||
        (detail[0] == '\0' && f->detail[0] != '\0')) {
        fail_msg("%s, %s instead of %s, %s", fetch_failure_label(f->failure), f->detail,
                 fetch_failure_label(failure), detail);
    }
}

static void a_failure_says_what_was_wrong(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    request.ca_file = f->other.chain;
    assert_fails(f, &request, FETCH_FAILURE_TLS, "certificate");
    request = request_of(f);
    request.url = "https://b.test/";
    assert_fails(f, &request, FETCH_FAILURE_TLS, "'b.test'");
    request = request_of(f);
    request.is_internal = false;
    assert_fails(f, &request, FETCH_FAILURE_NOT_ALLOWED, "::ffff:127.0.0.1");
    request = request_of(f);
    request.max_bytes = 5;
    assert_fails(f, &request, FETCH_FAILURE_TOO_LARGE, "");
    request = request_of(f);
    request.url = "gopher://a.test/";
    request.is_internal = false;
    request.connect_to = NULL;
    assert_fails(f, &request, FETCH_FAILURE_REDIRECT, "");
    request = request_of(f);
    f->rig.answer = ANSWER_SHORT;
    assert_fails(f, &request, FETCH_FAILURE_CLOSED, "");
    f->rig.answer = ANSWER_HOLD;
    request.timeout_ms = 80;
    assert_fails(f, &request, FETCH_FAILURE_TIMEOUT, "");
    request = request_of(f);
    http_listener_free(f->rig.listener);
    f->rig.listener = NULL;
    assert_fails(f, &request, FETCH_FAILURE_UNREACHABLE, "");
}

static bool allow_none(void *arg, const struct in6_addr *address)
{
    (void)address;
    ++*(unsigned *)arg;
    return false;
}

static bool allow_loopback(void *arg, const struct in6_addr *address)
{
    ++*(unsigned *)arg;
    return address->s6_addr[12] == 127;
}

static void private_addresses_are_dialled_only_if_allowed(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);
    unsigned n_asked = 0;

    request.is_internal = false;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NOT_ALLOWED);
    request.allow_arg = &n_asked;
    request.allow_address = allow_none;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NOT_ALLOWED);
    assert_int_equal(f->rig.n_heads, 0);
    request.allow_address = allow_loopback;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NONE);
    assert_int_equal(n_asked, 2);
}

static void no_address_is_dialled_twice_with_the_same_dials(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);
    struct fetch_dials dials = {.n = 0};
    unsigned n_asked = 0;

    request.is_internal = false;
    request.allow_arg = &n_asked;
    request.allow_address = allow_loopback;
    request.dials = &dials;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NONE);
    assert_int_equal(run(f, &request), FETCH_FAILURE_UNREACHABLE);
    assert_false(f->was_connected);
    assert_int_equal(dials.n, 1);
    request.dials = NULL;
    assert_int_equal(run(f, &request), FETCH_FAILURE_NONE);
    dials = (struct fetch_dials){.n = FETCH_DIALS_MAX};
    request.dials = &dials;
    assert_int_equal(run(f, &request), FETCH_FAILURE_UNREACHABLE);
}

static void a_fetch_may_be_cancelled_before_and_after_it_was_sent(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    f->rig.answer = ANSWER_HOLD;
    assert_int_equal(fetch_start(&f->fetch, f->fetcher, &request, on_done, f), ERR_OK);
    fetch_cancel(f->fetch);
    run_for(f->rig.loop, 20);
    assert_int_equal(fetch_start(&f->fetch, f->fetcher, &request, on_done, f), ERR_OK);
    RUN_UNTIL(f->rig.loop, f->rig.exchange != NULL);
    fetch_cancel(f->fetch);
    run_for(f->rig.loop, 20);
    assert_int_equal(f->n_done, 0);
}

/* Cancels the second request, which may have ended too, and makes a third. */
static void on_done_that_acts(void *arg, const struct fetch_answer *answer)
{
    struct fixture *f = arg;
    struct fetch_request request = request_of(f);

    on_done(arg, answer);
    fetch_cancel(f->fetch);
    assert_int_equal(fetch_start(&f->fetch, f->fetcher, &request, on_done, f), ERR_OK);
}

/* "127.0.0.1:PORT" of a socket that accepts nothing, and that the caller closes. */
static int listen_silently(char out[32])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(fd, 8) == 0 && getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    snprintf(out, 32, "127.0.0.1:%u", ntohs(address.sin_port));
    return fd;
}

static void who_is_told_may_cancel_and_start_from_inside(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);
    struct fetch *first;
    char silent[32];
    int fd = listen_silently(silent);

    request.connect_to = silent;
    request.timeout_ms = 50;
    assert_int_equal(fetch_start(&first, f->fetcher, &request, on_done_that_acts, f), ERR_OK);
    request.timeout_ms = 51; /* perhaps in the same turn of the loop, but after it */
    assert_int_equal(fetch_start(&f->fetch, f->fetcher, &request, on_done, f), ERR_OK);
    RUN_UNTIL(f->rig.loop, f->n_done == 1);
    assert_int_equal(f->failure, FETCH_FAILURE_TIMEOUT);
    RUN_UNTIL(f->rig.loop, f->n_done == 2);
    assert_int_equal(f->failure, FETCH_FAILURE_NONE);
    run_for(f->rig.loop, 60);
    assert_int_equal(f->n_done, 2);
    close(fd);
}

static sem_t may_answer, has_answered;
static atomic_bool has_given_up;

/* The system's, in place of which libcurl's threads find this one: it answers when the test lets
 * it. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *req,
                struct addrinfo **pai)
{
    struct timespec until;

    (void)name;
    (void)service;
    (void)req;
    (void)pai;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    if (sem_timedwait(&may_answer, &until) != 0) {
        atomic_store(&has_given_up, true);
    }
    sem_post(&has_answered);
    return EAI_FAIL;
}

static void a_resolver_that_does_not_answer_stops_nobody(void **state)
{
    struct fixture *f = *state;
    struct fetch_request request = {
        .url = "http://slow.test/", .timeout_ms = 50, .max_bytes = 1024, .is_internal = true};

    CHECK(sem_init(&may_answer, 0, 0) == 0 && sem_init(&has_answered, 0, 0) == 0);
    assert_int_equal(run(f, &request), FETCH_FAILURE_TIMEOUT);
    assert_int_equal(fetch_start(&f->fetch, f->fetcher, &request, on_done, f), ERR_OK);
    run_for(f->rig.loop, 20);
    fetch_cancel(f->fetch);
    assert_false(atomic_load(&has_given_up));
    for (size_t i = 0; i < 2; i++) {
        sem_post(&may_answer);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK(sem_wait(&has_answered) == 0);
    }
    run_for(f->rig.loop, 20); /* the threads free what is theirs */
    assert_int_equal(f->n_done, 1);
    assert_false(atomic_load(&has_given_up));
}

static void what_cannot_be_sent_is_not(void **state)
{
    static const struct http_header bad[] = {{SPAN_INIT("X"), SPAN_INIT("a\r\nY: b")},
                                             {SPAN_INIT("X: y\r\nZ"), SPAN_INIT("a")}};
    static const char *const urls[] = {"file:///etc/passwd", "gopher://a.test/", "not a url"};
    struct fixture *f = *state;
    struct fetch_request request = request_of(f);

    for (size_t i = 0; i < 2; i++) {
        request.headers = &bad[i];
        request.n_headers = 1;
        assert_int_equal(fetch_start(&f->fetch, f->fetcher, &request, on_done, f), ERR_CONFIG);
    }
    request.n_headers = 0;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        request.url = urls[i];
        assert_int_equal(run(f, &request), FETCH_FAILURE_CLOSED);
    }
}

static const struct {
    const char *text;
    bool is_public;
} addresses[] = {
    {"::ffff:8.8.8.8", true},
    {"::ffff:172.15.255.255", true},
    {"::ffff:172.16.0.0", false},
    {"::ffff:172.31.255.255", false},
    {"::ffff:172.32.0.0", true},
    {"::ffff:10.1.2.3", false},
    {"::ffff:127.0.0.1", false},
    {"::ffff:0.0.0.0", false},
    {"::ffff:100.63.255.255", true},
    {"::ffff:100.64.0.1", false},
    {"::ffff:169.254.169.254", false},
    {"::ffff:192.168.0.1", false},
    {"::ffff:192.0.0.1", false},
    {"::ffff:192.0.1.1", true},
    {"::ffff:198.17.0.1", true},
    {"::ffff:198.19.0.1", false},
    {"::ffff:224.0.0.1", false},
    {"::ffff:223.255.255.255", true},
    {"::ffff:255.255.255.255", false},
    {"::", false},
    {"::1", false},
    {"::127.0.0.1", false},
    {"::ffff:0:127.0.0.1", false}, /* translated */
    {"::ffff:11.0.0.0", true},
    {"::ffff:9.255.255.255", true},
    {"::ffff:1.0.0.0", true},
    {"::ffff:126.255.255.255", true},
    {"::ffff:128.0.0.0", true},
    {"::ffff:100.128.0.0", true},
    {"::ffff:169.253.255.255", true},
    {"::ffff:169.255.0.0", true},
    {"::ffff:192.0.2.1", false},
    {"::ffff:192.88.99.1", false},
    {"::ffff:192.88.100.0", true},
    {"::ffff:198.18.0.0", false},
    {"::ffff:198.20.0.0", true},
    {"::ffff:198.51.100.1", false},
    {"::ffff:203.0.113.1", false},
    {"::ffff:240.0.0.1", false},
    {"64:ff9b::8.8.8.8", true},
    {"64:ff9b::127.0.0.1", false},
    {"64:ff9b::169.254.169.254", false},
    {"64:ff9b:1::8.8.8.8", false},
    {"64:ff9b:1:ffff::1", false},
    {"100::1", false},
    {"100:0:0:1::1", false},
    {"1fff:ffff::1", false},
    {"2000::1", true},
    {"3ffe:ffff::1", true},
    {"4000::1", false}, /* not given to anybody, as these are */
    {"8000::1", false},
    {"2001::1", false}, /* Teredo */
    {"2001:0:808:808::1", false},
    {"2001:2::1", false},
    {"2001:10::1", false},
    {"2001:1ff:ffff::1", false},
    {"2001:200::1", true},
    {"2001:db7::1", true},
    {"2001:db9::1", true},
    {"2002:a00:1::1", false},
    {"2002:c0a8:101::1", false},
    {"3fff::1", false},
    {"3fff:1000::1", true},
    {"5f00::1", false},
    {"febf::1", false},
    {"fe00::1", false},
    {"64:ff9b::10.0.0.1", false},
    {"2002:7f00:1::1", false},
    {"2002:808:808::1", true},
    {"2001:db8::1", false},
    {"2001:4860::1", true},
    {"fc00::1", false},
    {"fdff::1", false},
    {"fe80::1", false},
    {"fec0::1", false},
    {"ff02::1", false},
    {"2a00::1", true},
};

static void special_addresses_are_not_public(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct in6_addr address;
        CHECK(inet_pton(AF_INET6, addresses[i].text, &address) == 1);
        if (address_is_public(&address) != addresses[i].is_public) {
            fail_msg("%s", addresses[i].text);
        }
    }
}

static void addresses_are_written_as_the_system_writes_them(void **state)
{
    static const char *const rows[] = {"0.0.0.0",         "9.10.99.100", "192.0.2.1",
                                       "255.255.255.255", "2001:db8::1", "::"};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[INET6_ADDRSTRLEN];
        struct in6_addr address;
        assert_true(address_parse(&address, rows[i]));
        if (!span_equal(address_text(text, &address), span_str(rows[i]))) {
            fail_msg("row failed: %s", rows[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_document_is_fetched_over_tls, setup, teardown),
        cmocka_unit_test_setup_teardown(another_status_is_an_answer_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_certificate_must_be_trusted_and_fit_the_name, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_failure_says_what_was_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_over_the_limit_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_that_does_not_come_times_out, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_that_breaks_off_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_there_is_no_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(whether_somebody_was_there_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(no_address_is_dialled_twice_with_the_same_dials, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(private_addresses_are_dialled_only_if_allowed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_fetch_may_be_cancelled_before_and_after_it_was_sent,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(who_is_told_may_cancel_and_start_from_inside, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_resolver_that_does_not_answer_stops_nobody, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_sent_is_not, setup, teardown),
        cmocka_unit_test(special_addresses_are_not_public),
        cmocka_unit_test(addresses_are_written_as_the_system_writes_them),
    };

    return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
