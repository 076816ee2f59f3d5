#include "net/tls_identity.h"

#include "proto/check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void say(char problem[TLS_PROBLEM_SIZE], const char *file, const char *what)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    snprintf(problem, TLS_PROBLEM_SIZE, "%s: %s%s%s%s", file, what, reason != NULL ? " (" : "",
             reason != NULL ? reason : "", reason != NULL ? ")" : "");
    ERR_clear_error();
}

/* A key that is encrypted is refused: nobody is there to be asked. */
static int no_password(char *buffer, int size, int is_encrypting, void *arg)
{
    (void)buffer;
    (void)size;
    (void)is_encrypting;
    (void)arg;
    return -1;
}

/* Bytes read, at most TLS_FILE_MAX; -1 if it cannot be read, or is something else than an ordinary
 * file, which could block. */
static ssize_t read_ordinary(char *out, const char *path)
{
    struct stat what;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t size = 0;
    ssize_t n = -1;

    if (fd < 0) {
        return -1;
    }
    if (fstat(fd, &what) == 0 && S_ISREG(what.st_mode)) {
        while (size < TLS_FILE_MAX && (n = read(fd, out + size, TLS_FILE_MAX - (size_t)size)) > 0) {
            size += n;
        }
    }
    close(fd);
    return n < 0 ? -1 : size;
}

/* The file's bytes as something to read from; they are in *text, to be freed after it. */
static BIO *open_file(char **text, size_t *size, const char *path)
{
    *text = malloc(TLS_FILE_MAX);
    CHECK(*text != NULL);
    ssize_t n = read_ordinary(*text, path);
    *size = n < 0 ? 0 : (size_t)n;
    return n >= 0 && n < TLS_FILE_MAX ? BIO_new_mem_buf(*text, (int)n) : NULL;
}

static void close_file(BIO *bio, char *text, size_t size)
{
    BIO_free(bio);
    OPENSSL_cleanse(text, size);
    free(text);
}

static bool read_chain(struct tls_identity *identity, BIO *bio)
{
    X509 *next;

    identity->leaf = PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL);
    if (identity->leaf == NULL) {
        return false;
    }
    identity->chain = sk_X509_new_null();
    CHECK(identity->chain != NULL);
    while ((next = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
        CHECK(sk_X509_push(identity->chain, next) > 0);
    }
    unsigned long error = ERR_peek_last_error();
    if (ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE) {
        return false;
    }
    ERR_clear_error(); /* the end of the file */
    return true;
}

static bool load_chain(char problem[TLS_PROBLEM_SIZE], struct tls_identity *identity,
                       const char *path)
{
    char *text;
    size_t size;
    BIO *bio = open_file(&text, &size, path);
    bool is_read = bio != NULL && read_chain(identity, bio);

    if (bio == NULL) {
        say(problem, path, "cannot be read, or is larger than 1 MiB");
    } else if (!is_read) {
        say(problem, path, "is not a chain of certificates in PEM");
    }
    close_file(bio, text, size);
    return is_read;
}

static bool load_key(char problem[TLS_PROBLEM_SIZE], struct tls_identity *identity,
                     const char *path)
{
    char *text;
    size_t size;
    BIO *bio = open_file(&text, &size, path);

    if (bio == NULL) {
        say(problem, path, "cannot be read, or is larger than 1 MiB");
    } else {
        identity->key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
        if (identity->key == NULL) {
            say(problem, path, "is not a private key in PEM without a password");
        }
    }
    close_file(bio, text, size);
    if (identity->key != NULL && X509_check_private_key(identity->leaf, identity->key) != 1) {
        ERR_clear_error();
        say(problem, path, "is the key of another certificate");
        return false;
    }
    return identity->key != NULL;
}

/* False if it is no name that SNI or Host could say. */
static bool add_name(struct tls_identity *identity, const char *text, size_t size)
{
    if (size == 0 || size > TLS_NAME_MAX || memchr(text, '\0', size) != NULL) {
        return false;
    }
    char *name = malloc(size);
    CHECK(name != NULL);
    identity->names[identity->n_names++] = span_lower(name, span_of(text, size));
    return true;
}

static void take_name(struct tls_identity *identity, const GENERAL_NAME *name)
{
    char address[INET6_ADDRSTRLEN];
    int kind;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &kind);

    if (kind == GEN_DNS) {
        add_name(identity, (const char *)ASN1_STRING_get0_data(value),
                 (size_t)ASN1_STRING_length(value));
    } else if (kind == GEN_IPADD) {
        int size = ASN1_STRING_length(value);
        int family = size == 4 ? AF_INET : AF_INET6;
        if ((size == 4 || size == 16) &&
            inet_ntop(family, ASN1_STRING_get0_data(value), address, sizeof address) != NULL) {
            add_name(identity, address, strlen(address));
        }
    }
}

