#include "settings.h"

#include "certificates.h"
#include "proto/check.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_FILE_MAX = 4096 /* bytes; one line of about 60 */ };

static void write_problem(struct writer *problems, const char *file, const char *what)
{
    writer_bytes(problems, span_str(file));
    writer_bytes(problems, SPAN_LIT(": "));
    writer_bytes(problems, span_str(what));
    writer_char(problems, '\n');
}

/* Returns NULL or what is wrong. */
static const char *read_key(struct signing_key *out, const char *path)
{
    char text[KEY_FILE_MAX];
    FILE *file = fopen(path, "rbe");

    if (file == NULL) {
        return "cannot be read";
    }
    setvbuf(file, NULL, _IONBF, 0); /* no copy of the key stays in a buffer of the library's */
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    bool is_key = size < sizeof text && signing_key_parse(out, span_of(text, size));
    sodium_memzero(text, sizeof text);
    return is_key ? NULL
                  : "is not one line 'ed25519 VERSION SEED', as in Synapse's signing key file";
}

static enum err read_keys(struct settings *settings, struct writer *problems)
{
    const struct config *config = settings->config;
    enum err result = ERR_OK;

    settings->keys = calloc(config->n_servers, sizeof *settings->keys);
    CHECK(settings->keys != NULL);
    for (size_t i = 0; i < config->n_servers; i++) {
        const char *path = config->servers[i].signing_key_file;
        const char *wrong = path == NULL ? NULL : read_key(&settings->keys[i], path);
        if (wrong != NULL) {
            write_problem(problems, path, wrong);
            result = ERR_CONFIG;
        }
    }
    return result;
}

enum err settings_load(struct settings **out, const char *path, struct writer *problems)
{
    struct settings *settings = calloc(1, sizeof *settings);

    CHECK(settings != NULL);
    atomic_init(&settings->n_refs, 1);
    enum err result = config_load(&settings->config, path, problems);
    if (result == ERR_OK) {
        result = read_keys(settings, problems);
        enum err second = certificates_load(&settings->tls, settings->config, problems);
        result = result == ERR_OK ? second : result;
    }
    if (result != ERR_OK) {
        settings_unref(settings);
        return result;
    }
    *out = settings;
    return ERR_OK;
}

struct settings *settings_ref(struct settings *settings)
{
    atomic_fetch_add_explicit(&settings->n_refs, 1, memory_order_relaxed);
    return settings;
}

bool settings_are_unused(const struct settings *settings)
{
    return atomic_load_explicit(&settings->n_refs, memory_order_acquire) == 1 &&
           (settings->tls == NULL || tls_context_is_last(settings->tls));
}

void settings_unref(struct settings *settings)
{
    if (settings == NULL ||
        atomic_fetch_sub_explicit(&settings->n_refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    if (settings->keys != NULL) {
        sodium_memzero(settings->keys, settings->config->n_servers * sizeof *settings->keys);
        free(settings->keys);
    }
    tls_context_free(settings->tls);
    config_free(settings->config);
    free(settings);
}
