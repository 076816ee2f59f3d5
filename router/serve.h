/* The daemon: threads started, signals obeyed, threads joined. */
#pragma once

enum {
    SERVE_DRAIN_MS = 30 * 1000, /* after SIGTERM, for what is in flight; then it is cut */
};

/* Runs until SIGTERM or SIGINT. Returns the exit status: 0, or 1 with a word on standard error. */
int serve(const char *config_path);
