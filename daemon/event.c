// SPDX-License-Identifier: Apache-2.0
// event.c - the names of event types and verdicts.
#include "gait/event.h"

#include "gait/error.h"

#include <assert.h>
#include <string.h>

static const char *const builtin_types[EVENT_TYPES_BUILTIN] = {
    [EVENT_PAGE_VIEW] = "page_view",
    [EVENT_PRODUCT_VIEW] = "product_view",
    [EVENT_SEARCH] = "search",
    [EVENT_IMPRESSION] = "impression",
    [EVENT_CAMPAIGN_CLICK] = "campaign_click",
    [EVENT_ADD_TO_CART] = "add_to_cart",
    [EVENT_REMOVE_FROM_CART] = "remove_from_cart",
    [EVENT_CHECKOUT] = "checkout",
    [EVENT_PURCHASE] = "purchase",
    [EVENT_LOGIN] = "login",
    [EVENT_LOGIN_FAILED] = "login_failed",
    [EVENT_LOGOUT] = "logout",
    [EVENT_ERROR] = "error",
};

static const struct {
    const char *name;
    bool dead; /* goes to the dead-letter output */
} verdicts[EVENT_VERDICTS] = {
    [EVENT_OK] = {"ok", false},
    [EVENT_ALREADY_APPLIED] = {"already_applied", false},
    [EVENT_DUPLICATE] = {"duplicate", false},
    [EVENT_NO_CONSENT] = {"no_consent", false},
    [EVENT_GIVEN_UP] = {"given_up", false},
    [EVENT_ERASED] = {"erased", false},
    [EVENT_IGNORED] = {"ignored", false},
    [EVENT_BAD_JSON] = {"bad_json", true},
    [EVENT_BAD_UTF8] = {"bad_utf8", true},
    [EVENT_TOO_DEEP] = {"too_deep", true},
    [EVENT_TOO_LARGE] = {"too_large", true},
    [EVENT_NOT_OBJECT] = {"not_object", true},
    [EVENT_MISSING_FIELD] = {"missing_field", true},
    [EVENT_WRONG_TYPE] = {"wrong_type", true},
    [EVENT_BAD_NUMBER] = {"bad_number", true},
    [EVENT_BAD_TIME] = {"bad_time", true},
    [EVENT_BAD_USER] = {"bad_user", true},
    [EVENT_UNKNOWN_TYPE] = {"unknown_type", true},
    [EVENT_EMPTY] = {"empty", true},
    [EVENT_LATE] = {"late", true},
    [EVENT_TABLE_FULL] = {"table_full", true},
};

/* Names of types become parts of column names, of fields in Redis and of labels. "all" is the columns' own word. */
static int check_type_name(const char *name, struct error *err)
{
    if (name[0] == '\0')
        return error_set(err, "an event type has an empty name");
    if (strcmp(name, "all") == 0)
        return error_set(err, "event type 'all': the word stands for events of every type (count.all.5m)");
    for (const char *at = name; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f || strchr("\"'\\", *at))
            return error_set(err, "event type '%s': quotes, \\ and control characters cannot be in a name; "
                             "decode.json.types gives such a type another name", name);
    return 0;
}

int event_types_init(struct event_types *types, const char *const *more, size_t n_more, struct error *err)
{
    types->n = EVENT_TYPES_BUILTIN;
    for (uint32_t i = 0; i < EVENT_TYPES_BUILTIN; i++)
        types->name[i] = builtin_types[i];
    for (size_t i = 0; i < n_more; i++) {
        if (check_type_name(more[i], err) < 0)
            return -1;
        if (event_type_find(types, str_of(more[i])) >= 0)
            return error_set(err, "event type '%s' is there already", more[i]);
        if (types->n == EVENT_TYPES_MAX)
            return error_set(err, "%zu further event types; at most %d fit beside the %d built in", n_more,
                             EVENT_TYPES_MAX - EVENT_TYPES_BUILTIN, EVENT_TYPES_BUILTIN);
        types->name[types->n++] = more[i];
    }
    return 0;
}

int event_type_find(const struct event_types *types, struct str name)
{
    for (uint32_t i = 0; i < types->n; i++)
        if (str_is(name, types->name[i]))
            return (int)i;
    return -1;
}

const char *event_verdict_name(enum event_verdict verdict)
{
    assert(verdict < EVENT_VERDICTS);
    return verdicts[verdict].name;
}

bool event_verdict_is_dead(enum event_verdict verdict)
{
    assert(verdict < EVENT_VERDICTS);
    return verdicts[verdict].dead;
}
