#include "admin/admin_server.h"

#include "net_rig.h"
#include "store_dir.h"

#include <pthread.h>
#include <sys/stat.h>
#include <sys/un.h>

enum {
    MAP_BYTES = 8 << 20,
    QUEUE_MAX = 1 << 20, /* bytes */
    LOG_MAX = 65536,     /* bytes */
};

#define ALICE "/admin/v1/servers/a.example/users/%40alice%3Aa.example/devices"
#define EMPTY "{\"user_id\":\"@alice:a.example\",\"stream_id\":7,\"devices\":[]}"

enum place { OPERATIONS, ADMIN };
static const char *const place_names[] = {"operations", "admin"};

struct fixture {
    struct store_dir dir;
    struct metrics metrics, journal_metrics;
    struct metrics *all[2];
    struct store *store;
    struct journal *journal;
    struct list_marks *marks;
    struct lists *lists;
    struct loop *loop;
    struct admin_server *server;
    struct admin_server_options options;
    struct admin_context context;
    atomic_bool is_draining;
    char socket_path[STORE_DIR_MAX + 16];
    char log[LOG_MAX]; /* what opening the server said */
    pthread_mutex_t gate;
    struct ticket blocker; /* the journal waits in it while the gate is locked */
};

static bool is_hosted(void *arg, struct span server)
{
    (void)arg;
    return span_equal(server, SPAN_LIT("a.example"));
}

/* Standard error is caught in a file meanwhile. */
static enum err open_server(struct fixture *f, struct admin_server **out,
                            const struct admin_server_options *options)
{
    FILE *file = tmpfile();
    int stderr_copy = dup(STDERR_FILENO);

    CHECK(file != NULL && stderr_copy >= 0 && dup2(fileno(file), STDERR_FILENO) == STDERR_FILENO);
    enum err err = admin_server_new(out, options, &f->context);
    CHECK(dup2(stderr_copy, STDERR_FILENO) == STDERR_FILENO);
    close(stderr_copy);
    CHECK(fseek(file, 0, SEEK_SET) == 0);
    f->log[fread(f->log, 1, sizeof f->log - 1, file)] = '\0';
    fclose(file);
    return err;
}

