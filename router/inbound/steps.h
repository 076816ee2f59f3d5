/* What is done with a request, step by step. For inbound/ alone. */
#pragma once

#include "inbound/exchange.h"

extern const struct step transaction_steps[];
extern const struct step stream_steps[]; /* everything else that is relayed */
