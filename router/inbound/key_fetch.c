#include "inbound/key_fetch.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/arena.h"
#include "proto/check.h"
#include "proto/ident.h"
#include "proto/json.h"
#include "proto/key_document.h"
#include "proto/writer.h"

#include <stdlib.h>
#include <string.h>

enum {
    ARENA_MAX = 4 << 20, /* bytes; for what a document of 64 KiB parses into */
    URL_MAX = 1024,      /* bytes */
};

static const struct span key_path = SPAN_INIT("/_matrix/key/v2/server");

struct key_fetch {
    const struct key_fetch_options *options;
    struct discovery_wait wait;
    struct server_route route;
    size_t place;             /* of the route, that is tried now */
    struct fetch_dials dials; /* of all places, so that none is dialled twice */
    struct fetch *fetch;      /* the running one */
    uint64_t end_us;          /* monotonic */
    void (*done)(void *arg, const struct key_record *record);
    void *arg;
    size_t size;
    char server[IDENT_MAX];
};

static struct span server_of(const struct key_fetch *kf)
{
    return span_of(kf->server, kf->size);
}

static void finish(struct key_fetch *kf, const struct key_record *record)
{
    kf->done(kf->arg, record);
    free(kf);
}

/* `answer` is that of the place that was asked last; NULL: there is none. */
static void note(const struct key_fetch *kf, enum fetch_failure why,
                 const struct fetch_answer *answer)
{
    static const struct server_place nowhere;
    static const struct fetch_answer nothing;
    const struct server_place *place =
        kf->place < kf->route.n ? &kf->route.places[kf->place] : &nowhere;
    const struct fetch_answer *said = answer != NULL ? answer : &nothing;

    metrics_add_by(kf->options->metrics, COUNTER_BY_key_fetch_failures_total, why, 1);
    log_event(LOG_INFO, "key_fetch_failed", F_SPAN("server", server_of(kf)),
              F_STR("why", fetch_failure_label(why)), F_SPAN("detail", said->detail),
              F_I64("status", said->status), F_STR("host", place->host),
              F_U64("port", place->port));
}

static void fail(struct key_fetch *kf, enum fetch_failure why, const struct fetch_answer *answer)
{
    note(kf, why, answer);
    finish(kf, NULL);
}

static uint32_t ms_left(const struct key_fetch *kf)
{
    uint64_t now_us = clock_monotonic_us();

    return now_us < kf->end_us ? (uint32_t)((kf->end_us - now_us) / 1000) : 0;
}

static void read_document(struct key_fetch *kf, struct arena *arena,
                          const struct fetch_answer *answer)
{
    struct key_document document;
    struct key_record record;

    if (!key_document_decode(&document, arena, answer->body, server_of(kf))) {
        fail(kf, FETCH_FAILURE_DOCUMENT, answer);
    } else if (!key_record_from_document(&record, &document, clock_ms(),
                                         kf->options->max_valid_ms)) {
        fail(kf, FETCH_FAILURE_NO_VALID_KEY, answer);
    } else {
        finish(kf, &record);
    }
}

static bool ask_place(struct key_fetch *kf);

/* The next place is tried only if nobody was there: whoever has answered is not asked again. */
static bool ask_next_place(struct key_fetch *kf, const struct fetch_answer *answer)
{
    if (answer->was_connected || kf->place + 1 >= kf->route.n) {
        return false;
    }
    kf->place++;
    return ask_place(kf);
}

static void on_document(void *arg, const struct fetch_answer *answer)
{
    struct key_fetch *kf = arg;
    struct arena arena;

    kf->fetch = NULL;
    if (answer->failure == FETCH_FAILURE_NONE && answer->status == 200) {
        arena_init(&arena, ARENA_MAX);
        read_document(kf, &arena, answer);
        arena_fini(&arena);
    } else if (!ask_next_place(kf, answer)) {
        fail(kf, answer->failure == FETCH_FAILURE_NONE ? FETCH_FAILURE_STATUS : answer->failure,
             answer);
    }
}

/* False: there is no time left. */
static bool ask(struct key_fetch *kf, const struct writer *url, struct span host,
                struct fetch_request request)
{
    const struct http_header header = {SPAN_LIT("Host"), host};
    uint32_t left = ms_left(kf);

