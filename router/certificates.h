/* The federation listener's certificates: where the configuration says they are, and what there is
 * to say about them. */
#pragma once

#include "base/err.h"
#include "base/metrics.h"
#include "config.h"
#include "net/tls.h"
#include "proto/own.h"

enum { CERTIFICATES_WARN_S = 14 * 86400 /* before one expires */ };

/* *out is NULL if there are to be none. ERR_CONFIG, with what is wrong in `problems`, one line
 * each; then *out is untouched. */
MUST_CHECK enum err certificates_load(struct tls_context **out, const struct config *config,
                                      struct writer *problems);

/* Warns of those that have expired or will soon, and sets the gauge. NULL is fine. */
void certificates_announce(const struct tls_context *tls, struct metrics *metrics);

/* Files, names, dates and problems, for people; then the hosts that none covers. True if each file
 * can be used and each server has a host that is covered. */
bool certificates_describe(struct writer *w, const struct config *config);
