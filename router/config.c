#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_check.h"
#include "config_lines.h"
#include "config_yaml.h"
#include "proto/check.h"
#include "proto/ident.h"

/* The state of one load. */
struct load {
    struct config *config;
    struct config_problems problems;
    struct config_lines lines;
};

/* Reports that the value of a path is wrong. */
static void wrong(struct load *l, const char *path, const char *why)
{
    config_problem(&l->problems, config_lines_find(&l->lines, path), "%s: %s", path, why);
}

static void missing(struct load *l, const char *path)
{
    wrong(l, path, "missing");
}

/* Zeroed room in the config's memory; NULL, with a problem, beyond CONFIG_MEMORY_MAX. */
static void *room(struct load *l, size_t count, size_t size)
{
    void *memory = arena_calloc(&l->config->memory, count > 0 ? count : 1, size);

    if (memory == NULL) {
        config_problem(&l->problems, 0, "too large");
    }
    return memory;
}

static const char *copy_text(struct load *l, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = room(l, n, 1);

    if (copy != NULL) {
        memcpy(copy, text, n);
    }
    return copy;
}

/* A required text that must not be empty. */
static const char *take_text(struct load *l, const char *path, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        missing(l, path);
        return NULL;
    }
    return copy_text(l, text);
}

/* A required file name, relative to the folder of the configuration file. */
static const char *take_file(struct load *l, const char *path, const char *text)
{
    const char *slash = strrchr(l->problems.file, '/');

    if (text == NULL || text[0] == '\0' || text[0] == '/' || slash == NULL) {
        return take_text(l, path, text);
    }
    size_t folder = (size_t)(slash - l->problems.file) + 1;
    size_t n = strlen(text) + 1;
    char *joined = room(l, folder + n, 1);
    if (joined != NULL) {
        memcpy(joined, l->problems.file, folder);
        memcpy(joined + folder, text, n);
    }
    return joined;
}

static void take_number(struct load *l, uint32_t *out, enum config_number number,
                        const uint32_t *given)
{
    const struct config_number_row *row = config_number_row(number);

    *out = given != NULL ? *given : row->initial;
    if (*out < row->min || *out > row->max) {
        config_problem(&l->problems, config_lines_find(&l->lines, row->path),
                       "%s: %u is not between %u and %u", row->path, *out, row->min, row->max);
    }
}

static void take_address(struct load *l, struct config_address *out, const char *path,
                         const char *text)
{
    if (text == NULL) {
        missing(l, path);
    } else if (!config_address_parse(out, &l->config->memory, text)) {
        wrong(l, path, "expected an IP address and a port, such as 0.0.0.0:8448 or [::]:8448");
    }
}

static void take_networks(struct load *l, struct config_networks *out, const char *path,
                          char *const *given, size_t n)
{
    out->list = room(l, n, sizeof out->list[0]);
    if (out->list == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char at[CONFIG_PATH_MAX];
        const char *why = config_network_parse(&out->list[i], given[i]);
        if (why != NULL) {
            snprintf(at, sizeof at, "%s[%zu]", path, i);
            wrong(l, at, why);
        }
    }
    out->n = n;
}

static void take_certificates(struct load *l, const struct yaml_federation *raw)
{
    struct config *c = l->config;
    size_t n = raw->certificates_count;

    c->listen.federation.certificates = room(l, n, sizeof(struct config_certificate));
    if (c->listen.federation.certificates == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char at[CONFIG_PATH_MAX];
        struct config_certificate *certificate = &c->listen.federation.certificates[i];
        snprintf(at, sizeof at, "listen.federation.certificates[%zu].chain", i);
        certificate->chain = take_file(l, at, raw->certificates[i].chain);
        snprintf(at, sizeof at, "listen.federation.certificates[%zu].key", i);
        certificate->key = take_file(l, at, raw->certificates[i].key);
    }
    c->listen.federation.n_certificates = n;
}

static void take_listen(struct load *l, const struct yaml_listen *raw)
{
    struct config *c = l->config;

    if (raw == NULL || raw->federation == NULL) {
        missing(l, "listen.federation");
        return;
    }
    take_address(l, &c->listen.federation.address, "listen.federation.address",
                 raw->federation->address);
    take_certificates(l, raw->federation);
    if (raw->federation->certificate_folder != NULL) {
        c->listen.federation.certificate_folder = take_file(
            l, "listen.federation.certificate_folder", raw->federation->certificate_folder);
    }
    if (raw->operations != NULL) {
        take_address(l, &c->listen.operations, "listen.operations.address",
                     raw->operations->address);
    }
    if (raw->admin != NULL) {
        c->listen.admin_socket = take_file(l, "listen.admin.socket", raw->admin->socket);
    }
}

