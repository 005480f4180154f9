// SPDX-License-Identifier: Apache-2.0
// modules.c - the contents page: every module, in the order of the flow. Nothing else names them.
#include "gait/module.h"

extern const struct module source_kafka, source_file, decode_json, store_redis, store_memory, window_rolling;
extern const struct module model_lstm, model_challenger, score_interest, score_drift, rule_fraud;
extern const struct module sink_kafka, sink_redis, sink_file;

const struct module *const modules[] = {
    &source_kafka,
    &source_file,
    &decode_json,
    &store_redis,
    &store_memory,
    &window_rolling,
    &model_lstm,
    &model_challenger,
    &score_interest,
    &score_drift,
    &rule_fraud,
    &sink_kafka,
    &sink_redis,
    &sink_file,
    NULL,
};
