#include "config.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config_check.h"

enum { OUTPUT_MAX = 1 << 20 };

#define SERVER "servers:\n  - name: a.example\n    upstreams: [\"http://127.0.0.1:8008\"]\n"
#define LISTEN "listen:\n  federation: {address: \"127.0.0.1:0\"}\n"
#define BASE   "data_dir: /var/lib/freshet\n" LISTEN

static const char full[] =
    "data_dir: data\n"
    "listen:\n"
    "  federation:\n"
    "    address: \"0.0.0.0:8448\"\n"
    "    certificates: [{chain: chain.pem, key: /etc/key.pem}]\n"
    "    certificate_folder: certificates\n"
    "  operations: {address: \"[::1]:9090\"}\n"
    "  admin: {socket: /run/freshet/admin.sock}\n"
    "trusted_proxies: [\"10.0.0.0/8\", \"fd00::/8\"]\n"
    "workers: 3\n"
    "federation_client:\n"
    "  {ca_file: null, allow_addresses: [], dns_servers: [127.0.0.1, \"[::1]:54\", \"::2\"]}\n"
    "keys: {fetches_per_s: 7}\n"
    "servers:\n"
    "  - name: a.example\n"
    "    hosts: [a.example, matrix.a.example]\n"
    "    upstreams: [\"http://127.0.0.1:8008\", \"http://[::1]:8009\", \"http://hs:80\"]\n"
    "    authenticate: upstream\n"
    "    spoofed_sender: refuse\n"
    "    signing: {key_file: freshet.signing.key}\n"
    "  - name: b.example:8449\n"
    "    upstreams: [\"http://hs-b:8008\"]\n"
    "lists: {max_age_s: 0, reads_per_s: 9, wait_ms: 1, settle_ms: 2}\n"
    "upstream: {patience_s: 3, idle_s: 4}\n";

static struct config *parse_or_fail(const char *text)
{
    struct config *config = NULL;
    struct writer problems;

    writer_init(&problems, OUTPUT_MAX);
    enum err err = config_parse(&config, span_str(text), "/etc/freshet/f.yaml", &problems);
    if (err != ERR_OK) {
        print_error("%.*s", (int)problems.size, problems.data);
    }
    assert_int_equal(err, ERR_OK);
    assert_int_equal(problems.size, 0);
    writer_fini(&problems);
    return config;
}

static void every_key_arrives_in_the_struct(void **state)
{
    (void)state;
    struct config *c = parse_or_fail(full);

    assert_string_equal(c->data_dir, "/etc/freshet/data");
    assert_string_equal(c->listen.federation.address.host, "0.0.0.0");
    assert_int_equal(c->listen.federation.address.port, 8448);
    assert_int_equal(c->listen.federation.n_certificates, 1);
    assert_string_equal(c->listen.federation.certificates[0].chain, "/etc/freshet/chain.pem");
    assert_string_equal(c->listen.federation.certificates[0].key, "/etc/key.pem");
    assert_string_equal(c->listen.federation.certificate_folder, "/etc/freshet/certificates");
    assert_string_equal(c->listen.operations.host, "::1");
    assert_string_equal(c->listen.admin_socket, "/run/freshet/admin.sock");
    assert_int_equal(c->trusted_proxies.n, 2);
    assert_int_equal(c->workers, 3);
    assert_null(c->federation_client.ca_file);
    assert_int_equal(c->federation_client.allow_addresses.n, 0);
    assert_string_equal(c->federation_client.dns_servers, "127.0.0.1:53,[::1]:54,[::2]:53");
    assert_int_equal(c->keys.fetches_per_s, 7);
    assert_int_equal(c->n_servers, 2);
    assert_int_equal(c->servers[0].n_hosts, 2);
    assert_string_equal(c->servers[0].hosts[1], "matrix.a.example");
    assert_int_equal(c->servers[0].n_upstreams, 3);
    assert_string_equal(c->servers[0].upstreams[1].host, "::1");
    assert_int_equal(c->servers[0].upstreams[1].port, 8009);
    assert_string_equal(c->servers[0].upstreams[2].host, "hs");
    assert_int_equal(c->servers[0].authenticate, AUTHENTICATE_UPSTREAM);
    assert_int_equal(c->servers[0].spoofed_sender, SPOOFED_SENDER_REFUSE);
    assert_string_equal(c->servers[0].signing_key_file, "/etc/freshet/freshet.signing.key");
    assert_int_equal(c->servers[1].n_hosts, 1);
    assert_string_equal(c->servers[1].hosts[0], "b.example:8449");
    assert_null(c->servers[1].signing_key_file);
    assert_int_equal(c->lists.max_age_s, 0);
    assert_int_equal(c->lists.settle_ms, 2);
    assert_int_equal(c->upstream.patience_s, 3);
    assert_int_equal(c->upstream.idle_s, 4);
    config_free(c);
}

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct config *c = parse_or_fail(BASE SERVER);

    assert_int_equal(c->listen.federation.n_certificates, 0);
    assert_null(c->federation_client.dns_servers);
    assert_null(c->listen.federation.certificate_folder);
    assert_null(c->listen.operations.host);
    assert_null(c->listen.admin_socket);
    assert_int_equal(c->workers, 0);
    assert_int_equal(c->keys.fetches_per_s, 20);
    assert_int_equal(c->lists.max_age_s, 5);
    assert_int_equal(c->lists.reads_per_s, 8);
    assert_int_equal(c->lists.wait_ms, 100);
    assert_int_equal(c->lists.settle_ms, 500);
    assert_int_equal(c->upstream.patience_s, 20);
    assert_int_equal(c->upstream.idle_s, 60);
    assert_int_equal(c->servers[0].authenticate, AUTHENTICATE_EDGE);
    assert_int_equal(c->servers[0].spoofed_sender, SPOOFED_SENDER_RELAY);
    config_free(c);
}