static void assert_logged(const struct fixture *f, const char *part)
{
    if (strstr(f->log, part) == NULL) {
        fail_msg("no %s in the log: %s", part, f->log);
    }
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    CHECK(f != NULL && pthread_mutex_init(&f->gate, NULL) == 0);
    metrics_init(&f->metrics);
    metrics_init(&f->journal_metrics);
    f->all[0] = &f->metrics;
    f->all[1] = &f->journal_metrics;
    store_dir_make(&f->dir);
    snprintf(f->socket_path, sizeof f->socket_path, "%s/admin.sock", f->dir.path);
    assert_int_equal(store_open(&f->store, f->dir.path, MAP_BYTES), ERR_OK);
    assert_int_equal(journal_start(&f->journal, f->store, &f->journal_metrics, QUEUE_MAX), ERR_OK);
    f->marks = list_marks_new();
    assert_int_equal(lists_new(&f->lists, f->store, f->journal, f->marks, &f->metrics), ERR_OK);
    assert_int_equal(loop_new(&f->loop), ERR_OK);
    f->context = (struct admin_context){.store = f->store,
                                        .lists = f->lists,
                                        .metrics = &f->metrics,
                                        .all_metrics = f->all,
                                        .n_metrics = 2,
                                        .is_draining = &f->is_draining,
                                        .is_hosted = is_hosted};
    f->options = (struct admin_server_options){
        .loop = f->loop, .operations_host = "127.0.0.1", .admin_socket = f->socket_path};
    assert_int_equal(open_server(f, &f->server, &f->options), ERR_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    journal_stop(f->journal);
    admin_server_free(f->server);
    loop_free(f->loop);
    lists_free(f->lists);
    list_marks_free(f->marks);
    store_close(f->store);
    store_dir_remove(&f->dir);
    CHECK(pthread_mutex_destroy(&f->gate) == 0);
    free(f);
    return 0;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

static int connect_to(const struct fixture *f, enum place place)
{
    return place == ADMIN ? connect_unix(f->socket_path)
                          : raw_connect(admin_server_operations_port(f->server));
}

/* Of a request for the list of ALICE. */
static void send_head(struct fixture *f, int fd, const char *method, const char *headers)
{
    char head[512];
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", method, ALICE,
                     headers);

    CHECK(n > 0 && (size_t)n < sizeof head);
    raw_send(f->loop, fd, span_of(head, (size_t)n));
}

/* "METHOD TARGET" with a body; the answer ends the connection. */
static void send_request(struct fixture *f, int fd, const char *what, const char *body)
{
    char head[1024];
    int n = snprintf(head, sizeof head,
                     "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n",
                     what, strlen(body));

    CHECK(n > 0 && (size_t)n < sizeof head);
    raw_send(f->loop, fd, span_of(head, (size_t)n));
    raw_send(f->loop, fd, span_str(body));
}

/* The answer must begin and go on as expected. */
static void expect_answer(struct fixture *f, int fd, const char *what, int status, const char *part)
{
    char line[32];
    struct writer answer;

    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    writer_init(&answer, RECORD_MAX);
    raw_read_to_end(&answer, f->loop, fd);
    bool is_right = answer.size > strlen(line) && memcmp(answer.data, line, strlen(line)) == 0 &&
                    has_text(&answer, part);
    if (!is_right) {
        print_error("%s: wanted %s and %s, got %.*s\n", what, line, part, (int)answer.size,
                    answer.size == 0 ? "" : answer.data);
    }
    writer_fini(&answer);
    close(fd);
    assert_true(is_right);
}

static void expect(struct fixture *f, enum place place, const char *what, const char *body,
                   int status, const char *part)
{
    int fd = connect_to(f, place);
    char name[256];

    snprintf(name, sizeof name, "%s: %s", place_names[place], what);
    send_request(f, fd, what, body);
    expect_answer(f, fd, name, status, part);
}

static void both_answer_what_can_be_read(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *what, *body, *part;
        int status;
    } rows[] = {
        {"GET /livez", "", "\r\n\r\n{\"alive\":true}", 200},
        {"GET /livez", "a body", "\r\n\r\n{\"alive\":true}", 200},
        {"GET /readyz", "", "Content-Type: application/json\r\n", 200},
        {"GET /readyz", "", "{\"ready\":true,\"reasons\":[]}", 200},
        {"GET /metrics", "", "Content-Type: text/plain; version=0.0.4\r\n", 200},
        {"GET /metrics", "", "\nfreshet_list_pushes_total 0\n", 200},
        {"GET /nothing", "", "M_UNRECOGNIZED", 404},
        {"POST /livez", "a body", "\r\nAllow: GET\r\n", 405},
        {"HEAD /livez", "", "\r\nAllow: GET\r\n", 405},
        {"GET " ALICE, "", "M_NOT_FOUND", 404},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (enum place place = OPERATIONS; place <= ADMIN; place++) {
            expect(f, place, rows[i].what, rows[i].body, rows[i].status, rows[i].part);
        }
    }
    expect(f, ADMIN, "DELETE " ALICE, "", 405, "\r\nAllow: GET, PUT\r\n");
    expect(f, OPERATIONS, "DELETE " ALICE, "", 405, "\r\nAllow: GET\r\n");
    atomic_store(&f->is_draining, true);
    expect(f, OPERATIONS, "GET /readyz", "", 503, "draining");
}

static void a_pushed_list_can_be_read_on_both(void **state)
{
    struct fixture *f = *state;

    expect(f, ADMIN, "PUT " ALICE, EMPTY, 200, "\r\n\r\n{}");
    expect(f, ADMIN, "GET " ALICE, "", 200, "\"source\":\"pushed\"");
    expect(f, OPERATIONS, "GET " ALICE, "", 200, "\"stream_id\":7");
    expect(f, OPERATIONS, "GET /metrics", "", 200, "\nfreshet_list_pushes_total 1\n");
    expect(f, ADMIN, "PUT " ALICE, "hello", 400, "M_BAD_JSON");
}

/* The second request comes with the first, and is answered after its commit. */
static void a_connection_carries_several_requests(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f, ADMIN);

    send_head(f, fd, "PUT", "Content-Length: 57");
    raw_send(f->loop, fd, SPAN_LIT(EMPTY));
    send_head(f, fd, "GET", "Connection: close");
    expect_answer(f, fd, "both", 200, "{}HTTP/1.1 200 OK\r\n");
}

static void the_operations_listener_stores_nothing(void **state)
{
    struct fixture *f = *state;

    expect(f, OPERATIONS, "PUT " ALICE, EMPTY, 405, "M_UNRECOGNIZED");
    expect(f, OPERATIONS, "GET " ALICE, "", 404, "M_NOT_FOUND");
    expect(f, ADMIN, "GET " ALICE, "", 404, "M_NOT_FOUND");
    expect(f, ADMIN, "GET /metrics", "", 200, "\nfreshet_list_pushes_total 0\n");
}

