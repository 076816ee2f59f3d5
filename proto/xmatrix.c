#include "proto/xmatrix.h"

#include "proto/base64.h"
#include "proto/ident.h"

static const struct span scheme = SPAN_INIT("X-Matrix");
static const struct span algorithm = SPAN_INIT("ed25519:");

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static void skip_space(struct span *rest)
{
    while (rest->size > 0 && is_space(rest->data[0])) {
        *rest = span_skip(*rest, 1);
    }
}

static bool take(struct span *rest, char c)
{
    if (rest->size == 0 || rest->data[0] != c) {
        return false;
    }
    *rest = span_skip(*rest, 1);
    return true;
}

/* The run of bytes up to a separator. More than the grammar's tokens: colons, slashes and equal
 * signs stand unquoted in the wild. `also_ends` is one more separator. */
static struct span take_plain(struct span *rest, char also_ends)
{
    size_t n = 0;

    while (n < rest->size && !is_space(rest->data[n]) && rest->data[n] != ',' &&
           rest->data[n] != '"' && rest->data[n] != also_ends) {
        n++;
    }
    struct span taken = span_of(rest->data, n);
    *rest = span_skip(*rest, n);
    return taken;
}

static bool unescape(struct span *value, struct arena *arena)
{
    char *plain = arena_alloc(arena, value->size);
    size_t n = 0;

    if (plain == NULL) {
        return false;
    }
    for (size_t i = 0; i < value->size; i++) {
        i += value->data[i] == '\\' ? 1 : 0;
        plain[n++] = value->data[i];
    }
    *value = span_of(plain, n);
    return true;
}

/* One with escapes. */
static bool take_escaped(struct span *out, struct arena *arena, struct span *rest)
{
    size_t n = 0;

    while (n < rest->size && rest->data[n] != '"') {
        n += rest->data[n] == '\\' ? 2 : 1;
    }
    if (n >= rest->size) {
        return false;
    }
    *out = span_of(rest->data, n);
    *rest = span_skip(*rest, n + 1);
    return unescape(out, arena);
}

/* After the opening quote. */
static bool take_quoted(struct span *out, struct arena *arena, struct span *rest)
{
    const char *quote = rest->size == 0 ? NULL : memchr(rest->data, '"', rest->size);

    if (quote == NULL) {
        return false;
    }
    *out = span_of(rest->data, (size_t)(quote - rest->data));
    if (out->size > 0 && memchr(out->data, '\\', out->size) != NULL) {
        return take_escaped(out, arena, rest);
    }
    *rest = span_skip(*rest, out->size + 1);
    return true;
}

static bool take_parameter(struct span *name, struct span *value, struct arena *arena,
                           struct span *rest)
{
    *name = take_plain(rest, '=');
    skip_space(rest);
    if (name->size == 0 || !take(rest, '=')) {
        return false;
    }
    skip_space(rest);
    if (take(rest, '"')) {
        return take_quoted(value, arena, rest);
    }
    *value = take_plain(rest, '"');
    return true;
}

/* Unknown names are ignored; false for a known one that is empty or given twice. */
static bool store(struct xmatrix *out, struct span name, struct span value)
{
    const struct {
        struct span name;
        struct span *value;
    } known[] = {
        {SPAN_LIT("origin"), &out->origin},
        {SPAN_LIT("destination"), &out->destination},
        {SPAN_LIT("key"), &out->key_id},
        {SPAN_LIT("sig"), &out->sig_text},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!span_equal_nocase(name, known[i].name)) {
            continue;
        }
        if (known[i].value->data != NULL || value.size == 0) {
            return false;
        }
        *known[i].value = value;
    }
    return true;
}

static bool parse_parameters(struct xmatrix *out, struct arena *arena, struct span rest)
{
    struct span name;
    struct span value;

    while (true) {
        skip_space(&rest);
        if (rest.size == 0) {
            return true;
        }
        if (take(&rest, ',')) { /* lists may have empty elements: RFC 9110, section 5.6.1 */
            continue;
        }
        if (!take_parameter(&name, &value, arena, &rest) || !store(out, name, value)) {
            return false;
        }
        skip_space(&rest);
        if (rest.size != 0 && rest.data[0] != ',') {
            return false;
        }
    }
}

