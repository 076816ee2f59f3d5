#include "net/discovery.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/table.h"
#include "net/address.h"
#include "proto/check.h"
#include "proto/well_known.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_PORT = 8448,
    SRV_MS = DISCOVERY_MS - DISCOVERY_WELL_KNOWN_MS,
    SRV_LEAST_S = 60, /* that records are kept, whatever their TTL */
    SRV_MOST_S = 3600,
    SRV_NONE_S = 600, /* that it is remembered that there are none */
    KEEP_DEFAULT_S = 24 * 3600,
    KEEP_LEAST_S = 5 * 60,
    KEEP_MOST_S = 48 * 3600,
    KEEP_FAILURE_MOST_S = 3600,
    DOUBLINGS_MAX = 4,   /* of the time between failures */
    ARENA_MAX = 4 << 20, /* bytes; for what a .well-known parses into */
    NAME_MAX_SIZE = 512, /* bytes of a URL or a service's name */
    N_SERVICES = 2,
};

static const char *const services[N_SERVICES] = {"_matrix-fed._tcp.", "_matrix._tcp."};
static const uint64_t us_per_s = UINT64_C(1000) * 1000;

struct discovery {
    struct discovery_options options;
    struct table by_name; /* of struct found */
    struct list by_age;   /* oldest first */
};

/* What is under way for a name; freed when it is over. */
struct search {
    struct list waiting;
    struct fetch *fetch;
    struct dns_query *queries[N_SERVICES];
    struct srv_answer answers[N_SERVICES];
    bool has_answer[N_SERVICES];
};

/* What is known of a server name that has no port and is no address. */
struct found {
    struct link by_age;
    struct discovery *discovery;
    struct search *search; /* NULL: none is under way */
    uint64_t well_known_until_us;
    char *delegated;             /* NULL: the name stands for itself */
    uint64_t delegated_until_us; /* as long as it may be kept if it cannot be had anew */
    unsigned n_failures;         /* in a row */
    uint64_t places_until_us;
    struct server_place *places; /* NULL and n_places 0: there is no such service */
    size_t n_places;
    char name[];
};

struct name_parts {
    struct span host; /* without brackets */
    bool is_address;
    bool has_port;
    uint16_t port; /* the default if there is none */
};

static bool is_address(struct span host)
{
    char text[IDENT_MAX + 1];
    struct in6_addr address;

    memcpy(text, host.data, host.size);
    text[host.size] = '\0';
    return address_parse(&address, text);
}

/* Of a valid server name. False if its port or IPv6 address is none. */
static bool split_name(struct name_parts *out, struct span name)
{
    size_t host = name.size;
    uint32_t port = 0;

    while (host > 0 && name.data[host - 1] >= '0' && name.data[host - 1] <= '9') {
        host--;
    }
    out->has_port = host > 1 && host < name.size && name.data[host - 1] == ':' &&
                    (name.data[0] != '[' || name.data[host - 2] == ']');
    for (size_t i = host; i < name.size && out->has_port; i++) {
        port = port * 10 + (uint32_t)(name.data[i] - '0');
    }
    out->host = out->has_port ? span_of(name.data, host - 1) : name;
    bool is_bracketed = name.data[0] == '[';
    if (is_bracketed) {
        out->host = span_of(out->host.data + 1, out->host.size - 2);
    }
    out->is_address = is_address(out->host);
    out->port = out->has_port ? (uint16_t)port : DEFAULT_PORT;
    return (!out->has_port || (port > 0 && port <= UINT16_MAX)) &&
           (!is_bracketed ||
            (out->is_address && memchr(out->host.data, ':', out->host.size) != NULL));
}

static uint64_t now_us(const struct discovery *discovery)
{
    return discovery->options.now_us != NULL ? discovery->options.now_us(discovery->options.arg)
                                             : clock_monotonic_us();
}

static uint8_t random_byte(void)
{
    uint8_t byte;

    random_bytes(&byte, sizeof byte);
    return byte;
}

