#include "net/tls.h"

#include "tls_files.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { PATH_SIZE = 128, PROBLEMS_MAX = 64 << 10, FLIGHTS_MAX = 20 };

/* A folder of certificates, as an operator would fill it. */
struct fixture {
    char dir[32];
    struct writer problems;
    struct tls_identities *identities;
};

static void path_in(char path[PATH_SIZE], const struct fixture *f, const char *name)
{
    snprintf(path, PATH_SIZE, "%s/%s", f->dir, name);
}

static void setup(struct fixture *f)
{
    *f = (struct fixture){.dir = "/tmp/freshet-tls-XXXXXX"};
    assert_non_null(mkdtemp(f->dir));
    writer_init(&f->problems, PROBLEMS_MAX);
}

static int remove_entry(const char *path, const struct stat *what, int kind, struct FTW *where)
{
    (void)what;
    (void)kind;
    (void)where;
    return remove(path);
}

static void teardown(struct fixture *f)
{
    tls_identities_free(f->identities);
    writer_fini(&f->problems);
    /* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    assert_int_equal(nftw(f->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void write_text(const struct fixture *f, const char *name, const char *text)
{
    char path[PATH_SIZE];

    path_in(path, f, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void make_folder(const struct fixture *f, const char *name)
{
    char path[PATH_SIZE];

    path_in(path, f, name);
    assert_int_equal(mkdir(path, S_IRWXU), 0);
}

static void move(const struct fixture *f, const char *from, const char *to)
{
    char path[PATH_SIZE];

    path_in(path, f, to);
    assert_int_equal(rename(from, path), 0);
}

/* A certificate for `names`, as tls_files_make, in two files of the folder. */
static void put(const struct fixture *f, const char *chain, const char *key, const char *names)
{
    struct tls_files files;

    tls_files_make(&files, names);
    move(f, files.chain, chain);
    move(f, files.key, key);
    tls_files_remove(&files);
}

static void append(const struct fixture *f, const char *to, const char *from)
{
    char path[PATH_SIZE];
    char text[8192];

    path_in(path, f, from);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t size = fread(text, 1, sizeof text, file);
    assert_int_equal(fclose(file), 0);
    path_in(path, f, to);
    file = fopen(path, "ae");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void load(struct fixture *f, const char *listed_chain, const char *listed_key,
                 const char *folder)
{
    char chain[PATH_SIZE];
    char key[PATH_SIZE];
    char path[PATH_SIZE];
    const struct tls_certificate list[] = {{chain, key}};
    const struct tls_sources sources = {
        .list = list, .n = listed_chain != NULL, .folder = folder != NULL ? path : NULL};

    path_in(chain, f, listed_chain != NULL ? listed_chain : "");
    path_in(key, f, listed_key != NULL ? listed_key : "");
    path_in(path, f, folder != NULL ? folder : "");
    tls_identities_free(f->identities);
    writer_reset(&f->problems);
    f->identities = tls_identities_load(&sources, &f->problems);
}

/* The end of the chain file's name; "" for none. */
static const char *file_of(const struct fixture *f, const struct tls_identity *identity)
{
    return identity == NULL ? "" : identity->chain_file + strlen(f->dir) + 1;
}

static void the_certificate_is_found_by_its_names(void **state)
{
    static const struct {
        const char *name, *file;
    } rows[] = {
        {"a.example", "a.crt"},
        {"A.Example", "a.crt"},
        {"matrix.a.example", "wild.crt"},
        {"mAtrix.A.example", "wild.crt"},
        {"x.a.example", "wild.crt"},
        {"own.a.example", "own.crt"}, /* the name itself before a wildcard */
        {"deep.x.a.example", ""},
        {".a.example", ""},
        {"a.example.", ""},
        {"example", ""},
        {"b.example", ""},
        {"*.a.example", "wild.crt"}, /* no name that anybody could mean otherwise */
        {"", ""},
        {"192.0.2.1", "a.crt"},
        {"2001:db8::1", "a.crt"},
    };
    struct fixture f;

    (void)state;
    setup(&f);
    put(&f, "a.crt", "a.key", "DNS:a.example,IP:192.0.2.1,IP:2001:db8::1");
    put(&f, "wild.crt", "wild.key", "DNS:*.A.EXAMPLE");
    put(&f, "own.crt", "own.key", "DNS:own.a.example,DNS:a.example");
    load(&f, NULL, NULL, ".");
    assert_int_equal(f.problems.size, 0);
    assert_int_equal(tls_identities_n(f.identities), 3);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct span name = span_str(rows[i].name);
        const struct tls_identity *found = tls_identities_find(f.identities, name);
        const char *file = strrchr(file_of(&f, found), '/');
        file = file == NULL ? "" : file + 1;
        if (strcmp(file, rows[i].file) != 0) {
            print_error("row failed: %s: %s\n", rows[i].name, file);
        }
        assert_string_equal(file, rows[i].file);
        assert_true(found == NULL || tls_identity_covers(found, name));
    }
    for (size_t i = 0; i < 3; i++) {
        assert_false(
            tls_identity_covers(tls_identities_at(f.identities, i), SPAN_LIT("deep.x.a.example")));
        assert_false(tls_identity_covers(tls_identities_at(f.identities, i), SPAN_LIT("")));
    }
    teardown(&f);
}

static void a_folder_holds_pairs_and_folders_of_one(void **state)
{
    static const char *const want[] = {"./a.example.crt", "./b/fullchain.pem", "./c/tls.crt"};
    struct fixture f;

    (void)state;
    setup(&f);
    make_folder(&f, "b");
    make_folder(&f, "c");
    make_folder(&f, "empty");
    make_folder(&f, ".hidden");
    put(&f, "a.example.crt", "a.example.key", "DNS:a.example");
    put(&f, "b/fullchain.pem", "b/privkey.pem", "DNS:b.example");
    put(&f, "c/tls.crt", "c/tls.key", "DNS:c.example");
    put(&f, ".hidden/tls.crt", ".hidden/tls.key", "DNS:d.example");
    write_text(&f, "README", "not a certificate");
    write_text(&f, ".crt", "nor is this");
    load(&f, NULL, NULL, ".");
    assert_int_equal(f.problems.size, 0);
    assert_int_equal(tls_identities_n(f.identities), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(file_of(&f, tls_identities_at(f.identities, i)), want[i]);
    }
    assert_null(tls_identities_default(f.identities));
    load(&f, "c/tls.crt", "c/tls.key", ".");
    assert_int_equal(tls_identities_n(f.identities), 4);
    assert_string_equal(file_of(&f, tls_identities_default(f.identities)), "c/tls.crt");
    teardown(&f);
}

static bool says(const struct fixture *f, const char *text)
{
    return f->problems.size > 0 &&
           memmem(f->problems.data, f->problems.size, text, strlen(text)) != NULL;
}

static void encrypt_key(const struct fixture *f, const char *name)
{
    char path[PATH_SIZE];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    const unsigned char password[] = "pw";

    path_in(path, f, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, EVP_aes_128_cbc(), password, 2, NULL, NULL),
                     1);
    assert_int_equal(fclose(file), 0);
    EVP_PKEY_free(key);
}

