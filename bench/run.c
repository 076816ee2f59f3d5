#include "bench/run.h"

#include "bench/tool.h"
#include "proto/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

static const uint64_t second_ns = 1000000000;
static const uint64_t tick_ns = 100000000;
static const uint64_t rest_ns = 10000000; /* of a connection that has failed */

enum { EVENTS_AT_ONCE = 256 };

struct client_list {
    struct client *first, *last;
};

struct running {
    const struct run_options *options;
    struct client_options client_options;
    struct run_result *result;
    struct client *clients;
    struct client_list ready, resting;
    uint64_t start_ns;
    uint64_t window_ns; /* where what is measured begins */
    uint64_t end_ns;    /* where nothing more is begun */
    uint64_t last_ns;   /* of the last answer measured */
    uint64_t next_tick_ns;
    uint64_t n_begun;
    uint64_t n_busy;
    uint32_t *next_requests; /* by server */
    bool is_sampled, is_sampled_at_end;
    struct usage own, watched; /* at window_ns */
};

/* ---- lists of clients */

static void append(struct client_list *list, struct client *client)
{
    client->next = NULL;
    if (list->first == NULL) {
        list->first = client;
    } else {
        list->last->next = client;
    }
    list->last = client;
}

static struct client *take_first(struct client_list *list)
{
    struct client *client = list->first;

    list->first = client->next;
    return client;
}

static void list_if_it_has_room(struct running *r, struct client *client)
{
    if (!client->is_listed && client_has_room(client)) {
        client->is_listed = true;
        append(client->rests_until_ns > now_ns() ? &r->resting : &r->ready, client);
    }
}

/* ---- answers */

struct verdict_counts {
    uint32_t fresh, stale, unknown;
};

static struct verdict_counts count_verdicts(struct span body)
{
    static const struct span name = SPAN_INIT("\"verdict\":\"");
    struct verdict_counts counts = {0};
    const char *at = NULL;

    while (body.size > name.size &&
           (at = memmem(body.data, body.size, name.data, name.size)) != NULL) {
        body = span_skip(body, (size_t)(at - body.data) + name.size);
        counts.fresh += span_starts_with(body, SPAN_LIT("fresh\""));
        counts.stale += span_starts_with(body, SPAN_LIT("stale\""));
        counts.unknown += span_starts_with(body, SPAN_LIT("unknown\""));
    }
    return counts;
}

static void check_verdicts(struct running *r, const struct call *call)
{
    struct run_result *result = r->result;
    struct verdict_counts counts = count_verdicts(writer_span(&call->body));
    uint32_t n_fresh = r->options->expects_verdicts ? call->request->n_fresh : 0;
    uint32_t n_stale = r->options->expects_verdicts ? call->request->n_stale : 0;

    result->n_fresh_owed += n_fresh;
    result->n_stale_owed += n_stale;
    result->n_fresh += counts.fresh;
    result->n_stale += counts.stale;
    result->n_unknown += counts.unknown;
    result->n_wrong += counts.fresh != n_fresh || counts.stale != n_stale || counts.unknown != 0;
}

static bool is_measured(const struct running *r, const struct call *call)
{
    return call->intended_ns >= r->window_ns && call->intended_ns < r->end_ns;
}

static void on_answer(void *arg, struct call *call)
{
    struct running *r = arg;
    struct run_result *result = r->result;
    uint64_t now = now_ns();
    bool is_2xx = call->status >= 200 && call->status < 300;

    r->n_busy--;
    result->n_answered++;
    result->statuses[call->status >= 100 && call->status < 600 ? call->status / 100 : 0]++;
    if (is_2xx) {
        check_verdicts(r, call);
    }
    if (!is_measured(r, call)) {
        return;
    }
    if (!is_2xx) {
        result->n_refused++;
        return;
    }
    r->last_ns = now;
    result->n_measured++;
    result->request_body_bytes += request_body(call->request).size;
    result->answer_body_bytes += call->body.size;
    histogram_record(&result->latency, now - call->intended_ns);
    histogram_record(&result->service, now - call->begun_ns);
}