/* 10 % more or less. */
static uint64_t jitter(uint64_t seconds, uint8_t chance)
{
    return seconds - seconds / 10 + seconds * chance / (5 * UINT64_C(255));
}

static uint64_t clamp(uint64_t value, uint64_t least, uint64_t most)
{
    if (value < least) {
        return least;
    }
    return value > most ? most : value;
}

uint64_t discovery_keep_s(int64_t lifetime_s, uint8_t chance)
{
    uint64_t seconds =
        lifetime_s < 0 ? KEEP_DEFAULT_S : clamp((uint64_t)lifetime_s, KEEP_LEAST_S, KEEP_MOST_S);

    return clamp(jitter(seconds, chance), KEEP_LEAST_S, KEEP_MOST_S);
}

uint64_t discovery_keep_failure_s(bool is_certain, unsigned n_failures, uint8_t chance)
{
    unsigned doublings = n_failures > 0 ? n_failures - 1 : 0;
    uint64_t seconds = (uint64_t)KEEP_LEAST_S
                       << (doublings < DOUBLINGS_MAX ? doublings : DOUBLINGS_MAX);

    return clamp(jitter(is_certain ? KEEP_FAILURE_MOST_S : seconds, chance), KEEP_LEAST_S,
                 KEEP_FAILURE_MOST_S);
}

/* ---- what is remembered ---- */

static void set_places(struct found *found, struct server_place *places, size_t n,
                       uint64_t until_us)
{
    free(found->places);
    found->places = places;
    found->n_places = n;
    found->places_until_us = until_us;
}

static void set_one_place(struct found *found, struct span host, uint16_t port, uint64_t until_us)
{
    struct server_place *place = calloc(1, sizeof *place);

    CHECK(place != NULL && host.size < sizeof place->host);
    memcpy(place->host, host.data, host.size);
    place->port = port;
    set_places(found, place, 1, until_us);
}

static void end_search(struct search *search)
{
    fetch_cancel(search->fetch);
    for (size_t i = 0; i < N_SERVICES; i++) {
        dns_cancel(search->queries[i]);
    }
    free(search);
}

static void forget(struct found *found)
{
    CHECK(table_remove(&found->discovery->by_name, span_str(found->name)) == found);
    list_remove(&found->by_age);
    if (found->search != NULL) {
        end_search(found->search);
    }
    free(found->delegated);
    free(found->places);
    free(found);
}

static void make_room(struct discovery *discovery)
{
    struct link *link = list_first(&discovery->by_age);

    while (discovery->by_name.n >= discovery->options.max_names && link != NULL) {
        struct found *found = LIST_ENTRY(link, struct found, by_age);
        link = list_next(&discovery->by_age, link);
        if (found->search == NULL) {
            forget(found);
        }
    }
}

static struct found *found_of(struct discovery *discovery, struct span name)
{
    struct found *found = table_get(&discovery->by_name, name);

    if (found == NULL) {
        make_room(discovery);
        found = calloc(1, sizeof *found + name.size + 1);
        CHECK(found != NULL);
        found->discovery = discovery;
        memcpy(found->name, name.data, name.size);
        CHECK(table_put(&discovery->by_name, name, found) == NULL);
    } else {
        list_remove(&found->by_age);
    }
    list_append(&discovery->by_age, &found->by_age);
    return found;
}

/* ---- routes ---- */

static void set_text(char out[IDENT_MAX + 1], struct span text)
{
    CHECK(text.size <= IDENT_MAX);
    memcpy(out, text.data, text.size);
    out[text.size] = '\0';
}

static void set_names(struct server_route *out, struct span name)
{
    struct name_parts parts;
    bool is_valid = split_name(&parts, name);

    CHECK(is_valid);
    set_text(out->host_header, name);
    set_text(out->tls_name, parts.host);
    out->is_address = parts.is_address;
}

/* The delegated name, if there is one. */
static struct span name_of(const struct found *found)
{
    return span_str(found->delegated != NULL ? found->delegated : found->name);
}

