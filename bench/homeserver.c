/* A homeserver that accepts any transaction, knows every simulated user's device list, and does as
 * little as it can: one thread, HTTP/1.1, bodies counted and thrown away. */
#include "bench/lists.h"
#include "bench/mix.h"
#include "bench/origins.h"
#include "bench/tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/check.h"

enum {
    HEAD_MAX = 16 * 1024,     /* bytes of a request's head */
    ANSWER_MAX = 1024 * 1024, /* bytes */
    BACKLOG = 4096,           /* connections the kernel may hold for us */
    EVENTS_AT_ONCE = 256,
    DISCARD_AT_ONCE = 1 << 30, /* bytes */
};

enum path { PATH_SEND, PATH_DEVICES, PATH_KEYS, PATH_OTHER, PATH_BENCH, PATH_COUNT };

static const char *const path_names[] = {"send", "devices", "keys", "other", "bench"};

struct path_count {
    uint64_t requests;
    uint64_t body_bytes;
};

struct mock_connection {
    int fd;
    enum path path;
    bool is_put;
    bool is_answering;  /* an answer waits for its delay or for the socket */
    bool is_drained;    /* the last read left nothing; more comes with an event */
    bool is_ending;     /* the peer sends no more */
    bool closes;        /* after the answer */
    uint64_t body_left; /* bytes, of the request whose head was read */
    uint64_t due_ns;    /* of the answer */
    struct mock_connection *next_due;
    size_t head_size; /* of that request, at the front of `in`; 0: none was read */
    size_t n_in;
    size_t n_sent;
    struct writer answer;
    char in[HEAD_MAX];
};

/* Answers that wait; they all wait as long, so the first is due first. */
struct delayed {
    uint64_t delay_ns;
    struct mock_connection *first, *last;
};

struct mock {
    int epoll_fd;
    int listener_fd;
    int signal_fd;
    bool is_over;
    struct lists lists;
    uint32_t version;
    struct origins self; /* one: the homeserver, for its key document */
    uint64_t n_connections;
    struct path_count counts[PATH_COUNT];
    struct delayed delayed[PATH_COUNT];
};

/* ---- answers */

static void write_count(struct writer *out, const struct mock *mock)
{
    writer_bytes(out, SPAN_LIT("{\"connections\":"));
    writer_u64(out, mock->n_connections);
    writer_bytes(out, SPAN_LIT(",\"list_version\":"));
    writer_u64(out, mock->version);
    for (size_t i = 0; i < PATH_COUNT; i++) {
        writer_bytes(out, SPAN_LIT(",\""));
        writer_bytes(out, span_str(path_names[i]));
        writer_bytes(out, SPAN_LIT("\":{\"body_bytes\":"));
        writer_u64(out, mock->counts[i].body_bytes);
        writer_bytes(out, SPAN_LIT(",\"requests\":"));
        writer_u64(out, mock->counts[i].requests);
        writer_char(out, '}');
    }
    writer_char(out, '}');
}

