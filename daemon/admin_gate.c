// SPDX-License-Identifier: Apache-2.0
// admin_gate.c - who may call: the rate of each address, pages of foreign sites, client certificates, the token.
//
// An address that sends wrong tokens is paused, twice as long each time up to ten seconds; while it is, even the right
// token gets 429, or the pause would tell which one is right. Nothing here waits: a pause is a refusal.
#include "admin_inside.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/un.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PAUSE_FIRST_MS = 100, PAUSE_MAX_MS = 10000, PAUSE_DOUBLINGS = 7, PROBED = 8 };

/* The time depends on what was given, not on how much of it is right. */
bool admin_token_equal(const char *token, const char *given)
{
    size_t n = strlen(token), m = strlen(given);
    volatile unsigned char difference = n != m;
    for (size_t i = 0; i < m; i++)
        difference |= (unsigned char)(given[i] ^ token[i % n]);
    return difference == 0;
}

/* Open addressing over a few places; the one that has been quiet longest gives way. */
struct admin_client *admin_client_find(struct admin *a, uint64_t address, uint64_t now_ms)
{
    struct admin_client *oldest = NULL;
    address += !address;
    for (size_t i = 0; i < PROBED; i++) {
        struct admin_client *client = &a->clients[(address + i) % ADMIN_CLIENTS];
        if (client->address == address)
            return client;
        if (!oldest || client->at_ms < oldest->at_ms)
            oldest = client;
    }
    *oldest = (struct admin_client){.address = address, .tokens = (double)a->conf->burst, .at_ms = now_ms};
    return oldest;
}

bool admin_client_spend(struct admin *a, struct admin_client *client, uint64_t now_ms)
{
    client->tokens += (double)(now_ms - client->at_ms) * 1e-3 * (double)a->conf->requests_per_s;
    client->at_ms = now_ms;
    if (client->tokens > (double)a->conf->burst)
        client->tokens = (double)a->conf->burst;
    if (client->tokens < 1)
        return false;
    client->tokens -= 1;
    return true;
}

uint64_t admin_client_wrong(struct admin_client *client, uint64_t now_ms)
{
    uint32_t doublings = client->wrong < PAUSE_DOUBLINGS ? client->wrong : PAUSE_DOUBLINGS;
    uint64_t pause = (uint64_t)PAUSE_FIRST_MS << doublings;
    client->wrong++;
    client->blocked_until_ms = now_ms + (pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS);
    return client->blocked_until_ms;
}

void admin_deny(struct admin *a, const char *reason)
{
    metric_add(metric_cell(a->engine->metrics, "gait_admin_denied_total", reason), 1);
}

/* ---- who it is ---------------------------------------------------------------------------------------------- */

/* Fills r->who and returns a hash of the address: of IPv6 the network, since one machine has very many of the rest. */
static uint64_t identify(struct admin_request *r)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *at = info ? info->client_addr : NULL;
    char host[INET6_ADDRSTRLEN] = "?";
    if (at && at->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)at;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(r->who, sizeof r->who, "%s:%u", host, ntohs(v4->sin_port));
        return XXH3_64bits_withSeed(&v4->sin_addr, sizeof v4->sin_addr, r->admin->seed);
    }
    if (at && at->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(r->who, sizeof r->who, "[%s]:%u", host, ntohs(v6->sin6_port));
        return XXH3_64bits_withSeed(&v6->sin6_addr, 8, r->admin->seed);
    }
    info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t len = sizeof peer;
    if (info)
        getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
    snprintf(r->who, sizeof r->who, "uid %u, process %d", (unsigned)peer.uid, (int)peer.pid);
    return XXH3_64bits_withSeed(&peer.uid, sizeof peer.uid, r->admin->seed);
}

/* MHD asks for the certificate but leaves judging it to us. */
static bool certificate_valid(struct admin_request *r)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(r->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    unsigned status, n = 0;
    if (!info || gnutls_certificate_verify_peers2(info->tls_session, &status) < 0 || status != 0)
        return false;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(info->tls_session, &n);
    gnutls_x509_crt_t certificate;
    if (!chain || n == 0 || gnutls_x509_crt_init(&certificate) < 0)
        return false;
    char name[ADMIN_WHO_MAX / 2];
    size_t len = sizeof name;
    bool ok = gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0;
    if (ok && gnutls_x509_crt_get_dn(certificate, name, &len) == 0) {
        size_t at = strlen(r->who);
        snprintf(r->who + at, sizeof r->who - at, " (%s)", name);
    }
    gnutls_x509_crt_deinit(certificate);
    return ok;
}

