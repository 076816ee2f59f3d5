#include "net/dns.h"

#include "base/clock.h"
#include "net/address.h"
#include "proto/check.h"

/* c-ares 1.34 prefers functions that 1.18 does not have. */
#define CARES_NO_DEPRECATED
#include <ares.h>
#include <arpa/nameser.h>
#include <event2/event.h>
#include <sys/time.h>

#include <stdlib.h>

enum {
    TRY_MS = 1000, /* for the first try; c-ares doubles it */
    TRIES = 3,
    LATER_MS = 300, /* how long the other family is waited for when one has answered */
};

struct dns {
    struct loop *loop;
    ares_channel channel;
    struct timer timer; /* as c-ares asks */
    struct list watches;
    size_t n_queries; /* that the callers hold */
};

/* A socket of c-ares. */
struct watch {
    struct link link;
    ares_socket_t fd;
    struct event *event;
};

/* c-ares cannot forget a single query: one that was cancelled stays until c-ares is done. */
struct dns_query {
    struct dns *dns;
    unsigned n_pending; /* answers that c-ares owes */
    bool is_over;       /* nobody waits any more */
    uint64_t end_us;    /* monotonic */
    struct timer timer;
    struct loop_task task;
    struct dns_addresses addresses;
    void (*on_addresses)(void *arg, const struct dns_addresses *addresses);
    struct srv_answer srv;
    bool has_srv;
    void (*on_srv)(void *arg, const struct srv_answer *answer);
    void *arg;
};

