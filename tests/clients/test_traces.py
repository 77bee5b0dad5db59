"""Traces and logs of the real program, in a real collector (rotel)."""

import os
import re
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import rotel

from conftest import FIXTURES, PATIENCE_S, furnish, starting

# Words that are nowhere but in the question and in the document that are sent.
SECRET_QUESTION = "zanzibarquestion"
SECRET_TEXT = "quillonparagraph"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Collector:
    """What the collector printed of what it took."""

    def __init__(self, process, port):
        self.process, self.port, self._text = process, port, ""
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self._text += re.sub(r"\x1b\[[0-9;]*m", "", line)
                self._changed.notify_all()

    @property
    def text(self):
        with self._changed:
            return self._text

    def wait_for(self, pattern):
        """Waits until something was printed that matches, and gives everything that was."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            while not re.search(pattern, self._text):
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    pytest.fail(f"the collector never had {pattern!r}:\n{self._text[-20000:]}")
            return self._text

    def spans_of(self, trace, wanted):
        """The spans of a trace, once there is one of each of these names."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            spans = [span for span in self.spans() if span.get("Trace ID") == trace]
            if wanted <= {span.get("Name") for span in spans}:
                return spans
            with self._changed:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    pytest.fail(f"not all of {wanted} came:\n{self._text[-20000:]}")

    def spans(self):
        """Every span as a dictionary of what was printed about it."""
        found = []
        for block in re.split(r"^Span #\d+\s*$", self.text, flags=re.MULTILINE)[1:]:
            fields = dict(re.findall(r"^\s+(Trace ID|Parent ID|ID|Name|Kind|Status code|Status message)\s*: ?(.*)$", block, re.MULTILINE))
            fields["attributes"] = dict(re.findall(r"^\s+-> ([\w.]+): \w+\((.*)\)$", block, re.MULTILINE))
            found.append(fields)
        return found


