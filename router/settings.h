/* The configuration in force, with the keys and certificates it names; shared by all threads and
 * constant. */
#pragma once

#include "base/err.h"
#include "config.h"
#include "net/tls.h"
#include "proto/own.h"
#include "proto/writer.h"
#include "proto/xmatrix.h"

#include <stdatomic.h>

struct settings {
    struct config *config;
    struct signing_key *keys; /* by server; key_id is empty where there is none */
    struct tls_context *tls;  /* of the federation listener; NULL: cleartext */
    atomic_uint n_refs;
};

/* ERR_CONFIG, with what is wrong in `problems`, one line each. */
MUST_CHECK enum err settings_load(struct settings **out, const char *path, struct writer *problems);

/* Any thread; the last one to let go frees it. */
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings *settings); /* NULL is fine */

/* Nobody but the caller holds them, or the certificates that came with them. */
bool settings_are_unused(const struct settings *settings);
