// SPDX-License-Identifier: Apache-2.0
// admin_assets.c - the dashboard's files and the API's description, put into the binary as they are (the Makefile makes
// this object anew when one of them changes).
#include "admin_inside.h"

#define ASSET(name, file)                                                                                   \
    __asm__(".pushsection .rodata\n.global asset_" #name "\nasset_" #name ":\n.incbin \"" file "\"\n"       \
            ".global asset_" #name "_end\nasset_" #name "_end:\n.byte 0\n.popsection\n");                   \
    extern const char asset_##name[], asset_##name##_end[]

ASSET(page, "daemon/dashboard/index.html");
ASSET(script, "daemon/dashboard/dashboard.js");
ASSET(style, "daemon/dashboard/dashboard.css");
ASSET(openapi, "conf/openapi.json");

static const struct asset {
    const char *path, *type, *text, *end;
} assets[] = {
    {"/", "text/html; charset=utf-8", asset_page, asset_page_end},
    {"/dashboard.js", "text/javascript; charset=utf-8", asset_script, asset_script_end},
    {"/dashboard.css", "text/css; charset=utf-8", asset_style, asset_style_end},
    {"/api/openapi.json", "application/json", asset_openapi, asset_openapi_end},
};

enum MHD_Result admin_get_page(struct admin_request *r)
{
    size_t i = 0;
    while (strcmp(assets[i].path, r->route->before) != 0)
        i++;
    metric_add(metric_cell(r->admin->engine->metrics, "gait_admin_requests_total", assets[i].path), 1);
    return admin_answer_static(r, assets[i].type, assets[i].text, (size_t)(assets[i].end - assets[i].text));
}