static void answer_with(struct writer *out, const char *status, struct span body)
{
    writer_bytes(out, SPAN_LIT("HTTP/1.1 "));
    writer_bytes(out, span_str(status));
    writer_bytes(out, SPAN_LIT("\r\nContent-Type: application/json\r\nContent-Length: "));
    writer_u64(out, body.size);
    writer_bytes(out, SPAN_LIT("\r\n\r\n"));
    writer_bytes(out, body);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Any length, whatever stands there: it goes into a lookup. */
static void percent_decode(struct writer *out, struct span text)
{
    for (size_t i = 0; i < text.size; i++) {
        int high = text.data[i] == '%' && i + 2 < text.size ? hex_digit(text.data[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text.data[i + 2]) : -1;
        if (low >= 0) {
            writer_char(out, (char)(high * 16 + low));
            i += 2;
        } else {
            writer_char(out, text.data[i]);
        }
    }
}

static void answer_devices(struct writer *out, const struct mock *mock, struct span user_text)
{
    uint32_t user = 0;
    struct writer user_id;
    struct writer body;

    writer_init(&user_id, HEAD_MAX);
    writer_init(&body, ANSWER_MAX);
    percent_decode(&user_id, user_text);
    if (lists_find_user(&user, &mock->lists, writer_span(&user_id))) {
        lists_write_answer(&body, &mock->lists, user, mock->version);
        answer_with(out, "200 OK", writer_span(&body));
    } else {
        answer_with(out, "404 Not Found",
                    SPAN_LIT("{\"errcode\":\"M_NOT_FOUND\",\"error\":\"No such user\"}"));
    }
    writer_fini(&user_id);
    writer_fini(&body);
}

static void answer_keys(struct writer *out, const struct mock *mock)
{
    struct writer body;

    writer_init(&body, ANSWER_MAX);
    origins_write_key_document(&body, &mock->self, 0);
    answer_with(out, "200 OK", writer_span(&body));
    writer_fini(&body);
}

static void answer_bench(struct writer *out, struct mock *mock, struct span target)
{
    struct writer body;

    if (span_equal(target, SPAN_LIT("/_bench/change")) && mock->version < LISTS_VERSIONS_MAX) {
        mock->version++;
    } else if (span_equal(target, SPAN_LIT("/_bench/reset"))) {
        memset(mock->counts, 0, sizeof mock->counts);
    }
    writer_init(&body, ANSWER_MAX);
    write_count(&body, mock);
    answer_with(out, "200 OK", writer_span(&body));
    writer_fini(&body);
}

/* ---- requests */

static const struct span send_path = SPAN_INIT("/_matrix/federation/v1/send/");
static const struct span devices_path = SPAN_INIT("/_matrix/federation/v1/user/devices/");

static enum path path_of(struct span target, bool is_put)
{
    if (is_put && span_starts_with(target, send_path)) {
        return PATH_SEND;
    }
    if (span_starts_with(target, devices_path)) {
        return PATH_DEVICES;
    }
    if (span_starts_with(target, SPAN_LIT("/_matrix/key/v2/server"))) {
        return PATH_KEYS;
    }
    return span_starts_with(target, SPAN_LIT("/_bench/")) ? PATH_BENCH : PATH_OTHER;
}

static struct span target_of(const struct mock_connection *c)
{
    struct span head = span_of(c->in, c->head_size);
    const char *space = memchr(head.data, ' ', head.size);
    struct span target =
        space == NULL ? span_of(NULL, 0) : span_skip(head, (size_t)(space - head.data) + 1);
    const char *end = target.size == 0 ? NULL : memchr(target.data, ' ', target.size);

    return span_of(target.data, end == NULL ? 0 : (size_t)(end - target.data));
}

static struct span header_of(struct span head, const char *name)
{
    size_t size = strlen(name);

    for (const char *line = memchr(head.data, '\n', head.size); line != NULL;) {
        struct span rest = span_skip(head, (size_t)(line + 1 - head.data));
        const char *end = rest.size == 0 ? NULL : memchr(rest.data, '\n', rest.size);
        if (end != NULL && rest.size > size && strncasecmp(rest.data, name, size) == 0 &&
            rest.data[size] == ':') {
            rest.size = (size_t)(end - rest.data);
            return span_skip(rest, size + 1);
        }
        line = end;
    }
    return span_of(NULL, 0);
}

/* 0 if there is none. */
static uint64_t number_in(struct span text)
{
    uint64_t value = 0;

    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] >= '0' && text.data[i] <= '9') {
            value = value * 10 + (uint64_t)(text.data[i] - '0');
        }
    }
    return value;
}

static void write_answer(struct mock *mock, struct mock_connection *c)
{
    struct span target = target_of(c);

    writer_reset(&c->answer);
    switch (c->path) {
    case PATH_SEND:
        answer_with(&c->answer, "200 OK", SPAN_LIT("{\"pdus\":{}}"));
        break;
    case PATH_DEVICES:
        answer_devices(&c->answer, mock, span_skip(target, devices_path.size));
        break;
    case PATH_KEYS:
        answer_keys(&c->answer, mock);
        break;
    case PATH_BENCH:
        answer_bench(&c->answer, mock, target);
        break;
    case PATH_OTHER:
    case PATH_COUNT:
        answer_with(&c->answer, "404 Not Found", SPAN_LIT("{\"errcode\":\"M_UNRECOGNIZED\"}"));
        break;
    }
    CHECK(!c->answer.failed);
}

/* ---- connections */

