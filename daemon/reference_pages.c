// SPDX-License-Identifier: Apache-2.0
// reference_pages.c - the reference as the manual page gaitd.conf(5) and as the page of metrics.
#include "admin.h"
#include "engine.h"
#include "module.h"
#include "reference.h"

/* ---- gaitd.conf(5) ----------------------------------------------------------------------------------------------- */

/* roff takes a leading '.' or "'" for a request, a backslash for an escape, and '-' for a hyphen that cannot be copied
 * into a terminal. */
static void put_roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else if (*text == '"')
            fputs("\\(dq", out);
        else
            fputc(*text, out);
    }
}

static void put_man_section(FILE *out, const struct reference *ref)
{
    char name[64], facts[1024];
    reference_name(ref, name, sizeof name);
    fputs(".SS ", out);
    put_roff(out, name);
    fputc('\n', out);
    put_roff(out, ref->summary);
    fputs(ref->several ? "\nMay be a list of such settings.\n" : "\n", out);
    for (const struct option *o = ref->options; o && o->name; o++) {
        reference_facts(o, facts, sizeof facts);
        fputs(".TP\n.B ", out);
        put_roff(out, o->name);
        fputc('\n', out);
        put_roff(out, o->help);
        fputs("\n.br\n(", out);
        put_roff(out, facts);
        fputs(")\n", out);
    }
}

static const char man_head[] =
    ".SH NAME\n"
    "gaitd.conf \\- configuration of gaitd\n"
    ".SH SYNOPSIS\n"
    ".I /etc/gait/gaitd.yaml\n"
    ".SH DESCRIPTION\n"
    "The configuration is a YAML file, and since JSON is YAML, it may be JSON as well.\n"
    "It is a map of sections.\n"
    "A section that is named after a stage of the flow names the module that does the work there and holds its "
    "settings.\n"
    ".PP\n"
    ".nf\n"
    ".RS\n"
    "source:\n"
    "  kafka:\n"
    "    brokers: kafka1:9092, kafka2:9092\n"
    ".RE\n"
    ".fi\n"
    ".PP\n"
    "One source and one store are needed; of decode, window, model, score and rule there can be one each; of sinks, "
    "any number.\n"
    "When the file names no decode or window, decode.json and window.rolling are filled in; beside a model, "
    "score.interest.\n"
    "Modules work in the order of the flow, whatever the order of the file.\n"
    "A module without settings is written with nothing behind its colon.\n"
    "The other sections hold settings of the daemon itself.\n"
    ".PP\n"
    ".B gaitd check\n"
    "says everything that is wrong with a file, with line and column, before it is used.\n"
    ".SS Values\n"
    ".TP\n"
    ".B durations\n"
    "A number and ms, s, m, h, d or w: 250ms, 1.5h, 28d.\n"
    "Where the name of the setting ends in _ms a number without a unit counts milliseconds.\n"
    ".TP\n"
    ".B sizes\n"
    "A number and KB, MB, GB or TB (or KiB and so on), all of them powers of 1024. Without a unit: bytes.\n"
    ".TP\n"
    ".B lists\n"
    "A list of one may be written as the one.\n"
    ".TP\n"
    ".B paths\n"
    "A relative path is relative to the folder of the configuration file.\n"
    ".TP\n"
    ".B secrets\n"
    "Where it is said below, a value may be kept out of the file: {file: PATH} reads it from a file, less a newline at "
    "the end; {credential: NAME} reads what the service manager has put up by LoadCredential=.\n"
    ".PP\n"
    "Environment variables are not expanded: ${NAME} stands for itself.\n"
    "YAML's anchors, aliases, tags and further documents are refused.\n"
    "A file of more than 1 MB is refused.\n"
    ".SH SECTIONS\n";