/* All as one text, each with a port. */
static void take_dns_servers(struct load *l, const struct yaml_client *raw)
{
    AUTO(writer_fini) struct writer list;

    writer_init(&list, CONFIG_FILE_MAX);
    for (size_t i = 0; i < raw->dns_servers_count; i++) {
        struct config_address address;
        char at[CONFIG_PATH_MAX];
        if (!config_resolver_parse(&address, &l->config->memory, raw->dns_servers[i])) {
            snprintf(at, sizeof at, "federation_client.dns_servers[%zu]", i);
            wrong(l, at, "expected an IP address, perhaps with a port: 127.0.0.1, [::1]:53");
            return;
        }
        bool is_ipv6 = strchr(address.host, ':') != NULL;
        writer_bytes(&list, i > 0 ? SPAN_LIT(",") : SPAN_LIT(""));
        writer_bytes(&list, is_ipv6 ? SPAN_LIT("[") : SPAN_LIT(""));
        writer_bytes(&list, span_str(address.host));
        writer_bytes(&list, is_ipv6 ? SPAN_LIT("]:") : SPAN_LIT(":"));
        writer_u64(&list, address.port);
    }
    writer_char(&list, '\0');
    if (raw->dns_servers_count > 0 && !list.failed) {
        l->config->federation_client.dns_servers = copy_text(l, list.data);
    }
}

static void take_client(struct load *l, const struct yaml_client *raw)
{
    static const struct yaml_client none;
    struct config *c = l->config;

    raw = raw != NULL ? raw : &none;
    if (raw->ca_file != NULL) {
        c->federation_client.ca_file = take_file(l, "federation_client.ca_file", raw->ca_file);
    }
    take_networks(l, &c->federation_client.allow_addresses, "federation_client.allow_addresses",
                  raw->allow_addresses, raw->allow_addresses_count);
    take_dns_servers(l, raw);
}

static const char *take_server_name(struct load *l, const char *path, const char *text)
{
    if (text == NULL) {
        missing(l, path);
        return NULL;
    }
    if (!server_name_is_valid(span_str(text))) {
        wrong(l, path, "not a server name");
        return NULL;
    }
    return copy_text(l, text);
}

static void take_hosts(struct load *l, struct config_server *out, const struct yaml_server *raw,
                       size_t index)
{
    size_t n = raw->hosts_count;

    out->hosts = room(l, n, sizeof out->hosts[0]);
    if (out->hosts == NULL) {
        return;
    }
    out->hosts[0] = out->name;
    for (size_t i = 0; i < n; i++) {
        char at[CONFIG_PATH_MAX];
        snprintf(at, sizeof at, "servers[%zu].hosts[%zu]", index, i);
        out->hosts[i] = take_server_name(l, at, raw->hosts[i]);
    }
    out->n_hosts = n > 0 ? n : 1;
}

static void take_upstreams(struct load *l, struct config_server *out, const struct yaml_server *raw,
                           size_t index)
{
    size_t n = raw->upstreams_count;
    char at[CONFIG_PATH_MAX];

    out->upstreams = room(l, n, sizeof out->upstreams[0]);
    if (n == 0) {
        snprintf(at, sizeof at, "servers[%zu].upstreams", index);
        missing(l, at);
    }
    if (out->upstreams == NULL) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *why =
            config_upstream_parse(&out->upstreams[i], &l->config->memory, raw->upstreams[i]);
        if (why != NULL) {
            snprintf(at, sizeof at, "servers[%zu].upstreams[%zu]", index, i);
            wrong(l, at, why);
        }
    }
    out->n_upstreams = n;
}

static void take_server(struct load *l, struct config_server *out, const struct yaml_server *raw,
                        size_t index)
{
    char at[CONFIG_PATH_MAX];

    snprintf(at, sizeof at, "servers[%zu].name", index);
    out->name = take_server_name(l, at, raw->name);
    take_hosts(l, out, raw, index);
    take_upstreams(l, out, raw, index);
    if (raw->authenticate != NULL) {
        out->authenticate = (enum config_authenticate) * raw->authenticate;
    }
    if (raw->spoofed_sender != NULL) {
        out->spoofed_sender = (enum config_spoofed_sender) * raw->spoofed_sender;
    }
    if (raw->signing != NULL) {
        snprintf(at, sizeof at, "servers[%zu].signing.key_file", index);
        out->signing_key_file = take_file(l, at, raw->signing->key_file);
    }
}

