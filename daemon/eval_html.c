// SPDX-License-Identifier: Apache-2.0
// eval_html.c - the report: a few sections, each drawn if its figures are there.
#include "eval_html.h"

#include "eval.h"
#include "part_file.h"

#include <math.h>
#include <string.h>

/* The page may load and run nothing, whatever is in it; style alone is its own. */
static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>Evaluation of a model</title>\n"
    "<style>\n"
    ":root{--text:#1b1f24;--back:#fff;--line:#c9d1d9;--model:#0b5cad;--other:#8a4b00;--warn:#a40e26}\n"
    "@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--back:#0d1117;--line:#3d444d;--model:#6cb6ff;"
    "--other:#f0a35e;--warn:#ff7b72}}\n"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:60rem;margin:2rem auto;"
    "padding:0 1rem}\n"
    "table{border-collapse:collapse}td,th{border:1px solid var(--line);padding:.2rem .6rem;text-align:right}"
    "th:first-child,td:first-child{text-align:left}\n"
    "div.wide{overflow-x:auto}svg{width:100%;max-width:34rem;height:auto}svg text{fill:var(--text);font-size:11px}\n"
    ".axis{stroke:var(--line);fill:none}.model{stroke:var(--model);fill:none;stroke-width:2}"
    ".dot{fill:var(--model)}.other{stroke:var(--other);fill:none;stroke-width:2;stroke-dasharray:5 3}"
    ".warn{color:var(--warn)}.small{opacity:.7}\n"
    "</style>\n</head>\n<body>\n";

/* What may stand in a text or an attribute; control characters have no place in either. */
static void put_text(FILE *out, const char *text)
{
    for (const char *c = text ? text : ""; *c; c++)
        switch (*c) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        case '\'': fputs("&#39;", out); break;
        default: fputc((unsigned char)*c < 0x20 || *c == 0x7f ? ' ' : *c, out);
        }
}

