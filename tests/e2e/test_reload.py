# SPDX-License-Identifier: Apache-2.0
"""test_reload.py - SIGHUP under traffic from a real broker: all or nothing, nothing lost, nothing twice; and what the
service manager hears of it."""
import json
import re
import signal
import socket

import servers
import shop


def reload(daemon, config, result):
    """Write the file, send SIGHUP, wait for the line that says what became of it."""
    line = re.compile(rf"reload of .*: {result}")
    before = len(line.findall(daemon.log_text()))
    daemon.config.write_text(json.dumps(config, indent=1))
    daemon.signal(signal.SIGHUP)
    servers.wait_until(lambda: len(line.findall(daemon.log_text())) > before, what=f"a reload: {result}", alive=daemon)


def test_reloads_under_traffic_lose_nothing(kafka, gaitd, model, name, tmp_path):
    kafka.create_topic(f"{name}.clicks")
    other = tmp_path / "other"
    other.mkdir()
    other_model = other / "model.safetensors"
    other_model.write_bytes(open(model, "rb").read())
    config = shop.config(kafka, name, model)
    daemon = gaitd(config).start()
    config = json.loads(daemon.config.read_text())
    events = shop.clicks(12000, 200)
    for i in range(6):
        kafka.produce(f"{name}.clicks", events[i * 2000:(i + 1) * 2000])
        config["score"]["interest"]["top"] = 3 if i % 2 == 0 else 5
        config["engine"]["save_ms"] = f"{300 + i}ms"
        config["model"]["lstm"]["path"] = str(other_model) if i % 2 == 0 else model
        reload(daemon, config, "ok")
        bad = json.loads(json.dumps(config))
        bad["score"]["interest"].update(top=4, publish="some")
        reload(daemon, bad, "refused")
        forbidden = json.loads(json.dumps(config))
        forbidden["score"]["interest"]["top"] = 4
        forbidden["sink"]["kafka"]["scores"] = f"{name}.elsewhere"
        reload(daemon, forbidden, "refused")
    daemon.wait_committed(kafka, f"{name}.group", f"{name}.clicks", 60)
    scores = kafka.read_json(f"{name}.scores")
    assert sorted((s["partition"], s["offset"]) for s in scores) == sorted(
        (p, o) for p, end in kafka.ends(f"{name}.clicks").items() for o in range(end))
    assert {len(s["interests"]) for s in scores} <= {3, 5}
    assert f"sink.kafka.scores needs a restart: '{name}.scores' → '{name}.elsewhere'" in daemon.log_text()
    servers.wait_until(lambda: daemon.metric("gait_config_reloads_total", result="refused") == 12, what="the counter")
    assert daemon.metric("gait_config_reloads_total", result="ok") == 6
    assert daemon.terminate(5) == 0


def test_a_reload_works_while_the_broker_is_away(own_kafka, gaitd, model, name):
    config = shop.config(own_kafka, name, model)
    daemon = gaitd(config).start(ready=False)
    servers.wait_until(lambda: "no broker of" in daemon.log_text(), what="a line about the broker", alive=daemon)
    config = json.loads(daemon.config.read_text())
    config["score"]["interest"]["top"] = 2
    reload(daemon, config, "ok, 1 changes")
    own_kafka.start()
    own_kafka.create_topic(f"{name}.clicks")
    own_kafka.produce(f"{name}.clicks", shop.clicks(100))
    daemon.wait_ready()
    daemon.wait_committed(own_kafka, f"{name}.group", f"{name}.clicks")
    assert {len(s["interests"]) for s in own_kafka.read_json(f"{name}.scores")} == {2}
    assert daemon.terminate(5) == 0


def test_the_service_manager_hears_of_it(gaitd, tmp_path, monkeypatch):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = tmp_path / "n"
    manager.bind(str(path))
    manager.settimeout(30)
    monkeypatch.setenv("NOTIFY_SOCKET", str(path))
    (tmp_path / "clicks.jsonl").write_bytes(b"")
    daemon = gaitd({"source": {"file": {"paths": str(tmp_path / "clicks.jsonl"), "follow": True}}, "store": {"memory": {}},
                    "admin": {"listen": "off"}})

    def next_with(*wanted):
        while True:
            lines = manager.recv(4096).decode().split("\n")
            if any(line.startswith(wanted) for line in lines):
                return lines

    daemon.start()
    next_with("READY=1")
    good = json.loads(daemon.config.read_text())
    for config, status in (({**good, "engine": {"save_ms": "9s"}}, "STATUS=Running"),
                           ({**good, "engine": {"save_ms": "9 parsecs"}}, "STATUS=Reload refused: ")):
        daemon.config.write_text(json.dumps(config))
        daemon.signal(signal.SIGHUP)
        begun = next_with("RELOADING=1")
        assert re.fullmatch(r"MONOTONIC_USEC=\d+", begun[1])
        ended = next_with("READY=1")
        assert any(line.startswith(status) for line in ended)
    assert daemon.terminate(5) == 0
    next_with("STOPPING=1")