/* One text that must be unique over all servers, and where it stands. */
struct claimed {
    const char *text;
    size_t server, host;
};

static int compare_claimed(const void *a, const void *b)
{
    const struct claimed *x = a;
    const struct claimed *y = b;
    struct span left = span_str(x->text);
    int order = span_compare(left, span_str(y->text));

    if (order == 0) {
        order = x->server < y->server ? -1 : x->server > y->server;
    }
    return order;
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static const char *lower_copy(struct load *l, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = room(l, n, 1);

    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i] = lower(text[i]);
    }
    return copy;
}

/* Reports names (or hosts) that two servers have: requests could not be told apart. */
static void check_unique(struct load *l, struct claimed *claimed, size_t n, bool are_hosts)
{
    if (l->problems.n > 0) {
        return;
    }
    qsort(claimed, n, sizeof claimed[0], compare_claimed);
    for (size_t i = 1; i < n; i++) {
        char at[CONFIG_PATH_MAX];
        if (strcmp(claimed[i - 1].text, claimed[i].text) != 0) {
            continue;
        }
        if (are_hosts) {
            snprintf(at, sizeof at, "servers[%zu].hosts[%zu]", claimed[i].server, claimed[i].host);
        } else {
            snprintf(at, sizeof at, "servers[%zu].name", claimed[i].server);
        }
        wrong(l, at, "is given twice");
    }
}

static void check_names(struct load *l)
{
    const struct config *c = l->config;
    struct claimed *names = room(l, c->n_servers, sizeof names[0]);
    size_t n_hosts = 0;

    for (size_t i = 0; i < c->n_servers; i++) {
        n_hosts += c->servers[i].n_hosts;
    }
    struct claimed *hosts = room(l, n_hosts, sizeof hosts[0]);
    n_hosts = 0;
    for (size_t i = 0; i < c->n_servers && l->problems.n == 0; i++) {
        names[i] = (struct claimed){lower_copy(l, c->servers[i].name), i, 0};
        for (size_t k = 0; k < c->servers[i].n_hosts && l->problems.n == 0; k++) {
            hosts[n_hosts++] = (struct claimed){lower_copy(l, c->servers[i].hosts[k]), i, k};
        }
    }
    check_unique(l, names, c->n_servers, false);
    check_unique(l, hosts, n_hosts, true);
}

static void take_servers(struct load *l, const struct yaml_config *raw)
{
    struct config *c = l->config;

    c->servers = room(l, raw->servers_count, sizeof c->servers[0]);
    if (raw->servers_count == 0) {
        missing(l, "servers");
    }
    if (c->servers == NULL) {
        return;
    }
    for (size_t i = 0; i < raw->servers_count; i++) {
        take_server(l, &c->servers[i], &raw->servers[i], i);
    }
    c->n_servers = raw->servers_count;
    if (l->problems.n == 0) {
        check_names(l);
    }
}

static void take_numbers(struct load *l, const struct yaml_config *raw)
{
    static const struct yaml_memory no_memory;
    static const struct yaml_keys no_keys;
    static const struct yaml_lists no_lists;
    static const struct yaml_upstream no_upstream;
    struct config *c = l->config;
    const struct yaml_memory *memory = raw->memory != NULL ? raw->memory : &no_memory;
    const struct yaml_keys *keys = raw->keys != NULL ? raw->keys : &no_keys;
    const struct yaml_lists *lists = raw->lists != NULL ? raw->lists : &no_lists;
    const struct yaml_upstream *upstream = raw->upstream != NULL ? raw->upstream : &no_upstream;

    take_number(l, &c->workers, CONFIG_WORKERS, raw->workers);
    take_number(l, &c->in_flight.request_bytes, CONFIG_MEMORY_REQUEST_BYTES, memory->request_bytes);
    take_number(l, &c->keys.fetches_per_s, CONFIG_KEYS_FETCHES_PER_S, keys->fetches_per_s);
    take_number(l, &c->lists.max_age_s, CONFIG_LISTS_MAX_AGE_S, lists->max_age_s);
    take_number(l, &c->lists.reads_per_s, CONFIG_LISTS_READS_PER_S, lists->reads_per_s);
    take_number(l, &c->lists.wait_ms, CONFIG_LISTS_WAIT_MS, lists->wait_ms);
    take_number(l, &c->lists.settle_ms, CONFIG_LISTS_SETTLE_MS, lists->settle_ms);
    take_number(l, &c->upstream.patience_s, CONFIG_UPSTREAM_PATIENCE_S, upstream->patience_s);
    take_number(l, &c->upstream.idle_s, CONFIG_UPSTREAM_IDLE_S, upstream->idle_s);
}

