#include "cli.h"

#include "base/metrics.h"
#include "config.h"
#include "config_check.h"
#include "proto/device_list_answer.h"
#include "proto/json.h"
#include "proto/writer.h"
#include "settings.h"

#include <stdlib.h>
#include <string.h>

enum {
    ANSWER_MAX = 64 << 20, /* bytes of a file given to `freshet hash` */
    ARENA_MAX = 1 << 30,   /* bytes for the parsed answer */
    LINE_MAX_BYTES = 1024, /* of one printed line */
    TEXT_MAX = 16 << 20,   /* bytes of other output */
};

static const char help[] =
    "Usage: freshet COMMAND\n"
    "\n"
    "  serve --config FILE\n"
    "               run; SIGTERM ends it after what is in flight, SIGHUP reads FILE again\n"
    "  check-config FILE\n"
    "               say what is wrong with FILE, or what each hosted server gets and what not\n"
    "  docs config, docs metrics\n"
    "               print docs/config.md or docs/metrics.md\n"
    "  hash FILE    print 'USER dlh1:...' for each user of a /user/devices or /keys/query answer;\n"
    "               '-' reads standard input\n"
    "  --help       print this\n"
    "  --version    print the version\n";

static int print_hash(const struct device_list_answer *answer, FILE *out, FILE *err)
{
    struct dlh hash;
    struct dlh_sum sum;
    struct writer line;

    if (!device_list_answer_hash(&hash, &sum, answer)) {
        fprintf(err, "freshet: %.*s has too many devices or too long an id for a hash\n",
                (int)answer->user_id.size, answer->user_id.data);
        return 1;
    }
    writer_init(&line, LINE_MAX_BYTES);
    dlh_write(&line, &hash);
    fprintf(out, "%.*s %.*s\n", (int)answer->user_id.size, answer->user_id.data, (int)line.size,
            line.data);
    writer_fini(&line);
    return 0;
}

static int hash_answer(struct span text, struct arena *arena, FILE *out, FILE *err)
{
    const struct json_value *root = NULL;
    struct device_list_answer one;
    struct device_list_answer *many = &one;
    uint32_t n = 1;
    int status = 0;

    if (json_parse(&root, arena, text) != JSON_OK) {
        fprintf(err, "freshet: not JSON, or deeper than %d levels, or over %d values\n",
                JSON_MAX_DEPTH, JSON_MAX_VALUES);
        return 1;
    }
    if (!device_list_answer_decode(&one, arena, root) &&
        !keys_query_answer_decode(&many, &n, arena, root)) {
        fprintf(err, "freshet: neither a /user/devices nor a /keys/query answer\n");
        return 1;
    }
    for (uint32_t i = 0; i < n; i++) {
        status |= print_hash(&many[i], out, err);
    }
    return status;
}

/* The whole file, to be freed; NULL if it cannot be read or is larger than ANSWER_MAX. */
static char *read_file(size_t *size, FILE *file)
{
    size_t capacity = 1 << 16;
    char *text = malloc(capacity);

    *size = 0;
    while (text != NULL) {
        *size += fread(text + *size, 1, capacity - *size, file);
        if (*size < capacity) {
            break;
        }
        capacity *= 2;
        char *larger = capacity <= ANSWER_MAX ? realloc(text, capacity) : NULL;
        if (larger == NULL) {
            free(text);
        }
        text = larger;
    }
    if (text != NULL && ferror(file)) {
        free(text);
        return NULL;
    }
    return text;
}

static int hash_command(const char *path, FILE *out, FILE *err)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rbe");
    size_t size = 0;
    struct arena arena;
    char *text = file == NULL ? NULL : read_file(&size, file);

    if (file != NULL && !is_stdin) {
        fclose(file);
    }
    if (text == NULL) {
        fprintf(err, "freshet: cannot read %s, or it is larger than 64 MiB\n", path);
        return 1;
    }
    arena_init(&arena, ARENA_MAX);
    int status = hash_answer(span_of(text, size), &arena, out, err);
    arena_fini(&arena);
    free(text);
    return status;
}

/* True if the keys are what `serve` takes; else `problems` says which are not. */
static bool keys_are_good(const char *path, struct writer *problems)
{
    struct settings *settings = NULL;
    bool is_good = settings_load(&settings, path, problems) == ERR_OK;

    settings_unref(settings);
    return is_good;
}

static int check_config_command(const char *path, FILE *out, FILE *err)
{
    AUTO(config_freep) struct config *config = NULL;
    AUTO(writer_fini) struct writer text;
    bool is_well = false;

    writer_init(&text, TEXT_MAX);
    bool is_read = config_load(&config, path, &text) == ERR_OK;
    if (is_read) {
        is_well = config_describe(&text, config) && keys_are_good(path, &text);
    }
    fwrite(text.data, 1, text.size, is_read ? out : err);
    return is_well ? 0 : 1;
}

static int docs_command(const char *what, FILE *out)
{
    AUTO(writer_fini) struct writer text;

    writer_init(&text, TEXT_MAX);
    if (strcmp(what, "config") == 0) {
        config_write_docs(&text);
    } else {
        metrics_write_docs(&text);
    }
    return fwrite(text.data, 1, text.size, out) == text.size ? 0 : 1;
}

int cli_run(int argc, const char *const *argv, FILE *out, FILE *err)
{
    const char *command = argc > 1 ? argv[1] : "";

    if (argc == 3 && strcmp(command, "hash") == 0) {
        return hash_command(argv[2], out, err);
    }
    if (argc == 3 && strcmp(command, "check-config") == 0) {
        return check_config_command(argv[2], out, err);
    }
    if (argc == 3 && strcmp(command, "docs") == 0 &&
        (strcmp(argv[2], "config") == 0 || strcmp(argv[2], "metrics") == 0)) {
        return docs_command(argv[2], out);
    }
    if (argc == 2 && strcmp(command, "--help") == 0) {
        fputs(help, out);
        return 0;
    }
    if (argc == 2 && strcmp(command, "--version") == 0) {
        fprintf(out, "freshet %s\n", FRESHET_VERSION);
        return 0;
    }
    fputs(help, err);
    return 2;
}