static const struct {
    const char *name;
    const char *text;
    const char *problem; /* part of what is said */
} wrong_files[] = {
    {"unknown key", BASE "datadir: x\n" SERVER,
     "f.yaml:4: unknown key 'datadir'; did you mean 'data_dir'?"},
    {"a resolver that is a name",
     BASE "federation_client:\n  dns_servers: [127.0.0.1, dns.example]\n" SERVER,
     "f.yaml:5: federation_client.dns_servers[1]: expected an IP address"},
    {"a resolver's port 0", BASE "federation_client: {dns_servers: [\"127.0.0.1:0\"]}\n" SERVER,
     "federation_client.dns_servers[0]: expected an IP address"},
    {"unknown key like nothing", BASE "zebra: {a: 1, data_dir: 2}\n" SERVER,
     "f.yaml:4: unknown key 'zebra'\n"},
    {"unknown key inside", BASE SERVER "lists:\n  wait_ms: 1\n  maxage_s: 3\n",
     "f.yaml:9: unknown key 'lists.maxage_s'; did you mean 'max_age_s'?"},
    {"unknown key of a server", BASE SERVER "    upstream: x\n",
     "f.yaml:7: unknown key 'servers[0].upstream'; did you mean 'upstreams'?"},
    {"a later top-level key", BASE SERVER "ledger: {complete: true}\n",
     "f.yaml:7: 'ledger' is not supported by this version yet"},
    {"a later listener", BASE "  outbound: {address: \"127.0.0.1:9400\"}\n" SERVER,
     "f.yaml:4: 'listen.outbound' is not supported by this version yet"},
    {"a later key of a server", BASE SERVER "    redis: {url: x}\n",
     "f.yaml:7: 'servers[0].redis' is not supported by this version yet"},
    {"replication", BASE SERVER "    replication: {url: x}\n", "not supported by this version yet"},
    {"admin token", BASE SERVER "    admin_token_file: x\n", "not supported by this version yet"},
    {"rejections", BASE SERVER "rejections: {}\n", "not supported by this version yet"},
    {"return", BASE SERVER "return: {}\n", "not supported by this version yet"},
    {"repeated key", BASE SERVER "data_dir: x\n", "f.yaml:7: 'data_dir' is given twice"},
    {"alias", "data_dir: &d x\n" LISTEN SERVER "keys: *d\n", "f.yaml:7: aliases"},
    {"merge key", BASE SERVER "<<: {workers: 1}\n", "unknown key '<<'"},
    {"broken YAML", BASE SERVER "keys: [\n", "not YAML"},
    {"tabs", "data_dir:\tx\n\tlisten: y\n", "f.yaml:2: not YAML"},
    {"empty", "", "data_dir: missing"},
    {"only a list", "- a\n", "f.yaml:1: a mapping is expected here"},
    {"only a word", "hello\n", "f.yaml:1: a mapping is expected here"},
    {"a key that is a list", "[a, b]: c\n", "a key must be a plain word"},
    {"no servers", BASE "servers: []\n", "f.yaml:4: servers: missing"},
    {"no listener", "data_dir: x\n" SERVER, "listen.federation: missing"},
    {"number that is a word", BASE SERVER "workers: many\n", "f.yaml:7: workers: Invalid"},
    {"number below zero", BASE SERVER "workers: -1\n", "f.yaml:7: workers:"},
    {"number too large", BASE SERVER "keys:\n  fetches_per_s: 0\n",
     "f.yaml:8: keys.fetches_per_s: 0 is not between 1 and 10000"},
    {"mapping where a list is meant", BASE SERVER "trusted_proxies: {a: b}\n", "f.yaml:7"},
    {"scalar where a mapping is meant", BASE SERVER "keys: 3\n", "f.yaml:7: keys: Expecting"},
    {"bad enum", BASE SERVER "    authenticate: maybe\n", "f.yaml:7: authenticate: Invalid"},
    {"address without port", "data_dir: x\nlisten:\n  federation: {address: \"0.0.0.0\"}\n" SERVER,
     "f.yaml:3: listen.federation.address: expected an IP address and a port"},
    {"address by name", BASE "  operations: {address: \"localhost:9\"}\n" SERVER,
     "f.yaml:4: listen.operations.address: expected an IP address"},
    {"network with bits beyond", BASE SERVER "trusted_proxies:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\n",
     "f.yaml:9: trusted_proxies[1]: the address has bits beyond its prefix"},
    {"server name", BASE "servers:\n  - upstreams: [\"http://h:1\"]\n    name: \"a b\"\n",
     "f.yaml:6: servers[0].name: not a server name"},
    {"server without name", BASE "servers:\n  - upstreams: [\"http://h:1\"]\n",
     "f.yaml:5: servers[0].name: missing"},
    {"server without upstream", BASE "servers:\n  - name: a\n",
     "f.yaml:5: servers[0].upstreams: missing"},
    {"https upstream", BASE "servers:\n  - name: a\n    upstreams: [\"https://h:1\"]\n",
     "f.yaml:6: servers[0].upstreams[0]: https to a homeserver is not supported"},
    {"upstream with a path", BASE "servers:\n  - name: a\n    upstreams: [\"http://h:1/x\"]\n",
     "f.yaml:6: servers[0].upstreams[0]: expected http://host:port"},
    {"one name twice", BASE SERVER "  - name: A.example\n    upstreams: [\"http://h:1\"]\n",
     "f.yaml:7: servers[1].name: is given twice"},
    {"one host twice",
     BASE SERVER "  - name: b.example\n    upstreams: [\"http://h:1\"]\n"
                 "    hosts: [b.example, a.example]\n",
     "f.yaml:9: servers[1].hosts[1]: is given twice"},
    {"signing without a file", BASE SERVER "    signing: {}\n",
     "f.yaml:7: servers[0].signing.key_file: missing"},
    {"certificate without a key",
     "data_dir: x\nlisten:\n  federation:\n    address: \"127.0.0.1:1\"\n    certificates:\n"
     "    - chain: c\n" SERVER,
     "f.yaml:6: listen.federation.certificates[0].key: missing"},
};

