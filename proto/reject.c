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

void matrix_error_write(struct writer *out, const char *errcode, const char *text)
{
    writer_bytes(out, SPAN_LIT("{\"errcode\":"));
    writer_json_string(out, span_str(errcode));
    writer_bytes(out, SPAN_LIT(",\"error\":"));
    writer_json_string(out, span_str(text));
    writer_char(out, '}');
}