/* ---- pages of foreign sites --------------------------------------------------------------------------------- */

/* A name that is not ours may point at this machine because a foreign site's owner wants it to (DNS rebinding). An
 * address in numbers, or localhost, cannot. */
static bool host_is_local(const char *host)
{
    char name[64];
    struct in6_addr at;
    size_t n = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":");
    bool bracketed = host[0] == '[' && host[n] == ']';
    if (n - bracketed >= sizeof name)
        return false;
    snprintf(name, sizeof name, "%.*s", (int)(n - bracketed), host + bracketed);
    return strcasecmp(name, "localhost") == 0 || inet_pton(bracketed ? AF_INET6 : AF_INET, name, &at) == 1;
}

/* A browser says from which site's page a request comes. */
static bool from_foreign_page(struct admin_request *r, const char *host)
{
    const char *origin = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Origin");
    const char *site = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Sec-Fetch-Site");
    if (site && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0)
        return true;
    if (!origin)
        return false;
    const char *slashes = strstr(origin, "://");
    return !slashes || !host || strcasecmp(slashes + 3, host) != 0;
}

/* ---- the gate ----------------------------------------------------------------------------------------------- */

static bool refuse_slowly(struct admin_request *r, const char *reason, uint64_t wait_ms, enum MHD_Result *result)
{
    admin_deny(r->admin, reason);
    r->retry_after_s = (unsigned)((wait_ms + 999) / 1000);
    *result = admin_answer_error(r, MHD_HTTP_TOO_MANY_REQUESTS, "%s", strcmp(reason, "rate") == 0
                                 ? "too many requests from this address (admin.requests_per_s, admin.burst)"
                                 : "paused after wrong tokens from this address");
    return false;
}

static bool check_token(struct admin_request *r, struct admin_client *client, uint64_t now_ms, enum MHD_Result *result)
{
    const char *header = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Authorization");
    if (client->blocked_until_ms > now_ms)
        return refuse_slowly(r, "paused", client->blocked_until_ms - now_ms, result);
    if (header && strncasecmp(header, "Bearer ", 7) == 0 && admin_token_equal(r->admin->conf->token, header + 7)) {
        client->wrong = 0;
        return true;
    }
    admin_deny(r->admin, "token");
    if (header) {
        admin_client_wrong(client, now_ms);
        log_often(LOG_WARNING, "admin", "a wrong token from %s", r->who);
    }
    *result = admin_answer_error(r, MHD_HTTP_UNAUTHORIZED, header ? "the token is wrong"
                                 : "a token is needed: Authorization: Bearer TOKEN");
    return false;
}

bool admin_gate(struct admin_request *r, enum admin_access access, const char *method, enum MHD_Result *result)
{
    struct admin *a = r->admin;
    uint64_t now_ms = engine_mono_ms(a->engine), address = identify(r);
    if (access == ADMIN_PROBE)
        return true;
    struct admin_client *client = admin_client_find(a, address, now_ms);
    if (!admin_client_spend(a, client, now_ms))
        return refuse_slowly(r, "rate", 1000, result);
    if (a->tls_client_ca && !certificate_valid(r)) {
        admin_deny(a, "certificate");
        *result = admin_answer_error(r, MHD_HTTP_FORBIDDEN, "a client certificate of an allowed authority is needed");
        return false;
    }
    const char *host = MHD_lookup_connection_value(r->connection, MHD_HEADER_KIND, "Host");
    bool rebound = a->loopback && !a->unix_path && !a->conf->token && host && !host_is_local(host);
    bool changes = strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0;
    if (rebound || (changes && from_foreign_page(r, host))) {
        admin_deny(a, rebound ? "host" : "origin");
        *result = admin_answer_error(r, MHD_HTTP_FORBIDDEN, rebound
                                     ? "this host name is not the daemon's: use its address"
                                     : "changes are not taken from pages of other sites");
        return false;
    }
    return access == ADMIN_PAGE || !a->conf->token || check_token(r, client, now_ms, result);
}
