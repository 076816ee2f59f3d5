/* Reads one command per line, a JSON object, and prints one line for each; for comparing with other
 * implementations of Matrix's signatures. Its member "do" names what to do, the others are strings:
 *
 * verify: header, key_id, key, method, uri, destination, body. Prints "yes" or "no".
 * sign: signing_key, method, uri, origin, destination, body. Prints the header.
 * key_document: server_name, body. Prints "no", or "yes", its end, each key's id and bytes.
 *
 * Keys are base64, a signing key is a line of Synapse's file. "body" is JSON as it came over the
 * wire, and may be missing. What is no command gets "?". */
#include "proto/base64.h"
#include "proto/canonical.h"
#include "proto/check.h"
#include "proto/key_document.h"
#include "proto/xmatrix.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_CAP = 64 << 20, OUTPUT_MAX = 16 << 20 /* bytes */ };

struct tool {
    struct arena arena;
    struct writer content, message, answer;
    const struct json_value *command;
};

static struct span field(const struct tool *tool, const char *name)
{
    return json_get_string(tool->command, span_str(name));
}

/* The canonical form of the body, made where the body is not in it already; NULL data if there is
 * no body. Where it is, both ways must say the same. */
static bool read_content(struct span *out, struct tool *tool)
{
    const struct json_value *root = NULL;
    struct span body = field(tool, "body");

    *out = body;
    if (body.data == NULL) {
        return true;
    }
    if (json_parse(&root, &tool->arena, body) != JSON_OK ||
        !canonical_encode(&tool->content, &tool->arena, root)) {
        return false;
    }
    *out = writer_span(&tool->content);
    CHECK((canonical_check(body) == CANONICAL_YES) == span_equal(*out, body));
    return true;
}

static bool read_request(struct xmatrix_request *out, struct tool *tool)
{
    out->method = field(tool, "method");
    out->uri = field(tool, "uri");
    out->destination = field(tool, "destination");
    return read_content(&out->content, tool);
}

static bool verifies(struct tool *tool)
{
    struct xmatrix header;
    struct xmatrix_request request;
    uint8_t key[ED25519_KEY_SIZE];
    size_t n = 0;

    if (xmatrix_parse(&header, &tool->arena, field(tool, "header")) != REJECT_NONE ||
        !read_request(&request, tool) || !span_equal(header.key_id, field(tool, "key_id")) ||
        (header.destination.data != NULL && !span_equal(header.destination, request.destination)) ||
        !base64_decode(key, sizeof key, &n, field(tool, "key")) || n != sizeof key ||
        !ed25519_key_is_acceptable(key)) {
        return false;
    }
    request.origin = header.origin;
    xmatrix_signed_bytes(&tool->message, &request);
    return ed25519_verify(key, header.signature, writer_span(&tool->message));
}

static void answer_sign(struct tool *tool)
{
    struct signing_key key;
    struct xmatrix_request request = {.origin = field(tool, "origin")};

    if (signing_key_parse(&key, field(tool, "signing_key")) && read_request(&request, tool)) {
        xmatrix_sign(&tool->answer, &key, &request);
    } else {
        writer_char(&tool->answer, '?');
    }
}

static void answer_key_document(struct tool *tool)
{
    struct key_document document;

    if (!key_document_decode(&document, &tool->arena, field(tool, "body"),
                             field(tool, "server_name"))) {
        writer_bytes(&tool->answer, SPAN_LIT("no"));
        return;
    }
    writer_bytes(&tool->answer, SPAN_LIT("yes "));
    writer_i64(&tool->answer, document.valid_until_ts);
    for (uint32_t i = 0; i < document.n_keys; i++) {
        writer_char(&tool->answer, ' ');
        writer_bytes(&tool->answer, document.keys[i].key_id);
        writer_char(&tool->answer, ' ');
        base64_encode(&tool->answer, document.keys[i].key, sizeof document.keys[i].key);
    }
}

static void answer(struct tool *tool, struct span line)
{
    arena_reset(&tool->arena);
    writer_reset(&tool->content);
    writer_reset(&tool->message);
    writer_reset(&tool->answer);
    if (json_parse(&tool->command, &tool->arena, line) != JSON_OK) {
        writer_char(&tool->answer, '?');
        return;
    }
    struct span what = field(tool, "do");
    if (span_equal(what, SPAN_LIT("verify"))) {
        writer_bytes(&tool->answer, verifies(tool) ? SPAN_LIT("yes") : SPAN_LIT("no"));
    } else if (span_equal(what, SPAN_LIT("sign"))) {
        answer_sign(tool);
    } else if (span_equal(what, SPAN_LIT("key_document"))) {
        answer_key_document(tool);
    } else {
        writer_char(&tool->answer, '?');
    }
}

int main(void)
{
    struct tool tool = {0};
    char *line = NULL;
    size_t capacity = 0;

    arena_init(&tool.arena, ARENA_CAP);
    writer_init(&tool.content, OUTPUT_MAX);
    writer_init(&tool.message, OUTPUT_MAX);
    writer_init(&tool.answer, OUTPUT_MAX);
    for (ssize_t size = 0; (size = getline(&line, &capacity, stdin)) > 0;) {
        answer(&tool, span_of(line, (size_t)size - 1));
        writer_char(&tool.answer, '\n');
        CHECK(!tool.answer.failed && !tool.message.failed && !tool.content.failed);
        fwrite(tool.answer.data, 1, tool.answer.size, stdout);
    }
    free(line);
    writer_fini(&tool.content);
    writer_fini(&tool.message);
    writer_fini(&tool.answer);
    arena_fini(&tool.arena);
    return 0;
}
