// SPDX-License-Identifier: Apache-2.0
// source_kafka_group.c - what the consumer group gives and takes. Reading begins where the store says (W), not where
// the group's committed offset says (C), so an assignment is answered only when each of its partitions has been opened:
//
//   assigned ─► ASKING (C) ─► OPENING (partition_assigned) ─► (ERASING) ─► STARTED (FLOW_START) ─► READING
//   revoked  ─► CLOSING (partition_revoked: the engine finishes, saves, commits) ─(FLOW_CLOSED of each)─► unassign
//
// A claim's state changes in this file only.
#include "source_kafka.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

/* ---- claims ------------------------------------------------------------------------------------------------------ */

struct claim *claim_find(struct source_kafka *s, int32_t id)
{
    for (size_t i = 0; i < s->claims_n; i++)
        if (s->claims[i].id == id)
            return &s->claims[i];
    return NULL;
}

static void claim_add(struct source_kafka *s, int32_t id)
{
    assert(!claim_find(s, id));
    if (s->claims_n == s->claims_cap) {
        s->claims_cap = s->claims_cap ? s->claims_cap * 2 : 16;
        s->claims = realloc(s->claims, s->claims_cap * sizeof *s->claims);
        assert(s->claims);
    }
    s->claims[s->claims_n++] = (struct claim){.id = id, .state = CLAIM_ASKING, .offset = -1};
}

static void claim_remove(struct source_kafka *s, struct claim *claim)
{
    *claim = s->claims[--s->claims_n];
}

static rd_kafka_topic_partition_list_t *list_of(const struct source_kafka *s, int32_t id, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, s->conf->topic, id)->offset = offset;
    return list;
}

static rd_kafka_topic_partition_list_t *claims_list(struct source_kafka *s, enum claim_state state)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
    for (size_t i = 0; i < s->claims_n; i++)
        if (s->claims[i].state == state)
            rd_kafka_topic_partition_list_add(list, s->conf->topic, s->claims[i].id)->offset = s->claims[i].offset;
    return list;
}

/* ---- C: the group's committed offsets ---------------------------------------------------------------------------- */

/* Ask for C of all claims that lack it, once the topic's size is known: the store has to compare it before anything is
 * taken over. "Unknown" must never be taken for "none", so a failed question is asked again. */
static void ask_committed(struct source_kafka *s)
{
    if (s->asking || s->partitions == 0 || source_mono_ms(s) < s->ask_ms)
        return;
    rd_kafka_topic_partition_list_t *list = claims_list(s, CLAIM_ASKING);
    if (list->cnt == 0) {
        rd_kafka_topic_partition_list_destroy(list);
        return;
    }
    s->asked++;
    for (size_t i = 0; i < s->claims_n; i++)
        if (s->claims[i].state == CLAIM_ASKING)
            s->claims[i].asked = s->asked;
    s->asking = true;
    committed_ask(s->committed, list);
}

static void ask_later(struct source_kafka *s, rd_kafka_resp_err_t code)
{
    log_often(LOG_WARNING, s->in->name, "cannot read the offsets that group %s has committed: %s; trying again",
              s->conf->group, rd_kafka_err2str(code));
    if (code != RD_KAFKA_RESP_ERR__TIMED_OUT) /* that one has waited already */
        s->ask_ms = source_mono_ms(s) + RETRY_MS;
}

void claims_committed(struct source_kafka *s, const rd_kafka_topic_partition_list_t *list, rd_kafka_resp_err_t code)
{
    s->asking = false;
    if (code)
        ask_later(s, code);
    for (int i = 0; i < list->cnt && !code; i++) {
        const rd_kafka_topic_partition_t *part = &list->elems[i];
        struct claim *claim = claim_find(s, part->partition);
        if (!claim || claim->state != CLAIM_ASKING || claim->asked != s->asked)
            continue;
        if (part->err) {
            ask_later(s, part->err);
            continue;
        }
        claim->state = CLAIM_OPENING;
        partition_assigned(s->in->engine, part->partition, part->offset >= 0 ? part->offset : OFFSET_NONE);
    }
    ask_committed(s);
}

/* ---- answers to the group ---------------------------------------------------------------------------------------- */

static void log_refused(const struct source_kafka *s, const char *what, const char *why)
{
    log_error(s->in->name, "%s was refused: %s", what, why);
}