static void a_wrong_file_is_refused_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong_files / sizeof wrong_files[0]; i++) {
        struct config *config = NULL;
        struct writer problems;
        writer_init(&problems, OUTPUT_MAX);
        enum err err = config_parse(&config, span_str(wrong_files[i].text), "f.yaml", &problems);
        writer_char(&problems, '\0');
        if (err != ERR_CONFIG || strstr(problems.data, wrong_files[i].problem) == NULL) {
            print_error("row '%s' says: %s", wrong_files[i].name, problems.data);
            config_free(config);
            writer_fini(&problems);
            fail();
        }
        assert_null(config);
        writer_fini(&problems);
    }
}

static void all_problems_are_said_at_once_up_to_a_limit(void **state)
{
    (void)state;
    char text[4096] = "";
    struct config *config = NULL;
    struct writer problems;
    size_t lines = 0;

    for (int i = 0; i < 100; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "zebra%d: 1\n", i);
    }
    writer_init(&problems, OUTPUT_MAX);
    assert_int_equal(config_parse(&config, span_str(text), "f", &problems), ERR_CONFIG);
    for (size_t i = 0; i < problems.size; i++) {
        lines += problems.data[i] == '\n';
    }
    assert_int_equal(lines, CONFIG_PROBLEMS_MAX);
    writer_fini(&problems);
}