static void forget_delayed(struct delayed *delayed, const struct mock_connection *c)
{
    struct mock_connection *before = NULL;

    for (struct mock_connection *at = delayed->first; at != NULL; before = at, at = at->next_due) {
        if (at != c) {
            continue;
        }
        if (before == NULL) {
            delayed->first = at->next_due;
        } else {
            before->next_due = at->next_due;
        }
        if (delayed->last == c) {
            delayed->last = before;
        }
        return;
    }
}

static void drop(struct mock *mock, struct mock_connection *c)
{
    for (size_t i = 0; i < PATH_COUNT; i++) {
        forget_delayed(&mock->delayed[i], c);
    }
    close(c->fd);
    writer_fini(&c->answer);
    free(c);
}

enum progress { PROGRESS_MORE, PROGRESS_LATER, PROGRESS_GONE };

static enum progress flush(struct mock_connection *c)
{
    while (c->n_sent < c->answer.size) {
        ssize_t n =
            send(c->fd, c->answer.data + c->n_sent, c->answer.size - c->n_sent, MSG_NOSIGNAL);
        if (n < 0) {
            return errno == EAGAIN ? PROGRESS_LATER : PROGRESS_GONE;
        }
        c->n_sent += (size_t)n;
    }
    c->is_answering = false;
    return c->closes ? PROGRESS_GONE : PROGRESS_MORE;
}

static enum progress answer_now(struct mock *mock, struct mock_connection *c)
{
    write_answer(mock, c);
    c->n_sent = 0;
    c->n_in -= c->head_size;
    memmove(c->in, c->in + c->head_size, c->n_in);
    c->head_size = 0;
    return flush(c);
}

static enum progress answer_when_due(struct mock *mock, struct mock_connection *c)
{
    struct delayed *delayed = &mock->delayed[c->path];

    mock->counts[c->path].requests++;
    c->is_answering = true;
    if (delayed->delay_ns == 0) {
        return answer_now(mock, c);
    }
    c->due_ns = now_ns() + delayed->delay_ns;
    c->next_due = NULL;
    if (delayed->first == NULL) {
        delayed->first = c;
    } else {
        delayed->last->next_due = c;
    }
    delayed->last = c;
    return PROGRESS_LATER;
}

/* Takes up a head that is in whole. */
static void begin_request(struct mock_connection *c)
{
    struct span head = span_of(c->in, c->head_size);
    struct span connection = header_of(head, "Connection");

    c->is_put = span_starts_with(head, SPAN_LIT("PUT "));
    c->path = path_of(target_of(c), c->is_put);
    c->body_left = number_in(header_of(head, "Content-Length"));
    c->closes = connection.size > 0 && memmem(connection.data, connection.size, "close", 5) != NULL;
}

static void count_body(struct mock *mock, struct mock_connection *c, size_t n)
{
    c->body_left -= n;
    mock->counts[c->path].body_bytes += n;
}

/* Looks at what is in the buffer, behind the head if there is one. */
static enum progress take_buffered(struct mock *mock, struct mock_connection *c)
{
    if (c->head_size == 0) {
        const char *end = c->n_in == 0 ? NULL : memmem(c->in, c->n_in, "\r\n\r\n", 4);
        if (end == NULL) {
            return c->n_in == sizeof c->in ? PROGRESS_GONE : PROGRESS_MORE;
        }
        c->head_size = (size_t)(end - c->in) + 4;
        begin_request(c);
    }
    size_t have = c->n_in - c->head_size;
    size_t n = have < c->body_left ? have : c->body_left;
    count_body(mock, c, n);
    c->n_in -= n;
    memmove(c->in + c->head_size, c->in + c->head_size + n, c->n_in - c->head_size);
    return c->body_left == 0 ? answer_when_due(mock, c) : PROGRESS_MORE;
}

/* PROGRESS_LATER: the socket is empty. */
static enum progress receive(struct mock *mock, struct mock_connection *c)
{
    bool in_body = c->head_size > 0;
    size_t room = in_body ? (c->body_left < DISCARD_AT_ONCE ? c->body_left : DISCARD_AT_ONCE)
                          : sizeof c->in - c->n_in;
    /* With MSG_TRUNC TCP throws the bytes away instead of copying them. */
    ssize_t n =
        in_body ? recv(c->fd, NULL, room, MSG_TRUNC) : recv(c->fd, c->in + c->n_in, room, 0);

