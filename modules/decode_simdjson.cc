// SPDX-License-Identifier: Apache-2.0
// decode_simdjson.cc - JSON bytes to decode_values, by simdjson. The only C++ in the tree, so it stays small.
//
// simdjson's tree parser (dom) is used rather than its lazy one (ondemand): it checks the whole text, so that broken JSON
// behind the last wanted field is found, and chooses the machine's vector instructions at run time.
// simdjson wants 64 readable bytes behind the text, which neither Kafka's nor a file's buffers have: each text is copied
// into one buffer first, which costs about 10 ns for 300 bytes.
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <cstdlib>
#include <new>

extern "C" {
#include "decode_plan.h"
}

namespace dom = simdjson::dom;

struct decoder {
    dom::parser parser;
    const struct decode_plan *plan;
    size_t max_bytes;
    uint8_t *padded; /* max_bytes + SIMDJSON_PADDING */
};

static enum event_verdict verdict_of(simdjson::error_code error)
{
    switch (error) {
    case simdjson::EMPTY: return EVENT_EMPTY;
    case simdjson::UTF8_ERROR: return EVENT_BAD_UTF8;
    case simdjson::DEPTH_ERROR: return EVENT_TOO_DEEP;
    case simdjson::NUMBER_ERROR: return EVENT_BAD_NUMBER;
    case simdjson::CAPACITY: return EVENT_TOO_LARGE;
    default: return EVENT_BAD_JSON;
    }
}

static const char *detail_of(simdjson::error_code error)
{
    switch (error) {
    case simdjson::EMPTY: return "nothing but white space";
    case simdjson::UTF8_ERROR: return "not valid UTF-8";
    case simdjson::DEPTH_ERROR: return "nested deeper than max_depth";
    case simdjson::NUMBER_ERROR: return "a number is malformed or larger than a double or 64-bit integer can hold";
    case simdjson::CAPACITY: return "larger than max_event_bytes";
    case simdjson::STRING_ERROR: return "a string has a wrong escape";
    case simdjson::UNCLOSED_STRING: return "a string is not closed";
    case simdjson::UNESCAPED_CHARS: return "a string has an unescaped control character";
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR: return "a word that is neither true, false nor null";
    default: return "not one complete JSON text";
    }
}

/* A field's value; false when it counts as absent. */
static bool read_value(const dom::element &from, union decode_value *to, uint8_t *kind)
{
    switch (from.type()) {
    case dom::element_type::STRING: {
        std::string_view text = from.get_string().value_unsafe();
        *kind = DECODE_TEXT;
        to->text.at = text.data();
        to->text.len = uint32_t(text.size());
        return !text.empty();
    }
    case dom::element_type::INT64:
        *kind = DECODE_INT;
        to->integer = from.get_int64().value_unsafe();
        return true;
    case dom::element_type::UINT64:
        *kind = DECODE_UINT;
        to->natural = from.get_uint64().value_unsafe();
        return true;
    case dom::element_type::DOUBLE:
        *kind = DECODE_REAL;
        to->real = from.get_double().value_unsafe();
        return true;
    case dom::element_type::BOOL:
        *kind = DECODE_BOOL;
        to->truth = from.get_bool().value_unsafe();
        return true;
    case dom::element_type::NULL_VALUE:
        return false;
    default:
        *kind = DECODE_NESTED;
        return true;
    }
}

/* A value without consequence does not displace one of a worse path or of an earlier equal key. */
static void take_leaves(const struct decode_node *node, const dom::element &from, struct decode_values *values)
{
    union decode_value value;
    uint8_t kind;
    if (!read_value(from, &value, &kind))
        return;
    for (uint32_t i = 0; i < node->leaves_n; i++) {
        uint8_t field = node->leaves[i].field, rank = node->leaves[i].rank;
        if (values->kind[field] != DECODE_ABSENT && values->rank[field] < rank)
            continue;
        values->kind[field] = kind;
        values->rank[field] = rank;
        values->at[field] = value;
    }
}

static void walk_object(const struct decode_node *node, dom::object object, struct decode_values *values);
static void walk_array(const struct decode_node *node, dom::array array, struct decode_values *values);

static void walk(const struct decode_node *node, const dom::element &from, struct decode_values *values)
{
    if (node->leaves_n > 0)
        take_leaves(node, from, values);
    if (node->keys_n == 0)
        return;
    if (from.is_object())
        walk_object(node, from.get_object().value_unsafe(), values);
    else if (node->index_max >= 0 && from.is_array())
        walk_array(node, from.get_array().value_unsafe(), values);
}

static void walk_object(const struct decode_node *node, dom::object object, struct decode_values *values)
{
    for (auto at = object.begin(), end = object.end(); at != end; ++at) {
        std::string_view name = at.key();
        const struct decode_key *key = decode_node_find(node, name.data(), uint32_t(name.size()));
        if (key)
            walk(key->node, at.value(), values);
    }
}

static void walk_array(const struct decode_node *node, dom::array array, struct decode_values *values)
{
    int32_t index = 0;
    for (auto at = array.begin(), end = array.end(); at != end && index <= node->index_max; ++at, ++index)
        for (uint32_t i = 0; i < node->keys_n; i++)
            if (node->keys[i].index == index)
                walk(node->keys[i].node, *at, values);
}

extern "C" {

struct decoder *decoder_create(const struct decode_plan *plan, size_t max_bytes, size_t max_depth)
{
    struct decoder *d = new (std::nothrow) decoder();
    if (!d)
        return nullptr;
    /* Everything at its full size at once: the parser never grows, so max_depth stays as it is set here. */
    size_t capacity = max_bytes < dom::MINIMAL_DOCUMENT_CAPACITY ? dom::MINIMAL_DOCUMENT_CAPACITY : max_bytes;
    d->plan = plan;
    d->max_bytes = max_bytes;
    d->padded = static_cast<uint8_t *>(malloc(capacity + simdjson::SIMDJSON_PADDING));
    if (!d->padded || d->parser.allocate(capacity, max_depth) || d->parser.doc.allocate(capacity))
        decoder_destroy(&d);
    return d;
}

void decoder_destroy(struct decoder **decoder)
{
    if (!*decoder)
        return;
    free((*decoder)->padded);
    delete *decoder;
    *decoder = nullptr;
}

enum event_verdict decoder_parse(struct decoder *d, struct str raw, struct decode_values *values, const char **detail)
{
    memset(values->kind, DECODE_ABSENT, sizeof values->kind);
    if (raw.len >= 3 && memcmp(raw.at, "\xEF\xBB\xBF", 3) == 0) {
        raw.at += 3;
        raw.len -= 3;
    }
    if (raw.len > d->max_bytes) {
        *detail = detail_of(simdjson::CAPACITY);
        return EVENT_TOO_LARGE;
    }
    if (raw.len > 0)
        memcpy(d->padded, raw.at, raw.len);
    memset(d->padded + raw.len, 0, simdjson::SIMDJSON_PADDING);
    dom::element root;
    simdjson::error_code error = d->parser.parse(d->padded, raw.len, false).get(root);
    if (error) {
        *detail = detail_of(error);
        return verdict_of(error);
    }
    if (!root.is_object()) {
        *detail = "the JSON text is not an object";
        return EVENT_NOT_OBJECT;
    }
    walk_object(&d->plan->root, root.get_object().value_unsafe(), values);
    return EVENT_OK;
}

} // extern "C"