static bool key_id_is_valid(struct span key_id)
{
    for (size_t i = 0; i < key_id.size; i++) {
        if (key_id.data[i] <= ' ' || key_id.data[i] > '~') {
            return false;
        }
    }
    return key_id.size > algorithm.size && span_starts_with(key_id, algorithm);
}

bool xmatrix_is_scheme(struct span header_value)
{
    return header_value.size >= scheme.size &&
           span_equal_nocase(span_of(header_value.data, scheme.size), scheme) &&
           (header_value.size == scheme.size || is_space(header_value.data[scheme.size]));
}

enum reject xmatrix_parse(struct xmatrix *out, struct arena *arena, struct span header_value)
{
    size_t n = 0;

    *out = (struct xmatrix){0};
    if (!xmatrix_is_scheme(header_value) ||
        !parse_parameters(out, arena, span_skip(header_value, scheme.size)) ||
        !server_name_is_valid(out->origin) || !key_id_is_valid(out->key_id) ||
        !base64_decode(out->signature, sizeof out->signature, &n, out->sig_text) ||
        n != sizeof out->signature) {
        return REJECT_BAD_XMATRIX;
    }
    return REJECT_NONE;
}

void xmatrix_signed_bytes(struct writer *out, const struct xmatrix_request *request)
{
    writer_char(out, '{');
    if (request->content.data != NULL) {
        writer_bytes(out, SPAN_LIT("\"content\":"));
        writer_bytes(out, request->content);
        writer_char(out, ',');
    }
    writer_bytes(out, SPAN_LIT("\"destination\":"));
    writer_json_string(out, request->destination);
    writer_bytes(out, SPAN_LIT(",\"method\":"));
    writer_json_string(out, request->method);
    writer_bytes(out, SPAN_LIT(",\"origin\":"));
    writer_json_string(out, request->origin);
    writer_bytes(out, SPAN_LIT(",\"uri\":"));
    writer_json_string(out, request->uri);
    writer_char(out, '}');
}

static bool is_line_space(char c)
{
    return is_space(c) || c == '\r' || c == '\n';
}

/* The next word of the line; empty at its end. */
static struct span take_word(struct span *rest)
{
    size_t n = 0;

    while (rest->size > 0 && is_line_space(rest->data[0])) {
        *rest = span_skip(*rest, 1);
    }
    while (n < rest->size && !is_line_space(rest->data[n])) {
        n++;
    }
    struct span word = span_of(rest->data, n);
    *rest = span_skip(*rest, n);
    return word;
}

bool signing_key_parse(struct signing_key *out, struct span line)
{
    struct span name = take_word(&line);
    struct span version = take_word(&line);
    struct span seed = take_word(&line);
    size_t n = 0;

    *out = (struct signing_key){0};
    if (!span_equal(name, SPAN_LIT("ed25519")) || version.size == 0 ||
        version.size > sizeof out->text - algorithm.size || take_word(&line).size != 0 ||
        !base64_decode(out->seed, sizeof out->seed, &n, seed) || n != sizeof out->seed) {
        return false;
    }
    memcpy(out->text, algorithm.data, algorithm.size);
    memcpy(out->text + algorithm.size, version.data, version.size);
    out->key_id = span_of(out->text, algorithm.size + version.size);
    ed25519_public_key(out->public_key, out->seed);
    return key_id_is_valid(out->key_id);
}

void xmatrix_sign(struct writer *out, const struct signing_key *key,
                  const struct xmatrix_request *request)
{
    uint8_t signature[ED25519_SIGNATURE_SIZE];
    AUTO(writer_fini) struct writer message;

    writer_init(&message, SIZE_MAX); /* what is signed is our own */
    xmatrix_signed_bytes(&message, request);
    ed25519_sign(signature, key->seed, writer_span(&message));
    writer_bytes(out, SPAN_LIT("X-Matrix origin=\""));
    writer_bytes(out, request->origin);
    writer_bytes(out, SPAN_LIT("\",key=\""));
    writer_bytes(out, key->key_id);
    writer_bytes(out, SPAN_LIT("\",sig=\""));
    base64_encode(out, signature, sizeof signature);
    writer_bytes(out, SPAN_LIT("\",destination=\""));
    writer_bytes(out, request->destination);
    writer_char(out, '"');
}