    if (n < 0) {
        return errno == EAGAIN ? PROGRESS_LATER : PROGRESS_GONE;
    }
    if (n == 0) {
        return PROGRESS_GONE;
    }
    c->is_drained = (size_t)n < room && !c->is_ending;
    if (!in_body) {
        c->n_in += (size_t)n;
        return take_buffered(mock, c);
    }
    count_body(mock, c, (size_t)n);
    return c->body_left == 0 ? answer_when_due(mock, c) : PROGRESS_MORE;
}

static void run_connection(struct mock *mock, struct mock_connection *c)
{
    enum progress progress = PROGRESS_MORE;

    /* What came in one piece with the request before. */
    while (progress == PROGRESS_MORE && !c->is_answering && c->head_size == 0 && c->n_in > 0) {
        size_t before = c->n_in;
        progress = take_buffered(mock, c);
        if (c->n_in == before) {
            break;
        }
    }
    c->is_drained = false;
    while (progress == PROGRESS_MORE && !c->is_answering && !c->is_drained) {
        progress = receive(mock, c);
    }
    if (progress == PROGRESS_GONE) {
        drop(mock, c);
    }
}

static void on_connection(struct mock *mock, struct mock_connection *c, uint32_t events)
{
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        drop(mock, c);
        return;
    }
    c->is_ending = (events & EPOLLRDHUP) != 0;
    if ((events & EPOLLOUT) != 0 && c->is_answering && c->head_size == 0) {
        enum progress progress = flush(c);
        if (progress == PROGRESS_GONE) {
            drop(mock, c);
        } else if (progress == PROGRESS_MORE) {
            run_connection(mock, c);
        }
        return;
    }
    if (!c->is_answering) {
        run_connection(mock, c);
    }
}

static void answer_due(struct mock *mock, struct delayed *delayed, uint64_t now)
{
    while (delayed->first != NULL && delayed->first->due_ns <= now) {
        struct mock_connection *c = delayed->first;
        delayed->first = c->next_due;
        enum progress progress = answer_now(mock, c);
        if (progress == PROGRESS_GONE) {
            drop(mock, c);
        } else if (progress == PROGRESS_MORE) {
            run_connection(mock, c);
        }
    }
}

static void watch(const struct mock *mock, int fd, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data.ptr = what};

    if (epoll_ctl(mock->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        die_of_errno("epoll_ctl");
    }
}

static void accept_all(struct mock *mock)
{
    const int on = 1;

    for (;;) {
        int fd = accept4(mock->listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        struct mock_connection *c = calloc(1, sizeof *c);
        CHECK(c != NULL);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->fd = fd;
        writer_init(&c->answer, ANSWER_MAX);
        mock->n_connections++;
        watch(mock, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
    }
}

static void on_signal(struct mock *mock)
{
    struct signalfd_siginfo info;

    if (read(mock->signal_fd, &info, sizeof info) != sizeof info) {
        return;
    }
    if (info.ssi_signo != SIGUSR1) {
        mock->is_over = true;
    } else if (mock->version < LISTS_VERSIONS_MAX) {
        mock->version++;
    }
}

static const struct timespec *time_to_next(struct timespec *out, const struct mock *mock)
{
    uint64_t due = UINT64_MAX;

    for (size_t i = 0; i < PATH_COUNT; i++) {
        if (mock->delayed[i].first != NULL && mock->delayed[i].first->due_ns < due) {
            due = mock->delayed[i].first->due_ns;
        }
    }
    if (due == UINT64_MAX) {
        return NULL;
    }
    uint64_t now = now_ns();
    *out = timespec_of_ns(due > now ? due - now : 0);
    return out;
}

static void serve(struct mock *mock)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    struct timespec timeout;

    while (!mock->is_over) {
        int n = epoll_pwait2(mock->epoll_fd, events, EVENTS_AT_ONCE, time_to_next(&timeout, mock),
                             NULL);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &mock->listener_fd) {
                accept_all(mock);
            } else if (events[i].data.ptr == &mock->signal_fd) {
                on_signal(mock);
            } else {
                on_connection(mock, events[i].data.ptr, events[i].events);
            }
        }
        uint64_t now = now_ns();
        for (size_t i = 0; i < PATH_COUNT; i++) {
            answer_due(mock, &mock->delayed[i], now);
        }
    }
}