static const char man_tail[] =
    ".SH RELOAD\n"
    "SIGHUP or the admin call /api/reload reads the configuration and the files it names again, all or nothing: any "
    "mistake, any change that needs a restart, or a file that a module cannot use, and everything stays as it was; the "
    "log and the answer say why.\n"
    "Otherwise all changes take place at once, between two batches.\n"
    "Modules are added and removed by a restart only.\n"
    ".B gaitd check --against\n"
    "says beforehand what a reload would change and what it would refuse.\n"
    ".SH TESTS\n"
    "The section tests is a list of tests that\n"
    ".B gaitd check --test\n"
    "runs through a real engine with the file's settings; source, store and sinks lie in memory.\n"
    "The daemon passes it over.\n"
    ".PP\n"
    ".nf\n"
    ".RS\n"
    "tests:\n"
    "  - name: two purchases are counted\n"
    "    events:\n"
    "      - {type: purchase, user_id: u1, ts: 1764000000000, price: 10}\n"
    "      - {type: purchase, user_id: u1, ts: 1764000060000, price: 15}\n"
    "    expect:\n"
    "      alerts: []\n"
    "      windows: {u1: {count.purchase.1h: 2}}\n"
    ".RE\n"
    ".fi\n"
    ".TP\n"
    ".B events\n"
    "Maps, as the topic would have them; the bytes of an event in quotes; or {file: PATH} with an event a line.\n"
    ".TP\n"
    ".B expect\n"
    "alerts and dead_letters: these, in this order, and no others. scores: these, in this order; others may lie "
    "between. windows: columns after the user's last event. Of each only the fields that are named have to be equal; a "
    "list in a field may hold more, but interests are compared from the first one on.\n"
    ".TP\n"
    ".B tolerance\n"
    "Of numbers, absolute; 0.001 when it is not given.\n"
    ".TP\n"
    ".B now\n"
    "What the clock says, in Unix milliseconds; the real time when it is not given.\n";

void reference_man(FILE *out)
{
    fputs(".\\\" SPDX-License-Identifier: Apache-2.0\n.\\\" Written by `gaitd options --man`; do not edit.\n", out);
    fputs(".TH GAITD.CONF 5 \"\" \"gait " GAIT_VERSION "\" \"File formats\"\n", out);
    fputs(man_head, out);
    struct reference ref;
    for (size_t i = 0; reference_at(i, &ref); i++)
        put_man_section(out, &ref);
    fputs(man_tail, out);
    fputs(".SH FILES\n.TP\n.I /etc/gait/gaitd.yaml\nThe configuration that the service unit uses.\n"
          ".SH SEE ALSO\n.BR gaitd (8)\n", out);
}

/* ---- metrics ----------------------------------------------------------------------------------------------------- */

static void put_metrics(FILE *out, const char *title, const struct metric *rows)
{
    static const char *const kinds[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram",
    };
    if (!rows || !rows->name)
        return;
    fprintf(out, "\n## %s\n\n| metric | kind | label | meaning |\n|---|---|---|---|\n", title);
    for (; rows->name; rows++) {
        fprintf(out, "| `%s` | %s | %s | ", rows->name, kinds[rows->kind], rows->label ? rows->label : "");
        for (const char *c = rows->help; *c; c++)
            fprintf(out, *c == '|' ? "\\|" : "%c", *c);
        fputs(" |\n", out);
    }
}

/* Once, under the names of all who share it. */
static void put_shared_metrics(FILE *out, size_t first)
{
    const struct metric *rows = modules[first]->shared_metrics;
    char title[256] = "Shared by";
    for (size_t i = 0; modules[i] && rows; i++) {
        size_t n = strlen(title);
        if (modules[i]->shared_metrics != rows)
            continue;
        if (i < first)
            return;
        snprintf(title + n, sizeof title - n, "%s %s.%s", i > first ? "," : "", stage_name(modules[i]->stage),
                 module_kind(modules[i]));
    }
    put_metrics(out, title, rows);
}

void reference_metrics(FILE *out)
{
    fputs("<!-- SPDX-License-Identifier: Apache-2.0 -->\n"
          "# Metrics\n\n"
          "Written by `gaitd options --metrics` from the rows in the sources. Units are base units: seconds, bytes.\n"
          "A module's metrics are there when the configuration names the module.\n", out);
    put_metrics(out, "Engine", engine_metrics);
    put_metrics(out, "Table of user records", users_metrics);
    put_metrics(out, "Admin server", admin_metrics);
    for (size_t i = 0; modules[i]; i++) {
        char title[64];
        snprintf(title, sizeof title, "%s.%s", stage_name(modules[i]->stage), module_kind(modules[i]));
        put_metrics(out, title, modules[i]->metrics);
        put_shared_metrics(out, i);
    }
}
