/* A certificate that we can show: with its chain, its key and the names it covers. */
#pragma once

#include "proto/own.h"
#include "proto/span.h"

#include <openssl/types.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Files in PEM; the chain begins with the server's own certificate. */
struct tls_certificate {
    const char *chain, *key;
};

enum {
    TLS_FILE_MAX = 1 << 20, /* bytes of one file */
    TLS_NAME_MAX = 253,     /* bytes. Source: RFC 1035 2.3.4, as text */
    TLS_PROBLEM_SIZE = 512, /* bytes of what is wrong, terminated */
};

/* Constant once loaded, but for its count of references. */
struct tls_identity {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* what comes after the leaf */
    char *chain_file;
    struct span *names; /* lower case: DNS names, "*.example.org", "192.0.2.1", "2001:db8::1" */
    size_t n_names;
    int64_t expires_s; /* Unix time */
    atomic_uint n_refs;
};

/* The DNS names and addresses of subjectAltName count, the common name does not. NULL, with
 * "FILE: what" in `problem`, if a file cannot be read, holds something else, or the key is another
 * certificate's. */
MUST_CHECK struct tls_identity *tls_identity_load(char problem[TLS_PROBLEM_SIZE],
                                                  const struct tls_certificate *files);

/* Any thread. */
const struct tls_identity *tls_identity_ref(const struct tls_identity *identity);
void tls_identity_unref(const struct tls_identity *identity); /* NULL is fine */

/* What of "host:port" or "[address]:port" stands in certificates. */
struct span tls_host_name(struct span host);

/* `name` in any case. A wildcard covers one label, and at least one more follows it. */
bool tls_identity_covers(const struct tls_identity *identity, struct span name);