    if (left == 0) {
        return false;
    }
    CHECK(!url->failed);
    request.url = url->data;
    request.headers = &header;
    request.n_headers = 1;
    request.timeout_ms = left;
    request.max_bytes = KEY_DOCUMENT_SIZE_MAX;
    enum err result = fetch_start(&kf->fetch, kf->options->fetcher, &request, on_document, kf);
    CHECK(result == ERR_OK); /* a server name makes a good header */
    return true;
}

static bool ask_place(struct key_fetch *kf)
{
    struct fetch_request request = {.dials = &kf->dials};
    AUTO(writer_fini) struct writer url;

    writer_init(&url, URL_MAX);
    server_route_write_url(&url, &kf->route, key_path);
    discovery_fill_request(&request, kf->options->discovery, &kf->route, kf->place);
    return ask(kf, &url, span_str(kf->route.host_header), request);
}

static bool ask_upstream(struct key_fetch *kf, const char *host, uint16_t port)
{
    struct fetch_request request = {.is_internal = true};
    bool is_ipv6 = host[0] != '[' && strchr(host, ':') != NULL;
    AUTO(writer_fini) struct writer url;

    writer_init(&url, URL_MAX);
    writer_bytes(&url, SPAN_LIT("http://"));
    writer_bytes(&url, is_ipv6 ? SPAN_LIT("[") : SPAN_LIT(""));
    writer_bytes(&url, span_str(host));
    writer_bytes(&url, is_ipv6 ? SPAN_LIT("]:") : SPAN_LIT(":"));
    writer_u64(&url, port);
    writer_bytes(&url, key_path);
    writer_char(&url, '\0');
    return ask(kf, &url, server_of(kf), request);
}

static void on_route(void *arg, const struct server_route *route)
{
    struct key_fetch *kf = arg;

    if (route == NULL) {
        fail(kf, FETCH_FAILURE_NO_SERVICE, NULL);
        return;
    }
    kf->route = *route;
    if (!ask_place(kf)) {
        fail(kf, FETCH_FAILURE_TIMEOUT, NULL);
    }
}

/* DNS does not care for the case of letters, but a key document's name must be the same byte for
 * byte. Nobody's fetch is spent on the many spellings of one name. */
static bool is_lower(struct span name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (ascii_lower(name.data[i]) != name.data[i]) {
            return false;
        }
    }
    return true;
}

static enum fetch_failure begin(struct key_fetch *kf)
{
    const char *host = NULL;
    uint16_t port = 0;

    if (kf->options->upstream_of != NULL &&
        kf->options->upstream_of(kf->options->arg, server_of(kf), &host, &port)) {
        return ask_upstream(kf, host, port) ? FETCH_FAILURE_NONE : FETCH_FAILURE_TIMEOUT;
    }
    if (!is_lower(server_of(kf))) {
        return FETCH_FAILURE_NAME;
    }
    discovery_find(kf->options->discovery, &kf->wait, server_of(kf), on_route, kf);
    return FETCH_FAILURE_NONE;
}

enum err key_fetch_start(struct key_fetch **out, const struct key_fetch_options *options,
                         struct span server,
                         void (*done)(void *arg, const struct key_record *record), void *arg)
{
    struct key_fetch *kf = calloc(1, sizeof *kf);

    CHECK(kf != NULL && server_name_is_valid(server)); /* it goes into a URL */
    kf->options = options;
    kf->end_us = clock_monotonic_us() + (uint64_t)options->timeout_ms * 1000;
    kf->done = done;
    kf->arg = arg;
    kf->size = server.size;
    memcpy(kf->server, server.data, server.size);
    enum fetch_failure why = begin(kf);
    if (why != FETCH_FAILURE_NONE) {
        note(kf, why, NULL);
        free(kf);
        return ERR_NOT_FOUND;
    }
    *out = kf;
    return ERR_OK;
}

void key_fetch_cancel(struct key_fetch *fetch)
{
    discovery_cancel(&fetch->wait);
    fetch_cancel(fetch->fetch);
    free(fetch);
}