/* In chunks of 1 MiB; false once the peer has closed. */
static bool send_chunked(struct fixture *f, int fd, size_t megabytes)
{
    char *bytes = make_bytes(MEGABYTE);
    bool is_open = true;

    for (size_t i = 0; i < megabytes && is_open; i++) {
        is_open = raw_send(f->loop, fd, SPAN_LIT("100000\r\n")) &&
                  raw_send(f->loop, fd, span_of(bytes, MEGABYTE)) &&
                  raw_send(f->loop, fd, SPAN_LIT("\r\n"));
    }
    free(bytes);
    return is_open;
}

/* Of ADMIN_BODY_MAX bytes and, if that is asked for, one more. */
static int send_large(struct fixture *f, enum place place, const char *method, bool is_too_large)
{
    int fd = connect_to(f, place);

    send_head(f, fd, method, "Connection: close\r\nTransfer-Encoding: chunked");
    assert_true(send_chunked(f, fd, ADMIN_BODY_MAX / MEGABYTE));
    raw_send(f->loop, fd, is_too_large ? SPAN_LIT("1\r\nx\r\n") : SPAN_LIT("0\r\n\r\n"));
    return fd;
}

static void a_body_has_a_cap_on_both(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *method;
        enum place place;
        int status; /* of a body as large as may be */
    } rows[] = {{"PUT", OPERATIONS, 405},
                {"GET", OPERATIONS, 404},
                {"PUT", ADMIN, 400},
                {"GET", ADMIN, 404}};

    assert_int_equal(ADMIN_BODY_MAX, 8388608);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *name = place_names[rows[i].place];
        int fd = connect_to(f, rows[i].place);
        send_head(f, fd, rows[i].method, "Content-Length: 8388609");
        expect_answer(f, fd, name, 413, "M_TOO_LARGE");
        fd = send_large(f, rows[i].place, rows[i].method, false);
        expect_answer(f, fd, name, rows[i].status, "M_");
        fd = send_large(f, rows[i].place, rows[i].method, true);
        expect_answer(f, fd, name, 413, "M_TOO_LARGE");
    }
    expect(f, OPERATIONS, "GET /metrics", "", 200,
           "\nfreshet_refused_total{reason=\"body_too_large\"} 8\n");
}

static enum err wait_at_gate(struct store_txn *txn, void *arg)
{
    pthread_mutex_t *gate = arg;

    (void)txn;
    CHECK(pthread_mutex_lock(gate) == 0 && pthread_mutex_unlock(gate) == 0);
    return ERR_OK;
}

static void ignore_done(void *arg, enum err result)
{
    (void)arg;
    (void)result;
}

/* Until open_gate no commit ends. */
static void close_gate(struct fixture *f)
{
    CHECK(pthread_mutex_lock(&f->gate) == 0);
    f->blocker = (struct ticket){.apply = wait_at_gate, .done = ignore_done, .arg = &f->gate};
    assert_int_equal(journal_submit(f->journal, &f->blocker), ERR_OK);
}

static void open_gate(struct fixture *f)
{
    CHECK(pthread_mutex_unlock(&f->gate) == 0);
}

static void a_push_is_answered_after_its_commit(void **state)
{
    struct fixture *f = *state;
    struct writer answer;

    close_gate(f);
    int fd = connect_to(f, ADMIN);
    send_request(f, fd, "PUT " ALICE, EMPTY);
    run_for(f->loop, 50);
    writer_init(&answer, RECORD_MAX);
    assert_true(raw_read(&answer, fd));
    assert_int_equal(answer.size, 0);
    writer_fini(&answer);
    expect(f, ADMIN, "GET /livez", "", 200, "true");
    open_gate(f);
    expect_answer(f, fd, "push", 200, "{}");
}

/* That the server has closed its end shows that it knows of the peer before the commit ends. */
static void a_peer_may_go_while_its_push_is_committed(void **state)
{
    struct fixture *f = *state;
    struct writer answer;

    close_gate(f);
    int fd = connect_to(f, ADMIN);
    send_request(f, fd, "PUT " ALICE, EMPTY);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    writer_init(&answer, RECORD_MAX);
    raw_read_to_end(&answer, f->loop, fd);
    assert_int_equal(answer.size, 0);
    writer_fini(&answer);
    close(fd);
    run_for(f->loop, 20);
    open_gate(f);
    RUN_UNTIL(f->loop, atomic_load(&f->metrics.counters[COUNTER_list_pushes_total]) == 1);
    expect(f, ADMIN, "GET " ALICE, "", 200, "\"source\":\"pushed\"");
}

static void a_peer_may_go_within_its_request(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f, ADMIN);

    raw_send(f->loop, fd,
             SPAN_LIT("PUT " ALICE " HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"));
    run_for(f->loop, 20);
    close(fd);
    run_for(f->loop, 20);
    expect(f, ADMIN, "GET " ALICE, "", 404, "M_NOT_FOUND");
}

