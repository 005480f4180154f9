// SPDX-License-Identifier: Apache-2.0
// store_memory.c - user records in this process's memory, with an optional snapshot file. For demos, tests, back-tests
// and training, where one process reads everything and no server is wanted.
//
// Load and save stage of the flow. Records are kept as bytes, apart from the user table: they must outlive their
// eviction from it, and the bytes are smaller than a slot. So a user in the table costs memory twice; `max_bytes`
// bounds the copy. The snapshot holds records, W and fences as of one moment, so a restart goes on where it was taken.
#include "gait/log.h"
#include "gait/module.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { INDEX_FIRST = 1024, PATH_BYTES = 4096, SWEEP_ENTRIES = 4096 };
enum { NAME_BYTES_MAX = 65535, RECORD_BYTES_MAX = 64 << 20 };
static const char snapshot_magic[8] = "GAITSNP1";

struct store_memory_conf {
    const char *snapshot;
    int64_t snapshot_ms;
    int64_t max_bytes;
};

struct entry {
    uint64_t hash;
    int64_t idle_until_ms;
    int32_t partition;
    uint32_t len, cap;    /* of the record, behind the name */
    uint16_t name_len;
    uint8_t bytes[];      /* name, record */
};

/* W and fence of one partition. */
struct place {
    int32_t id;
    int64_t fence, saved;
};

struct store_memory {
    struct instance *in;
    const struct store_memory_conf *conf;
    struct entry **index; /* open addressing; [mask + 1] */
    size_t mask, count, bytes, hand;
    struct place *places;
    size_t places_n;
    uint64_t snapshot_at_ms;
    bool changed;         /* since the last snapshot */
    struct metric_cell *m_records, *m_bytes, *m_refused;
};

static const struct metric store_memory_metrics[] = {
    {"gait_store_memory_records", METRIC_GAUGE, NULL, "User records in the memory store."},
    {"gait_store_memory_bytes", METRIC_GAUGE, NULL, "Bytes of user records in the memory store."},
    {"gait_store_memory_refused_total", METRIC_COUNTER, NULL, "Saves refused because the memory store is full."},
    {NULL, 0, NULL, NULL},
};

/* ---- the table -------------------------------------------------------------------------------------------------- */

static uint64_t key_hash(int32_t partition, struct str name)
{
    return XXH3_64bits_withSeed(name.at, name.len, (uint64_t)(uint32_t)partition + 1);
}

static struct entry **find(const struct store_memory *s, uint64_t hash, int32_t partition, struct str name)
{
    size_t i = hash & s->mask;
    for (; s->index[i]; i = (i + 1) & s->mask) {
        const struct entry *e = s->index[i];
        if (e->hash == hash && e->partition == partition && e->name_len == name.len &&
            memcmp(e->bytes, name.at, name.len) == 0)
            break;
    }
    return &s->index[i];
}

static size_t entry_bytes(const struct entry *e)
{
    return sizeof *e + e->name_len + e->cap;
}

static void grow_index(struct store_memory *s)
{
    size_t old_mask = s->mask;
    struct entry **old = s->index;
    s->mask = old ? old_mask * 2 + 1 : INDEX_FIRST - 1;
    s->index = calloc(s->mask + 1, sizeof *s->index);
    assert(s->index);
    for (size_t i = 0; old && i <= old_mask; i++) {
        size_t to = old[i] ? old[i]->hash & s->mask : 0;
        while (old[i] && s->index[to])
            to = (to + 1) & s->mask;
        if (old[i])
            s->index[to] = old[i];
    }
    free(old);
}

static void put(struct store_memory *s, int32_t partition, struct str name, const uint8_t *bytes, uint32_t len,
                int64_t idle_until_ms)
{
    uint64_t hash = key_hash(partition, name);
    struct entry **at = find(s, hash, partition, name), *e = *at;
    if (!e || e->cap < len) {
        uint32_t cap = (len + 63) / 64 * 64;
        struct entry *larger = malloc(sizeof *larger + name.len + cap);
        assert(larger);
        *larger = (struct entry){.hash = hash, .partition = partition, .cap = cap, .name_len = (uint16_t)name.len};
        memcpy(larger->bytes, name.at, name.len);
        s->bytes += entry_bytes(larger) - (e ? entry_bytes(e) : 0);
        s->count += !e;
        free(e);
        *at = e = larger;
    }
    memcpy(e->bytes + e->name_len, bytes, len);
    e->len = len;
    e->idle_until_ms = idle_until_ms;
    if (s->count * 2 > s->mask)
        grow_index(s);
}