static void put_cell(FILE *out, const json_t *value)
{
    fputs("<td>", out);
    if (json_is_integer(value))
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        fprintf(out, "%.4f", json_real_value(value));
    else if (json_is_string(value))
        put_text(out, json_string_value(value));
    fputs("</td>", out);
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */

static const char *const names[] = {"recall@1", "recall@5", "recall@10", "recall@20", "mrr@20", "ndcg@20", "roc_auc",
                                    "pr_auc", "log_loss", "brier", "accuracy", "precision", "recall", "f1", NULL};

static void put_figures(FILE *out, const json_t *figures)
{
    const json_t *baselines = json_object_get(figures, "baselines"), *ranges = json_object_get(figures, "interval");
    fputs("<h2>Figures</h2>\n<div class=\"wide\"><table>\n<tr><th>figure</th><th>model</th>"
          "<th>95 % interval</th>", out);
    for (int b = 0; b < EVAL_BASELINES; b++)
        fprintf(out, "<th>%s</th>", eval_baseline_name((enum eval_baseline)b));
    fputs("</tr>\n", out);
    for (int i = 0; names[i]; i++) {
        const json_t *range = json_object_get(ranges, names[i]);
        if (!json_is_number(json_object_get(figures, names[i])))
            continue;
        fprintf(out, "<tr><td>%s</td>", names[i]);
        put_cell(out, json_object_get(figures, names[i]));
        if (range)
            fprintf(out, "<td>%.4f to %.4f</td>", json_number_value(json_array_get(range, 0)),
                    json_number_value(json_array_get(range, 1)));
        else
            fputs("<td></td>", out);
        for (int b = 0; b < EVAL_BASELINES; b++)
            put_cell(out, json_object_get(json_object_get(baselines, eval_baseline_name((enum eval_baseline)b)),
                                          names[i]));
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n<p>Intervals resample whole sequences. Baselines counted ", out);
    put_text(out, json_string_value(json_object_get(figures, "baselines_count")));
    fputs(".</p>\n", out);
}

/* ---- plots ------------------------------------------------------------------------------------------------------ */

enum { WIDTH = 480, HEIGHT = 300, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 40 };

/* A drawing area: [x0, x1] × [y0, y1] of the figures. */
struct plot {
    FILE *out;
    double x0, x1, y0, y1;
};

static double at_x(const struct plot *p, double x)
{
    return LEFT + (x - p->x0) / (p->x1 - p->x0) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const struct plot *p, double y)
{
    return HEIGHT - BOTTOM - (y - p->y0) / (p->y1 - p->y0) * (HEIGHT - TOP - BOTTOM);
}

static void begin_plot(const struct plot *p, const char *title, const char *x, const char *y)
{
    fprintf(p->out, "<h2>%s</h2>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s: %s over %s\">\n", title,
            WIDTH, HEIGHT, title, y, x);
    for (int i = 0; i <= 4; i++) {
        double vx = p->x0 + (p->x1 - p->x0) * i / 4, vy = p->y0 + (p->y1 - p->y0) * i / 4;
        fprintf(p->out, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT,
                at_y(p, vy), at_y(p, vy));
        fprintf(p->out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>", LEFT - 6, at_y(p, vy) + 4, vy);
        fprintf(p->out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.3g</text>\n", at_x(p, vx),
                HEIGHT - BOTTOM + 16, vx);
    }
    fprintf(p->out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n"
            "<text x=\"12\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 12 %d)\">%s</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x, HEIGHT / 2, HEIGHT / 2, y);
}

static void put_point(const struct plot *p, double x, double y)
{
    if (isfinite(x) && isfinite(y))
        fprintf(p->out, "%.1f,%.1f ", at_x(p, x), at_y(p, y));
}

static void put_calibration(FILE *out, const json_t *groups)
{
    struct plot p = {out, 0, 1, 0, 1};
    size_t k;
    json_t *g;
    if (json_array_size(groups) == 0)
        return;
    begin_plot(&p, "Calibration", "predicted probability", "observed share");
    fprintf(out, "<line class=\"other\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", at_x(&p, 0), at_y(&p, 0),
            at_x(&p, 1), at_y(&p, 1));
    fputs("<polyline class=\"model\" points=\"", out);
    json_array_foreach(groups, k, g)
        put_point(&p, json_number_value(json_object_get(g, "predicted")),
                  json_number_value(json_object_get(g, "observed")));
    fputs("\"/>\n", out);
    json_array_foreach(groups, k, g)
        fprintf(out, "<circle class=\"dot\" r=\"4\" cx=\"%.1f\" cy=\"%.1f\"/>",
                at_x(&p, json_number_value(json_object_get(g, "predicted"))),
                at_y(&p, json_number_value(json_object_get(g, "observed"))));
    fputs("\n</svg>\n<p>Each dot is a tenth of the predictions; on the dashed line they come true as often as they "
          "say.</p>\n", out);
}

static void put_pr_curve(FILE *out, const json_t *points, double positives)
{
    struct plot p = {out, 0, 1, 0, 1};
    size_t k;
    json_t *point;
    if (json_array_size(points) == 0)
        return;
    begin_plot(&p, "Precision and recall", "recall", "precision");
    fprintf(out, "<line class=\"other\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", at_x(&p, 0),
            at_y(&p, positives), at_x(&p, 1), at_y(&p, positives));
    fputs("<polyline class=\"model\" points=\"", out);
    json_array_foreach(points, k, point)
        put_point(&p, json_number_value(json_array_get(point, 0)), json_number_value(json_array_get(point, 1)));
    fputs("\"/>\n</svg>\n<p>Dashed: what guessing gives, the share of positives.</p>\n", out);
}

static void put_loss(const struct plot *p, const json_t *history, const char *class, const char *name)
{
    size_t k;
    json_t *epoch;
    fprintf(p->out, "<polyline class=\"%s\" points=\"", class);
    json_array_foreach((json_t *)history, k, epoch)
        if (json_is_number(json_object_get(epoch, name)))
            put_point(p, (double)(k + 1), json_number_value(json_object_get(epoch, name)));
    fputs("\"/>\n", p->out);
}

static void put_learning(FILE *out, const json_t *history)
{
    struct plot p = {out, 1, 2, INFINITY, -INFINITY};
    size_t k, i;
    json_t *network, *epoch;
    json_array_foreach((json_t *)history, k, network)
        json_array_foreach(network, i, epoch)
            for (int both = 0; both < 2; both++) {
                const json_t *x = json_object_get(epoch, both ? "valid_loss" : "loss");
                if (!json_is_number(x))
                    continue;
                p.x1 = fmax(p.x1, (double)i + 1);
                p.y0 = fmin(p.y0, json_number_value(x));
                p.y1 = fmax(p.y1, json_number_value(x));
            }
    if (!isfinite(p.y0))
        return;
    p.y1 = p.y1 > p.y0 ? p.y1 : p.y0 + 1;
    begin_plot(&p, "Learning", "epoch", "loss");
    json_array_foreach((json_t *)history, k, network) {
        put_loss(&p, network, "model", "loss");
        put_loss(&p, network, "other", "valid_loss");
    }
    fputs("</svg>\n<p>Solid: what was learned from. Dashed: the validation part, which was not.</p>\n", out);
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

static void put_slices(FILE *out, const json_t *slices)
{
    static const char *const columns[] = {"n", "positives", "selection_rate", "recall", "false_positive_rate",
                                          "predicted", "observed", "recall@20", "mrr@20", NULL};
    json_t *groups = json_object_get(slices, "groups"), *first = json_array_get(groups, 0), *group, *warning;
    size_t k;
    if (!first)
        return;
    fputs("<h2>By ", out);
    put_text(out, json_string_value(json_object_get(slices, "by")));
    fputs("</h2>\n", out);
    json_array_foreach(json_object_get(slices, "warnings"), k, warning) {
        fputs("<p class=\"warn\">Warning: ", out);
        put_text(out, json_string_value(warning));
        fputs(".</p>\n", out);
    }
    fputs("<div class=\"wide\"><table>\n<tr><th>group</th>", out);
    for (int i = 0; columns[i]; i++)
        if (json_object_get(first, columns[i]))
            fprintf(out, "<th>%s</th>", columns[i]);
    fputs("</tr>\n", out);
    json_array_foreach(groups, k, group) {
        bool small = json_is_true(json_object_get(group, "small"));
        fputs(small ? "<tr class=\"small\">" : "<tr>", out);
        put_cell(out, json_object_get(group, "name"));
        for (int i = 0; columns[i]; i++)
            if (json_object_get(first, columns[i]))
                put_cell(out, json_object_get(group, columns[i]));
        fputs(small ? "<td>small: not compared</td></tr>\n" : "</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

void eval_html_write(FILE *out, const json_t *figures, const json_t *training, const char *model_id)
{
    fputs(head, out);
    fputs("<h1>How well model ", out);
    put_text(out, model_id);
    fputs(" tells ", out);
    put_text(out, json_string_value(json_object_get(figures, "target")));
    fprintf(out, "</h1>\n<p>%" JSON_INTEGER_FORMAT " predictions on events that are given with the command. ",
            json_integer_value(json_object_get(figures, "predictions")));
    const char *command = json_string_value(json_object_get(training, "command"));
    if (command) {
        fputs("The model was made by <code>", out);
        put_text(out, command);
        fputs("</code>.", out);
    }
    fputs("</p>\n", out);
    put_figures(out, figures);
    put_calibration(out, json_object_get(figures, "calibration"));
    put_pr_curve(out, json_object_get(figures, "pr_curve"), json_number_value(json_object_get(figures, "positives")));
    put_learning(out, json_object_get(training, "history"));
    put_slices(out, json_object_get(figures, "slices"));
    fputs("</body>\n</html>\n", out);
}

int eval_html_save(const char *path, const json_t *figures, const json_t *training, const char *model_id,
                   struct error *err)
{
    struct part_file file;
    if (!part_file_open(&file, path, err))
        return error_prefix(err, "--html");
    eval_html_write(file.out, figures, training, model_id);
    return part_file_close(&file, err) < 0 ? error_prefix(err, "--html") : 0;
}
