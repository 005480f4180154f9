// SPDX-License-Identifier: Apache-2.0
// tail_line.c - a score or an alert as a line for people; the formats are gait-formats(7).
#include "tail_line.h"

#include "plain_text.h"

#include <jansson.h>
#include <string.h>
#include <time.h>

enum { USER_BYTES = 128, TEXT_BYTES = 200 };

static void put_time(FILE *out, json_int_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    char text[32] = "-";
    if (gmtime_r(&seconds, &tm))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    fprintf(out, "%s.%03d  ", text, (int)(ms % 1000));
}

static void put_score(FILE *out, const json_t *score)
{
    const json_t *intent = json_object_get(score, "intent"), *interests = json_object_get(score, "interests");
    if (json_is_number(intent))
        fprintf(out, "intent %.3f ", json_number_value(intent));
    for (size_t i = 0; i < json_array_size(interests); i++) {
        const json_t *one = json_array_get(interests, i);
        fputs(i ? ", " : " ", out);
        plain_text(out, json_string_value(json_object_get(one, "category")), TEXT_BYTES);
        fprintf(out, " %.3f", json_number_value(json_object_get(one, "score")));
    }
    if (json_is_true(json_object_get(score, "degraded")))
        fputs("  (degraded)", out);
}

static void put_alert(FILE *out, const json_t *alert, bool colours)
{
    const json_t *symbols = json_object_get(alert, "symbols");
    fputs(colours ? "\033[1;31m" : "", out);
    plain_text(out, json_string_value(json_object_get(alert, "action")), TEXT_BYTES);
    fprintf(out, " %.1f%s", json_number_value(json_object_get(alert, "score")), colours ? "\033[0m" : "");
    for (size_t i = 0; i < json_array_size(symbols); i++) {
        fputs(i ? "; " : "  ", out);
        plain_text(out, json_string_value(json_object_get(json_array_get(symbols, i), "text")), TEXT_BYTES);
    }
}

bool tail_line(FILE *out, const char *bytes, size_t n, const struct tail_form *form)
{
    json_error_t where;
    json_t *json = json_loadb(bytes, n, 0, &where);
    const char *user = json_string_value(json_object_get(json, "user"));
    bool wanted = user && (!form->user || strcmp(user, form->user) == 0);
    if (wanted && form->json) {
        fwrite(bytes, 1, n, out);
        fputc('\n', out);
    } else if (wanted) {
        put_time(out, json_integer_value(json_object_get(json, "ts")));
        fputs(form->colours ? "\033[1m" : "", out);
        plain_text(out, user, USER_BYTES);
        fputs(form->colours ? "\033[0m  " : "  ", out);
        if (json_object_get(json, "alert_id"))
            put_alert(out, json, form->colours);
        else
            put_score(out, json);
        fputc('\n', out);
    }
    json_decref(json);
    return wanted;
}