static void a_file_that_is_not_there_is_a_problem(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct writer problems;

    writer_init(&problems, OUTPUT_MAX);
    assert_int_equal(config_load(&config, "/nonexistent/f.yaml", &problems), ERR_CONFIG);
    assert_true(problems.size > 0);
    writer_fini(&problems);
}

static void networks_contain_what_their_prefix_says(void **state)
{
    (void)state;
    static const struct {
        const char *network, *address;
        bool inside;
    } rows[] = {
        {"10.0.0.0/8", "::ffff:10.255.0.1", true},
        {"10.0.0.0/8", "::ffff:11.0.0.1", false},
        {"10.0.0.0/8", "::10.0.0.1", false},
        {"192.168.4.0/22", "::ffff:192.168.7.9", true},
        {"192.168.4.0/22", "::ffff:192.168.8.0", false},
        {"127.0.0.1", "::ffff:127.0.0.1", true},
        {"127.0.0.1", "::ffff:127.0.0.2", false},
        {"fd00::/8", "fd12::1", true},
        {"fd00::/8", "fe00::1", false},
        {"0.0.0.0/0", "::ffff:1.2.3.4", true},
        {"0.0.0.0/0", "::1", false},
        {"::/0", "::ffff:1.2.3.4", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_network network;
        struct in6_addr address;
        assert_null(config_network_parse(&network, rows[i].network));
        assert_int_equal(inet_pton(AF_INET6, rows[i].address, &address), 1);
        struct config_networks networks = {&network, 1};
        if (config_networks_contain(&networks, &address) != rows[i].inside) {
            fail_msg("%s in %s", rows[i].address, rows[i].network);
        }
    }
}

static void odd_networks_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {"",
                                       "/",
                                       "10.0.0.0/",
                                       "10.0.0.0/33",
                                       "10.0.0.0/+8",
                                       "10.0.0.0/08",
                                       "10.0.0.1/31",
                                       "fd00::/129",
                                       "10.0.0.0/8x",
                                       "example.org",
                                       "10.0.0/8"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct config_network network;
        if (config_network_parse(&network, rows[i]) == NULL) {
            fail_msg("accepted: %s", rows[i]);
        }
    }
}

static void the_description_says_why_a_server_gets_no_verdicts(void **state)
{
    (void)state;
    struct config *c = parse_or_fail(BASE SERVER);
    struct writer w;

    writer_init(&w, OUTPUT_MAX);
    assert_true(config_describe(&w, c));
    writer_char(&w, '\0');
    assert_non_null(strstr(w.data, "a.example\n  relay: yes, to http://127.0.0.1:8008\n"));
    assert_non_null(strstr(w.data, "verdicts: no (neither signing.key_file"));
    writer_fini(&w);
    config_free(c);
    c = parse_or_fail(full);
    writer_init(&w, OUTPUT_MAX);
    assert_false(config_describe(&w, c)); /* its files are not there */
    writer_char(&w, '\0');
    assert_non_null(strstr(w.data, "PROBLEM: cannot read /etc/freshet/freshet.signing.key"));
    assert_non_null(strstr(w.data, "PROBLEM: /etc/freshet/chain.pem: cannot be read"));
    assert_non_null(strstr(w.data, "PROBLEM: /etc/freshet/certificates: cannot be read"));
    assert_non_null(strstr(w.data, "PROBLEM: no certificate covers any host of "));
    writer_fini(&w);
    config_free(c);
}

static void the_example_is_accepted(void **state)
{
    (void)state;
    struct config *config = NULL;
    struct writer problems;

    writer_init(&problems, OUTPUT_MAX);
    enum err err = config_load(&config, TEST_DATA "/../../deploy/freshet.example.yaml", &problems);
    if (err != ERR_OK) {
        print_error("%.*s", (int)problems.size, problems.data);
    }
    assert_int_equal(err, ERR_OK);
    config_free(config);
    writer_fini(&problems);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_arrives_in_the_struct),
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(a_wrong_file_is_refused_with_its_line),
        cmocka_unit_test(all_problems_are_said_at_once_up_to_a_limit),
        cmocka_unit_test(a_file_that_is_not_there_is_a_problem),
        cmocka_unit_test(networks_contain_what_their_prefix_says),
        cmocka_unit_test(odd_networks_are_refused),
        cmocka_unit_test(the_description_says_why_a_server_gets_no_verdicts),
        cmocka_unit_test(the_example_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
