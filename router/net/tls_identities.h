/* The certificates that a listener can show: read once, then constant, found by name. */
#pragma once

#include "net/tls_identity.h"
#include "proto/own.h"
#include "proto/writer.h"

struct tls_identities;

/* Where they are. */
struct tls_sources {
    const struct tls_certificate *list; /* the first is the default */
    size_t n;
    /* NULL: none. In it, for each certificate, NAME.crt and NAME.key, or a folder with
     * fullchain.pem and privkey.pem (as certbot's "live") or with tls.crt and tls.key (as
     * Kubernetes mounts a secret). Names do not matter; what begins with a dot is left out. */
    const char *folder;
};

enum { TLS_PROBLEMS_MAX = 20 /* written; the others are counted */ };

/* All that can be read. What is wrong with the others is written to `problems`, a line each,
 * "FILE: what"; so nothing is written if all is well. Without one certificate in all, that is
 * wrong too. Takes a millisecond for each. */
struct tls_identities *tls_identities_load(const struct tls_sources *sources,
                                           struct writer *problems);
void tls_identities_free(struct tls_identities *identities); /* NULL is fine */

/* The one that has the name (in any case) itself, else the one with a wildcard for it; the first in
 * the list and then in the folder, by file name, if several have. NULL: none. */
const struct tls_identity *tls_identities_find(const struct tls_identities *identities,
                                               struct span name);

/* NULL: there is none. */
const struct tls_identity *tls_identities_default(const struct tls_identities *identities);

size_t tls_identities_n(const struct tls_identities *identities);
const struct tls_identity *tls_identities_at(const struct tls_identities *identities, size_t i);

/* Unix time of the first to expire; 0 without any. */
int64_t tls_identities_expire_s(const struct tls_identities *identities);