/* A cooperative group speaks of the partitions that come and go, an eager one of all of them. */
static void group_assign(struct source_kafka *s, const rd_kafka_topic_partition_list_t *list)
{
    const char *protocol = rd_kafka_rebalance_protocol(s->client.rk);
    if (protocol && strcmp(protocol, "COOPERATIVE") == 0) {
        rd_kafka_error_t *error = rd_kafka_incremental_assign(s->client.rk, list);
        if (error)
            log_refused(s, "the assignment", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
    } else {
        rd_kafka_resp_err_t code = rd_kafka_assign(s->client.rk, list);
        if (code)
            log_refused(s, "the assignment", rd_kafka_err2str(code));
    }
}

static void group_unassign(struct source_kafka *s, const rd_kafka_topic_partition_list_t *list)
{
    const char *protocol = rd_kafka_rebalance_protocol(s->client.rk);
    if (protocol && strcmp(protocol, "COOPERATIVE") == 0) {
        rd_kafka_error_t *error = rd_kafka_incremental_unassign(s->client.rk, list);
        if (error)
            log_refused(s, "giving up partitions", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
    } else {
        rd_kafka_resp_err_t code = rd_kafka_assign(s->client.rk, NULL);
        if (code)
            log_refused(s, "giving up partitions", rd_kafka_err2str(code));
    }
}

static void forward_messages(struct source_kafka *s, int32_t id)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_get_partition(s->client.rk, s->conf->topic, id);
    assert(queue);
    rd_kafka_queue_forward(queue, s->messages);
    rd_kafka_queue_destroy(queue);
}

/* All partitions of the assignment have been opened: begin to read. */
static void answer_assign(struct source_kafka *s)
{
    for (size_t i = 0; i < s->claims_n; i++)
        if (!s->claims[i].assigned && s->claims[i].state != CLAIM_STARTED)
            return;
    rd_kafka_topic_partition_list_t *list = claims_list(s, CLAIM_STARTED);
    for (int i = 0; i < list->cnt; i++) {
        struct claim *claim = claim_find(s, list->elems[i].partition);
        claim->state = CLAIM_READING;
        claim->assigned = true;
        if (claim->offset < 0)
            claim->offset = -1;
        forward_messages(s, claim->id);
    }
    s->owed = ANSWER_NONE;
    group_assign(s, list);
    rd_kafka_resume_partitions(s->client.rk, list); /* the library remembers a pause from an earlier life */
    rd_kafka_topic_partition_list_destroy(list);
}

static void answer_unassign(struct source_kafka *s)
{
    for (size_t i = 0; i < s->claims_n; i++)
        if (s->claims[i].state == CLAIM_CLOSING)
            return;
    s->owed = ANSWER_NONE;
    group_unassign(s, s->unassigning);
    rd_kafka_topic_partition_list_destroy(s->unassigning);
    s->unassigning = NULL;
}

/* ---- what the group says ----------------------------------------------------------------------------------------- */

/* Users belong to partitions by their key. With more partitions the same user's events would go elsewhere, to a record
 * that knows nothing of them, so the new ones are left alone until an operator decides. */
static bool is_new_partition(struct source_kafka *s, int32_t id)
{
    if (s->partitions == 0 || id < s->partitions)
        return false;
    log_error(s->in->name, "topic %s had %d partitions and now has partition %" PRId32 " too: it is not read, because "
              "users would move between partitions and leave their state behind; restart with a new group and an empty "
              "store, or move the records first", s->conf->topic, s->partitions, id);
    s->grown = true;
    return true;
}

static void on_assign(struct source_kafka *s, const rd_kafka_topic_partition_list_t *list)
{
    log_notice(s->in->name, "group %s assigns %d partitions of %s", s->conf->group, list->cnt, s->conf->topic);
    s->joined = s->assigned = true;
    s->reachable = true;
    s->topic_error = RD_KAFKA_RESP_ERR_NO_ERROR;
    s->owed = ANSWER_ASSIGN;
    for (int i = 0; i < list->cnt; i++)
        if (!is_new_partition(s, list->elems[i].partition))
            claim_add(s, list->elems[i].partition);
    source_ready(s);
    ask_committed(s);
    answer_assign(s);
}

/* Those still being opened were never read; the engine is told of the others, and of what it has to close we hear again
 * (FLOW_CLOSED). What is lost already belongs to somebody else: there is nothing to wait for. */
static void on_revoke(struct source_kafka *s, const rd_kafka_topic_partition_list_t *list)
{
    bool lost = rd_kafka_assignment_lost(s->client.rk);
    log_notice(s->in->name, "group %s %s %d partitions of %s", s->conf->group, lost ? "has given away" : "revokes",
               list->cnt, s->conf->topic);
    if (lost)
        s->joined = false;
    if (s->unassigning)
        rd_kafka_topic_partition_list_destroy(s->unassigning);
    s->unassigning = rd_kafka_topic_partition_list_copy(list);
    s->owed = ANSWER_UNASSIGN;
    for (int i = 0; i < list->cnt; i++) {
        int32_t id = list->elems[i].partition;
        struct claim *claim = claim_find(s, id);
        if (!claim)
            continue;
        if (lost || s->closing || !engine_partition(s->in->engine, id) || claim->state == CLAIM_ASKING)
            claim_remove(s, claim);
        else
            claim->state = CLAIM_CLOSING;
        if (s->closing)
            continue;
        if (lost)
            partition_lost(s->in->engine, id);
        else
            partition_revoked(s->in->engine, id);
    }
    answer_unassign(s);
}

/* We are about to leave: whatever the group gives us now is left unread for its next owner. */
static void assign_nothing(struct source_kafka *s)
{
    rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
    group_assign(s, none);
    rd_kafka_topic_partition_list_destroy(none);
}

void source_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct source_kafka *s = ((struct kafka_client *)opaque)->self;
    (void)rk;
    metric_add(s->rebalances, 1);
    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        if (s->draining)
            assign_nothing(s);
        else
            on_assign(s, list);
    } else {
        if (code != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
            log_error(s->in->name, "rebalance: %s", rd_kafka_err2str(code));
        on_revoke(s, list);
    }
}

