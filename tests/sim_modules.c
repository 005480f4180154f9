// SPDX-License-Identifier: Apache-2.0
// sim_modules.c - source, store and sink for the engine under simulation. They keep the same promises as the real ones:
// order on a connection, a question asked again after a reset, outputs acknowledged or sent again.
#include "sim_world.h"

#include "gait/log.h"
#include "gait/output.h"

#include <assert.h>
#include <stdlib.h>
#define 
/* The client sends what was not acknowledged again: at least once. A transaction with an unknown end is over for us. */
void broker_reset(struct member *m)
{
    struct connection *c = &m->broker;
    size_t end = c->end;
    c->executed = end;
    while (c->first < end) {
        struct request r = c->at[c->first++ % REQUESTS_MAX];
        if (r.kind == REQUEST_OUTPUT) {
            struct request *again = connection_ask(c, REQUEST_OUTPUT);
            again->output = r.output;
            again->ticket = r.ticket;
        } else if (r.kind == REQUEST_OFFSET) {
            commit_done(m->engine, engine_instance(m->engine, STAGE_SOURCE), r.commit, false);
        } else if (r.kind == REQUEST_TRANSACTION) {
            transaction_done(m, false);
        } else if (r.number == m->held[r.partition].question) {
            ask_committed(m, r.partition);
        }
        request_free(&r);
    }
}

const struct module sim_sink = {
    .name = "sink_sim",
    .stage = STAGE_SINK,
    .open = sink_open,
    .run = sink_run,
    .commit = sink_commit,
};
