#include "lists/judge.h"

static bool is_claimed(const struct dlh *hash, const struct claim *claim)
{
    return memcmp(hash, &claim->hash, sizeof claim->hash) == 0;
}

/* A list that was true twice in the past may come back a third time, beyond what was read. */
static bool was_true_once(const struct device_list *list, const struct claim *claim)
{
    uint32_t n_times = 0;

    for (uint32_t i = 0; i < list->n_history; i++) {
        n_times += is_claimed(&list->history[i].hash, claim);
    }
    return n_times == 1;
}

/* Growth is to be seen, not assumed: some servers answer a constant position for ever. */
static bool positions_grow(const struct device_list *list)
{
    bool grew =
        list->first_position != DEVICE_LIST_NO_POSITION && list->position > list->first_position;

    for (uint32_t i = 0; i < list->n_history; i++) {
        const struct past_list *past = &list->history[i];
        if (past->last_true == DEVICE_LIST_NO_POSITION ||
            past->first_replaced == DEVICE_LIST_NO_POSITION) {
            continue;
        }
        if (past->first_replaced <= past->last_true) {
            return false;
        }
        grew = true;
    }
    return grew;
}

static enum verdict judge_stream(const struct device_list *list, int64_t stream_id)
{
    if (!positions_grow(list)) {
        return VERDICT_UNKNOWN;
    }
    if (list->first_position != DEVICE_LIST_NO_POSITION && stream_id >= list->first_position) {
        return VERDICT_FRESH;
    }
    if (list->n_history > 0 && list->history[0].last_true != DEVICE_LIST_NO_POSITION &&
        stream_id < list->history[0].last_true) {
        return VERDICT_STALE;
    }
    return VERDICT_UNKNOWN;
}

enum verdict judge_read(bool *out_second, const struct device_list *after,
                        const struct claim *claim)
{
    *out_second = false;
    if (!claim->has_hash) {
        return claim->has_stream ? judge_stream(after, claim->stream_id) : VERDICT_UNKNOWN;
    }
    if (is_claimed(&after->current, claim)) {
        return VERDICT_FRESH;
    }
    /* Without a position of ours a claimed one cannot be shown not to exceed it. */
    bool is_beyond = claim->has_stream && claim->stream_id > after->position;
    if (!is_beyond && was_true_once(after, claim)) {
        return VERDICT_STALE;
    }
    *out_second = true;
    return VERDICT_UNKNOWN;
}

/* A clock that was set back makes no copy young. */
static bool is_young(int64_t read_started_ms, int64_t now_ms, int64_t max_age_ms)
{
    return max_age_ms > 0 && read_started_ms <= now_ms && read_started_ms >= now_ms - max_age_ms;
}

bool judge_glance(const struct list_glance *glance, const struct claim *claim, int64_t now_ms,
                  int64_t max_age_ms)
{
    return claim->has_hash && is_claimed(&glance->current, claim) &&
           (glance->pushed || is_young(glance->read_started_ms, now_ms, max_age_ms));
}

enum verdict judge_cached(enum judge_need *out_need, const struct device_list *list,
                          const struct claim *claim, int64_t now_ms, int64_t max_age_ms)
{
    bool second = false;

    *out_need = JUDGE_DONE;
    if (!claim->has_hash && !claim->has_stream) {
        return VERDICT_UNKNOWN;
    }
    if (list != NULL && list->pushed) { /* its own confirming read */
        return judge_read(&second, list, claim);
    }
    if (list != NULL && is_young(list->read_started_ms, now_ms, max_age_ms) &&
        judge_read(&second, list, claim) == VERDICT_FRESH) {
        return VERDICT_FRESH;
    }
    *out_need = JUDGE_READ;
    return VERDICT_UNKNOWN;
}