static void take_all(struct load *l, const struct yaml_config *raw)
{
    l->config->data_dir = take_file(l, "data_dir", raw->data_dir);
    take_listen(l, raw->listen);
    take_networks(l, &l->config->trusted_proxies, "trusted_proxies", raw->trusted_proxies,
                  raw->trusted_proxies_count);
    take_client(l, raw->federation_client);
    take_numbers(l, raw);
    take_servers(l, raw);
}

void config_free(struct config *config)
{
    if (config != NULL) {
        arena_fini(&config->memory);
        free(config);
    }
}

void config_freep(struct config **config)
{
    config_free(*config);
}

enum err config_parse(struct config **out, struct span text, const char *path,
                      struct writer *problems)
{
    AUTO(config_freep) struct config *config = calloc(1, sizeof *config);
    struct load l = {.config = config, .problems = {.file = path, .out = problems}};

    CHECK(config != NULL);
    arena_init(&config->memory, CONFIG_MEMORY_MAX);
    config_lines_read(&l.lines, text, &l.problems);
    /* What libcyaml would say about the same fault is less clear. */
    struct yaml_config *raw = l.problems.n == 0 ? config_yaml_load(text, &l.problems) : NULL;
    if (raw != NULL) {
        take_all(&l, raw);
    }
    config_yaml_free(raw);
    config_lines_free(&l.lines);
    if (l.problems.n > 0) {
        return ERR_CONFIG;
    }
    *out = TAKE(config);
    return ERR_OK;
}

enum err config_load(struct config **out, const char *path, struct writer *problems)
{
    struct config_problems unread = {.file = path, .out = problems};
    FILE *file = fopen(path, "rbe");
    char *text = file != NULL ? malloc(CONFIG_FILE_MAX + 1) : NULL;
    enum err err = ERR_CONFIG;

    if (file == NULL) {
        char room_for[128];
        config_problem(&unread, 0, "%s", strerror_r(errno, room_for, sizeof room_for));
        return err;
    }
    CHECK(text != NULL);
    size_t n = fread(text, 1, CONFIG_FILE_MAX + 1, file);
    if (ferror(file) != 0 || n > CONFIG_FILE_MAX) {
        config_problem(&unread, 0, "cannot be read, or is larger than %d bytes", CONFIG_FILE_MAX);
    } else {
        err = config_parse(out, span_of(text, n), path, problems);
    }
    free(text);
    fclose(file);
    return err;
}

#define TEXT(path, initial, prose)                                                                 \
    writer_bytes(w, SPAN_LIT("| `" path "` | " initial " | " prose " |\n"));
#define NUMBER(name, path, initial, min, max, unit, prose)                                         \
    writer_bytes(w, SPAN_LIT("| `" path "` | " #initial " " unit " (" #min " to " #max             \
                             ") | " prose " |\n"));
#define LATER(path, prose)

static void write_rows(struct writer *w)
{
#include "config_keys.def"
}

#undef TEXT
#undef NUMBER
#undef LATER
#define TEXT(path, initial, prose)
#define NUMBER(name, path, initial, min, max, unit, prose)
#define LATER(path, prose) writer_bytes(w, SPAN_LIT("| `" path "` | " prose " |\n"));

static void write_later_rows(struct writer *w)
{
#include "config_keys.def"
}

void config_write_docs(struct writer *w)
{
    writer_bytes(
        w,
        SPAN_LIT("# Configuration\n\n"
                 "Written by `freshet docs config`; do not edit.\n\n"
                 "One YAML file. An unknown key is an error with its line. Every secret is a "
                 "file of its own. File names are absolute or relative to the folder of the "
                 "configuration file. `freshet check-config FILE` says what is wrong, and what "
                 "each hosted server gets; An example is "
                 "`deploy/freshet.example.yaml`.\n\n"
                 "`[]` stands for each entry of a list. \"Required\" below an optional key: when "
                 "that key is there.\n\n"
                 "| key | default | what it is |\n| --- | --- | --- |\n"));
    write_rows(w);
    writer_bytes(w,
                 SPAN_LIT("\nThese keys of the full design are refused as \"not supported by "
                          "this version yet\":\n\n| key | what it will be for |\n| --- | --- |\n"));
    write_later_rows(w);
}
