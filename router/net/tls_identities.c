#include "net/tls_identities.h"

#include "base/table.h"
#include "proto/check.h"

#include <dirent.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct tls_identities {
    struct tls_identity **list;
    size_t n, capacity;
    bool has_default;     /* the first in the list */
    struct table by_name; /* to the first identity that has it */
};

/* The state of one load. */
struct load {
    struct tls_identities *out;
    struct table issuers; /* what stands in chains, by digest: few, in thousands of files */
    struct writer *problems;
    size_t n_problems;
};

/* How a folder in the folder names a pair. */
static const struct tls_certificate pairs[] = {
    {"fullchain.pem", "privkey.pem"},
    {"tls.crt", "tls.key"},
};

static void report(struct load *l, const char *text)
{
    if (l->n_problems++ < TLS_PROBLEMS_MAX) {
        writer_bytes(l->problems, span_str(text));
        writer_char(l->problems, '\n');
    }
}

/* A reference to the same certificate as it came with another chain, or to this one, which is then
 * known. */
static X509 *known_issuer(struct load *l, X509 *issuer)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;

    CHECK(X509_digest(issuer, EVP_sha256(), digest, &size) == 1);
    X509 *known = table_get(&l->issuers, span_of(digest, size));
    if (known == NULL) {
        table_put(&l->issuers, span_of(digest, size), issuer);
    }
    known = known != NULL ? known : issuer;
    CHECK(X509_up_ref(known) == 1);
    return known;
}

/* Has each chain hold the same certificate of an issuer, once in memory. */
static void share_issuers(struct load *l, const struct tls_identity *identity)
{
    for (int i = 0; i < sk_X509_num(identity->chain); i++) {
        X509 *mine = sk_X509_value(identity->chain, i);
        sk_X509_set(identity->chain, i, known_issuer(l, mine));
        X509_free(mine);
    }
}

static void add(struct load *l, struct tls_identity *identity)
{
    struct tls_identities *out = l->out;

    if (out->n == out->capacity) {
        out->capacity = out->capacity == 0 ? 16 : out->capacity * 2;
        out->list = reallocarray(out->list, out->capacity, sizeof(void *));
        CHECK(out->list != NULL);
    }
    out->list[out->n++] = identity;
    for (size_t i = 0; i < identity->n_names; i++) {
        if (table_get(&out->by_name, identity->names[i]) == NULL) {
            table_put(&out->by_name, identity->names[i], identity);
        }
    }
    share_issuers(l, identity);
}

static bool load_pair(struct load *l, const char *chain, const char *key)
{
    char problem[TLS_PROBLEM_SIZE];
    struct tls_identity *identity =
        tls_identity_load(problem, &(struct tls_certificate){chain, key});

    if (identity == NULL) {
        report(l, problem);
        return false;
    }
    add(l, identity);
    return true;
}

/* FOLDER/NAME.crt and FOLDER/NAME.key. */
static void load_files(struct load *l, const char *folder, const char *name)
{
    char *chain = NULL;
    char *key = NULL;
    int stem = (int)(strlen(name) - strlen(".crt"));

    CHECK(asprintf(&chain, "%s/%s", folder, name) > 0);
    CHECK(asprintf(&key, "%s/%.*s.key", folder, stem, name) > 0);
    load_pair(l, chain, key);
    free(chain);
    free(key);
}

static void load_folder_of_one(struct load *l, const char *folder, const char *name)
{
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char *chain = NULL;
        char *key = NULL;
        struct stat what;
        CHECK(asprintf(&chain, "%s/%s/%s", folder, name, pairs[i].chain) > 0);
        CHECK(asprintf(&key, "%s/%s/%s", folder, name, pairs[i].key) > 0);
        bool is_there = stat(chain, &what) == 0;
        if (is_there) {
            load_pair(l, chain, key);
        }
        free(chain);
        free(key);
        if (is_there) {
            return;
        }
    }
}

static void load_entry(struct load *l, const char *folder, const char *name)
{
    size_t size = strlen(name);
    char *path = NULL;
    struct stat what;

    CHECK(asprintf(&path, "%s/%s", folder, name) > 0);
    if (stat(path, &what) == 0 && S_ISDIR(what.st_mode)) {
        load_folder_of_one(l, folder, name);
    } else if (size > strlen(".crt") && strcmp(name + size - strlen(".crt"), ".crt") == 0) {
        load_files(l, folder, name);
    }
    free(path);
}

static int is_shown(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_folder(struct load *l, const char *folder)
{
    char problem[TLS_PROBLEM_SIZE];
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, is_shown, by_bytes);

    if (n < 0) {
        snprintf(problem, sizeof problem, "%s: cannot be read (%s)", folder,
                 strerrordesc_np(errno));
        report(l, problem);
        return;
    }
    for (int i = 0; i < n; i++) {
        load_entry(l, folder, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    if (l->out->n == 0 && l->n_problems == 0) {
        snprintf(problem, sizeof problem, "%s: no certificate in it", folder);
        report(l, problem);
    }
}

struct tls_identities *tls_identities_load(const struct tls_sources *sources,
                                           struct writer *problems)
{
    struct load l = {.out = calloc(1, sizeof *l.out), .problems = problems};

    CHECK(l.out != NULL);
    table_init(&l.out->by_name);
    table_init(&l.issuers);
    for (size_t i = 0; i < sources->n; i++) {
        bool is_loaded = load_pair(&l, sources->list[i].chain, sources->list[i].key);
        l.out->has_default = l.out->has_default || (i == 0 && is_loaded);
    }
    if (sources->folder != NULL) {
        load_folder(&l, sources->folder);
    }
    table_fini(&l.issuers);
    if (l.n_problems > TLS_PROBLEMS_MAX) {
        writer_bytes(problems, SPAN_LIT("certificates: "));
        writer_u64(problems, l.n_problems - TLS_PROBLEMS_MAX);
        writer_bytes(problems, SPAN_LIT(" more problems\n"));
    }
    return l.out;
}

void tls_identities_free(struct tls_identities *identities)
{
    if (identities == NULL) {
        return;
    }
    table_fini(&identities->by_name);
    for (size_t i = 0; i < identities->n; i++) {
        tls_identity_unref(identities->list[i]);
    }
    free(identities->list);
    free(identities);
}

const struct tls_identity *tls_identities_find(const struct tls_identities *identities,
                                               struct span name)
{
    char text[TLS_NAME_MAX]; /* lower case, with room to put '*' before a dot */

    if (name.size == 0 || name.size > sizeof text) {
        return NULL;
    }
    const struct tls_identity *found = table_get(&identities->by_name, span_lower(text, name));
    char *dot = memchr(text, '.', name.size);
    if (found != NULL || dot == NULL || dot == text) {
        return found;
    }
    dot[-1] = '*'; /* over the last letter of the first label */
    size_t at = (size_t)(dot - text) - 1;
    return table_get(&identities->by_name, span_of(text + at, name.size - at));
}

const struct tls_identity *tls_identities_default(const struct tls_identities *identities)
{
    return identities->has_default ? identities->list[0] : NULL;
}

size_t tls_identities_n(const struct tls_identities *identities)
{
    return identities->n;
}

const struct tls_identity *tls_identities_at(const struct tls_identities *identities, size_t i)
{
    CHECK(i < identities->n);
    return identities->list[i];
}

int64_t tls_identities_expire_s(const struct tls_identities *identities)
{
    int64_t first = 0;

    for (size_t i = 0; i < identities->n; i++) {
        int64_t at = identities->list[i]->expires_s;
        first = i == 0 || at < first ? at : first;
    }
    return first;
}
