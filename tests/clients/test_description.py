"""What the server says of its interface: valid, true under fuzzing, and shown in a browser without help from outside."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from conftest import FIXTURES, furnish, running
from scripted import Scripted

HERE = Path(__file__).resolve().parent
COMMITTED = HERE.parents[1] / "openapi" / "holdfast.json"
# `cargo xtask fuzz-api --seconds` sets it; the usual run is a short one.
SECONDS = int(os.environ.get("HOLDFAST_FUZZ_SECONDS", "20"))
BROWSER = "chromium-headless-shell"
VIOLATION = re.compile(r"Content Security Policy|Content-Security-Policy", re.IGNORECASE)


@pytest.fixture(scope="module")
def description(server):
    reply = server.request("GET", "/api/openapi.json", key=False)
    assert reply.status == 200 and reply.headers["content-type"] == "application/json"
    return reply.json()


def operations(description):
    return [
        (path, method, operation)
        for path, item in description["paths"].items()
        for method, operation in item.items()
    ]


def test_the_description_is_openapi_3_1_and_the_committed_one(description):
    OpenAPIV31SpecValidator(description).validate()
    assert description == json.loads(COMMITTED.read_text())
    broken = json.loads(json.dumps(description))
    del broken["paths"]["/api/v1/search"]["post"]["responses"]
    broken["paths"]["/api/v1/jobs/{id}"]["get"]["parameters"] = []
    assert len(list(OpenAPIV31SpecValidator(broken).iter_errors())) >= 1


def test_every_operation_says_what_it_asks_for(description):
    for path, method, operation in operations(description):
        where = f"{method} {path}"
        if operation.get("security") == []:
            assert path.startswith(("/health", "/api/docs", "/api/openapi.json")), where
            continue
        assert operation["x-holdfast-scope"] in operation["description"], where
        assert {"401", "403", "500", "503"} <= operation["responses"].keys() | {"503"}, where


@pytest.fixture
def own_server(binary, tmp_path, monkeypatch):
    """A server that may be spoilt, and that answers however often and with whatever key it is asked."""
    monkeypatch.setenv("HOLDFAST_LIMITS__ENABLED", "false")
    # With a language model, since without one the server says 503, and rightly.
    with (
        Scripted(lambda _: {"content": "Hello."}) as upstream,
        running(binary, furnish(tmp_path / "data"), FIXTURES / "docs") as server,
    ):
        server.command("providers", "add", "scripted", "--url", upstream.url, "--model", "scripted")
        yield server


def fuzz(server, tmp_path, *options):
    """Runs schemathesis on the server; what it reports is in the failure."""
    [own] = server.request("GET", "/api/v1/keys").json()["keys"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "SCHEMATHESIS_HOOKS": "schemathesis_hooks",
        "HOLDFAST_FUZZ_KEY_ID": own["id"],
        "HOLDFAST_FUZZ_FOLDER": str(FIXTURES / "docs"),
        "NO_COLOR": "1",
    }
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run"]
    command += [f"{server.url}/api/openapi.json", "--no-color", "--max-time", str(SECONDS), *options]
    # The hooks turn some cases away, which is no defect of the description.
    command += ["--suppress-health-check", "filter_too_much"]
    if "HOLDFAST_FUZZ_SECONDS" not in os.environ:
        # A short run tells whether something broke, and asks the same each time; a long one looks for more.
        command += ["--generation-deterministic"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS * 3 + 120, check=False
    )
    (tmp_path / "schemathesis.txt").write_text(done.stdout)
    if os.environ.get("HOLDFAST_FUZZ_SECONDS"):
        sys.stdout.write(done.stdout)
    return done


def test_schemathesis_with_a_key_finds_nothing(own_server, tmp_path):
    done = fuzz(own_server, tmp_path, "-H", f"Authorization: Bearer {own_server.key}")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert own_server.request("GET", "/health/ready", key=False).status == 200
    assert own_server.request("GET", "/api/v1/keys").status == 200


def succeeded(server):
    """How many requests each route answered as they wanted."""
    metrics = server.request("GET", "/metrics").body.decode()
    counted = {}
    for labels, count in re.findall(r"^holdfast_http_requests_total\{(.*)\} (\d+)$", metrics, re.MULTILINE):
        if 'status="2xx"' in labels:
            route = re.search(r'route="([^"]*)"', labels)[1]
            counted[route] = counted.get(route, 0) + int(count)
    return counted


def test_schemathesis_without_a_key_gets_nowhere(own_server, tmp_path):
    before = succeeded(own_server)
    done = fuzz(own_server, tmp_path, "--checks", CHECKS_WITHOUT_A_KEY)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    after = succeeded(own_server)
    entered = {route for route, count in after.items() if count != before.get(route, 0)}
    opened = {route for route in entered if route.startswith(("/health", "/api/docs", "/api/openapi.json"))}
    # What this test itself asks, with the key.
    assert entered - opened <= {"/api/v1/keys", "/metrics"}, entered
    assert len(opened) == 10, opened


CHECKS_WITHOUT_A_KEY = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "ignored_auth",
    ]
)


def browse(url, tmp_path):
    """What the page becomes, the addresses it asked for and what it was refused by its policy."""
    log = tmp_path / "net.json"
    command = [BROWSER, "--no-sandbox", "--disable-gpu", "--disable-quic", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--log-net-log={log}", "--net-log-capture-mode=Everything", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=20000", "--dump-dom", url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError:
        pytest.fail(f"there is no {BROWSER}; `cargo xtask test --install` installs it")
    recorded = json.loads(log.read_text())
    kind = recorded["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event["params"]["url"] for event in recorded["events"] if event["type"] == kind and "params" in event]
    violations = [line for line in done.stderr.splitlines() if VIOLATION.search(line)]
    return done.stdout, [url for url in asked if not url.startswith("data:")], violations


def test_the_page_asks_nobody_else_and_keeps_to_its_policy(server, description, tmp_path):
    dom, asked, violations = browse(f"{server.url}/api/docs", tmp_path)
    assert [url for url in asked if not url.startswith(f"{server.url}/")] == []
    assert {f"{server.url}/api/{part}" for part in ["docs", "openapi.json", "docs/swagger-ui.js"]} <= set(asked)
    assert violations == []
    # What it shows is the description, and not the complaint that there is none.
    shown = dom.count('class="opblock opblock-')
    assert shown == len(operations(description)), dom[:2_000]


def test_a_page_that_breaks_its_policy_would_be_noticed(server, tmp_path):
    policy = server.request("GET", "/api/docs", key=False).headers["content-security-policy"]
    page = b'<!doctype html><p style="color:red">a</p><script>document.title = "b"</script><img src="http://127.0.0.2:9/">'

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        _, asked, violations = browse(f"http://127.0.0.1:{other.server_port}/", tmp_path)
        other.shutdown()
    assert asked and len(violations) >= 3, violations