static void on_failure(void *arg, struct call *call)
{
    struct running *r = arg;

    r->n_busy--;
    r->result->n_lost++;
    call->client->rests_until_ns = now_ns() + rest_ns;
}

static const struct client_ops ops = {on_answer, on_failure};

/* ---- requests */

/* When the next request should begin: now for a closed loop. */
static uint64_t next_intended(const struct running *r, uint64_t now)
{
    uint64_t n = r->n_begun;
    uint64_t rate = r->options->rate;

    if (rate == 0) {
        return now;
    }
    return r->start_ns + n / rate * second_ns + n % rate * second_ns / rate;
}

static bool is_begun_in_full(const struct running *r, uint64_t now)
{
    uint64_t n = r->options->n_requests;

    return (n != 0 && r->n_begun >= n) || next_intended(r, now) >= r->end_ns;
}

static const struct request *take_request(struct running *r, const struct client *client)
{
    uint32_t server = client_server(client);
    uint32_t *next = &r->next_requests[server];
    const struct request *request = &r->options->traffic->requests[*next];

    *next += r->client_options.n_servers;
    if (*next >= r->options->traffic->n) {
        *next = server;
    }
    return request;
}

static void begin_due(struct running *r)
{
    while (r->ready.first != NULL) {
        uint64_t now = now_ns();
        uint64_t intended = next_intended(r, now);
        if (intended > now || is_begun_in_full(r, now)) {
            return;
        }
        struct client *client = take_first(&r->ready);
        client->is_listed = false;
        if (!client_has_room(client)) {
            continue;
        }
        r->n_begun++;
        r->n_busy++;
        client_begin(client, take_request(r, client), intended, now);
        list_if_it_has_room(r, client);
    }
}

/* ---- time */

static void sample(struct running *r, uint64_t now)
{
    struct run_result *result = r->result;

    if (!r->is_sampled && now >= r->window_ns) {
        r->is_sampled = true;
        usage_of(&r->own, (uint64_t)getpid());
        usage_of(&r->watched, r->options->watched_pid);
    }
    if (r->is_sampled && !r->is_sampled_at_end && is_begun_in_full(r, now)) {
        r->is_sampled_at_end = true;
        usage_of(&result->own, (uint64_t)getpid());
        usage_of(&result->watched, r->options->watched_pid);
        result->own.cpu_ns -= r->own.cpu_ns;
        result->watched.cpu_ns -= r->watched.cpu_ns;
        result->elapsed_ns = now - r->window_ns;
    }
}

static void wake_rested(struct running *r, uint64_t now)
{
    while (r->resting.first != NULL && r->resting.first->rests_until_ns <= now) {
        append(&r->ready, take_first(&r->resting));
    }
}

static void fail_late(struct running *r, uint64_t now)
{
    for (uint32_t i = 0; i < r->options->n_connections; i++) {
        struct client *client = &r->clients[i];
        for (uint32_t j = 0; j < r->client_options.n_streams; j++) {
            const struct call *call = &client->calls[j];
            if (call->is_busy && call->begun_ns + r->options->timeout_ns < now) {
                client_fail(client);
                list_if_it_has_room(r, client);
                break;
            }
        }
    }
}

static void tick(struct running *r, uint64_t now)
{
    sample(r, now);
    wake_rested(r, now);
    if (now >= r->next_tick_ns) {
        r->next_tick_ns = now + tick_ns;
        fail_late(r, now);
    }
}

static struct timespec time_to_next(const struct running *r)
{
    uint64_t now = now_ns();
    uint64_t due = r->next_tick_ns;

    if (r->ready.first != NULL && !is_begun_in_full(r, now) && next_intended(r, now) < due) {
        due = next_intended(r, now);
    }
    if (r->resting.first != NULL && r->resting.first->rests_until_ns < due) {
        due = r->resting.first->rests_until_ns;
    }
    if (!r->is_sampled && r->window_ns < due) {
        due = r->window_ns;
    }
    if (!r->is_sampled_at_end && r->end_ns < due) {
        due = r->end_ns;
    }
    return timespec_of_ns(due > now ? due - now : 0);
}

