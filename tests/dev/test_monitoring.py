"""examples/prometheus: the alert rules and the dashboard ask for metrics that there are, and a real
Prometheus fills every panel."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_pair import LONG, settled, start

from dev.lab.network import Lab
from dev.lab.spaces import ROOT
from failoverd.tools.prometheus import METRICS

EXAMPLES = ROOT / "examples" / "prometheus"
RULES, TESTS = EXAMPLES / "failoverd.rules.yml", EXAMPLES / "failoverd.test.yml"
DASHBOARD = json.loads((EXAMPLES / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
ALERTS = re.findall(r"(?m)^ +- alert: (\w+)$", RULES.read_text())


@pytest.mark.parametrize("text", [RULES.read_text(), TESTS.read_text(), *QUERIES])
def test_every_metric_that_is_asked_for_exists(text: str) -> None:
    named = set(re.findall(r"\bfailoverd_(\w+)", text))
    assert named and named <= METRICS.keys()


def test_every_alert_is_a_page_or_a_ticket_and_is_tried() -> None:
    severities = re.findall(r"severity: (\w+)", RULES.read_text())
    assert len(ALERTS) == len(severities) == len(set(ALERTS))
    assert set(severities) == {"page", "ticket"}
    assert set(ALERTS) <= set(re.findall(r"(?m)^ +- alertname: (\w+)$", TESTS.read_text()))


def test_the_rules_by_promtool() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool: install prometheus")
    for what in (["check", RULES.name], ["test", TESTS.name]):
        words = ["promtool", what[0], "rules", what[1]]
        done = subprocess.run(
            words, cwd=EXAMPLES, capture_output=True, text=True, timeout=LONG, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------ a real Prometheus

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ['{rules}']
scrape_configs:
- job_name: a
  metrics_path: /a.txt
  static_configs: [{{targets: ['127.0.0.1:{port}']}}]
- job_name: b
  metrics_path: /b.txt
  static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(*argv: str, folder: Path) -> Iterator[None]:
    process = subprocess.Popen(
        argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[int]:
    """Its port. It reads a.txt and b.txt of this folder."""
    files, own = free_port(), free_port()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=RULES, port=files))
    server = sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(files)
    daemon = (
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{own}",
    )  # fmt: skip
    with running(*server, folder=folder), running(*daemon, folder=folder):
        yield own


def answers(port: int, expr: str) -> bool:
    """Whether a query has a result."""
    for variable, value in (("$pair", ".+"), ("$__rate_interval", "30s")):
        expr = expr.replace(variable, value)
    query = urllib.parse.urlencode({"query": expr})
    try:
        url = f"http://127.0.0.1:{port}/api/v1/query?{query}"
        with urllib.request.urlopen(url, timeout=LONG) as reply:
            return bool(json.load(reply)["data"]["result"])
    except OSError:  # it starts
        return False


def write_metrics(lab: Lab, folder: Path) -> None:
    for node in lab.nodes:
        shown = node.command("ha-status", "--prometheus", "-")
        (folder / f"{node.name}.new").write_text(shown.stdout)
        (folder / f"{node.name}.new").rename(folder / f"{node.name}.txt")


def test_a_prometheus_fills_every_panel(lab: Lab, tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus: install prometheus")
    start(lab)
    lab.cut_link()  # so that a takeover is blocked
    lab.wait_until(lambda: "TAKEOVER-BLOCKED" in lab.b.log(), "it is blocked", LONG)
    lab.mend_link()
    lab.wait_until(lambda: settled(lab, lab.a), "all is well", LONG)
    assert lab.a.command("ha-fail").returncode == 0
    lab.wait_until(lambda: settled(lab, lab.b), "b is active", LONG)
    end = time.monotonic() + LONG
    with prometheus(tmp_path) as port:
        empty = QUERIES
        while empty and time.monotonic() < end:
            write_metrics(lab, tmp_path)
            time.sleep(1.0)
            empty = [expr for expr in empty if not answers(port, expr)]
        assert not empty
        assert answers(port, "count(count by (pair) (failoverd_up)) == 1")
        assert answers(port, "count(count by (node) (failoverd_build_info)) == 1")  # of one kernel
        assert not answers(port, 'ALERTS{severity="page",alertstate="firing"}')