static void answer(struct discovery_wait *wait, const struct found *found)
{
    struct server_route route = {.n = found->n_places};

    if (route.n == 0) {
        wait->on_done(wait->arg, NULL);
        return;
    }
    set_names(&route, name_of(found));
    memcpy(route.places, found->places, found->n_places * sizeof *found->places);
    wait->on_done(wait->arg, &route);
}

/* A name that says itself where to go. */
static void answer_directly(struct discovery_wait *wait, const struct name_parts *parts)
{
    struct server_route route = {.n = 1};

    set_names(&route, span_str(wait->name));
    set_text(route.places[0].host, parts->host);
    route.places[0].port = parts->port;
    wait->on_done(wait->arg, &route);
}

/* Whoever is called may find or cancel, both of which only touch the lists. */
static void answer_all(struct found *found)
{
    struct search *search = found->search;
    struct link *link;

    while ((link = list_take_first(&search->waiting)) != NULL) {
        answer(LIST_ENTRY(link, struct discovery_wait, link), found);
    }
    found->search = NULL;
    end_search(search);
}

/* ---- SRV ---- */

/* Those records that lead somewhere, in order. */
static void take_records(struct found *found, struct srv_answer *records, uint64_t now)
{
    struct server_place *places = calloc(records->n, sizeof *places);
    uint64_t seed;
    size_t n = 0;

    CHECK(places != NULL);
    random_bytes(&seed, sizeof seed);
    srv_answer_order(records, seed);
    for (size_t i = 0; i < records->n; i++) {
        const struct srv_record *record = &records->records[i];
        if (record->target[0] != '\0' && record->port != 0) {
            set_text(places[n].host, span_str(record->target));
            places[n++].port = record->port;
        }
    }
    set_places(found, places, n, now + clamp(records->ttl_s, SRV_LEAST_S, SRV_MOST_S) * us_per_s);
}

static void decide(struct found *found)
{
    struct search *search = found->search;
    uint64_t now = now_us(found->discovery);

    for (size_t i = 0; i < N_SERVICES; i++) {
        if (search->has_answer[i] && search->answers[i].n > 0) {
            take_records(found, &search->answers[i], now);
            answer_all(found);
            return;
        }
    }
    bool is_answered = search->has_answer[0] && search->has_answer[1];
    if (!is_answered) {
        log_event(LOG_INFO, "srv_unanswered", F_STR("server", found->name),
                  F_SPAN("asked", name_of(found)));
    }
    set_one_place(found, name_of(found), DEFAULT_PORT,
                  now + (is_answered ? SRV_NONE_S : SRV_LEAST_S) * us_per_s);
    answer_all(found);
}

static void on_records(struct found *found, size_t service, const struct srv_answer *records)
{
    struct search *search = found->search;

    search->queries[service] = NULL;
    search->has_answer[service] = records != NULL;
    if (records != NULL) {
        search->answers[service] = *records;
    }
    if (search->queries[0] == NULL &&
        (search->queries[1] == NULL || (search->has_answer[0] && search->answers[0].n > 0))) {
        decide(found);
    }
}

static void on_first_records(void *arg, const struct srv_answer *records)
{
    on_records(arg, 0, records);
}

static void on_second_records(void *arg, const struct srv_answer *records)
{
    on_records(arg, 1, records);
}

static void find_records(struct found *found)
{
    static void (*const on_done[N_SERVICES])(void *, const struct srv_answer *) = {
        on_first_records, on_second_records};
    char name[NAME_MAX_SIZE];

    for (size_t i = 0; i < N_SERVICES; i++) {
        snprintf(name, sizeof name, "%s%s", services[i], name_of(found).data);
        dns_find_srv(&found->search->queries[i], found->discovery->options.dns, name, SRV_MS,
                     on_done[i], found);
    }
}

