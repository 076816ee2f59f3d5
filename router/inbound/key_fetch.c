#include "inbound/key_fetch.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/arena.h"
#include "proto/check.h"
#include "proto/ident.h"
#include "proto/json.h"
#include "proto/key_document.h"
#include "proto/writer.h"

#include <arpa/inet.h>

#include <stdlib.h>

enum {
    DEFAULT_PORT = 8448,
    ARENA_MAX = 4 << 20, /* bytes; for what a document of 64 KiB parses into */
    URL_MAX = 1024,      /* bytes */
};

static const struct span key_path = SPAN_INIT("/_matrix/key/v2/server");
static const struct span well_known_path = SPAN_INIT("/.well-known/matrix/server");

struct key_fetch {
    const struct key_fetch_options *options;
    struct fetch *fetch; /* the running one */
    uint64_t end_us;     /* monotonic */
    void (*done)(void *arg, const struct key_record *record);
    void *arg;
    size_t size;
    char server[IDENT_MAX];
};

/* A server name's parts. */
struct address {
    bool is_literal; /* an IP address */
    bool has_port;
};

static struct span server_of(const struct key_fetch *kf)
{
    return span_of(kf->server, kf->size);
}

static struct address address_of_name(struct span name)
{
    char host[INET_ADDRSTRLEN];
    struct in_addr ipv4;

    if (name.data[0] == '[') {
        return (struct address){.is_literal = true, .has_port = name.data[name.size - 1] != ']'};
    }
    const char *colon = memchr(name.data, ':', name.size);
    size_t host_size = colon == NULL ? name.size : (size_t)(colon - name.data);
    struct address address = {.has_port = colon != NULL};
    if (host_size < sizeof host) {
        memcpy(host, name.data, host_size);
        host[host_size] = '\0';
        address.is_literal = inet_pton(AF_INET, host, &ipv4) == 1;
    }
    return address;
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

static void on_document(void *arg, enum err result, int status, struct span body)
{
    struct key_fetch *kf = arg;
    struct arena arena;

    kf->fetch = NULL;
    if (result != ERR_OK) {
        fail(kf, err_label(result), status);
    } else if (status != 200) {
        fail(kf, "status", status);
    } else {
        arena_init(&arena, ARENA_MAX);
        read_document(kf, &arena, body);
        arena_fini(&arena);
    }
}

/* libcurl takes a timeout of 0 for none. */
static enum err ask(struct key_fetch *kf, struct writer *url, struct fetch_request *request,
                    void (*done)(void *arg, enum err result, int status, struct span body))
{
    uint32_t left = ms_left(kf);

    writer_char(url, '\0');
    if (url->failed) {
        return err_raise(ERR_CONFIG, "the address of a server's keys is too long");
    }
    request->url = url->data;
    request->timeout_ms = request->timeout_ms < left ? request->timeout_ms : left;
    return request->timeout_ms == 0
               ? ERR_TIMEOUT
               : fetch_start(&kf->fetch, kf->options->fetcher, request, done, kf);
}

/* Over TLS, at the port of the name or the default. The certificate is checked for this name. */
static enum err ask_named(struct key_fetch *kf, struct span name)
{
    const struct key_fetch_options *options = kf->options;
    const struct http_header host = {SPAN_LIT("Host"), name};
    struct fetch_request request = {.headers = &host,
                                    .n_headers = 1,
                                    .timeout_ms = options->timeout_ms,
                                    .max_bytes = KEY_DOCUMENT_SIZE_MAX,
                                    .connect_to = options->connect_to,
                                    .ca_file = options->ca_file,
                                    .allow_address = options->allow_address,
                                    .allow_arg = options->arg};
    AUTO(writer_fini) struct writer url;

    writer_init(&url, URL_MAX);
    writer_bytes(&url, SPAN_LIT("https://"));
    writer_bytes(&url, name);
    if (!address_of_name(name).has_port) {
        writer_char(&url, ':');
        writer_u64(&url, DEFAULT_PORT);
    }
    writer_bytes(&url, key_path);
    return ask(kf, &url, &request, on_document);
}

static enum err ask_upstream(struct key_fetch *kf, const char *host, uint16_t port)
{
    const struct http_header header = {SPAN_LIT("Host"), server_of(kf)};
    struct fetch_request request = {.headers = &header,
                                    .n_headers = 1,
                                    .timeout_ms = kf->options->timeout_ms,
                                    .max_bytes = KEY_DOCUMENT_SIZE_MAX,
                                    .allow_private = true};
    bool is_ipv6 = host[0] != '[' && strchr(host, ':') != NULL;
    AUTO(writer_fini) struct writer url;

    writer_init(&url, URL_MAX);
    writer_bytes(&url, SPAN_LIT("http://"));
    writer_bytes(&url, is_ipv6 ? SPAN_LIT("[") : SPAN_LIT(""));
    writer_bytes(&url, span_str(host));
    writer_bytes(&url, is_ipv6 ? SPAN_LIT("]:") : SPAN_LIT(":"));
    writer_u64(&url, port);
    writer_bytes(&url, key_path);
    return ask(kf, &url, &request, on_document);
}

/* The name that a .well-known document delegates to; NULL data if it is none. */
static struct span delegated_name(struct arena *arena, struct span body)
{
    const struct json_value *root = NULL;

    if (json_parse(&root, arena, body) != JSON_OK) {
        return (struct span){0};
    }
    struct span name = json_get_string(root, SPAN_LIT("m.server"));
    return server_name_is_valid(name) ? name : (struct span){0};
}

/* Without a usable answer the name stands for itself. */
static void on_well_known(void *arg, enum err result, int status, struct span body)
{
    struct key_fetch *kf = arg;
    struct span name = server_of(kf);
    struct arena arena;

    kf->fetch = NULL;
    arena_init(&arena, ARENA_MAX);
    if (result == ERR_OK && status == 200) {
        struct span delegated = delegated_name(&arena, body);
        name = delegated.data != NULL ? delegated : name;
    }
    result = ask_named(kf, name);
    arena_fini(&arena);
    if (result != ERR_OK) {
        fail(kf, err_label(result), 0);
    }
}

static enum err ask_well_known(struct key_fetch *kf)
{
    const struct key_fetch_options *options = kf->options;
    struct fetch_request request = {.timeout_ms = WELL_KNOWN_MS,
                                    .max_bytes = WELL_KNOWN_SIZE_MAX,
                                    .connect_to = options->connect_to,
                                    .ca_file = options->ca_file,
                                    .max_redirects = WELL_KNOWN_REDIRECTS_MAX,
                                    .allow_address = options->allow_address,
                                    .allow_arg = options->arg};
    AUTO(writer_fini) struct writer url;

    writer_init(&url, URL_MAX);
    writer_bytes(&url, SPAN_LIT("https://"));
    writer_bytes(&url, server_of(kf));
    writer_bytes(&url, well_known_path);
    return ask(kf, &url, &request, on_well_known);
}

/* Source: server-server API, "Resolving server names"; without the steps that look up SRV. */
static enum err begin(struct key_fetch *kf)
{
    struct address address = address_of_name(server_of(kf));
    const char *host = NULL;
    uint16_t port = 0;

    if (kf->options->upstream_of != NULL &&
        kf->options->upstream_of(kf->options->arg, server_of(kf), &host, &port)) {
        return ask_upstream(kf, host, port);
    }
    return address.is_literal || address.has_port ? ask_named(kf, server_of(kf))
                                                  : ask_well_known(kf);
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
    fetch_cancel(fetch->fetch);
    free(fetch);
}
