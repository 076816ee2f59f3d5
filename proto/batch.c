#include "proto/batch.h"

#include "proto/check.h"
#include "proto/ident.h"
#include "proto/names.h"
#include "proto/span_index.h"

enum { CLAIMS_SEARCHED_MAX = 8 /* above it, looking each up in turn costs more than an index */ };

/* What two messages must share to be in one offer, without padding. */
struct offer_key {
    uint32_t user;   /* a number, as in draft.users */
    uint32_t sender; /* a number, as in draft.names */
    uint32_t device; /* the same */
    uint8_t result;
    uint8_t has_hash;
    uint8_t has_stream;
    uint8_t per_device;
    int64_t stream_id;
    struct dlh hash;
};

_Static_assert(sizeof(struct offer_key) == 40, "its bytes are compared, so it has no padding");

/* One recipient of one EDU. */
struct piece {
    const struct edu *edu;
    const struct json_value *devices;
    uint32_t offer;
};

struct draft_offer {
    struct offer offer;
    uint32_t user;
};

/* Pass one fills this, pass two lays it out. All arrays have room for every recipient. */
struct draft {
    struct arena *arena;
    struct batches *out;
    struct span_index users;
    struct span_index names; /* senders and sending devices */
    struct span_index keys;  /* offers */
    struct offer_key *key_bytes;
    struct draft_offer *offers; /* by number, as in keys */
    struct piece *pieces;
    uint32_t n_pieces;
    uint32_t n_messages;
    /* Of the EDU at hand: */
    const struct json_value *claims;
    struct span_index claim_users;
    const struct json_value **claim_entries;
};

static bool is_judged(const struct edu *edu)
{
    return edu->type == EDU_TO_DEVICE && edu->unjudged == UNJUDGED_NONE;
}

static size_t count_recipients(const struct transaction *transaction)
{
    size_t n = 0;

    for (uint32_t i = 0; i < transaction->n_edus; i++) {
        n += is_judged(&transaction->edus[i]) ? json_size(transaction->edus[i].messages) : 0;
    }
    return n;
}

static bool draft_init(struct draft *draft, size_t n_recipients, size_t n_edus)
{
    struct arena *arena = draft->arena;

    draft->key_bytes = arena_calloc(arena, n_recipients, sizeof *draft->key_bytes);
    draft->offers = arena_calloc(arena, n_recipients, sizeof *draft->offers);
    draft->pieces = arena_calloc(arena, n_recipients, sizeof *draft->pieces);
    return draft->key_bytes != NULL && draft->offers != NULL && draft->pieces != NULL &&
           span_index_reset(&draft->users, arena, n_recipients) &&
           span_index_reset(&draft->keys, arena, n_recipients) &&
           span_index_reset(&draft->names, arena, n_recipients + n_edus + 1);
}

/* Makes the EDU-level claims ready to be looked up by recipient. */
static bool index_claims(struct draft *draft, const struct edu *edu)
{
    draft->claims = json_get(edu->content, SPAN_LIT(NAME_DEVICE_LISTS));
    size_t n = json_is_object(draft->claims) ? json_size(draft->claims) : 0;
    struct json_iter iter = json_iterate(draft->claims);
    struct span user;
    const struct json_value *entry;

    if (n <= CLAIMS_SEARCHED_MAX) {
        return true;
    }
    draft->claim_entries = arena_calloc(draft->arena, n, sizeof(struct json_value *));
    if (draft->claim_entries == NULL || !span_index_reset(&draft->claim_users, draft->arena, n)) {
        return false;
    }
    while (json_next(&iter, &user, &entry)) {
        draft->claim_entries[span_index_put(&draft->claim_users, user)] = entry;
    }
    return true;
}

static const struct json_value *find_claim(const struct draft *draft, struct span user)
{
    if (draft->claims == NULL || !json_is_object(draft->claims)) {
        return draft->claims; /* of another shape: no recipient's claim can be used */
    }
    if (json_size(draft->claims) <= CLAIMS_SEARCHED_MAX) {
        return json_get(draft->claims, user);
    }
    uint32_t at = span_index_find(&draft->claim_users, user);
    return at == SPAN_INDEX_NONE ? NULL : draft->claim_entries[at];
}

/* The number of the offer; starts it if it is new. */
static uint32_t put_offer(struct draft *draft, const struct offer *offer, uint32_t user)
{
    struct offer_key *key = &draft->key_bytes[draft->keys.n];
    uint32_t n_before = draft->keys.n;

    *key = (struct offer_key){
        .user = user,
        .sender = span_index_put(&draft->names, offer->sender),
        .device = span_index_put(&draft->names, offer->claim.device_id),
        .result = (uint8_t)offer->claim_result,
        .has_hash = offer->claim.has_hash,
        .has_stream = offer->claim.has_stream,
        .per_device = offer->claim.per_device,
        .stream_id = offer->claim.stream_id,
        .hash = offer->claim.hash,
    };
    uint32_t number = span_index_put(&draft->keys, span_of(key, sizeof *key));
    if (number == n_before) {
        draft->offers[number] = (struct draft_offer){.offer = *offer, .user = user};
    }
    return number;
}