/* Followers move back, so that no grave stones are left. */
static void drop(struct store_memory *s, size_t i)
{
    s->bytes -= entry_bytes(s->index[i]);
    s->count--;
    free(s->index[i]);
    for (size_t j = (i + 1) & s->mask; s->index[j]; j = (j + 1) & s->mask) {
        size_t home = s->index[j]->hash & s->mask;
        if (((j - home) & s->mask) >= ((j - i) & s->mask)) {
            s->index[i] = s->index[j];
            i = j;
        }
    }
    s->index[i] = NULL;
}

/* A part of the table at each tick, so that expired records go without a pause. */
static void sweep_expired(struct store_memory *s)
{
    int64_t now = clock_wall_ms(s->in->clock);
    for (int n = 0; n < SWEEP_ENTRIES; n++) {
        s->hand &= s->mask;
        if (s->index[s->hand] && s->index[s->hand]->idle_until_ms < now)
            drop(s, s->hand); /* a follower may have moved here: look at the same place again */
        else
            s->hand++;
    }
}

static struct place *place_of(struct store_memory *s, int32_t id)
{
    for (size_t i = 0; i < s->places_n; i++)
        if (s->places[i].id == id)
            return &s->places[i];
    s->places = realloc(s->places, (s->places_n + 1) * sizeof *s->places);
    assert(s->places);
    s->places[s->places_n] = (struct place){id, 0, OFFSET_NONE};
    return &s->places[s->places_n++];
}

/* ---- the snapshot: magic, counts, places, records, XXH3 of all before it ---------------------------------------- */

struct snapshot_io {
    FILE *file;
    XXH3_state_t *sum;
    bool failed;
};

static void put_bytes(struct snapshot_io *io, const void *bytes, size_t n)
{
    XXH3_64bits_update(io->sum, bytes, n);
    io->failed = io->failed || fwrite(bytes, 1, n, io->file) != n;
}

static void get_bytes(struct snapshot_io *io, void *bytes, size_t n)
{
    io->failed = io->failed || fread(bytes, 1, n, io->file) != n;
    if (!io->failed)
        XXH3_64bits_update(io->sum, bytes, n);
    else
        memset(bytes, 0, n);
}

static void write_content(struct store_memory *s, struct snapshot_io *io)
{
    uint64_t counts[2] = {s->places_n, s->count};
    put_bytes(io, snapshot_magic, sizeof snapshot_magic);
    put_bytes(io, counts, sizeof counts);
    for (size_t i = 0; i < s->places_n; i++) {
        int64_t place[3] = {s->places[i].id, s->places[i].fence, s->places[i].saved};
        put_bytes(io, place, sizeof place);
    }
    for (size_t i = 0; i <= s->mask; i++) {
        const struct entry *e = s->index[i];
        if (!e)
            continue;
        int64_t head[4] = {e->partition, e->idle_until_ms, e->name_len, e->len};
        put_bytes(io, head, sizeof head);
        put_bytes(io, e->bytes, (size_t)e->name_len + e->len);
    }
}

/* Beside the old one, then renamed over it: a crash or a full disk leaves the old one. */
static int write_snapshot(struct store_memory *s)
{
    char temp[PATH_BYTES];
    if (snprintf(temp, sizeof temp, "%s.new", s->conf->snapshot) >= (int)sizeof temp) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640); /* what is in it is personal */
    struct snapshot_io io = {.file = fd < 0 ? NULL : fdopen(fd, "w"), .sum = XXH3_createState()};
    assert(io.sum && (fd < 0 || io.file));
    XXH3_64bits_reset(io.sum);
    io.failed = !io.file;
    if (io.file) {
        write_content(s, &io);
        uint64_t sum = XXH3_64bits_digest(io.sum);
        put_bytes(&io, &sum, sizeof sum);
        io.failed = fflush(io.file) != 0 || fdatasync(fileno(io.file)) != 0 || io.failed;
        io.failed = fclose(io.file) != 0 || io.failed;
        io.failed = io.failed || rename(temp, s->conf->snapshot) != 0;
        int saved_errno = errno;
        if (io.failed)
            unlink(temp);
        errno = saved_errno;
    }
    XXH3_freeState(io.sum);
    s->changed = s->changed && io.failed;
    return io.failed ? -1 : 0;
}