static void what_is_wrong_is_said_with_its_file_and_the_rest_is_read(void **state)
{
    char path[PATH_SIZE];
    struct fixture f;

    (void)state;
    setup(&f);
    put(&f, "good.crt", "good.key", "DNS:good.example");
    put(&f, "nokey.crt", "elsewhere", "DNS:b.example");
    put(&f, "other.crt", "gone", "DNS:c.example");
    put(&f, "gone", "other.key", "DNS:c.example");
    put(&f, "nameless.crt", "nameless.key", "email:a@b.example");
    put(&f, "locked.crt", "locked.key", "DNS:d.example");
    encrypt_key(&f, "locked.key");
    write_text(&f, "text.crt", "hello");
    put(&f, "cut.crt", "cut.key", "DNS:e.example");
    write_text(&f, "more.crt", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    append(&f, "cut.crt", "more.crt");
    path_in(path, &f, "pipe.crt");
    assert_int_equal(mkfifo(path, S_IRWXU), 0);
    load(&f, NULL, NULL, ".");
    assert_int_equal(tls_identities_n(f.identities), 1);
    assert_non_null(tls_identities_find(f.identities, SPAN_LIT("good.example")));
    assert_true(says(&f, "/nokey.key: cannot be read"));
    assert_true(says(&f, "/other.key: is the key of another certificate"));
    assert_true(says(&f, "/nameless.crt: has no DNS name"));
    assert_true(says(&f, "/locked.key: is not a private key in PEM without a password"));
    assert_true(says(&f, "/text.crt: is not a chain"));
    assert_true(says(&f, "/cut.crt: is not a chain"));
    assert_true(says(&f, "/pipe.crt: cannot be read"));
    assert_true(says(&f, "/more.crt: is not a chain"));
    assert_false(says(&f, "good"));
    teardown(&f);
}

static void a_folder_without_certificates_is_a_problem(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    load(&f, NULL, NULL, ".");
    assert_true(says(&f, "no certificate in it"));
    load(&f, NULL, NULL, "nowhere");
    assert_true(says(&f, "/nowhere: cannot be read (No such file or directory)"));
    teardown(&f);
}

static void many_problems_are_counted(void **state)
{
    char name[32];
    struct fixture f;

    (void)state;
    setup(&f);
    for (int i = 0; i < TLS_PROBLEMS_MAX + 3; i++) {
        snprintf(name, sizeof name, "%d.crt", i);
        write_text(&f, name, "");
    }
    load(&f, NULL, NULL, ".");
    assert_true(says(&f, "certificates: 3 more problems\n"));
    teardown(&f);
}

static void the_same_issuer_is_kept_once(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    put(&f, "issuer", "unused", "DNS:issuer.example");
    put(&f, "a.crt", "a.key", "DNS:a.example");
    put(&f, "b.crt", "b.key", "DNS:b.example");
    append(&f, "a.crt", "issuer");
    append(&f, "b.crt", "issuer");
    append(&f, "b.crt", "issuer");
    load(&f, NULL, NULL, ".");
    assert_int_equal(f.problems.size, 0);
    const struct tls_identity *a = tls_identities_at(f.identities, 0);
    const struct tls_identity *b = tls_identities_at(f.identities, 1);
    assert_int_equal(sk_X509_num(a->chain), 1);
    assert_int_equal(sk_X509_num(b->chain), 2);
    assert_ptr_equal(sk_X509_value(a->chain, 0), sk_X509_value(b->chain, 0));
    assert_ptr_equal(sk_X509_value(a->chain, 0), sk_X509_value(b->chain, 1));
    teardown(&f);
}

/* Two ends of a connection, both in this thread. */
struct pair {
    int fds[2];
    SSL_CTX *client_ctx;
    SSL *server, *client;
};

static void pair_open(struct pair *p, struct tls_context *context, const char *name)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fds), 0);
    p->client_ctx = SSL_CTX_new(TLS_client_method());
    p->client = SSL_new(p->client_ctx);
    p->server = tls_accepting(context, p->fds[0]);
    assert_true(p->client != NULL && p->server != NULL);
    assert_int_equal(SSL_set_fd(p->client, p->fds[1]), 1);
    SSL_set_connect_state(p->client);
    if (name != NULL) {
        assert_int_equal(SSL_ctrl(p->client, SSL_CTRL_SET_TLSEXT_HOSTNAME,
                                  TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)name),
                         1);
    }
}

