/* The command line: what `freshet COMMAND` does. */
#pragma once

#include <stdio.h>

/* Returns the exit status: 0, 1 when the command failed, 2 when it was called wrongly. */
int cli_run(int argc, const char *const *argv, FILE *out, FILE *err);
