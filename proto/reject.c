#include "proto/reject.h"

#include "proto/check.h"

static const struct reject_row rows[REJECT_COUNT] = {
    [REJECT_NONE] = {"none", 0, "", ""},
#define REJECT(name, status, errcode, text) [REJECT_##name] = {#name, status, errcode, text},
#include "proto/reject.def"
#undef REJECT
};

static const char *const unjudged_labels[UNJUDGED_COUNT] = {
    [UNJUDGED_NONE] = "none",
#define UNJUDGED(name, text) [UNJUDGED_##name] = #name,
#include "proto/unjudged.def"
#undef UNJUDGED
};

const struct reject_row *reject_row(enum reject why)
{
    CHECK(why < REJECT_COUNT);
    return &rows[why];
}

const char *unjudged_label(enum unjudged why)
{
    CHECK(why < UNJUDGED_COUNT);
    return unjudged_labels[why];
}

/* All but its end. */
static void begin_error(struct writer *out, const char *errcode, const char *text)
{
    writer_bytes(out, SPAN_LIT("{\"errcode\":"));
    writer_json_string(out, span_str(errcode));
    writer_bytes(out, SPAN_LIT(",\"error\":"));
    writer_json_string(out, span_str(text));
}

void matrix_error_write(struct writer *out, const char *errcode, const char *text)
{
    begin_error(out, errcode, text);
    writer_char(out, '}');
}

void matrix_error_write_limited(struct writer *out, const char *errcode, const char *text,
                                uint32_t retry_after_s)
{
    begin_error(out, errcode, text);
    writer_bytes(out, SPAN_LIT(",\"retry_after_ms\":"));
    writer_u64(out, retry_after_s * UINT64_C(1000));
    writer_char(out, '}');
}
