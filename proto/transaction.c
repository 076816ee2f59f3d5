#include "proto/transaction.h"

#include "proto/check.h"
#include "proto/duplicate.h"
#include "proto/ident.h"

struct type_row {
    struct span name;
    const char *label;
};

static const struct type_row types[EDU_TYPE_COUNT] = {
    [EDU_TO_DEVICE] = {SPAN_INIT("m.direct_to_device"), "to_device"},
    [EDU_DEVICE_LIST_UPDATE] = {SPAN_INIT("m.device_list_update"), "device_list_update"},
    [EDU_TYPING] = {SPAN_INIT("m.typing"), "typing"},
    [EDU_RECEIPT] = {SPAN_INIT("m.receipt"), "receipt"},
    [EDU_PRESENCE] = {SPAN_INIT("m.presence"), "presence"},
    [EDU_SIGNING_KEY_UPDATE] = {SPAN_INIT("m.signing_key_update"), "signing_key_update"},
    [EDU_OTHER] = {SPAN_INIT(""), "other"},
};

const char *edu_type_label(enum edu_type type)
{
    CHECK(type < EDU_TYPE_COUNT);
    return types[type].label;
}

static enum edu_type type_of(struct span name)
{
    unsigned type = 0;

    while (type < EDU_OTHER && !span_equal(types[type].name, name)) {
        type++;
    }
    return (enum edu_type)type;
}

/* Whether the user may stand behind something that this server sent. */
static enum unjudged check_user(struct span user, struct span origin)
{
    struct user_id id;

    if (user.data == NULL) {
        return UNJUDGED_ODD_SHAPE;
    }
    if (user_id_is_of(user, origin)) {
        return UNJUDGED_NONE;
    }
    return user_id_parse(&id, user) ? UNJUDGED_SPOOFED_SENDER : UNJUDGED_ODD_IDENTIFIER;
}

static bool are_messages(const struct json_value *messages)
{
    struct json_iter iter = json_iterate(messages);
    const struct json_value *devices;

    while (json_next(&iter, NULL, &devices)) {
        if (!json_is_object(devices)) {
            return false;
        }
    }
    return json_is_object(messages);
}

static enum unjudged decode_to_device(struct edu *edu, struct span origin)
{
    edu->sender = json_get_string(edu->content, SPAN_LIT("sender"));
    edu->message_id = json_get_string(edu->content, SPAN_LIT("message_id"));
    edu->message_type = json_get_string(edu->content, SPAN_LIT("type"));
    edu->messages = json_get(edu->content, SPAN_LIT("messages"));
    if (edu->message_id.data == NULL || edu->message_type.data == NULL ||
        !are_messages(edu->messages)) {
        return UNJUDGED_ODD_SHAPE;
    }
    return check_user(edu->sender, origin);
}

static enum unjudged check_duplicates(struct duplicate_scratch *scratch,
                                      const struct json_value *content)
{
    switch (duplicate_inside(scratch, content)) {
    case DUPLICATE_FOUND:
        return UNJUDGED_DUPLICATE_INSIDE;
    case DUPLICATE_NO_ROOM:
        return UNJUDGED_PARSE_BUDGET;
    case DUPLICATE_NONE:
        break;
    }
    return UNJUDGED_NONE;
}

/* Only what a verdict or a list may be drawn from is looked at. */
static enum unjudged decode_content(struct edu *edu, struct duplicate_scratch *scratch,
                                    struct span origin)
{
    bool is_update = edu->type == EDU_DEVICE_LIST_UPDATE || edu->type == EDU_SIGNING_KEY_UPDATE;

    if (!json_is_object(edu->content)) {
        return UNJUDGED_ODD_SHAPE;
    }
    if (edu->type != EDU_TO_DEVICE && !is_update) {
        return UNJUDGED_NONE;
    }
    /* First, since the lookups below take the first of two and another reader the last. */
    enum unjudged why = check_duplicates(scratch, edu->content);
    if (why != UNJUDGED_NONE) {
        return why;
    }
    return is_update ? check_user(json_get_string(edu->content, SPAN_LIT("user_id")), origin)
                     : decode_to_device(edu, origin);
}

static enum reject decode_edu(struct edu *out, struct duplicate_scratch *scratch,
                              const struct json_value *value, struct span origin)
{
    struct span type = json_get_string(value, SPAN_LIT("edu_type"));
    enum duplicate repeated = duplicate_among(scratch, value);

    *out = (struct edu){.type = type_of(type), .content = json_get(value, SPAN_LIT("content"))};
    if (repeated == DUPLICATE_FOUND) {
        return REJECT_DUPLICATE_KEY;
    }
    if (repeated == DUPLICATE_NO_ROOM) {
        out->unjudged = UNJUDGED_PARSE_BUDGET;
    } else if (type.data == NULL) {
        out->unjudged = UNJUDGED_ODD_SHAPE;
    } else {
        out->unjudged = decode_content(out, scratch, origin);
    }
    return REJECT_NONE;
}

static enum reject decode_edus(struct transaction *out, struct duplicate_scratch *scratch,
                               const struct json_value *edus)
{
    struct json_iter iter = json_iterate(edus);
    enum reject why = REJECT_NONE;
    const struct json_value *value;

    out->edus = arena_calloc(scratch->arena, json_size(edus), sizeof *out->edus);
    if (out->edus == NULL) {
        out->unjudged = UNJUDGED_PARSE_BUDGET;
        return REJECT_NONE;
    }
    while (why == REJECT_NONE && json_next(&iter, NULL, &value)) {
        why = decode_edu(&out->edus[out->n_edus++], scratch, value, out->origin);
    }
    return why;
}

enum reject transaction_decode(struct transaction *out, struct arena *arena,
                               const struct json_value *root, struct span authenticated_origin)
{
    struct duplicate_scratch scratch = {.arena = arena};
    const struct json_value *origin = json_get(root, SPAN_LIT("origin"));
    const struct json_value *pdus = json_get(root, SPAN_LIT("pdus"));
    const struct json_value *edus = json_get(root, SPAN_LIT("edus"));
    enum duplicate repeated = duplicate_among(&scratch, root);

    *out = (struct transaction){.origin = authenticated_origin};
    if (!json_is_object(root)) {
        return REJECT_NOT_JSON;
    }
    if (repeated == DUPLICATE_FOUND) {
        return REJECT_DUPLICATE_KEY;
    }
    /* A body without an origin claims no other one. */
    if (origin != NULL && !span_equal(json_string(origin), authenticated_origin)) {
        return REJECT_ORIGIN_MISMATCH;
    }
    if (json_is_array(pdus) && json_size(pdus) > TRANSACTION_PDUS_MAX) {
        return REJECT_TOO_MANY_PDUS;
    }
    if (json_is_array(edus) && json_size(edus) > TRANSACTION_EDUS_MAX) {
        return REJECT_TOO_MANY_EDUS;
    }
    out->n_pdus = json_is_array(pdus) ? (uint32_t)json_size(pdus) : 0;
    if (repeated == DUPLICATE_NO_ROOM) {
        out->unjudged = UNJUDGED_PARSE_BUDGET;
        return REJECT_NONE;
    }
    if (edus != NULL && !json_is_array(edus)) {
        out->unjudged = UNJUDGED_ODD_SHAPE;
        return REJECT_NONE;
    }
    return decode_edus(out, &scratch, edus);
}