/* False if the handshake failed. */
static bool pair_shake(struct pair *p)
{
    int client = 0;
    int server = 0;

    for (int i = 0; i < FLIGHTS_MAX && (client != 1 || server != 1); i++) {
        client = SSL_do_handshake(p->client);
        if (client != 1 && SSL_get_error(p->client, client) != SSL_ERROR_WANT_READ) {
            return false;
        }
        server = SSL_do_handshake(p->server);
    }
    return client == 1 && server == 1;
}

static void pair_close(struct pair *p)
{
    ERR_clear_error();
    SSL_free(p->client);
    tls_free(p->server);
    SSL_CTX_free(p->client_ctx);
    close(p->fds[0]);
    close(p->fds[1]);
}

static bool is_shown(const struct pair *p, const char *name)
{
    X509 *certificate = SSL_get1_peer_certificate(p->client);
    bool is_it = X509_check_host(certificate, name, strlen(name), 0, NULL) == 1;

    X509_free(certificate);
    return is_it;
}

static struct tls_context *context_of(struct fixture *f, const char *chain, const char *key)
{
    load(f, chain, key, "folder");
    assert_int_equal(f->problems.size, 0);
    return tls_server_with(TAKE(f->identities));
}

static void two_certificates(struct fixture *f)
{
    setup(f);
    make_folder(f, "folder");
    put(f, "first.crt", "first.key", "DNS:first.example");
    put(f, "folder/b.crt", "folder/b.key", "DNS:b.example,DNS:*.b.example");
}

