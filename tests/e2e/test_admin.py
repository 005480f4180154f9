# SPDX-License-Identifier: Apache-2.0
"""test_admin.py - the admin server against callers that mean well and callers that do not."""
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest
import servers
from admin import Admin, flood

TOKEN = "correct-horse-battery-staple"


@pytest.fixture
def admin(gaitd, tmp_path):
    made = Admin(gaitd, tmp_path / "admin")
    made.generate()
    return made.start()


def test_health_status_and_figures_agree(admin):
    admin.daemon.wait_events(20000)
    assert admin.get("/readyz")[0] == 200
    servers.wait_until(lambda: admin.json("/api/status")["events"] == 20000, 10, "status follows")
    status = admin.json("/api/status")
    assert status["ready"] and status["why"] is None and status["phase"] == "running"
    assert status["table"]["users"] == admin.metric("gait_table_users")
    assert sum(status["events_by_result"].values()) == 20000
    assert status["partitions"][0]["state"] == "open" and len(status["config"]["hash"]) == 16
    shop = admin.json("/api/shop")
    assert sum(f["count"] for f in shop["funnel"]) == status["events_by_result"]["ok"]
    assert abs(sum(i["share"] for i in shop["interests"]) - 1) < 0.05 or not status["model"]
    assert admin.metric("gait_build_info") == 1


def test_a_user_is_what_was_sent(admin):
    admin.add(flood("ann", 12))
    servers.wait_until(lambda: admin.get("/api/users/ann")[0] == 200, 20, "ann is known")
    servers.wait_until(lambda: admin.json("/api/users/ann")["windows"]["count.purchase.5m"] == 12, 20, "all of hers")
    ann = admin.json("/api/users/ann")
    assert ann["windows"]["sum.purchase.1h"] == 60 and ann["from"] == "table"
    assert [e["type"] for e in ann["events"]] == ["purchase"] * 12
    assert ann["events"][0]["ts"] > ann["events"][-1]["ts"]
    assert ann["alerts"] and ann["alerts"][0]["symbols"][0]["text"] and ann["risk"] == ann["alerts"][0]["score"]
    alerts = admin.json("/api/alerts?user=ann&limit=1000")["alerts"]
    assert alerts and {a["user"] for a in alerts} == {"ann"}
    rule = alerts[0]["symbols"][0]["name"]
    assert all(rule in [s["name"] for s in a["symbols"]] for a in admin.json(f"/api/alerts?rule={rule}")["alerts"])
    assert len(admin.json("/api/alerts?limit=1")["alerts"]) == 1


def test_erasing_leaves_nothing_to_look_at(admin, tmp_path):
    admin.add(flood("bob", 12))
    servers.wait_until(lambda: admin.json("/api/alerts?user=bob")["alerts"], 20, "alerts about bob")
    status, body, _ = admin.request("POST", "/api/users/bob/erase")
    assert status == 202 and json.loads(body)["user"] == "bob"
    servers.wait_until(lambda: admin.json("/api/users/bob")["events"] == [], 20, "bob is empty")
    assert admin.json("/api/users/bob")["erased_ms"] and not admin.json("/api/alerts?user=bob")["alerts"]
    assert "audit: 127.0.0.1:" in admin.daemon.log_tail() and "erase bob: ok" in admin.daemon.log_tail()
    assert admin.request("POST", "/api/users/nobody/erase")[0] == 404


def test_unknown_paths_wrong_methods_and_head(admin):
    for path in ("/nope", "/api", "/api/", "/api/users/", "/api/users/a/b", "/api/status/", "//", "/..", "/api/../livez"):
        assert admin.get(path)[0] == 404, path
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "POST"):
        status, body, headers = admin.request(method, "/api/status")
        assert status == 405 and headers["Allow"] == "GET, HEAD" and json.loads(body)["error"]
    for path in ("/livez", "/api/status", "/metrics", "/", "/api/stream"):
        status, body, headers = admin.request("HEAD", path)
        assert status == 200 and body == b"" and headers["Content-Type"]
    assert "unsafe" not in admin.get("/")[2]["Content-Security-Policy"]


