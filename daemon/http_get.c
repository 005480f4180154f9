// SPDX-License-Identifier: Apache-2.0
// http_get.c - one call to a daemon's admin server.
#include "http_get.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 3000, BODY_MAX = 16 << 20 };

struct body {
    char *at;
    size_t n;
};

static size_t take(char *bytes, size_t one, size_t n, void *self)
{
    struct body *body = self;
    if (body->n + n > BODY_MAX)
        return 0; /* curl ends the transfer */
    body->at = realloc(body->at, body->n + n + 1);
    assert(body->at);
    memcpy(body->at + body->n, bytes, n * one);
    body->n += n;
    body->at[body->n] = '\0';
    return n;
}

static json_t *read_answer(const struct http_from *from, const char *path, long status, const struct body *body,
                           struct error *err)
{
    json_error_t where;
    json_t *json = body->at ? json_loads(body->at, 0, &where) : NULL;
    if (status == 200 && json)
        return json;
    const char *said = json_string_value(json_object_get(json, "error"));
    error_set(err, "%s answers %s with status %ld%s%.200s", from->listen, path, status, said ? ": " : "",
              said ? said : "");
    json_decref(json);
    return NULL;
}

json_t *http_get_json(const struct http_from *from, const char *path, struct error *err)
{
    bool by_socket = strncmp(from->listen, "unix:", 5) == 0;
    char url[512], bearer[1024], text[CURL_ERROR_SIZE] = "";
    struct body body = {0};
    json_t *json = NULL;
    long status = 0;
    CURL *curl = curl_easy_init();
    assert(curl);
    snprintf(url, sizeof url, "%s://%s%s", from->certificate ? "https" : "http", by_socket ? "localhost" : from->listen,
             path);
    snprintf(bearer, sizeof bearer, "Authorization: Bearer %s", from->token ? from->token : "");
    struct curl_slist *headers = from->token ? curl_slist_append(NULL, bearer) : NULL;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*"); /* the daemon is here, not behind a proxy */
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)WAIT_MS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, text);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (by_socket)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, from->listen + 5);
    if (from->certificate)
        curl_easy_setopt(curl, CURLOPT_CAINFO, from->certificate);
    CURLcode rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (rc != CURLE_OK)
        error_set(err, "no answer from %s: %s", from->listen, text[0] ? text : curl_easy_strerror(rc));
    else
        json = read_answer(from, path, status, &body, err);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    free(body.at);
    return json;
}