static void add_piece(struct draft *draft, const struct edu *edu, struct span user,
                      const struct json_value *devices)
{
    struct offer offer = {.sender = edu->sender};

    offer.claim_result = claim_judge_form(&offer.claim, find_claim(draft, user), devices);
    draft->out->n_unusable += offer.claim_result == CLAIM_UNUSABLE ? 1 : 0;
    uint32_t number = put_offer(draft, &offer, span_index_put(&draft->users, user));
    uint32_t n_messages = (uint32_t)json_size(devices);
    draft->offers[number].offer.n_messages += n_messages;
    draft->offers[number].offer.n_message_ids++;
    draft->n_messages += n_messages;
    draft->pieces[draft->n_pieces++] = (struct piece){edu, devices, number};
}

static bool add_edu(struct draft *draft, const struct edu *edu, struct span hosted_server)
{
    struct json_iter iter = json_iterate(edu->messages);
    struct span user;
    const struct json_value *devices;
    struct user_id id;

    if (!index_claims(draft, edu)) {
        return false;
    }
    while (json_next(&iter, &user, &devices)) {
        if (user_id_is_of(user, hosted_server)) {
            add_piece(draft, edu, user, devices);
        } else if (user_id_parse(&id, user)) {
            draft->out->n_not_hosted++;
        } else {
            draft->out->n_odd_identifier++;
        }
    }
    return true;
}

/* Puts each recipient's offers side by side. placed[number] is where an offer went. */
static bool place_offers(struct offer **placed, struct draft *draft)
{
    struct batches *out = draft->out;
    struct offer *offers = arena_calloc(draft->arena, draft->keys.n, sizeof *offers);

    out->batches = arena_calloc(draft->arena, draft->users.n, sizeof *out->batches);
    if (offers == NULL || out->batches == NULL) {
        return false;
    }
    out->n = draft->users.n;
    for (uint32_t i = 0; i < draft->keys.n; i++) {
        out->batches[draft->offers[i].user].n_offers++;
    }
    for (uint32_t i = 0; i < out->n; i++) {
        struct batch *batch = &out->batches[i];
        batch->user_id = draft->users.names[i];
        batch->offers = offers;
        offers += batch->n_offers;
        batch->n_offers = 0; /* until they are in */
    }
    for (uint32_t i = 0; i < draft->keys.n; i++) {
        struct batch *batch = &out->batches[draft->offers[i].user];
        placed[i] = &batch->offers[batch->n_offers++];
        *placed[i] = draft->offers[i].offer;
    }
    return true;
}

/* Gives each offer its part of two long arrays, empty so far. */
static bool place_contents(struct offer *const *placed, const struct draft *draft)
{
    struct message *messages = arena_calloc(draft->arena, draft->n_messages, sizeof *messages);
    struct span *ids = arena_calloc(draft->arena, draft->n_pieces, sizeof *ids);

    if (messages == NULL || ids == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < draft->keys.n; i++) {
        struct offer *offer = placed[i];
        offer->messages = messages;
        offer->message_ids = ids;
        messages += offer->n_messages;
        ids += offer->n_message_ids;
        offer->n_messages = 0;
        offer->n_message_ids = 0;
    }
    return true;
}

static void fill(struct offer *offer, const struct piece *piece)
{
    struct json_iter iter = json_iterate(piece->devices);
    struct span device_id;
    const struct json_value *content;

    offer->message_ids[offer->n_message_ids++] = piece->edu->message_id;
    while (json_next(&iter, &device_id, &content)) {
        offer->messages[offer->n_messages++] = (struct message){
            .device_id = device_id,
            .msgid = json_get_string(content, SPAN_LIT(NAME_MSGID)),
        };
    }
}

static bool lay_out(struct draft *draft)
{
    struct offer **placed = arena_calloc(draft->arena, draft->keys.n, sizeof(struct offer *));

    if (placed == NULL || !place_offers(placed, draft) || !place_contents(placed, draft)) {
        return false;
    }
    for (uint32_t i = 0; i < draft->n_pieces; i++) {
        fill(placed[draft->pieces[i].offer], &draft->pieces[i]);
    }
    return true;
}

bool batches_build(struct batches *out, struct arena *arena, const struct transaction *transaction,
                   struct span hosted_server)
{
    struct draft draft = {.arena = arena, .out = out};
    size_t n_recipients = count_recipients(transaction);

    *out = (struct batches){0};
    if (!draft_init(&draft, n_recipients, transaction->n_edus)) {
        return false;
    }
    for (uint32_t i = 0; i < transaction->n_edus; i++) {
        const struct edu *edu = &transaction->edus[i];
        if (is_judged(edu) && !add_edu(&draft, edu, hosted_server)) {
            return false;
        }
    }
    return lay_out(&draft);
}
