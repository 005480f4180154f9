// SPDX-License-Identifier: Apache-2.0
// decode_simdjson.cc - JSON bytes to decode_values, by simdjson. The only C++ in the tree, so it stays small.
//
//   text ─► stage 1 (simdjson, vector instructions): where strings, scalars and brackets begin; UTF-8 checked
//        ─► quick walk along the plan, straight over the text ─► values
//        └─► in any doubt (escapes, exponents, long numbers, mistakes): simdjson's own tree parser, and its verdict
//
// The tree parser (dom) spends half of its time on writing a tree that is read once; the quick walk does without
// (make bench-decode shows both). It need not know every kind of JSON, only never accept what the tree parser would
// refuse or read otherwise: fuzz_decode compares the two. simdjson's lazy interface (ondemand) is no choice: it lets
// broken JSON behind the last wanted field pass, and its instructions are picked when it is compiled.
// simdjson wants 64 readable bytes behind the text, which neither Kafka's nor a file's buffers have: each text is
// copied into the batch's memory first, about 10 ns, and the event's strings stay there without being copied again.
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <cstdlib>
#include <new>

extern "C" {
#include "decode_plan.h"
}

namespace dom = simdjson::dom;

static const uint32_t QUICK_DEPTH = 16;

struct decoder {
    dom::parser parser;
    const struct decode_plan *plan;
    size_t max_bytes;
    bool quick;
    uint32_t quick_depth; /* the quick walk calls itself for what is nested, at most this deep */
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

/* A value for every field that is found at `node`. null and "" count as absent, and leave what a better or an earlier
 * place has given. */
static void give(const struct decode_node *node, uint8_t kind, union decode_value value, struct decode_values *values)
{
    for (uint32_t i = 0; i < node->leaves_n; i++) {
        uint8_t field = node->leaves[i].field, rank = node->leaves[i].rank;
        if (values->kind[field] != DECODE_ABSENT && values->rank[field] < rank)
            continue;
        values->kind[field] = kind;
        values->rank[field] = rank;
        values->at[field] = value;
    }
}

static const struct decode_node *node_of_index(const struct decode_node *node, int32_t index)
{
    if (node && index <= node->index_max)
        for (uint32_t i = 0; i < node->keys_n; i++)
            if (node->keys[i].index == index)
                return node->keys[i].node;
    return nullptr;
}

/* ---- the quick walk -------------------------------------------------------------------------------------------- */

/* `at` runs over simdjson's list of places: one for each of { } [ ] : , and for the first byte of each string and each
 * other scalar. Behind the list's end comes the place behind the text, where a 0 stands: no check takes it for
 * anything. Every function returns false in doubt. */
struct quick {
    const uint8_t *text;
    const uint32_t *at;
    uint32_t deepest;
    struct decode_values *values;
};

static bool quick_value(struct quick *q, const struct decode_node *node, uint32_t depth);

static char quick_char(const struct quick *q)
{
    return char(q->text[*q->at]);
}

static bool quick_take(struct quick *q, char c)
{
    if (quick_char(q) != c)
        return false;
    q->at++;
    return true;
}

/* The scalar that begins here, as far as the next place, without white space. */
static struct str quick_scalar(struct quick *q)
{
    const uint8_t *from = q->text + q->at[0], *to = q->text + q->at[1];
    while (to > from && (to[-1] == ' ' || to[-1] == '\n' || to[-1] == '\t' || to[-1] == '\r'))
        to--;
    q->at++;
    return str{reinterpret_cast<const char *>(from), uint32_t(to - from)};
}

/* The text between the quotes. There are no backslashes, so a second quote can only be the closing one. */
static bool quick_string(struct quick *q, struct str *text)
{
    struct str whole = quick_scalar(q);
    *text = str{whole.at + 1, whole.len - 2};
    return whole.len >= 2 && whole.at[whole.len - 1] == '"';
}

/* Up to 15 digits, a point among them or not: then digits and power of ten are exact doubles, and so is their quotient
 * to the last bit. */
static bool quick_number(struct str text, uint8_t *kind, union decode_value *value)
{
    static const double powers[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const char *at = text.at, *end = text.at + text.len;
    bool negative = *at == '-';
    at += negative;
    const char *first = at, *point = nullptr;
    int64_t digits = 0;
    if (end - at > 16 || end == at || (*at == '0' && (negative || (end - at > 1 && at[1] != '.'))))
        return false;
    for (; at < end; at++) {
        unsigned digit = unsigned(*at) - '0';
        if (digit > 9) {
            if (*at != '.' || point || at == first)
                return false;
            point = at;
            continue;
        }
        digits = digits * 10 + digit;
    }
    if (point == end - 1 || (!point && end - first > 15))
        return false;
    *kind = point ? DECODE_REAL : DECODE_INT;
    if (point)
        value->real = (negative ? -double(digits) : double(digits)) / powers[end - point - 1];
    else
        value->integer = negative ? -digits : digits;
    return true;
}

static bool quick_word(struct str text, uint8_t *kind, union decode_value *value)
{
    value->truth = text.at[0] == 't';
    *kind = text.at[0] == 'n' ? DECODE_ABSENT : DECODE_BOOL;
    return text.len == 4 ? memcmp(text.at, "true", 4) == 0 || memcmp(text.at, "null", 4) == 0
                         : text.len == 5 && memcmp(text.at, "false", 5) == 0;
}

static bool quick_object(struct quick *q, const struct decode_node *node, uint32_t depth)
{
    if (quick_take(q, '}'))
        return true;
    do {
        struct str name;
        if (quick_char(q) != '"' || !quick_string(q, &name) || !quick_take(q, ':'))
            return false;
        const struct decode_key *key = node ? decode_node_find(node, name.at, name.len) : nullptr;
        if (!quick_value(q, key ? key->node : nullptr, depth))
            return false;
    } while (quick_take(q, ','));
    return quick_take(q, '}');
}

static bool quick_array(struct quick *q, const struct decode_node *node, uint32_t depth)
{
    int32_t index = 0;
    if (quick_take(q, ']'))
        return true;
    do {
        if (!quick_value(q, node_of_index(node, index++), depth))
            return false;
    } while (quick_take(q, ','));
    return quick_take(q, ']');
}

static bool quick_nested(struct quick *q, const struct decode_node *node, uint32_t depth)
{
    union decode_value none = {};
    bool object = quick_char(q) == '{';
    if (depth >= q->deepest)
        return false;
    if (node && node->leaves_n > 0)
        give(node, DECODE_NESTED, none, q->values);
    if (node && node->keys_n == 0)
        node = nullptr;
    q->at++;
    return object ? quick_object(q, node, depth + 1) : quick_array(q, node, depth + 1);
}

static bool quick_value(struct quick *q, const struct decode_node *node, uint32_t depth)
{
    union decode_value value;
    uint8_t kind;
    switch (quick_char(q)) {
    case '"':
        if (!quick_string(q, &value.text))
            return false;
        kind = value.text.len > 0 ? DECODE_TEXT : DECODE_ABSENT;
        break;
    case '{':
    case '[':
        return quick_nested(q, node, depth);
    case 't':
    case 'f':
    case 'n':
        if (!quick_word(quick_scalar(q), &kind, &value))
            return false;
        break;
    default:
        if (!quick_number(quick_scalar(q), &kind, &value))
            return false;
        break;
    }
    if (node && kind != DECODE_ABSENT)
        give(node, kind, value, q->values);
    return true;
}

static bool quick_parse(struct decoder *d, const uint8_t *text, size_t len, struct decode_values *values)
{
    auto &stage1 = d->parser.implementation;
    if (len == 0 || memchr(text, '\\', len) || stage1->stage1(text, len, simdjson::stage1_mode::regular))
        return false;
    const uint32_t *places = stage1->structural_indexes.get();
    struct quick q = {text, places, d->quick_depth, values};
    return quick_take(&q, '{') && quick_object(&q, &d->plan->root, 1) && q.at == places + stage1->n_structural_indexes;
}

/* ---- the walk over simdjson's tree ----------------------------------------------------------------------------- */

static void walk(const struct decode_node *node, const dom::element &from, struct decode_values *values);

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
    for (auto at = array.begin(), end = array.end(); at != end && index <= node->index_max; ++at, ++index) {
        const struct decode_node *child = node_of_index(node, index);
        if (child)
            walk(child, *at, values);
    }
}

static void walk(const struct decode_node *node, const dom::element &from, struct decode_values *values)
{
    union decode_value value = {};
    uint8_t kind = DECODE_NESTED;
    switch (from.type()) {
    case dom::element_type::STRING: {
        std::string_view text = from.get_string().value_unsafe();
        value.text = str{text.data(), uint32_t(text.size())};
        kind = text.empty() ? DECODE_ABSENT : DECODE_TEXT;
        break;
    }
    case dom::element_type::INT64:
        kind = DECODE_INT;
        value.integer = from.get_int64().value_unsafe();
        break;
    case dom::element_type::UINT64:
        kind = DECODE_UINT;
        value.natural = from.get_uint64().value_unsafe();
        break;
    case dom::element_type::DOUBLE:
        kind = DECODE_REAL;
        value.real = from.get_double().value_unsafe();
        break;
    case dom::element_type::BOOL:
        kind = DECODE_BOOL;
        value.truth = from.get_bool().value_unsafe();
        break;
    case dom::element_type::NULL_VALUE: kind = DECODE_ABSENT; break;
    case dom::element_type::OBJECT: walk_object(node, from.get_object().value_unsafe(), values); break;
    case dom::element_type::ARRAY: walk_array(node, from.get_array().value_unsafe(), values); break;
    }
    if (kind != DECODE_ABSENT)
        give(node, kind, value, values);
}

/* The tree's strings into the room, where the text is not needed any more. Unescaped they are no longer than it was. */
static void keep_texts(struct decode_values *values, char *room)
{
    const char *from[DECODE_FIELDS] = {};
    for (int i = 0; i < DECODE_FIELDS; i++) {
        if (values->kind[i] != DECODE_TEXT)
            continue;
        struct str *text = &values->at[i].text;
        from[i] = text->at;
        int same = 0;
        while (from[same] != from[i])
            same++;
        if (same < i) { /* one string for two fields */
            *text = values->at[same].text;
            continue;
        }
        memcpy(room, text->at, text->len);
        text->at = room;
        room += text->len;
    }
}

extern "C" {

struct decoder *decoder_create(const struct decode_plan *plan, size_t max_bytes, size_t max_depth, bool quick)
{
    struct decoder *d = new (std::nothrow) decoder();
    if (!d)
        return nullptr;
    /* Everything at its full size at once: the parser never grows, so max_depth stays as it is set here. */
    size_t capacity = max_bytes < dom::MINIMAL_DOCUMENT_CAPACITY ? dom::MINIMAL_DOCUMENT_CAPACITY : max_bytes;
    d->plan = plan;
    d->max_bytes = max_bytes;
    d->quick = quick;
    d->quick_depth = max_depth < QUICK_DEPTH ? uint32_t(max_depth) : QUICK_DEPTH;
    if (d->parser.allocate(capacity, max_depth) || d->parser.doc.allocate(capacity))
        decoder_destroy(&d);
    return d;
}

void decoder_destroy(struct decoder **decoder)
{
    if (!*decoder)
        return;
    delete *decoder;
    *decoder = nullptr;
}

enum event_verdict decoder_parse(struct decoder *d, struct str raw, char *room, struct decode_values *values,
                                 const char **detail)
{
    static_assert(DECODE_PADDING == simdjson::SIMDJSON_PADDING, "simdjson reads further than we promise");
    memset(values->kind, DECODE_ABSENT, sizeof values->kind);
    if (raw.len >= 3 && memcmp(raw.at, "\xEF\xBB\xBF", 3) == 0)
        raw = str{raw.at + 3, raw.len - 3};
    if (raw.len > d->max_bytes) {
        *detail = detail_of(simdjson::CAPACITY);
        return EVENT_TOO_LARGE;
    }
    memcpy(room, raw.at, raw.len);
    memset(room + raw.len, 0, DECODE_PADDING);
    const uint8_t *text = reinterpret_cast<const uint8_t *>(room);
    if (d->quick && quick_parse(d, text, raw.len, values))
        return EVENT_OK;
    memset(values->kind, DECODE_ABSENT, sizeof values->kind);
    dom::element root;
    simdjson::error_code error = d->parser.parse(text, raw.len, false).get(root);
    if (error) {
        *detail = detail_of(error);
        return verdict_of(error);
    }
    if (!root.is_object()) {
        *detail = "the JSON text is not an object";
        return EVENT_NOT_OBJECT;
    }
    walk_object(&d->plan->root, root.get_object().value_unsafe(), values);
    keep_texts(values, room);
    return EVENT_OK;
}

} // extern "C"