static void read_record(struct store_memory *s, struct snapshot_io *io, uint8_t **bytes, size_t *cap)
{
    int64_t head[4];
    get_bytes(io, head, sizeof head);
    if (head[2] <= 0 || head[2] > NAME_BYTES_MAX || head[3] < 0 || head[3] > RECORD_BYTES_MAX)
        io->failed = true;
    if (io->failed)
        return;
    size_t n = (size_t)(head[2] + head[3]);
    if (n > *cap) {
        *cap = n * 2;
        *bytes = realloc(*bytes, *cap);
        assert(*bytes);
    }
    get_bytes(io, *bytes, n);
    if (!io->failed)
        put(s, (int32_t)head[0], (struct str){(char *)*bytes, (uint32_t)head[2]}, *bytes + head[2], (uint32_t)head[3],
            head[1]);
}

static void read_content(struct store_memory *s, struct snapshot_io *io)
{
    char magic[sizeof snapshot_magic];
    uint64_t counts[2], sum = 0;
    uint8_t *bytes = NULL;
    size_t cap = 0;
    get_bytes(io, magic, sizeof magic);
    get_bytes(io, counts, sizeof counts);
    io->failed = io->failed || memcmp(magic, snapshot_magic, sizeof magic) != 0;
    for (uint64_t i = 0; i < counts[0] && !io->failed; i++) {
        int64_t place[3];
        get_bytes(io, place, sizeof place);
        if (!io->failed)
            *place_of(s, (int32_t)place[0]) = (struct place){(int32_t)place[0], place[1], place[2]};
    }
    for (uint64_t i = 0; i < counts[1] && !io->failed; i++)
        read_record(s, io, &bytes, &cap);
    free(bytes);
    uint64_t right = XXH3_64bits_digest(io->sum);
    io->failed = io->failed || fread(&sum, 1, sizeof sum, io->file) != sizeof sum || sum != right ||
                 fgetc(io->file) != EOF;
}

static int read_snapshot(struct store_memory *s, struct error *err)
{
    const char *path = s->conf->snapshot;
    struct snapshot_io io = {.file = fopen(path, "re")};
    if (!io.file)
        return errno == ENOENT ? 0 : error_set(err, "snapshot: %s: %s", path, strerror(errno));
    io.sum = XXH3_createState();
    assert(io.sum);
    XXH3_64bits_reset(io.sum);
    read_content(s, &io);
    XXH3_freeState(io.sum);
    fclose(io.file);
    return io.failed ? error_set(err, "snapshot: %s is no snapshot, or damaged (wrong checksum or cut short); move it "
                                 "away to begin anew", path) : 0;
}

/* ---- the flow --------------------------------------------------------------------------------------------------- */

static void run(struct instance *in, struct batch *b)
{
    struct store_memory *s = in->self;
    int64_t now = clock_wall_ms(in->clock);
    for (uint32_t i = b->loading_from; i < b->loading_n; i++) {
        struct user *user = b->loading[i];
        struct str name = {user->name, user->name_len};
        const struct entry *e = *find(s, key_hash(user->partition, name), user->partition, name);
        bool alive = e && e->idle_until_ms >= now;
        load_done(in->engine, user, alive ? e->bytes + e->name_len : NULL, alive ? e->len : 0);
    }
}

static void commit(struct instance *in, struct commit *c)
{
    struct store_memory *s = in->self;
    struct place *place = place_of(s, c->partition->id);
    assert(place->fence == c->partition->fence); /* nobody else can have this memory */
    size_t more = 0;
    for (uint32_t i = 0; i < c->n; i++)
        more += c->items[i].len;
    if (s->bytes + more > (size_t)s->conf->max_bytes) {
        metric_add(s->m_refused, 1);
        log_often(LOG_ERROR, in->name, "full: %zu bytes of records in max_bytes %lld; nothing more is saved", s->bytes,
                  (long long)s->conf->max_bytes);
        commit_done(in->engine, in, c, false);
        return;
    }
    for (uint32_t i = 0; i < c->n; i++)
        put(s, place->id, c->items[i].name, c->items[i].bytes, c->items[i].len, c->items[i].idle_until_ms);
    place->saved = c->offset;
    s->changed = true;
    commit_done(in->engine, in, c, true);
}