static void sni_chooses_and_what_was_chosen_is_known(void **state)
{
    static const struct {
        const char *name, *shown, *not_covered;
        bool has_default;
        int reason; /* of the client's failure; 0: none */
    } rows[] = {
        {"b.example", "b.example", "first.example", true, 0},
        {"x.b.example", "x.b.example", "first.example", true, 0},
        {"B.EXAMPLE", "b.example", "first.example", false, 0},
        {"first.example", "first.example", "b.example", true, 0},
        {"unknown.example", "first.example", "unknown.example", true, 0},
        {NULL, "first.example", "b.example", true, 0},
        {"unknown.example", NULL, NULL, false, SSL_R_TLSV1_UNRECOGNIZED_NAME},
        {NULL, NULL, NULL, false, SSL_R_TLSV1_UNRECOGNIZED_NAME},
    };
    struct fixture f;

    (void)state;
    two_certificates(&f);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pair p;
        struct tls_context *context = context_of(&f, rows[i].has_default ? "first.crt" : NULL,
                                                 rows[i].has_default ? "first.key" : NULL);
        pair_open(&p, context, rows[i].name);
        bool is_well = pair_shake(&p) == (rows[i].reason == 0);
        int reason = ERR_GET_REASON(ERR_peek_last_error());
        if (rows[i].reason == 0) {
            is_well = is_well && is_shown(&p, rows[i].shown) &&
                      tls_covers(p.server, span_str(rows[i].shown)) &&
                      !tls_covers(p.server, span_str(rows[i].not_covered));
        } else {
            is_well = is_well && reason == rows[i].reason && !tls_covers(p.server, SPAN_LIT("x"));
        }
        if (!is_well) {
            print_error("row %zu failed: %s\n", i, rows[i].name == NULL ? "" : rows[i].name);
        }
        assert_true(is_well);
        pair_close(&p);
        tls_context_free(context);
    }
    teardown(&f);
}

static void a_connection_outlives_the_certificates_it_began_with(void **state)
{
    struct fixture f;
    struct pair p;
    char byte = 0;

    (void)state;
    two_certificates(&f);
    struct tls_context *context = context_of(&f, NULL, NULL);
    pair_open(&p, context, "b.example");
    tls_context_free(context);
    assert_true(pair_shake(&p));
    tls_established(p.server);
    assert_true(tls_covers(p.server, SPAN_LIT("B.example")));
    assert_int_equal(SSL_write(p.client, "x", 1), 1);
    assert_int_equal(SSL_read(p.server, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    pair_close(&p);
    teardown(&f);
}

/* Else who stays connected keeps all certificates of a set that was replaced. */
static void after_its_handshake_a_connection_holds_its_certificate_alone(void **state)
{
    struct fixture f;
    struct pair p;

    (void)state;
    two_certificates(&f);
    struct tls_context *context = context_of(&f, NULL, NULL);
    assert_true(tls_context_is_last(context));
    pair_open(&p, context, "b.example");
    assert_false(tls_context_is_last(context));
    assert_true(pair_shake(&p));
    assert_false(tls_context_is_last(context));
    tls_established(p.server);
    assert_true(tls_context_is_last(context));
    tls_context_free(context);
    assert_true(tls_covers(p.server, SPAN_LIT("b.example")));
    pair_close(&p);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_certificate_is_found_by_its_names),
        cmocka_unit_test(a_folder_holds_pairs_and_folders_of_one),
        cmocka_unit_test(what_is_wrong_is_said_with_its_file_and_the_rest_is_read),
        cmocka_unit_test(a_folder_without_certificates_is_a_problem),
        cmocka_unit_test(many_problems_are_counted),
        cmocka_unit_test(the_same_issuer_is_kept_once),
        cmocka_unit_test(sni_chooses_and_what_was_chosen_is_known),
        cmocka_unit_test(a_connection_outlives_the_certificates_it_began_with),
        cmocka_unit_test(after_its_handshake_a_connection_holds_its_certificate_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
