/* `freshet serve`: everything that runs until SIGTERM. */
#pragma once

/* Runs with the configuration in that file; SIGHUP reads it again. Returns the exit status: 0
 * after SIGTERM and a drain, 1 if it could not start. */
int serve(const char *config_path);