static bool take_names(struct tls_identity *identity)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(identity->leaf, NID_subject_alt_name, NULL, NULL);
    int n = names == NULL ? 0 : sk_GENERAL_NAME_num(names);

    ERR_clear_error();
    identity->names = calloc((size_t)n + 1, sizeof *identity->names);
    CHECK(identity->names != NULL);
    for (int i = 0; i < n; i++) {
        take_name(identity, sk_GENERAL_NAME_value(names, i));
    }
    GENERAL_NAMES_free(names);
    return identity->n_names > 0;
}

static bool take_expiry(struct tls_identity *identity)
{
    struct tm when;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(identity->leaf), &when) != 1) {
        ERR_clear_error();
        return false;
    }
    identity->expires_s = timegm(&when);
    return true;
}

/* What OpenSSL would only say in a handshake: a key too small, a signature too weak. */
static bool can_be_shown(const struct tls_identity *identity)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    CHECK(ctx != NULL);
    int result = SSL_CTX_use_cert_and_key(ctx, identity->leaf, identity->key, identity->chain, 1);
    SSL_CTX_free(ctx);
    return result == 1;
}

static bool load(char problem[TLS_PROBLEM_SIZE], struct tls_identity *identity,
                 const struct tls_certificate *files)
{
    ERR_clear_error();
    if (!load_chain(problem, identity, files->chain) || !load_key(problem, identity, files->key)) {
        return false;
    }
    if (!take_expiry(identity)) {
        say(problem, files->chain, "has no readable date of expiry");
        return false;
    }
    if (!take_names(identity)) {
        say(problem, files->chain, "has no DNS name or address in its subjectAltName");
        return false;
    }
    if (!can_be_shown(identity)) {
        say(problem, files->chain, "OpenSSL refuses it");
        return false;
    }
    return true;
}

struct tls_identity *tls_identity_load(char problem[TLS_PROBLEM_SIZE],
                                       const struct tls_certificate *files)
{
    struct tls_identity *identity = calloc(1, sizeof *identity);

    CHECK(identity != NULL);
    atomic_init(&identity->n_refs, 1);
    identity->chain_file = strdup(files->chain);
    CHECK(identity->chain_file != NULL);
    problem[0] = '\0';
    if (!load(problem, identity, files)) {
        tls_identity_unref(identity);
        return NULL;
    }
    return identity;
}

/* Whoever has a reference sees it constant, but it was allocated as it is here. */
static struct tls_identity *mutable(const struct tls_identity *identity)
{
    return (struct tls_identity *)(uintptr_t)identity;
}

const struct tls_identity *tls_identity_ref(const struct tls_identity *identity)
{
    atomic_fetch_add_explicit(&mutable(identity)->n_refs, 1, memory_order_relaxed);
    return identity;
}

static void identity_free(struct tls_identity *identity)
{
    for (size_t i = 0; i < identity->n_names; i++) {
        free((void *)(uintptr_t)identity->names[i].data);
    }
    free(identity->names);
    X509_free(identity->leaf);
    sk_X509_pop_free(identity->chain, X509_free);
    EVP_PKEY_free(identity->key);
    free(identity->chain_file);
    free(identity);
}

void tls_identity_unref(const struct tls_identity *identity)
{
    if (identity != NULL &&
        atomic_fetch_sub_explicit(&mutable(identity)->n_refs, 1, memory_order_acq_rel) == 1) {
        identity_free(mutable(identity));
    }
}

struct span tls_host_name(struct span host)
{
    const char *colon = host.size == 0 ? NULL : memrchr(host.data, ':', host.size);

    if (host.size > 2 && host.data[0] == '[') {
        const char *end = memchr(host.data, ']', host.size);
        return end == NULL ? host : span_of(host.data + 1, (size_t)(end - host.data) - 1);
    }
    return colon == NULL ? host : span_of(host.data, (size_t)(colon - host.data));
}

static bool name_covers(struct span pattern, struct span name)
{
    if (span_equal_nocase(pattern, name)) {
        return true;
    }
    const char *dot = memchr(name.data, '.', name.size);
    if (!span_starts_with(pattern, SPAN_LIT("*.")) || dot == NULL || dot == name.data) {
        return false;
    }
    return span_equal_nocase(span_skip(pattern, 1), span_skip(name, (size_t)(dot - name.data)));
}

bool tls_identity_covers(const struct tls_identity *identity, struct span name)
{
    for (size_t i = 0; name.size > 0 && i < identity->n_names; i++) {
        if (name_covers(identity->names[i], name)) {
            return true;
        }
    }
    return false;
}
