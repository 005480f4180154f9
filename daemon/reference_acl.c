// SPDX-License-Identifier: Apache-2.0
// reference_acl.c - `gaitd options --redis-acl`: the least rights in Redis, collected from the modules that use it.
#include "reference.h"

#include "gait/module.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

enum { NEEDS_MAX = 64, WORD_BYTES = 32 };

struct needs {
    char at[NEEDS_MAX][WORD_BYTES];
    size_t n;
};

static void collect(struct needs *needs, const char *words)
{
    while (*words) {
        size_t len = strcspn(words, " "), i = 0;
        assert(len > 0 && len < WORD_BYTES);
        while (i < needs->n && (strncmp(needs->at[i], words, len) != 0 || needs->at[i][len]))
            i++;
        if (i == needs->n) {
            assert(needs->n < NEEDS_MAX);
            memcpy(needs->at[needs->n], words, len);
            needs->at[needs->n++][len] = '\0';
        }
        words += len;
        words += strspn(words, " ");
    }
}

/* Key patterns are globs; a prefix means itself. */
static void print_pattern(FILE *out, const char *kind, const char *prefix, const char *rest)
{
    fprintf(out, " %s", kind);
    for (; *prefix; prefix++)
        fprintf(out, strchr("*?[]\\", *prefix) ? "\\%c" : "%c", *prefix);
    fputs(rest, out);
}

bool reference_redis_acl(FILE *out, const char *prefix)
{
    struct needs needs = {0};
    for (const char *c = prefix; *c; c++)
        if (isspace((unsigned char)*c) || iscntrl((unsigned char)*c))
            return false;
    for (size_t i = 0; modules[i]; i++)
        if (modules[i]->redis_needs)
            collect(&needs, modules[i]->redis_needs);
    fputs("# Lines for redis.conf, or behind ACL SETUSER. Replace PASSWORD, or give #SHA256 of it instead\n"
          "# of >PASSWORD.\n"
          "# gaitd itself (store.redis and sink.redis):\n"
          "user gaitd on >PASSWORD sanitize-payload resetkeys resetchannels -@all", out);
    for (size_t i = 0; i < needs.n; i++)
        if (needs.at[i][0] != ':')
            fprintf(out, " +%s", needs.at[i]);
    for (size_t i = 0; i < needs.n; i++)
        if (needs.at[i][0] == ':')
            print_pattern(out, "~", prefix, needs.at[i]);
    fputs("\n# Those who read the answers:\n"
          "user gait-reader on >PASSWORD sanitize-payload resetkeys resetchannels -@all +select +hgetall +hget "
          "+hmget", out);
    print_pattern(out, "%R~", prefix, ":user:*");
    fputc('\n', out);
    return true;
}