static uint16_t listen_on(struct mock *mock, const char *address, uint64_t port)
{
    const int on = 1;
    struct sockaddr_in bound = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof bound;

    mock->listener_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(mock->listener_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (mock->listener_fd < 0 || inet_pton(AF_INET, address, &bound.sin_addr) != 1 ||
        bind(mock->listener_fd, (const struct sockaddr *)&bound, sizeof bound) != 0 ||
        listen(mock->listener_fd, BACKLOG) != 0 ||
        getsockname(mock->listener_fd, (struct sockaddr *)&bound, &size) != 0) {
        die_of_errno(address);
    }
    return ntohs(bound.sin_port);
}

static void take_signals(struct mock *mock)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    mock->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

struct settings {
    const char *address;
    const char *name;
    uint64_t port, users, devices, version;
    uint64_t delay_us[PATH_COUNT];
    uint64_t cpu;
};

enum { NO_CPU = 4096 };

static struct settings read_settings(int argc, char **argv)
{
    struct settings s = {
        .address = "127.0.0.1", .name = "a.example", .users = 1000, .devices = 5, .cpu = NO_CPU};
    const uint64_t us_max = 60000000;
    const struct option_row rows[] = {
        {"address", OPTION_TEXT, {.text = &s.address}, 0, 0, "IPv4 address to listen on"},
        {"port", OPTION_NUMBER, {.number = &s.port}, 0, UINT16_MAX, "0: any free one"},
        {"server-name", OPTION_TEXT, {.text = &s.name}, 0, 0, "the hosted server's name"},
        {"users", OPTION_NUMBER, {.number = &s.users}, 1, UINT32_MAX, "that have a list"},
        {"devices",
         OPTION_NUMBER,
         {.number = &s.devices},
         0,
         LISTS_DEVICES_MAX,
         "of each user in version 0"},
        {"list-version",
         OPTION_NUMBER,
         {.number = &s.version},
         0,
         LISTS_VERSIONS_MAX,
         "at the start; SIGUSR1 or POST /_bench/change: the next one"},
        {"send-delay-us",
         OPTION_NUMBER,
         {.number = &s.delay_us[PATH_SEND]},
         0,
         us_max,
         "before PUT /send is answered"},
        {"devices-delay-us",
         OPTION_NUMBER,
         {.number = &s.delay_us[PATH_DEVICES]},
         0,
         us_max,
         "before GET /user/devices is answered"},
        {"keys-delay-us",
         OPTION_NUMBER,
         {.number = &s.delay_us[PATH_KEYS]},
         0,
         us_max,
         "before GET /key/v2/server is answered"},
        {"cpu", OPTION_NUMBER, {.number = &s.cpu}, 0, NO_CPU - 1, "core to stay on (none)"},
    };

    options_read(rows, sizeof rows / sizeof rows[0], "A homeserver to measure against.", argc,
                 argv);
    return s;
}

int main(int argc, char **argv)
{
    struct settings s = read_settings(argc, argv);
    struct mock mock = {.version = (uint32_t)s.version};
    struct writer count;

    if (s.cpu != NO_CPU) {
        pin_to_cpu(s.cpu);
    }
    be_punctual();
    raise_file_limit();
    mock.lists = (struct lists){span_str(s.name), (uint32_t)s.users, (uint32_t)s.devices};
    origins_init_named(&mock.self, s.name);
    for (size_t i = 0; i < PATH_COUNT; i++) {
        mock.delayed[i].delay_ns = s.delay_us[i] * 1000;
    }
    mock.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    take_signals(&mock);
    uint16_t port = listen_on(&mock, s.address, s.port);
    watch(&mock, mock.listener_fd, EPOLLIN, &mock.listener_fd);
    watch(&mock, mock.signal_fd, EPOLLIN, &mock.signal_fd);
    printf("listening on %s:%u\n", s.address, (unsigned)port);
    fflush(stdout);
    serve(&mock);
    writer_init(&count, ANSWER_MAX);
    write_count(&count, &mock);
    printf("%.*s\n", (int)count.size, count.data);
    writer_fini(&count);
    origins_fini(&mock.self);
    return 0;
}