/* ---- what the engine says ---------------------------------------------------------------------------------------- */

void claim_start(struct source_kafka *s, const struct partition *p, int64_t offset)
{
    struct claim *claim = claim_find(s, p->id);
    if (!claim || claim->state != CLAIM_OPENING)
        return;
    if (offset == OFFSET_NONE)
        claim->offset = s->conf->start == BEGIN_LATEST ? RD_KAFKA_OFFSET_END : RD_KAFKA_OFFSET_BEGINNING;
    else
        claim->offset = offset == OFFSET_EARLIEST ? RD_KAFKA_OFFSET_BEGINNING : offset;
    claim->state = CLAIM_ERASING;
    if (erase_log_used(s))
        erase_log_want(s, p->erase_next);
    else
        claim_begin(s, p->id);
}

void claim_begin(struct source_kafka *s, int32_t id)
{
    struct claim *claim = claim_find(s, id);
    assert(claim && claim->state == CLAIM_ERASING);
    claim->state = CLAIM_STARTED;
    if (claim->assigned) { /* it was dropped and is taken over anew: the group knows nothing of that */
        rd_kafka_topic_partition_list_t *list = list_of(s, claim->id, claim->offset);
        claim->state = CLAIM_READING;
        claim->offset = claim->offset < 0 ? -1 : claim->offset;
        rd_kafka_resume_partitions(s->client.rk, list);
        rd_kafka_error_t *error = rd_kafka_seek_partitions(s->client.rk, list, 0);
        rd_kafka_error_destroy(error);
        rd_kafka_topic_partition_list_destroy(list);
    } else if (s->owed == ANSWER_ASSIGN) {
        answer_assign(s);
    }
}

/* The engine has finished with it: because we asked for that, because the daemon stops, or because it was dropped
 * although the group says that it is ours (fenced off, or its transaction was aborted). Of the last FLOW_REOPEN
 * tells. */
void claim_close(struct source_kafka *s, const struct partition *p)
{
    struct claim *claim = claim_find(s, p->id);
    if (!claim || claim->state <= CLAIM_OPENING)
        return; /* the end of an earlier life */
    if (claim->state == CLAIM_CLOSING || s->draining) {
        claim_remove(s, claim);
        if (s->owed == ANSWER_UNASSIGN)
            answer_unassign(s);
        return;
    }
    claim->state = CLAIM_DROPPED;
    claim->again_ms = 0;
    if (claim->assigned) {
        rd_kafka_topic_partition_list_t *list = list_of(s, claim->id, claim->offset);
        rd_kafka_pause_partitions(s->client.rk, list);
        rd_kafka_topic_partition_list_destroy(list);
    }
}

/* Not at once: if we were the zombie, the group tells us with the next heartbeat, and the fence must not be taken from
 * its rightful owner again before that. */
void claim_reopen(struct source_kafka *s, int32_t id)
{
    struct claim *claim = claim_find(s, id);
    if (!claim)
        return;
    log_warning(s->in->name, "partition %" PRId32 " was dropped though group %s says that it is ours: taking it over "
                "anew in %d ms", id, s->conf->group, RETAKE_MS);
    claim->state = CLAIM_DROPPED;
    claim->again_ms = source_mono_ms(s) + RETAKE_MS;
}

void claim_lose(struct source_kafka *s, int32_t id)
{
    struct claim *claim = claim_find(s, id);
    if (!claim || claim->state != CLAIM_CLOSING)
        return;
    claim_remove(s, claim);
    partition_lost(s->in->engine, id);
    if (s->owed == ANSWER_UNASSIGN)
        answer_unassign(s);
}

void claims_tick(struct source_kafka *s)
{
    for (size_t i = 0; i < s->claims_n; i++) {
        struct claim *claim = &s->claims[i];
        if (claim->state == CLAIM_DROPPED && claim->again_ms && source_mono_ms(s) >= claim->again_ms) {
            claim->state = CLAIM_ASKING;
            claim->asked = 0;
        }
    }
    ask_committed(s);
}