static void tick(struct store_memory *s)
{
    sweep_expired(s);
    metric_set(s->m_records, (double)s->count);
    metric_set(s->m_bytes, (double)s->bytes);
    uint64_t now_ms = clock_mono_ns(s->in->clock) / 1000000;
    if (!s->conf->snapshot || !s->conf->snapshot_ms || !s->changed ||
        now_ms < s->snapshot_at_ms + (uint64_t)s->conf->snapshot_ms)
        return;
    if (write_snapshot(s) < 0)
        log_often(LOG_ERROR, s->in->name, "cannot write %s: %m; the old one stays, trying again", s->conf->snapshot);
    s->snapshot_at_ms = now_ms;
}

static void flow(struct instance *in, const struct flow *f)
{
    struct store_memory *s = in->self;
    if (f->kind == FLOW_OPEN) {
        struct place *place = place_of(s, f->partition->id);
        int64_t now_ms = clock_wall_ms(in->clock); /* sinks may compare fences across runs without a snapshot */
        place->fence = place->fence < now_ms ? now_ms : place->fence + 1;
        partition_opened(in->engine, f->partition, place->fence, place->saved);
    } else if (f->kind == FLOW_TICK) {
        tick(s);
    }
}

static int open_store(struct instance *in, bool check, struct error *err)
{
    struct store_memory *s = calloc(1, sizeof *s);
    assert(s);
    in->self = s;
    s->in = in;
    s->conf = in->conf;
    s->m_records = metric_cell(in->metrics, "gait_store_memory_records", NULL);
    s->m_bytes = metric_cell(in->metrics, "gait_store_memory_bytes", NULL);
    s->m_refused = metric_cell(in->metrics, "gait_store_memory_refused_total", NULL);
    s->snapshot_at_ms = clock_mono_ns(in->clock) / 1000000;
    grow_index(s);
    (void)check;
    return s->conf->snapshot ? read_snapshot(s, err) : 0;
}

static void close_store(struct instance *in)
{
    struct store_memory *s = in->self;
    if (!s)
        return;
    if (s->conf->snapshot && s->changed && write_snapshot(s) < 0)
        log_error(in->name, "cannot write %s: %m; what was learned since the last snapshot is lost", s->conf->snapshot);
    for (size_t i = 0; s->index && i <= s->mask; i++)
        free(s->index[i]);
    free(s->index);
    free(s->places);
    free(s);
    in->self = NULL;
}

#define AT(member) offsetof(struct store_memory_conf, member)
static const struct option store_memory_options[] = {
    {.name = "snapshot", .type = OPTION_PATH, .offset = AT(snapshot), .flags = OPTION_RESTART,
     .help = "File that the records are read from at start and written to at the end. Without it they are forgotten."},
    {.name = "snapshot_ms", .type = OPTION_DURATION, .offset = AT(snapshot_ms), .initial = "0s", .min = 0,
     .max = 86400000,
     .help = "Write the snapshot this often too; 0 = only at the end. Writing holds up the flow for about a second per "
             "gigabyte."},
    {.name = "max_bytes", .type = OPTION_BYTES, .offset = AT(max_bytes), .initial = "4GB", .min = 1 << 20,
     .max = 1e12,
     .help = "Bound on the records kept. At the bound nothing more is saved and the flow comes to a halt."},
    {.name = NULL},
};

const struct module store_memory = {
    .name = "store_memory",
    .summary = "Keeps user records in memory, with an optional snapshot file. For one process without a server.",
    .stage = STAGE_STORE,
    .options = store_memory_options,
    .conf_size = sizeof(struct store_memory_conf),
    .metrics = store_memory_metrics,
    .open = open_store,
    .run = run,
    .flow = flow,
    .commit = commit,
    .close = close_store,
};