static void find_places(struct found *found)
{
    struct name_parts parts;
    bool is_valid = split_name(&parts, name_of(found));

    CHECK(is_valid);
    if (parts.is_address || parts.has_port) {
        set_one_place(found, parts.host, parts.port, UINT64_MAX);
        answer_all(found);
    } else if (found->places_until_us > now_us(found->discovery)) {
        answer_all(found);
    } else {
        find_records(found);
    }
}

/* ---- .well-known ---- */

static void set_delegated(struct found *found, struct span name)
{
    if (found->delegated != NULL && span_equal(span_str(found->delegated), name)) {
        return;
    }
    free(found->delegated);
    found->delegated = name.data == NULL ? NULL : strndup(name.data, name.size);
    CHECK(name.data == NULL || found->delegated != NULL);
    found->places_until_us = 0;
}

static void note_failure(struct found *found, bool is_certain, uint64_t now)
{
    found->n_failures++;
    found->well_known_until_us =
        now + discovery_keep_failure_s(is_certain, found->n_failures, random_byte()) * us_per_s;
    if (is_certain || found->delegated_until_us <= now) {
        set_delegated(found, (struct span){0});
    }
}

/* False if nothing usable is said. */
static bool take_well_known(struct found *found, const struct fetch_answer *answer, uint64_t now)
{
    struct name_parts parts;
    struct arena arena;
    struct span name;

    arena_init(&arena, ARENA_MAX);
    bool is_usable = well_known_decode(&name, &arena, answer->body) && split_name(&parts, name);
    if (is_usable) {
        int64_t lifetime_s =
            http_lifetime_s(answer->cache_control, answer->expires, clock_ms() / 1000);
        found->n_failures = 0;
        found->well_known_until_us = now + discovery_keep_s(lifetime_s, random_byte()) * us_per_s;
        found->delegated_until_us = now + KEEP_MOST_S * us_per_s;
        set_delegated(found, name);
    }
    arena_fini(&arena);
    return is_usable;
}

/* Whether somebody said, by that failure, that there is none. */
static bool is_certain(enum fetch_failure why, const struct fetch_answer *answer)
{
    return why == FETCH_FAILURE_TOO_LARGE || why == FETCH_FAILURE_DOCUMENT ||
           (why == FETCH_FAILURE_STATUS && answer->status < 500 && answer->status != 429);
}

/* That there is none is usual. */
static void log_failure(const struct found *found, enum fetch_failure why,
                        const struct fetch_answer *answer)
{
    bool is_none = why == FETCH_FAILURE_STATUS && answer->status >= 400 && is_certain(why, answer);

    log_event(is_none ? LOG_DEBUG : LOG_INFO, "well_known_failed", F_STR("server", found->name),
              F_STR("why", fetch_failure_label(why)), F_SPAN("detail", answer->detail),
              F_I64("status", answer->status), F_SPAN("used", name_of(found)));
}

static void on_well_known(void *arg, const struct fetch_answer *answer)
{
    struct found *found = arg;
    enum fetch_failure why = answer->failure;
    uint64_t now = now_us(found->discovery);

    found->search->fetch = NULL;
    if (why == FETCH_FAILURE_NONE && answer->status != 200) {
        why = FETCH_FAILURE_STATUS;
    } else if (why == FETCH_FAILURE_NONE && !take_well_known(found, answer, now)) {
        why = FETCH_FAILURE_DOCUMENT;
    }
    if (why != FETCH_FAILURE_NONE) {
        note_failure(found, is_certain(why, answer), now);
        log_failure(found, why, answer);
    }
    find_places(found);
}

static void ask_well_known(struct found *found)
{
    const struct discovery_options *options = &found->discovery->options;
    char url[NAME_MAX_SIZE];
    struct fetch_request request = {.url = url,
                                    .timeout_ms = DISCOVERY_WELL_KNOWN_MS,
                                    .max_bytes = WELL_KNOWN_SIZE_MAX,
                                    .connect_to = options->connect_to,
                                    .ca_file = options->ca_file,
                                    .max_redirects = DISCOVERY_REDIRECTS_MAX,
                                    .allow_address = options->allow_address,
                                    .allow_arg = options->arg};

    snprintf(url, sizeof url, "https://%s/.well-known/matrix/server", found->name);
    enum err result =
        fetch_start(&found->search->fetch, options->fetcher, &request, on_well_known, found);
    CHECK(result == ERR_OK); /* there are no headers that could be wrong */
}

