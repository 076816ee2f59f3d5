#include "proto/verdict.h"

#include "proto/arena.h"
#include "proto/check.h"
#include "proto/json.h"
#include "proto/names.h"

enum {
    /* What json_parse needs for a document: bytes for each byte of it, and for any. */
    PARSE_PER_BYTE = 32,
    PARSE_LEAST = 64 * 1024,
    ROW_USUAL = 192, /* bytes of a verdict with names of some 30 bytes */
};

const char *verdict_label(enum verdict verdict)
{
    static const char *const labels[VERDICT_COUNT] = {
        [VERDICT_UNKNOWN] = "unknown",
        [VERDICT_FRESH] = "fresh",
        [VERDICT_STALE] = "stale",
    };

    CHECK(verdict < VERDICT_COUNT);
    return labels[verdict];
}

#define MEMBER(name) SPAN_LIT(",\"" name "\":")

static void write_hash(struct writer *out, struct span member, const struct dlh *hash)
{
    writer_bytes(out, member);
    writer_char(out, '"');
    dlh_write(out, hash);
    writer_char(out, '"');
}

static void write_id(struct writer *out, size_t *n, struct span id)
{
    if (id.size == 0 || id.size > VERDICT_ID_SIZE_MAX || *n == VERDICT_IDS_MAX) {
        return;
    }
    if (*n > 0) {
        writer_char(out, ',');
    }
    writer_json_string(out, id);
    (*n)++;
}

static void write_ids(struct writer *out, const struct offer *offer)
{
    size_t n = 0;

    writer_bytes(out, MEMBER("message_ids"));
    writer_char(out, '[');
    for (uint32_t i = 0; i < offer->n_message_ids; i++) {
        write_id(out, &n, offer->message_ids[i]);
    }
    writer_char(out, ']');
    writer_bytes(out, MEMBER("msgids"));
    writer_char(out, '[');
    n = 0;
    for (uint32_t i = 0; i < offer->n_messages; i++) {
        write_id(out, &n, offer->messages[i].msgid);
    }
    writer_char(out, ']');
}

static void write_row(struct writer *out, const struct judgement *judgement, bool with_ids)
{
    const struct claim *claim = &judgement->offer->claim;
    bool is_stale = judgement->verdict == VERDICT_STALE;

    writer_bytes(out, SPAN_LIT("{\"user_id\":"));
    writer_json_string(out, judgement->user_id);
    writer_bytes(out, MEMBER("sender"));
    writer_json_string(out, judgement->offer->sender);
    writer_bytes(out, MEMBER("verdict"));
    writer_json_string(out, span_str(verdict_label(judgement->verdict)));
    if (claim->has_hash) {
        write_hash(out, MEMBER("claimed"), &claim->hash);
    } else {
        writer_bytes(out, MEMBER("claimed_stream_id"));
        writer_i64(out, claim->stream_id);
    }
    if (is_stale && judgement->has_current) {
        write_hash(out, MEMBER("current"), &judgement->current);
    }
    if (is_stale && with_ids) {
        write_ids(out, judgement->offer);
    }
    writer_char(out, '}');
}

/* Adds the row if it fits and leaves room for the bracket, without its ids if it must. */
static void add_row(struct writer *rows, const struct judgement *judgement)
{
    size_t before = rows->size;

    for (int with_ids = 1; with_ids >= 0; with_ids--) {
        if (before > 1) {
            writer_char(rows, ',');
        }
        write_row(rows, judgement, with_ids == 1);
        if (!rows->failed && rows->size < rows->max) {
            return;
        }
        writer_truncate(rows, before);
    }
}

static bool is_answered(const struct judgement *judgement)
{
    return judgement->offer->claim_result == CLAIM_USABLE && !judgement->offer->claim.per_device;
}

/* The array; false if there is nothing to say. */
static bool write_rows(struct writer *rows, const struct judgement *judgements, size_t n)
{
    writer_reserve(rows, n < VERDICTS_SIZE_MAX / ROW_USUAL ? n * ROW_USUAL : VERDICTS_SIZE_MAX);
    writer_char(rows, '[');
    for (int stale = 1; stale >= 0; stale--) {
        for (size_t i = 0; i < n; i++) {
            bool is_stale = judgements[i].verdict == VERDICT_STALE;
            if (is_answered(&judgements[i]) && is_stale == (stale == 1)) {
                add_row(rows, &judgements[i]);
            }
        }
    }
    bool has_rows = rows->size > 1;
    writer_char(rows, ']');
    CHECK(!rows->failed); /* add_row leaves room for the bracket */
    return has_rows;
}

/* Whether the body is an object that may take the member; *is_empty if it has no others. */
static bool can_take(bool *is_empty, struct span body)
{
    AUTO(arena_fini) struct arena arena;
    const struct json_value *root = NULL;

    arena_init(&arena, PARSE_LEAST + PARSE_PER_BYTE * body.size);
    bool is_free = json_parse(&root, &arena, body) == JSON_OK && json_is_object(root) &&
                   json_get(root, SPAN_LIT(NAME_VERDICTS)) == NULL;
    *is_empty = json_size(root) == 0;
    return is_free;
}

/* Where the closing brace of a JSON object stands. */
static size_t last_brace(struct span object)
{
    size_t at = object.size - 1;

    while (object.data[at] != '}') {
        CHECK(at > 0);
        at--;
    }
    return at;
}

bool reply_encode(struct writer *out, struct span upstream_body, const struct judgement *judgements,
                  size_t n)
{
    AUTO(writer_fini) struct writer rows;
    bool is_empty = false;

    writer_init(&rows, VERDICTS_SIZE_MAX);
    if (upstream_body.size > REPLY_BODY_SIZE_MAX || !write_rows(&rows, judgements, n) ||
        !can_take(&is_empty, upstream_body)) {
        return false;
    }
    size_t brace = last_brace(upstream_body);
    writer_bytes(out, span_of(upstream_body.data, brace));
    if (!is_empty) {
        writer_char(out, ',');
    }
    writer_bytes(out, SPAN_LIT("\"" NAME_VERDICTS "\":"));
    writer_bytes(out, writer_span(&rows));
    writer_bytes(out, span_skip(upstream_body, brace));
    return !out->failed;
}
