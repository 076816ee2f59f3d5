/* Verdicts, and how they travel in the answer to a transaction. docs/protocol.md, sections 3, 4. */
#pragma once

#include "proto/batch.h"
#include "proto/dlh.h"
#include "proto/own.h"
#include "proto/span.h"
#include "proto/writer.h"

#include <stdbool.h>
#include <stddef.h>

enum verdict { VERDICT_UNKNOWN, VERDICT_FRESH, VERDICT_STALE, VERDICT_COUNT };

/* As on the wire and in metrics. */
const char *verdict_label(enum verdict verdict);

struct judgement {
    struct span user_id;
    const struct offer *offer;
    enum verdict verdict;
    bool has_current;
    struct dlh current;
};

/* Source: docs/protocol.md, section 4. */
enum {
    VERDICTS_SIZE_MAX = 64 * 1024, /* bytes of the array */
    VERDICT_IDS_MAX = 250,         /* ids echoed in each list of a verdict */
    VERDICT_ID_SIZE_MAX = 64,      /* bytes of an id; longer ones are left out */
    REPLY_BODY_SIZE_MAX = 1 << 20, /* bytes; a homeserver's answer is a few KiB at most */
};

/* Writes the homeserver's body with the verdicts added as its last member, all its own bytes kept.
 * Only usable claims of the EDU level are answered; what does not fit is left out, stale verdicts
 * last of all. False, and nothing that may be used written, if the body has to stay as it is: no
 * such claim, or the body is no plain JSON object, or has that member already, or is too large. */
MUST_CHECK bool reply_encode(struct writer *out, struct span upstream_body,
                             const struct judgement *judgements, size_t n);