/* ---- waiting ---- */

static void search_for(struct discovery_wait *wait, struct found *found)
{
    uint64_t now = now_us(wait->discovery);
    bool is_fresh = found->well_known_until_us > now;

    if (found->search != NULL) {
        list_append(&found->search->waiting, &wait->link);
        return;
    }
    if (is_fresh && found->places_until_us > now) {
        answer(wait, found);
        return;
    }
    found->search = calloc(1, sizeof *found->search);
    CHECK(found->search != NULL);
    list_init(&found->search->waiting);
    list_append(&found->search->waiting, &wait->link);
    if (is_fresh) {
        find_places(found);
    } else {
        ask_well_known(found);
    }
}

static void run_task(struct loop_task *task)
{
    struct discovery_wait *wait = LIST_ENTRY(task, struct discovery_wait, task);
    struct span name = span_str(wait->name);
    struct name_parts parts;

    if (!split_name(&parts, name)) {
        wait->on_done(wait->arg, NULL);
    } else if (parts.is_address || parts.has_port) {
        answer_directly(wait, &parts);
    } else {
        search_for(wait, found_of(wait->discovery, name));
    }
}

void discovery_find(struct discovery *discovery, struct discovery_wait *wait, struct span server,
                    void (*on_done)(void *arg, const struct server_route *route), void *arg)
{
    CHECK(server_name_is_valid(server)); /* it goes into URLs */
    *wait = (struct discovery_wait){
        .task = {.run = run_task}, .discovery = discovery, .on_done = on_done, .arg = arg};
    set_text(wait->name, server);
    loop_defer(discovery->options.loop, &wait->task);
}

void discovery_cancel(struct discovery_wait *wait)
{
    loop_task_cancel(&wait->task);
    list_remove(&wait->link);
}

void server_route_write_url(struct writer *out, const struct server_route *route, struct span path)
{
    bool is_ipv6 = route->is_address && strchr(route->tls_name, ':') != NULL;

    writer_bytes(out, is_ipv6 ? SPAN_LIT("https://[") : SPAN_LIT("https://"));
    writer_bytes(out, span_str(route->tls_name));
    writer_bytes(out, is_ipv6 ? SPAN_LIT("]") : SPAN_LIT(""));
    writer_bytes(out, path);
    writer_char(out, '\0');
}

void discovery_fill_request(struct fetch_request *out, const struct discovery *discovery,
                            const struct server_route *route, size_t place)
{
    const struct discovery_options *options = &discovery->options;

    CHECK(place < route->n);
    out->dial_host = route->places[place].host;
    out->dial_port = route->places[place].port;
    out->connect_to = options->connect_to;
    out->ca_file = options->ca_file;
    out->allow_address = options->allow_address;
    out->allow_arg = options->arg;
}

struct discovery *discovery_new(const struct discovery_options *options)
{
    struct discovery *discovery = calloc(1, sizeof *discovery);

    CHECK(discovery != NULL);
    discovery->options = *options;
    if (options->max_names == 0) {
        discovery->options.max_names = DISCOVERY_NAMES_MAX;
    }
    table_init(&discovery->by_name);
    list_init(&discovery->by_age);
    return discovery;
}

void discovery_free(struct discovery *discovery)
{
    struct found *found;

    if (discovery == NULL) {
        return;
    }
    struct table_iter iter = table_iterate(&discovery->by_name);
    while ((found = table_next(&iter, NULL)) != NULL) {
        CHECK(found->search == NULL || list_is_empty(&found->search->waiting));
        forget(found);
    }
    table_fini(&discovery->by_name);
    free(discovery);
}

size_t discovery_n_names(const struct discovery *discovery)
{
    return discovery->by_name.n;
}
