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

static void fail(struct key_fetch *kf, const char *why, int status)
{
    log_event(LOG_INFO, "key_fetch_failed", F_SPAN("server", server_of(kf)), F_STR("why", why),
              F_I64("status", status));
    finish(kf, NULL);
}

static uint32_t ms_left(const struct key_fetch *kf)
{
    uint64_t now_us = clock_monotonic_us();

    return now_us < kf->end_us ? (uint32_t)((kf->end_us - now_us) / 1000) : 0;
}

static void read_document(struct key_fetch *kf, struct arena *arena, struct span body)
{
    struct key_document document;
    struct key_record record;

    if (!key_document_decode(&document, arena, body, server_of(kf))) {
        fail(kf, "document", 200);
    } else if (!key_record_from_document(&record, &document, clock_ms(),
                                         kf->options->max_valid_ms)) {
        fail(kf, "no_valid_key", 200);
    } else {
        finish(kf, &record);
    }
}

static enum err ask_place(struct key_fetch *kf);

/* The next place is tried only if nobody was there: whoever has answered is not asked again. */
static void on_document(void *arg, const struct fetch_answer *answer)
{
    struct key_fetch *kf = arg;
    struct arena arena;

    kf->fetch = NULL;
    if (answer->result == ERR_OK && answer->status == 200) {
        arena_init(&arena, ARENA_MAX);
        read_document(kf, &arena, answer->body);
        arena_fini(&arena);
        return;
    }
    if (!answer->was_connected && ++kf->place < kf->route.n && ask_place(kf) == ERR_OK) {
        return;
    }
    fail(kf, answer->result == ERR_OK ? "status" : err_label(answer->result), answer->status);
}

static enum err ask(struct key_fetch *kf, struct writer *url, struct span host,
                    struct fetch_request request)
{
    const struct http_header header = {SPAN_LIT("Host"), host};
    uint32_t left = ms_left(kf);

    if (url->failed) {
        return err_raise(ERR_CONFIG, "the address of a server's keys is too long");
    }
    request.url = url->data;
    request.headers = &header;
    request.n_headers = 1;
    request.timeout_ms = left;
    request.max_bytes = KEY_DOCUMENT_SIZE_MAX;
    return left == 0 ? ERR_TIMEOUT
                     : fetch_start(&kf->fetch, kf->options->fetcher, &request, on_document, kf);
}

static enum err ask_place(struct key_fetch *kf)
{
    struct fetch_request request = {.dials = &kf->dials};
    AUTO(writer_fini) struct writer url;

    writer_init(&url, URL_MAX);
    server_route_write_url(&url, &kf->route, key_path);
    discovery_fill_request(&request, kf->options->discovery, &kf->route, kf->place);
    return ask(kf, &url, span_str(kf->route.host_header), request);
}

static enum err ask_upstream(struct key_fetch *kf, const char *host, uint16_t port)
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
        fail(kf, "no_service", 0);
        return;
    }
    kf->route = *route;
    enum err result = ask_place(kf);
    if (result != ERR_OK) {
        fail(kf, err_label(result), 0);
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

static enum err begin(struct key_fetch *kf)
{
    const char *host = NULL;
    uint16_t port = 0;

    if (kf->options->upstream_of != NULL &&
        kf->options->upstream_of(kf->options->arg, server_of(kf), &host, &port)) {
        return ask_upstream(kf, host, port);
    }
    if (!is_lower(server_of(kf))) {
        return ERR_NOT_FOUND;
    }
    discovery_find(kf->options->discovery, &kf->wait, server_of(kf), on_route, kf);
    return ERR_OK;
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
    enum err result = begin(kf);
    if (result != ERR_OK) {
        free(kf);
        return result;
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
