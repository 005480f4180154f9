// SPDX-License-Identifier: Apache-2.0
// store_redis_group.c - do the daemons that share these records make them in the same way? Each tells its settings in
// PREFIX:meta, again and again while it is at work; who comes with others is refused its partitions, with a text that
// names the first differences, until the last of the old ones has gone or was given the new settings.
//
//   with:DAEMON = UNIX-MS HASH-OF-SETTINGS HASH-WITH-MODEL-AND-RULES SETTINGS
#include "store_redis.h"

#include "gait/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TELL_MS = 5000, DIFFERENCES_MAX = 3 };

/* Who has not told for 15 s is gone, or hangs and loses its partitions anyway. ARGV: format, partitions, time, daemon,
 * the two hashes, settings, and which hash to compare by: 1, 2, or 0 = none. Compared and told in one go, so that of
 * two who start at once one is first. */
const char store_meta_text[] =
    "redis.call('HSETNX', KEYS[1], 'format', ARGV[1]) "
    "if ARGV[2] ~= '0' then redis.call('HSETNX', KEYS[1], 'partitions', ARGV[2]) end "
    "local all, own, by, other = redis.call('HGETALL', KEYS[1]), 'with:' .. ARGV[4], tonumber(ARGV[8]), '' "
    "for i = 1, #all, 2 do if string.sub(all[i], 1, 5) == 'with:' and all[i] ~= own then "
    "local ms, one, two, text = string.match(all[i + 1], '^(%d+) (%x+) (%x+) (.*)$') "
    "if not ms or tonumber(ARGV[3]) - tonumber(ms) > 15000 then redis.call('HDEL', KEYS[1], all[i]) "
    "elseif (by == 1 and one ~= ARGV[5]) or (by == 2 and two ~= ARGV[6]) then other = text end end end "
    "if other == '' then redis.call('HSET', KEYS[1], own, "
    "ARGV[3] .. ' ' .. ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. ARGV[7]) end "
    "local found = redis.call('HMGET', KEYS[1], 'format', 'partitions') "
    "return {found[1], found[2], other}";

void store_group_open(struct store_redis *s)
{
    char host[32] = "";
    gethostname(host, sizeof host - 1);
    snprintf(s->id, sizeof s->id, "%s-%d-%" PRIx64, host, (int)getpid(), clock_mono_ns(s->in->clock));
}

void store_send_meta(struct store_redis *s, bool compare, redis_answer *answer, void *request)
{
    char *settings = engine_settings(s->in->engine, false), *all = engine_settings(s->in->engine, true);
    bool by_none = !compare || s->conf->other_settings == OTHERS_ALLOW;
    assert(settings && all);
    redis_begin_script(s->redis, s->script_meta, 1);
    redis_add_text(s->redis, "%s:meta", s->conf->redis.prefix);
    redis_add_text(s->redis, "%d", STORE_FORMAT);
    redis_add_text(s->redis, "%d", engine_input_partitions(s->in->engine));
    redis_add_text(s->redis, "%lld", (long long)clock_wall_ms(s->in->clock));
    redis_add_text(s->redis, "%s", s->id);
    redis_add_text(s->redis, "%016" PRIx64, XXH3_64bits(settings, strlen(settings)));
    redis_add_text(s->redis, "%016" PRIx64, XXH3_64bits(all, strlen(all)));
    redis_add(s->redis, all, strlen(all));
    redis_add_text(s->redis, "%d", by_none ? 0 : s->admitted ? 1 : 2);
    redis_send(s->redis, answer, request);
    s->told_ms = clock_mono_ns(s->in->clock) / 1000000;
    free(settings);
    free(all);
}

/* ---- what differs ----------------------------------------------------------------------------------------------- */

/* The line that begins with `name`, '=' included; at NULL when there is none. Without its end. */
static struct str find_line(const char *text, const char *name, size_t n)
{
    for (const char *at = text; *at; at += strcspn(at, "\n"), at += *at == '\n')
        if (strncmp(at, name, n) == 0)
            return (struct str){at + n, (uint32_t)(strcspn(at, "\n") - n)};
    return (struct str){0};
}

static void add_difference(struct store_redis *s, const char *name, size_t n, struct str there, struct str here)
{
    size_t used = strlen(s->why);
    if (!there.at)
        there = str_of("not set");
    if (!here.at)
        here = str_of("not set");
    snprintf(s->why + used, sizeof s->why - used, "; %.*s is %.*s there, %.*s here", (int)n, name, (int)there.len,
             there.at, (int)here.len, here.at);
}

/* Settings of `ours` that are others in `theirs`; with `missing` only those that are not there at all. */
static void list_differences(struct store_redis *s, const char *ours, const char *theirs, bool missing, unsigned *n)
{
    for (const char *at = ours; *at && *n < DIFFERENCES_MAX; at += strcspn(at, "\n"), at += *at == '\n') {
        size_t name = strcspn(at, "=\n") + 1;
        struct str one = find_line(ours, at, name), other = find_line(theirs, at, name);
        if (missing ? other.at != NULL : str_equal(one, other) && other.at)
            continue;
        ++*n;
        add_difference(s, at, name - 1, missing ? one : other, missing ? other : one);
    }
}

bool store_group_fits(struct store_redis *s, const redisReply *reply)
{
    unsigned n = 0;
    if (reply->type != REDIS_REPLY_STRING || reply->len == 0)
        return true;
    char *ours = engine_settings(s->in->engine, !s->admitted);
    assert(ours);
    snprintf(s->why, sizeof s->why, "another daemon on these records (%s:meta) has other settings",
             s->conf->redis.prefix);
    list_differences(s, ours, reply->str, false, &n);
    if (!s->admitted)
        list_differences(s, reply->str, ours, true, &n);
    free(ours);
    return false;
}

/* ---- telling ---------------------------------------------------------------------------------------------------- */

static void on_told(void *owner, void *of, enum redis_result result, const redisReply *reply)
{
    (void)owner, (void)of, (void)result, (void)reply; /* told again in any case */
}

/* Only who has partitions: who waits for them must not keep out those who are at work. */
void store_group_tick(struct store_redis *s)
{
    if (s->places && redis_up(s->redis) && clock_mono_ns(s->in->clock) / 1000000 >= s->told_ms + TELL_MS)
        store_send_meta(s, false, on_told, NULL);
}

/* A daemon that ended in order holds up nobody. */
void store_group_leave(struct store_redis *s)
{
    if (!redis_up(s->redis))
        return;
    redis_begin(s->redis, "HDEL");
    redis_add_text(s->redis, "%s:meta", s->conf->redis.prefix);
    redis_add_text(s->redis, "with:%s", s->id);
    redis_send(s->redis, on_told, NULL);
    redis_write_out(s->redis);
}