static bool is_over(const struct running *r)
{
    uint64_t now = now_ns();

    if (is_begun_in_full(r, now)) {
        return r->n_busy == 0;
    }
    /* An open loop that cannot keep its rate. */
    return r->end_ns != UINT64_MAX && now > r->end_ns + r->options->timeout_ns;
}

static void loop(struct running *r)
{
    struct epoll_event events[EVENTS_AT_ONCE];

    while (!is_over(r)) {
        begin_due(r);
        struct timespec timeout = time_to_next(r);
        int n = epoll_pwait2(r->client_options.epoll_fd, events, EVENTS_AT_ONCE, &timeout, NULL);
        for (int i = 0; i < n; i++) {
            client_on_event(events[i].data.ptr, events[i].events);
            list_if_it_has_room(r, events[i].data.ptr);
        }
        tick(r, now_ns());
    }
}

/* ---- the whole */

static void set_times(struct running *r)
{
    r->start_ns = now_ns();
    r->window_ns = r->start_ns + r->options->warmup_ns;
    r->end_ns = r->options->duration_ns == 0 ? UINT64_MAX : r->window_ns + r->options->duration_ns;
    r->next_tick_ns = r->start_ns + tick_ns;
}

static void open_all(struct running *r)
{
    uint32_t n = r->options->n_connections;

    r->clients = calloc(n, sizeof *r->clients);
    CHECK(r->clients != NULL);
    for (uint32_t i = 0; i < n; i++) {
        struct client *client = &r->clients[i];
        client_init(client, &r->client_options, i);
        /* Where each connection has few calls, connecting is a part of the first. */
        if (r->client_options.n_calls_max == 0 && !client_connect(client)) {
            client_fail(client);
        }
        list_if_it_has_room(r, client);
    }
}

static uint64_t n_not_begun(const struct running *r)
{
    uint64_t rate = r->options->rate;
    uint64_t span_ns = r->end_ns - r->start_ns;

    if (rate == 0 || r->end_ns == UINT64_MAX || is_begun_in_full(r, now_ns())) {
        return 0;
    }
    uint64_t n = span_ns / second_ns * rate + span_ns % second_ns * rate / second_ns;
    return n > r->n_begun ? n - r->n_begun : 0;
}

static void finish(struct running *r)
{
    struct run_result *result = r->result;

    sample(r, now_ns());
    result->n_sent = r->n_begun;
    result->n_unsent = n_not_begun(r);
    if (r->options->duration_ns != 0 && r->options->n_requests == 0) {
        result->elapsed_ns = r->options->duration_ns;
    } else if (r->last_ns > r->window_ns) {
        result->elapsed_ns = r->last_ns - r->window_ns;
    }
    for (uint32_t i = 0; i < r->options->n_connections; i++) {
        result->n_connects += r->clients[i].n_connects;
        result->n_lost += r->clients[i].n_busy;
        client_fini(&r->clients[i]);
    }
    free(r->clients);
}

void run(struct run_result *out, const struct run_options *options)
{
    struct running r = {.options = options, .client_options = options->client, .result = out};

    CHECK(options->traffic->n >= options->client.n_servers &&
          (options->n_requests != 0 || options->duration_ns != 0));
    memset(out, 0, sizeof *out);
    r.client_options.ops = &ops;
    r.client_options.arg = &r;
    r.client_options.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    r.client_options.scratch = malloc(CLIENT_READ_SIZE);
    CHECK(r.client_options.epoll_fd >= 0 && r.client_options.scratch != NULL);
    r.next_requests = calloc(options->client.n_servers, sizeof *r.next_requests);
    CHECK(r.next_requests != NULL);
    for (uint32_t i = 0; i < options->client.n_servers; i++) {
        r.next_requests[i] = i;
    }
    set_times(&r);
    open_all(&r);
    loop(&r);
    finish(&r);
    free(r.next_requests);
    free(r.client_options.scratch);
    close(r.client_options.epoll_fd);
}

bool run_is_flawless(const struct run_result *result)
{
    return result->n_sent > 0 && result->n_answered == result->n_sent && result->n_unsent == 0 &&
           result->n_lost == 0 && result->statuses[2] == result->n_answered && result->n_wrong == 0;
}