/* As at the end of the daemon: the loop runs no more when the commit ends. */
static void the_server_may_go_with_a_push_not_answered(void **state)
{
    struct fixture *f = *state;
    struct writer answer;

    close_gate(f);
    int fd = connect_to(f, ADMIN);
    send_request(f, fd, "PUT " ALICE, EMPTY);
    run_for(f->loop, 50);
    open_gate(f);
    journal_stop(f->journal);
    f->journal = NULL;
    admin_server_free(f->server);
    f->server = NULL;
    assert_int_equal(atomic_load(&f->metrics.counters[COUNTER_list_pushes_total]), 1);
    writer_init(&answer, RECORD_MAX);
    raw_read_to_end(&answer, f->loop, fd);
    assert_int_equal(answer.size, 0);
    writer_fini(&answer);
    close(fd);
}

static void what_is_not_http_is_counted(void **state)
{
    struct fixture *f = *state;
    int fd = connect_to(f, OPERATIONS);

    raw_send(f->loop, fd, SPAN_LIT("GET /livez HTTP/1.1\r\n\r\n"));
    expect_answer(f, fd, "no Host", 400, "M_UNRECOGNIZED");
    expect(f, OPERATIONS, "GET /metrics", "", 200,
           "\nfreshet_refused_total{reason=\"bad_http\"} 1\n");
}

static void it_says_where_it_listens(void **state)
{
    struct fixture *f = *state;
    struct stat about;
    char port[64];

    snprintf(port, sizeof port,
             "\"listener\":\"operations\",\"address\":\"127.0.0.1\",\"port\":%u}",
             admin_server_operations_port(f->server));
    assert_logged(f, "\"event\":\"listening\"");
    assert_logged(f, port);
    assert_logged(f, "\"listener\":\"admin\",\"path\":\"/tmp/freshet-test-");
    assert_int_equal(stat(f->socket_path, &about), 0);
    assert_int_equal(about.st_mode & 07777, 0660);
}

static void what_cannot_be_opened_is_an_error_that_says_what_to_do(void **state)
{
    struct fixture *f = *state;
    uint16_t busy = admin_server_operations_port(f->server);
    char port_text[32];
    char other_socket[STORE_DIR_MAX + 32];
    struct admin_server *server = NULL;

    snprintf(port_text, sizeof port_text, "127.0.0.1, port %u", busy);
    snprintf(other_socket, sizeof other_socket, "%s/other.sock", f->dir.path);
    const struct {
        struct admin_server_options options;
        const char *parts[2];
    } rows[] = {
        {{f->loop, "127.0.0.1", busy, NULL}, {port_text, "listen.operations.address"}},
        {{f->loop, "127.0.0.1", busy, other_socket}, {port_text, "listen.operations.address"}},
        {{f->loop, "nowhere", 0, NULL}, {"nowhere", "listen.operations.address"}},
        {{f->loop, "127.0.0.1", 0, "/nonexistent/s"}, {"/nonexistent/s", "listen.admin.socket"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(open_server(f, &server, &rows[i].options), ERR_CONFIG);
        assert_null(server);
        assert_logged(f, rows[i].parts[0]);
        assert_logged(f, rows[i].parts[1]);
    }
    assert_int_equal(access(other_socket, F_OK), -1);
    expect(f, OPERATIONS, "GET /livez", "", 200, "true");
}

static void either_listener_may_be_left_out(void **state)
{
    struct fixture *f = *state;
    const struct admin_server_options none = {.loop = f->loop};
    struct admin_server *server = NULL;

    assert_int_equal(open_server(f, &server, &none), ERR_OK);
    assert_int_equal(admin_server_operations_port(server), 0);
    assert_string_equal(f->log, "");
    admin_server_free(server);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(it_says_where_it_listens), /* the first: the log takes few lines a second */
        ROW(both_answer_what_can_be_read),
        ROW(a_pushed_list_can_be_read_on_both),
        ROW(a_connection_carries_several_requests),
        ROW(the_operations_listener_stores_nothing),
        ROW(a_body_has_a_cap_on_both),
        ROW(a_push_is_answered_after_its_commit),
        ROW(a_peer_may_go_while_its_push_is_committed),
        ROW(a_peer_may_go_within_its_request),
        ROW(the_server_may_go_with_a_push_not_answered),
        ROW(what_is_not_http_is_counted),
        ROW(what_cannot_be_opened_is_an_error_that_says_what_to_do),
        ROW(either_listener_may_be_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