static void watch_timeout(struct dns *dns)
{
    struct timeval time;
    const struct timeval *next = ares_timeout(dns->channel, NULL, &time);

    if (next == NULL) {
        timer_stop(&dns->timer);
    } else {
        timer_start(&dns->timer,
                    (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1);
    }
}

static void process(struct dns *dns, ares_socket_t readable, ares_socket_t writable)
{
    ares_process_fd(dns->channel, readable, writable);
    watch_timeout(dns);
}

static void on_timer(void *arg)
{
    process(arg, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
    process(arg, (what & EV_READ) != 0 ? fd : ARES_SOCKET_BAD,
            (what & EV_WRITE) != 0 ? fd : ARES_SOCKET_BAD);
}

static struct watch *find_watch(struct dns *dns, ares_socket_t fd)
{
    for (struct link *link = list_first(&dns->watches); link != NULL;
         link = list_next(&dns->watches, link)) {
        struct watch *watch = LIST_ENTRY(link, struct watch, link);
        if (watch->fd == fd) {
            return watch;
        }
    }
    return NULL;
}

static void forget_watch(struct watch *watch)
{
    if (watch != NULL) {
        list_remove(&watch->link);
        event_free(watch->event);
        free(watch);
    }
}

static void on_socket_state(void *arg, ares_socket_t fd, int readable, int writable)
{
    struct dns *dns = arg;
    short what = (short)((readable ? EV_READ : 0) | (writable ? EV_WRITE : 0) | EV_PERSIST);

    forget_watch(find_watch(dns, fd));
    if (!readable && !writable) {
        return;
    }
    struct watch *watch = calloc(1, sizeof *watch);
    CHECK(watch != NULL);
    watch->fd = fd;
    watch->event = event_new(loop_base(dns->loop), fd, what, on_socket, dns);
    CHECK(watch->event != NULL && event_add(watch->event, NULL) == 0);
    list_append(&dns->watches, &watch->link);
}

enum err dns_new(struct dns **out, struct loop *loop, const char *servers)
{
    struct dns *dns = calloc(1, sizeof *dns);
    struct ares_options options = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
                                   .timeout = TRY_MS,
                                   .tries = TRIES,
                                   .sock_state_cb = on_socket_state,
                                   .sock_state_cb_data = dns};

    CHECK(dns != NULL);
    dns->loop = loop;
    list_init(&dns->watches);
    int status = ares_init_options(&dns->channel, &options,
                                   ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
                                       ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) {
        free(dns);
        return err_raise(ERR_IO, "ares_init_options: %s", ares_strerror(status));
    }
    timer_init(&dns->timer, loop, on_timer, dns);
    status = servers == NULL ? ARES_SUCCESS : ares_set_servers_ports_csv(dns->channel, servers);
    if (status != ARES_SUCCESS) {
        dns_free(dns);
        return err_raise(ERR_CONFIG, "DNS servers %s: %s", servers, ares_strerror(status));
    }
    *out = dns;
    return ERR_OK;
}

void dns_free(struct dns *dns)
{
    if (dns == NULL) {
        return;
    }
    CHECK(dns->n_queries == 0);
    ares_destroy(dns->channel); /* calls back for what was cancelled */
    CHECK(list_is_empty(&dns->watches));
    timer_fini(&dns->timer);
    free(dns);
}

static void end(struct dns_query *query)
{
    query->is_over = true;
    query->dns->n_queries--;
    loop_task_cancel(&query->task);
    timer_fini(&query->timer);
}

static void free_if_done(struct dns_query *query)
{
    if (query->is_over && query->n_pending == 0) {
        free(query);
    }
}

static void complete(struct dns_query *query)
{
    end(query);
    if (query->on_srv != NULL) {
        query->on_srv(query->arg, query->has_srv ? &query->srv : NULL);
    } else {
        query->on_addresses(query->arg, &query->addresses);
    }
    free_if_done(query);
}

static void run_task(struct loop_task *task)
{
    complete(LIST_ENTRY(task, struct dns_query, task));
}

static void on_expired(void *arg)
{
    complete(arg);
}

static void shorten_wait(struct dns_query *query)
{
    if (query->end_us > clock_monotonic_us() + (uint64_t)LATER_MS * 1000) {
        timer_start(&query->timer, LATER_MS);
    }
}

/* c-ares may have the answer at once, but the caller hears of it from the loop alone. */
static void note_answer(struct dns_query *query, bool is_enough)
{
    query->n_pending--;
    if (query->is_over) {
        free_if_done(query);
    } else if (query->n_pending == 0) {
        loop_defer(query->dns->loop, &query->task);
    } else if (is_enough) {
        shorten_wait(query);
    }
}

static void add_address(struct dns_addresses *addresses, const struct sockaddr *address)
{
    struct in6_addr in6 = address_of(address);

    for (size_t i = 0; i < addresses->n; i++) {
        if (memcmp(&addresses->list[i], &in6, sizeof in6) == 0) {
            return;
        }
    }
    if (addresses->n < DNS_ADDRESSES_MAX) {
        addresses->list[addresses->n++] = in6;
    }
}

/* Half of the room is for each family. */
static void on_addrinfo(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    struct dns_query *query = arg;
    size_t n_before = query->addresses.n;

    (void)timeouts;
    if (status == ARES_SUCCESS) {
        for (const struct ares_addrinfo_node *node = info->nodes;
             node != NULL && query->addresses.n < n_before + DNS_ADDRESSES_MAX / 2;
             node = node->ai_next) {
            add_address(&query->addresses, node->ai_addr);
        }
    }
    if (info != NULL) {
        ares_freeaddrinfo(info);
    }
    note_answer(query, query->addresses.n > n_before);
}

static void on_srv_message(void *arg, int status, int timeouts, unsigned char *bytes, int size)
{
    struct dns_query *query = arg;

    (void)timeouts;
    if (status == ARES_SUCCESS) {
        query->has_srv = srv_answer_decode(&query->srv, span_of(bytes, (size_t)size));
    } else if (status == ARES_ENODATA || status == ARES_ENOTFOUND) {
        query->srv.ttl_s = UINT32_MAX;
        query->has_srv = true;
    }
    note_answer(query, true);
}

static struct dns_query *start(struct dns *dns, unsigned n_pending, uint32_t timeout_ms, void *arg)
{
    struct dns_query *query = calloc(1, sizeof *query);

    CHECK(query != NULL);
    dns->n_queries++;
    *query = (struct dns_query){
        .dns = dns, .n_pending = n_pending, .task = {.run = run_task}, .arg = arg};
    query->end_us = clock_monotonic_us() + (uint64_t)timeout_ms * 1000;
    timer_init(&query->timer, dns->loop, on_expired, query);
    timer_start(&query->timer, timeout_ms);
    return query;
}

void dns_find_addresses(struct dns_query **out, struct dns *dns, const char *host,
                        uint32_t timeout_ms,
                        void (*done)(void *arg, const struct dns_addresses *addresses), void *arg)
{
    static const int families[] = {AF_INET6, AF_INET};
    struct dns_query *query = start(dns, 2, timeout_ms, arg);

    query->on_addresses = done;
    for (size_t i = 0; i < 2; i++) {
        const struct ares_addrinfo_hints hints = {
            .ai_flags = ARES_AI_NOSORT, .ai_family = families[i], .ai_socktype = SOCK_STREAM};
        ares_getaddrinfo(dns->channel, host, NULL, &hints, on_addrinfo, query);
    }
    watch_timeout(dns);
    *out = query;
}

void dns_find_srv(struct dns_query **out, struct dns *dns, const char *name, uint32_t timeout_ms,
                  void (*done)(void *arg, const struct srv_answer *answer), void *arg)
{
    struct dns_query *query = start(dns, 1, timeout_ms, arg);

    query->on_srv = done;
    ares_query(dns->channel, name, ns_c_in, ns_t_srv, on_srv_message, query);
    watch_timeout(dns);
    *out = query;
}

void dns_cancel(struct dns_query *query)
{
    if (query != NULL) {
        end(query);
        free_if_done(query);
    }
}
