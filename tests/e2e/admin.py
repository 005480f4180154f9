# SPDX-License-Identifier: Apache-2.0
"""admin.py - a daemon with an admin server and clicks from a file, for the tests that talk to it."""
import http.client
import json
import pathlib
import socket
import subprocess
import time

import servers

ROOT = servers.ROOT


class Admin:
    """gaitd with a file as source that stays open, so that tests can add events."""

    def __init__(self, gaitd, folder, **settings):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.port = servers.free_port()
        self.events = self.folder / "clicks.jsonl"
        self.events.touch()
        self.settings = {"listen": f"127.0.0.1:{self.port}", "requests_per_s": 100000, "burst": 100000, **settings}
        config = {
            "source": {"file": {"paths": [str(self.events)], "follow": True}}, "store": {"memory": {}},
            "rule": {"fraud": {"rules": str(ROOT / "conf" / "rules.yaml")}},
            "sink": {"file": {"alerts": str(self.folder / "alerts.jsonl")}}, "admin": self.settings,
        }
        model = ROOT / "conf" / "demo.safetensors"
        if model.exists():
            config |= {"model": {"lstm": {"path": str(model)}}, "score": {"interest": {}}}
        self.daemon = gaitd(config)

    def start(self):
        self.daemon.start()
        servers.wait_until(lambda: self.get("/livez")[0] == 200, 10, "the admin server answers", self.daemon)
        return self

    def add(self, events):
        with self.events.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(event) + "\n" for event in events)

    def generate(self, users=300, events=20000, seed=5):
        self.events.write_bytes(subprocess.run([str(servers.BUILD / "gaitd"), "gen", "--users", str(users), "--events",
                                                str(events), "--seed", str(seed)], check=True, capture_output=True).stdout)

    def request(self, method, path, body=None, token=None, headers=None, timeout=20):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def get(self, path, **more):
        try:
            return self.request("GET", path, **more)
        except ConnectionError:
            return 0, b"", {}

    def json(self, path, **more):
        status, body, _ = self.get(path, **more)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def metric(self, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics")[1].decode().splitlines()
                   if line.split("{")[0].split(" ")[0] == name)

    def raw(self, data, timeout=10):
        """What the server says to bytes that no client library would send."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as s:
            s.sendall(data)
            answer = b""
            try:
                while chunk := s.recv(65536):
                    answer += chunk
            except (TimeoutError, ConnectionError):
                pass
            return answer


def flood(user, n, **more):
    """Events of one user that make alerts: purchases second by second."""
    now = int(time.time() * 1000)
    return [{"event_id": f"{user}-{i}", "type": "purchase", "user_id": user, "ts": now - 1000 * (n - i), "price": 5.0, "quantity": 1,
             "category": "shoes.running", **more} for i in range(n)]
