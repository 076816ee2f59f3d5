#include "proto/claim.h"

#include "proto/check.h"
#include "proto/names.h"

const char *claim_label(enum claim_result result, const struct claim *claim)
{
    switch (result) {
    case CLAIM_NONE:
        return "none";
    case CLAIM_USABLE:
        return claim->has_hash ? "hash" : "stream";
    case CLAIM_UNUSABLE:
        return "unusable";
    case CLAIM_RESULT_COUNT:
        break;
    }
    CHECK(false); /* callers pass what the decoder gave */
    return NULL;
}

/* A part that is there but odd spoils the claim: what it would have said about the other part is
 * not known, and a rejection must be certain. */
static enum claim_result decode_entry(struct claim *out, const struct json_value *entry)
{
    const struct json_value *hash = json_get(entry, SPAN_LIT("hash"));
    const struct json_value *stream_id = json_get(entry, SPAN_LIT("stream_id"));

    *out = (struct claim){.has_hash = hash != NULL, .has_stream = stream_id != NULL};
    if ((hash == NULL && stream_id == NULL) ||
        (hash != NULL && !dlh_parse(&out->hash, json_string(hash))) ||
        (stream_id != NULL && (!json_integer(&out->stream_id, stream_id) || out->stream_id < 0))) {
        *out = (struct claim){0};
        return CLAIM_UNUSABLE;
    }
    return CLAIM_USABLE;
}

static bool claims_equal(const struct claim *a, const struct claim *b)
{
    return a->has_hash == b->has_hash && a->has_stream == b->has_stream &&
           a->stream_id == b->stream_id && memcmp(&a->hash, &b->hash, sizeof a->hash) == 0 &&
           span_equal(a->device_id, b->device_id);
}

/* Devices without a claim do not contradict those with one. */
static enum claim_result decode_per_device(struct claim *out, const struct json_value *devices)
{
    struct json_iter iter = json_iterate(devices);
    const struct json_value *content;
    enum claim_result result = CLAIM_NONE;

    *out = (struct claim){0};
    while (result != CLAIM_UNUSABLE && json_next(&iter, NULL, &content)) {
        const struct json_value *entry = json_get(content, SPAN_LIT(NAME_DEVICE_LIST));
        struct claim claim;
        if (entry == NULL) {
            continue;
        }
        enum claim_result one = decode_entry(&claim, entry);
        claim.per_device = true;
        claim.device_id = json_get_string(entry, SPAN_LIT("device_id"));
        bool differs = result == CLAIM_USABLE && !claims_equal(out, &claim);
        result = differs ? CLAIM_UNUSABLE : one;
        *out = claim;
    }
    if (result != CLAIM_USABLE) {
        *out = (struct claim){0};
    }
    return result;
}

enum claim_result claim_judge_form(struct claim *out, const struct json_value *entry,
                                   const struct json_value *devices)
{
    enum claim_result result = entry == NULL ? CLAIM_NONE : decode_entry(out, entry);

    if (result == CLAIM_USABLE) {
        return result;
    }
    /* What cannot be used is no claim, so it wins over nothing. */
    enum claim_result inside = decode_per_device(out, devices);
    return inside == CLAIM_NONE ? result : inside;
}

enum claim_result claim_decode(struct claim *out, const struct edu *edu, struct span user_id)
{
    const struct json_value *claims = json_get(edu->content, SPAN_LIT(NAME_DEVICE_LISTS));
    bool is_odd = claims != NULL && !json_is_object(claims);

    return claim_judge_form(out, is_odd ? claims : json_get(claims, user_id),
                            json_get(edu->messages, user_id));
}
