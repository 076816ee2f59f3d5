#include "net/tls.h"

#include "proto/check.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBLEMS_MAX = 16 << 10 /* bytes */ };

struct tls_context {
    atomic_uint n_refs;
    SSL_CTX *ctx;
    struct tls_identities *identities; /* NULL: a client's */
};

/* What a connection holds. */
struct hold {
    struct tls_context *context;         /* NULL once the handshake is over */
    const struct tls_identity *identity; /* that was shown; NULL: none */
};

/* As on the wire: a length, then the name; a server's by preference. Source: RFC 7301 3.1. */
static const unsigned char alpn_server[] = {2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
static const unsigned char alpn_client[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

static enum err raise_tls(const char *what, const char *where)
{
    char text[160];

    ERR_error_string_n(ERR_peek_error(), text, sizeof text);
    ERR_clear_error();
    return err_raise(ERR_TLS, "%s (%s): %s", what, where, text);
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *offered, unsigned offered_size, void *arg)
{
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_size, alpn_server, sizeof alpn_server, offered,
                              offered_size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* One SSL_CTX for all: each would take 13 KiB more, and session tickets would be of one alone. */
static int choose_certificate(SSL *ssl, int *alert, void *arg)
{
    const struct tls_identities *identities = arg;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const struct tls_identity *identity =
        name == NULL ? NULL : tls_identities_find(identities, span_str(name));

    if (identity == NULL) {
        identity = tls_identities_default(identities);
    }
    if (identity == NULL) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    SSL_certs_clear(ssl); /* of the first ClientHello, if this is the second */
    if (SSL_use_cert_and_key(ssl, identity->leaf, identity->key, identity->chain, 1) != 1) {
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    struct hold *hold = SSL_get_app_data(ssl);
    tls_identity_unref(hold->identity);
    hold->identity = tls_identity_ref(identity);
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *ctx_new(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    CHECK(ctx != NULL);
    CHECK(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Released buffers: an idle connection holds none. Moving and partial writes: the output is a
     * chain of buffers whose head may have been joined with more since the last try. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1); /* a record's head and body in one system call */
    return ctx;
}

static struct tls_context *context_new(const SSL_METHOD *method)
{
    struct tls_context *context = calloc(1, sizeof *context);

    CHECK(context != NULL);
    atomic_init(&context->n_refs, 1);
    context->ctx = ctx_new(method);
    return context;
}

struct tls_context *tls_server_with(struct tls_identities *identities)
{
    struct tls_context *context = context_new(TLS_server_method());

    CHECK(tls_identities_n(identities) > 0);
    context->identities = identities;
    SSL_CTX_set_alpn_select_cb(context->ctx, choose_protocol, NULL);
    SSL_CTX_set_tlsext_servername_callback(context->ctx, choose_certificate);
    SSL_CTX_set_tlsext_servername_arg(context->ctx, identities);
    return context;
}

enum err tls_server_new(struct tls_context **out, const struct tls_certificate *list, size_t n)
{
    AUTO(writer_fini) struct writer problems;

    writer_init(&problems, PROBLEMS_MAX);
    struct tls_identities *identities =
        tls_identities_load(&(struct tls_sources){.list = list, .n = n}, &problems);
    if (problems.size > 0) {
        tls_identities_free(identities);
        return err_raise(ERR_TLS, "%.*s", (int)problems.size - 1, problems.data);
    }
    *out = tls_server_with(identities);
    return ERR_OK;
}

enum err tls_client_new(struct tls_context **out, const char *ca_file)
{
    struct tls_context *context = context_new(TLS_client_method());
    SSL_CTX *ctx = context->ctx;
    int loaded;

    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    CHECK(SSL_CTX_set_alpn_protos(ctx, alpn_client, sizeof alpn_client) == 0);
    loaded = ca_file == NULL ? SSL_CTX_set_default_verify_paths(ctx)
                             : SSL_CTX_load_verify_locations(ctx, ca_file, NULL);
    if (loaded != 1) {
        tls_context_free(context);
        return raise_tls("certificate authorities", ca_file == NULL ? "system" : ca_file);
    }
    *out = context;
    return ERR_OK;
}

struct tls_context *tls_context_ref(struct tls_context *context)
{
    if (context != NULL) {
        atomic_fetch_add_explicit(&context->n_refs, 1, memory_order_relaxed);
    }
    return context;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL ||
        atomic_fetch_sub_explicit(&context->n_refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    SSL_CTX_free(context->ctx);
    tls_identities_free(context->identities);
    free(context);
}

bool tls_context_is_last(const struct tls_context *context)
{
    return atomic_load_explicit(&context->n_refs, memory_order_acquire) == 1;
}

const struct tls_identities *tls_context_identities(const struct tls_context *context)
{
    return context->identities;
}

static SSL *ssl_new(struct tls_context *context, int fd)
{
    SSL *ssl = SSL_new(context->ctx);

    if (ssl == NULL) {
        return NULL;
    }
    struct hold *hold = calloc(1, sizeof *hold);
    CHECK(hold != NULL && SSL_set_app_data(ssl, hold) == 1);
    hold->context = tls_context_ref(context);
    if (SSL_set_fd(ssl, fd) != 1) {
        tls_free(ssl);
        return NULL;
    }
    return ssl;
}

void tls_established(SSL *ssl)
{
    struct hold *hold = SSL_get_app_data(ssl);

    tls_context_free(TAKE(hold->context));
}

void tls_free(SSL *ssl)
{
    if (ssl != NULL) {
        struct hold *hold = SSL_get_app_data(ssl);
        SSL_free(ssl);
        tls_identity_unref(hold->identity);
        tls_context_free(hold->context);
        free(hold);
    }
}

bool tls_covers(const SSL *ssl, struct span host)
{
    const struct hold *hold = SSL_get_app_data(ssl);

    return hold->identity != NULL && tls_identity_covers(hold->identity, host);
}

SSL *tls_accepting(struct tls_context *context, int fd)
{
    SSL *ssl = ssl_new(context, fd);

    if (ssl != NULL) {
        SSL_set_accept_state(ssl);
    }
    return ssl;
}

SSL *tls_connecting(struct tls_context *context, int fd, const char *name)
{
    SSL *ssl = ssl_new(context, fd);
    char sni[TLSEXT_MAXLEN_host_name + 1]; /* OpenSSL's macro casts const away */

    if (ssl == NULL) {
        return NULL;
    }
    snprintf(sni, sizeof sni, "%s", name);
    if (SSL_set_tlsext_host_name(ssl, sni) != 1 || SSL_set1_host(ssl, name) != 1) {
        tls_free(ssl);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return ssl;
}