HOSTILE = ["<script>alert(1)</script>", "' OR 1=1 --", "../../../etc/passwd", "%", "%%", "%zz", "%c3%28", "\u0000".encode().hex(),
           "a" * 5000, "%00", "%0d%0aSet-Cookie:x", "{{7*7}}", "${jndi:ldap://x}", "\u202e\u0633\ufffd", "-1", "1e400", "null"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_in_every_place(admin, text):
    for escaped in (urllib.parse.quote(text, safe=""), text if text.isascii() and " " not in text else "x"):
        for path in (f"/{escaped}", f"/api/users/{escaped}", f"/api/alerts?user={escaped}", f"/api/alerts?rule={escaped}",
                     f"/api/alerts?limit={escaped}", f"/api/status?{escaped}={escaped}", f"/api/alerts?limit=5&limit={escaped}"):
            status, body, headers = admin.get(path)
            assert status in (200, 400, 404), (path, status)
            json.loads(body)
            assert "Set-Cookie" not in headers
    assert admin.get("/livez")[0] == 200


def test_requests_that_are_no_http(admin):
    for data in (b"\x00" * 100, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\xff\xfe" * 500 + b"\r\n\r\n",
                 b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
                 b"POST /api/reload HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"):
        admin.raw(data, 3)
        assert admin.get("/livez")[0] == 200


def test_a_huge_body_is_refused_before_it_is_read(admin):
    began = time.monotonic()
    answer = admin.raw(b"POST /api/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1073741824\r\n\r\n" + b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 413") and time.monotonic() - began < 5
    answer = admin.raw(b"POST /api/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert answer.startswith(b"HTTP/1.1 411")
    assert admin.request("POST", "/api/reload", body=b"x" * 1000)[0] == 200


def test_pages_of_other_sites_change_nothing(admin):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert admin.request("POST", "/api/reload", headers=headers)[0] == 403
    assert admin.raw(b"GET /api/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 403")
    assert admin.request("POST", "/api/reload", headers={"Origin": f"http://127.0.0.1:{admin.port}"})[0] == 200


def test_token(gaitd, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    admin = Admin(gaitd, tmp_path / "admin", token={"file": str(tmp_path / "token")}).start()
    assert admin.get("/livez")[0] == admin.get("/readyz")[0] == admin.get("/")[0] == 200
    for path in ("/metrics", "/api/status", "/api/stream", "/nope", "/api/users/x"):
        status, body, headers = admin.get(path)
        assert status == 401 and headers["WWW-Authenticate"].startswith("Bearer"), path
    assert admin.json("/api/status", token=TOKEN)["ready"]
    codes = [admin.get("/api/status", token=f"wrong-{i}")[0] for i in range(1000)]
    assert set(codes) == {401, 429} and codes.count(401) < 50
    status, _, headers = admin.get("/api/status", token=TOKEN)
    assert status == 429 and 1 <= int(headers["Retry-After"]) <= 10
    servers.wait_until(lambda: admin.get("/api/status", token=TOKEN)[0] == 200, 15, "the pause ends")
    assert TOKEN not in admin.get("/api/status", token=TOKEN)[1].decode() + admin.daemon.log_tail()


def test_rate(gaitd, tmp_path):
    admin = Admin(gaitd, tmp_path / "admin", requests_per_s=5, burst=20).start()
    codes = [admin.get("/api/alerts?limit=1")[0] for _ in range(60)]
    assert codes.count(200) in range(15, 30) and codes.count(429) == 60 - codes.count(200)
    assert {admin.get("/livez")[0] for _ in range(60)} == {200}


def test_slow_connections_are_refused_at_the_limit(gaitd, tmp_path):
    """10,000 connections that send half a request: those above the limit are turned away at once, the others in time."""
    admin = Admin(gaitd, tmp_path / "admin", connections=64, timeout_ms="2s").start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began, held = time.monotonic(), []
    for _ in range(min(10000, hard - 200)):
        held.append(socket.create_connection(("127.0.0.1", admin.port), 10))
        held[-1].sendall(b"GET /api/status HTTP/1.1\r\nHo")
    assert time.monotonic() - began < 60
    servers.wait_until(lambda: admin.get("/livez")[0] == 200, 10, "places come back")
    assert admin.metric("gait_admin_denied_total") > 1000 and admin.metric("gait_admin_connections") <= 64
    told = 0
    for s in held:
        s.setblocking(False)
        try:
            told += s.recv(100).startswith(b"HTTP/1.1 503")
        except OSError:
            pass
        s.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert told > 1000
    # a byte now and then does not stretch the time
    with socket.create_connection(("127.0.0.1", admin.port), 10) as s:
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - began < 20:
                s.sendall(b"G")
                time.sleep(0.2)
        assert time.monotonic() - began < 10


def test_listeners_are_bounded(gaitd, tmp_path):
    admin = Admin(gaitd, tmp_path / "admin", streams=2).start()
    request = b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    streams = [socket.create_connection(("127.0.0.1", admin.port), 10) for _ in range(2)]
    for s in streams:
        s.sendall(request)
        assert b"event: status" in s.recv(65536) + s.recv(65536)
    assert admin.get("/api/stream")[0] == 503
    for s in streams:
        s.close()
    servers.wait_until(lambda: admin.metric("gait_admin_streams") == 0, 10, "they are gone")


def test_stream_tells_alerts_as_they_come(admin):
    got, done = [], threading.Event()

    def listen():
        with socket.create_connection(("127.0.0.1", admin.port), 20) as s:
            s.sendall(b"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            text = b""
            while b'"user":"eve"' not in text:
                text += s.recv(65536)
            got.append(text)
            done.set()

    thread = threading.Thread(target=listen)
    thread.start()
    servers.wait_until(lambda: admin.metric("gait_admin_streams") == 1, 10, "the listener is there")
    admin.add(flood("eve", 12))
    assert done.wait(20)
    thread.join()
    assert got[0].count(b"event: shop") >= 1 and got[0].count(b"event: alert") >= 1


def test_the_configurations_hash_follows_a_reload(gaitd, tmp_path):
    admin = Admin(gaitd, tmp_path / "admin").start()
    before = admin.json("/api/status")["config"]["hash"]
    config = json.loads(admin.daemon.config.read_text())
    admin.daemon.config.write_text(json.dumps(config, indent=7))  # other bytes, the same settings
    assert admin.request("POST", "/api/reload")[0] == 200
    assert admin.json("/api/status")["config"]["hash"] == before
    admin.daemon.config.write_text(json.dumps(config | {"engine": {"save_ms": "9s"}}))
    assert admin.request("POST", "/api/reload")[0] == 200
    after = admin.json("/api/status")["config"]["hash"]
    assert after != before and f"configuration {after}" in admin.daemon.log_text()


def test_a_full_disk_under_the_audit_file(gaitd, tmp_path):
    admin = Admin(gaitd, tmp_path / "admin", audit_file="/dev/full").start()
    assert admin.request("POST", "/api/reload")[0] == 200
    assert admin.metric("gait_admin_audit_failed_total") == 1 and "audit: 127.0.0.1" in admin.daemon.log_tail()


def test_unix_socket(gaitd, tmp_path):
    path = tmp_path / "admin.sock"
    admin = Admin(gaitd, tmp_path / "admin", listen=f"unix:{path}")
    admin.daemon.start()
    assert oct(path.stat().st_mode & 0o777) == "0o660"

    def ask(request):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path))
            s.sendall(request + b" HTTP/1.1\r\nHost: gait\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: s.recv(65536), b""))

    assert b'"ready":true' in ask(b"GET /api/status")
    assert ask(b"POST /api/reload").startswith(b"HTTP/1.1 200")
    assert f"audit: uid {os.getuid()}, process {os.getpid()}" in admin.daemon.log_tail()


def certificate(folder, name, issuer=None):
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout",
               f"{folder}/{name}.key", "-out", f"{folder}/{name}.pem", "-addext", "subjectAltName=IP:127.0.0.1"]
    if issuer:
        command += ["-CA", f"{folder}/{issuer}.pem", "-CAkey", f"{folder}/{issuer}.key", "-addext", "basicConstraints=CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)


def test_mutual_tls(gaitd, tmp_path):
    for name, issuer in (("ca", None), ("server", "ca"), ("operator", "ca"), ("stranger", None)):
        certificate(tmp_path, name, issuer)
    admin = Admin(gaitd, tmp_path / "admin", tls_certificate=str(tmp_path / "server.pem"), tls_key=str(tmp_path / "server.key"),
                  tls_client_ca=str(tmp_path / "ca.pem"))
    admin.settings["listen"] = f"0.0.0.0:{admin.port}"
    admin.daemon.config.write_text(json.dumps({**json.loads(admin.daemon.config.read_text()), "admin": admin.settings}))
    admin.daemon.start()

    def status(path, who=None, method="GET"):
        command = ["curl", "-s", "-m", "10", "-X", method, "--cacert", str(tmp_path / "ca.pem"), "-o", "/dev/null", "-w", "%{http_code}",
                   f"https://127.0.0.1:{admin.port}{path}"]
        command += ["--cert", str(tmp_path / f"{who}.pem"), "--key", str(tmp_path / f"{who}.key")] if who else []
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert status("/api/status", "operator") == "200"
    assert status("/api/status") in ("403", "000") and status("/api/status", "stranger") in ("403", "000")
    assert status("/api/reload", "operator", "POST") == "200" and "(CN=operator)" in admin.daemon.log_tail()


@pytest.mark.parametrize("settings, text", [
    ({"listen": "0.0.0.0:8466"}, "can be reached from other machines"),
    ({"listen": "[::]:8466"}, "can be reached from other machines"),
    ({"listen": "somewhere"}, "is no address"), ({"listen": "127.0.0.1:99999"}, "is no address"),
    ({"token": "short"}, "too few to be safe"), ({"tls_key": "/dev/null"}, "without"),
    ({"tls_client_ca": "/dev/null"}, "needs admin.tls_certificate"),
    ({"tls_certificate": "/nowhere.pem", "tls_key": "/nowhere.key"}, "cannot read /nowhere.pem"),
])
def test_settings_that_are_refused(gaitd, tmp_path, settings, text):
    admin = Admin(gaitd, tmp_path / "admin", **settings)
    for call in ("check", "run"):
        done = subprocess.run([str(servers.BUILD / "gaitd"), call, "-c", str(admin.daemon.config)], capture_output=True, text=True,
                              timeout=30, check=False)
        assert done.returncode == 1 and text in done.stderr and "admin." in done.stderr, (call, done.stderr)


def test_a_taken_address_is_taken_over_when_it_is_free(gaitd, tmp_path):
    admin = Admin(gaitd, tmp_path / "admin")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", admin.port))
        other.listen()
        admin.daemon.start()
        assert "is taken by another process" in admin.daemon.log_tail()
    servers.wait_until(lambda: admin.get("/livez")[0] == 200, 20, "it listens", admin.daemon)


def test_the_description_holds(admin):
    """schemathesis: what the OpenAPI description promises, for inputs that it makes up."""
    done = subprocess.run([sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{admin.port}/api/openapi.json", "--url",
                           f"http://127.0.0.1:{admin.port}", "--exclude-path", "/api/stream", "--max-examples", "20", "--seed",
                           "1", "--no-color"], capture_output=True, text=True, timeout=300, check=False, cwd=admin.folder)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
