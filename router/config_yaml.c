#include "config_yaml.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

/* Every mapping and value is optional here: config.c says what is missing, with better words. */
#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

#define STRING(key, type, member)                                                                  \
    CYAML_FIELD_STRING_PTR(key, OPTIONAL, struct type, member, 0, CYAML_UNLIMITED)
#define NUMBER(key, type, member) CYAML_FIELD_UINT_PTR(key, OPTIONAL, struct type, member)
#define MAPPING(key, type, member, fields)                                                         \
    CYAML_FIELD_MAPPING_PTR(key, OPTIONAL, struct type, member, fields)
#define STRINGS(key, type, member)                                                                 \
    CYAML_FIELD_SEQUENCE(key, OPTIONAL, struct type, member, &string_schema, 0, CYAML_UNLIMITED)

static const cyaml_schema_value_t string_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 0, CYAML_UNLIMITED)};

static const cyaml_schema_field_t certificate_fields[] = {STRING("chain", yaml_certificate, chain),
                                                          STRING("key", yaml_certificate, key),
                                                          CYAML_FIELD_END};

static const cyaml_schema_value_t certificate_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_certificate, certificate_fields)};

static const cyaml_schema_field_t federation_fields[] = {
    STRING("address", yaml_federation, address),
    CYAML_FIELD_SEQUENCE("certificates", OPTIONAL, struct yaml_federation, certificates,
                         &certificate_schema, 0, CYAML_UNLIMITED),
    STRING("certificate_folder", yaml_federation, certificate_folder), CYAML_FIELD_END};

static const cyaml_schema_field_t operations_fields[] = {
    STRING("address", yaml_operations, address), CYAML_FIELD_END};

static const cyaml_schema_field_t admin_fields[] = {STRING("socket", yaml_admin, socket),
                                                    CYAML_FIELD_END};

static const cyaml_schema_field_t listen_fields[] = {
    MAPPING("federation", yaml_listen, federation, federation_fields),
    MAPPING("operations", yaml_listen, operations, operations_fields),
    MAPPING("admin", yaml_listen, admin, admin_fields), CYAML_FIELD_END};

static const cyaml_schema_field_t memory_fields[] = {
    NUMBER("request_bytes", yaml_memory, request_bytes), CYAML_FIELD_END};

static const cyaml_schema_field_t client_fields[] = {
    CYAML_FIELD_STRING_PTR("ca_file", CYAML_FLAG_POINTER_NULL_STR | CYAML_FLAG_OPTIONAL,
                           struct yaml_client, ca_file, 0, CYAML_UNLIMITED),
    STRINGS("allow_addresses", yaml_client, allow_addresses),
    STRINGS("dns_servers", yaml_client, dns_servers), CYAML_FIELD_END};

static const cyaml_schema_field_t keys_fields[] = {
    NUMBER("fetches_per_s", yaml_keys, fetches_per_s), CYAML_FIELD_END};

static const cyaml_schema_field_t signing_fields[] = {STRING("key_file", yaml_signing, key_file),
                                                      CYAML_FIELD_END};

static const cyaml_strval_t authenticate_words[] = {{"edge", AUTHENTICATE_EDGE},
                                                    {"upstream", AUTHENTICATE_UPSTREAM}};

static const cyaml_strval_t spoofed_sender_words[] = {{"relay", SPOOFED_SENDER_RELAY},
                                                      {"refuse", SPOOFED_SENDER_REFUSE}};

static const cyaml_schema_field_t server_fields[] = {
    STRING("name", yaml_server, name),
    STRINGS("hosts", yaml_server, hosts),
    STRINGS("upstreams", yaml_server, upstreams),
    CYAML_FIELD_ENUM_PTR("authenticate", OPTIONAL | CYAML_FLAG_STRICT, struct yaml_server,
                         authenticate, authenticate_words, 2),
    CYAML_FIELD_ENUM_PTR("spoofed_sender", OPTIONAL | CYAML_FLAG_STRICT, struct yaml_server,
                         spoofed_sender, spoofed_sender_words, 2),
    MAPPING("signing", yaml_server, signing, signing_fields),
    CYAML_FIELD_END};