@contextmanager
def collecting(port=None):
    http_port, grpc_port = port or free_port(), free_port()
    agent = Path(rotel.__file__).parent / "rotel-agent"
    process = subprocess.Popen(
        [
            agent, "start",
            "--otlp-http-endpoint", f"127.0.0.1:{http_port}",
            "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}",
            "--exporter", "blackhole",
            "--debug-log", "traces", "--debug-log", "logs", "--debug-log-verbosity", "detailed",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", http_port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, "the collector did not start"
                time.sleep(0.05)
        yield Collector(process, http_port)
    finally:
        process.kill()
        process.wait()


@contextmanager
def observed(binary, data_dir, endpoint, *paths, ratio="1.0"):
    """The program, exporting to a collector."""
    kept = dict(os.environ)
    os.environ["HOLDFAST_TELEMETRY__OTLP_ENDPOINT"] = endpoint
    os.environ["HOLDFAST_TELEMETRY__TRACE_RATIO"] = ratio
    try:
        with starting(binary, data_dir, *paths) as started:
            os.environ.clear()
            os.environ.update(kept)
            yield started
    finally:
        os.environ.clear()
        os.environ.update(kept)


def until_ready(server):
    deadline = time.monotonic() + PATIENCE_S
    while server.request("GET", "/health/ready", key=False).status != 200:
        assert time.monotonic() < deadline, server.request("GET", "/health").body
        time.sleep(0.1)


def connect(binary, data_dir, far, tmp_path):
    """Makes another server's model one of this server's."""
    key_file = tmp_path / "far.key"
    key_file.write_text(far.key)
    key_file.chmod(0o600)
    command = [binary, "--data-dir", data_dir, "models", "connect", "far", "--url", far.url, "--api", "tei", "--key-file", key_file]
    subprocess.run(command, check=True, capture_output=True)


def test_spans_and_logs_arrive_with_their_names_and_without_texts(binary, tmp_path):
    far_data, near_data = furnish(tmp_path / "far" / "data"), furnish(tmp_path / "near" / "data")
    with collecting() as collector:
        endpoint = f"http://127.0.0.1:{collector.port}"
        with (
            observed(binary, far_data, endpoint) as (far, _),
            observed(binary, near_data, endpoint, FIXTURES / "docs") as (near, events),
        ):
            until_ready(far)
            until_ready(near)
            events.wait_for("indexed")
            connect(binary, near_data, far, tmp_path)
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
            deadline = time.monotonic() + PATIENCE_S
            body = {"model": "far", "input": [SECRET_TEXT]}
            # The first time it loads; what was embedded once is known, so the text differs.
            while near.request("POST", "/v1/embeddings", {**body, "input": ["warm"]}).status != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert near.request("POST", "/v1/embeddings", body, headers=headers).status == 200
            assert near.request("POST", "/api/v1/search", {"query": SECRET_QUESTION}, headers=headers).status == 200
            assert near.request("GET", "/metrics", headers={"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}).status == 200
            # Each of them is exported when it has ended, the two servers' at times of their own.
            wanted = {"POST /v1/embeddings", "POST /api/v1/search", "search", "embed", "call", "POST /embed"}
            spans = collector.spans_of(TRACE, wanted)
            by_name = {}
            for span in spans:
                by_name.setdefault(span["Name"], []).append(span)
            asked, = by_name["POST /v1/embeddings"]
            searched, = by_name["POST /api/v1/search"]
            assert asked["Parent ID"] == searched["Parent ID"] == PARENT
            assert asked["attributes"]["http.route"] == "/v1/embeddings"
            assert asked["attributes"]["http.request.method"] == "POST"
            assert asked["attributes"]["http.response.status_code"] == "200"
            embed, = [span for span in by_name["embed"] if span["Parent ID"] == asked["ID"]]
            assert embed["attributes"]["gen_ai.operation.name"] == "embeddings"
            assert embed["attributes"]["gen_ai.request.model"] == "far"
            call, = by_name["call"]
            assert call["Parent ID"] == embed["ID"]
            assert call["attributes"]["server.address"] == "127.0.0.1"
            assert call["attributes"]["http.response.status_code"] == "200"
            # The other server joined the trace where this one left it.
            elsewhere, = by_name["POST /embed"]
            assert elsewhere["Parent ID"] == call["ID"]
            search, = [span for span in by_name["search"]]
            assert search["Parent ID"] == searched["ID"]
            assert [span for span in by_name["embed"] if span["Parent ID"] == search["ID"]]
            collector.wait_for(r"Name\s*: project")
            # Whose sender does not keep it is not kept here.
            assert TRACE[::-1] not in collector.text

        text = collector.wait_for("service.version")
        for secret in [SECRET_QUESTION, SECRET_TEXT, near.key, far.key]:
            assert secret not in text
        assert "the embedding model" in text, "log lines arrive too"


def test_nothing_is_kept_at_a_ratio_of_0_and_log_lines_say_which_trace(binary, tmp_path):
    data_dir = furnish(tmp_path / "data")
    with collecting() as collector:
        with observed(binary, data_dir, f"http://127.0.0.1:{collector.port}", ratio="0.0") as (server, _):
            until_ready(server)
            server.search("anything")
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            assert server.request("GET", "/nowhere", headers=headers).status == 404
            collector.spans_of(TRACE, {"GET none"})
            assert {span["Trace ID"] for span in collector.spans()} == {TRACE}
        lines = (tmp_path / "server.log").read_text().splitlines()
        assert [line for line in lines if TRACE in line and "answered 404" in line], lines


def test_a_collector_that_is_gone_harms_nobody_and_is_used_when_it_comes(binary, tmp_path):
    port = free_port()
    data_dir = furnish(tmp_path / "data")
    with observed(binary, data_dir, f"http://127.0.0.1:{port}") as (server, _):
        until_ready(server)
        took = []
        for _ in range(200):
            began = time.monotonic()
            server.search("anything")
            took.append(time.monotonic() - began)
        assert sorted(took)[len(took) // 2] < 0.1, took
        deadline = time.monotonic() + PATIENCE_S
        dropped = r'^holdfast_telemetry_dropped_total\{signal="traces"\} [1-9]'
        while not re.search(dropped, server.request("GET", "/metrics").body.decode(), re.MULTILINE):
            assert time.monotonic() < deadline, "what nobody takes is given up"
            time.sleep(0.2)
        with collecting(port) as collector:
            server.search("something else")
            collector.wait_for(r"POST /api/v1/search")
            began = time.monotonic()
            server.process.terminate()
            assert server.process.wait(PATIENCE_S) == 0
            assert time.monotonic() - began < 15
    log = (tmp_path / "server.log").read_text()
    assert log.count("the collector does not take traces") == 1 and "takes traces again" in log


def test_without_a_collector_the_trace_is_passed_on(binary, tmp_path):
    """What a request came with reaches the server that has the model."""
    far_data, near_data = furnish(tmp_path / "far" / "data"), furnish(tmp_path / "near" / "data")
    with collecting() as collector:
        endpoint = f"http://127.0.0.1:{collector.port}"
        with observed(binary, far_data, endpoint) as (far, _), starting(binary, near_data) as (near, _):
            until_ready(far)
            until_ready(near)
            connect(binary, near_data, far, tmp_path)
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            deadline = time.monotonic() + PATIENCE_S
            while near.request("POST", "/v1/embeddings", {"model": "far", "input": ["warm"]}).status != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            body = {"model": "far", "input": ["once more"]}
            assert near.request("POST", "/v1/embeddings", body, headers=headers).status == 200
            span, = [span for span in collector.spans_of(TRACE, {"POST /embed"}) if span["Name"] == "POST /embed"]
            assert span["Parent ID"] == PARENT
