#include "cli.h"
#include "serve.h"

#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "serve") == 0 && strcmp(argv[2], "--config") == 0) {
        return serve(argv[3]);
    }
    return cli_run(argc, (const char *const *)argv, stdout, stderr);
}