static const cyaml_schema_value_t server_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_server, server_fields)};

static const cyaml_schema_field_t lists_fields[] = {
    NUMBER("max_age_s", yaml_lists, max_age_s), NUMBER("reads_per_s", yaml_lists, reads_per_s),
    NUMBER("wait_ms", yaml_lists, wait_ms), NUMBER("settle_ms", yaml_lists, settle_ms),
    CYAML_FIELD_END};

static const cyaml_schema_field_t upstream_fields[] = {
    NUMBER("patience_s", yaml_upstream, patience_s), NUMBER("idle_s", yaml_upstream, idle_s),
    CYAML_FIELD_END};

static const cyaml_schema_field_t config_fields[] = {
    STRING("data_dir", yaml_config, data_dir),
    MAPPING("listen", yaml_config, listen, listen_fields),
    STRINGS("trusted_proxies", yaml_config, trusted_proxies),
    NUMBER("workers", yaml_config, workers),
    MAPPING("memory", yaml_config, memory, memory_fields),
    MAPPING("federation_client", yaml_config, federation_client, client_fields),
    MAPPING("keys", yaml_config, keys, keys_fields),
    CYAML_FIELD_SEQUENCE("servers", OPTIONAL, struct yaml_config, servers, &server_schema, 0,
                         CYAML_UNLIMITED),
    MAPPING("lists", yaml_config, lists, lists_fields),
    MAPPING("upstream", yaml_config, upstream, upstream_fields),
    CYAML_FIELD_END};

static const cyaml_schema_value_t config_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml_config, config_fields)};

/* What libcyaml logs about one failure: the first line says what, then comes the innermost place
 * as "  in mapping field 'port' (line: 3, column: 11)". */
struct complaint {
    char what[256];
    char where[64];
    uint32_t line;
};

static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list args) PRINTF_LIKE(3, 0);

static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct complaint *c = ctx;
    char text[sizeof c->what];
    const char *prefix = "Load: ";

    (void)level;
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = '\0';
    if (c->what[0] == '\0') {
        bool starts = strncmp(text, prefix, strlen(prefix)) == 0;
        snprintf(c->what, sizeof c->what, "%s", starts ? text + strlen(prefix) : text);
        return;
    }
    const char *line = strstr(text, "(line: ");
    const char *quote = strchr(text, '\'');
    if (c->line != 0 || line == NULL) {
        return;
    }
    c->line = (uint32_t)strtoul(line + strlen("(line: "), NULL, 10);
    if (quote != NULL && strncmp(text, "  in mapping field", 18) == 0) {
        snprintf(c->where, sizeof c->where, "%.*s", (int)strcspn(quote + 1, "'"), quote + 1);
    }
}

static cyaml_config_t settings(struct complaint *complaint)
{
    return (cyaml_config_t){.log_fn = on_log,
                            .log_ctx = complaint,
                            .log_level = CYAML_LOG_ERROR,
                            .mem_fn = cyaml_mem,
                            .flags = CYAML_CFG_NO_ALIAS};
}

struct yaml_config *config_yaml_load(struct span text, struct config_problems *problems)
{
    struct complaint complaint = {.line = 0};
    cyaml_config_t config = settings(&complaint);
    cyaml_data_t *raw = NULL;
    cyaml_err_t err =
        cyaml_load_data((const uint8_t *)text.data, text.size, &config, &config_schema, &raw, NULL);

    if (err != CYAML_OK) {
        config_problem(problems, complaint.line, "%s%s%s", complaint.where,
                       complaint.where[0] != '\0' ? ": " : "",
                       complaint.what[0] != '\0' ? complaint.what : cyaml_strerror(err));
        return NULL;
    }
    return raw != NULL ? raw : calloc(1, sizeof(struct yaml_config)); /* an empty file */
}

void config_yaml_free(struct yaml_config *raw)
{
    struct complaint complaint = {.line = 0};
    cyaml_config_t config = settings(&complaint);

    if (raw != NULL) {
        cyaml_free(&config, &config_schema, raw, 0);
    }
}
