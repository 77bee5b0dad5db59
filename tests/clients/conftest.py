"""The real program, started for the clients' tests.

HOLDFAST_TEST_BINARY names the program, HOLDFAST_TEST_MODELS a folder with the embedding model, laid out as
`<data-dir>/models`. Both are needed: without them every test here fails and says so.
"""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from urllib.parse import urlsplit

import pytest

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
PATIENCE_S = 120.0
# Requests at once of the server that bears little.
PLACES = 4


def required(name: str, what: str) -> Path:
    value = os.environ.get(name)
    if not value or not Path(value).exists():
        pytest.fail(f"{name} has to name {what}; `cargo xtask test` sets it")
    return Path(value).resolve()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def binary() -> str:
    return str(required("HOLDFAST_TEST_BINARY", "the holdfast program"))


def furnish(data_dir: Path) -> Path:
    """A data directory that has the model already."""
    models = required("HOLDFAST_TEST_MODELS", "a folder with the embedding model")
    data_dir.mkdir(mode=0o700, parents=True)
    # Copied, not linked: the program keeps its models to itself and locks their folders.
    shutil.copytree(models, data_dir / "models")
    return data_dir


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass
class Server:
    data_dir: Path
    url: str
    key: str
    process: subprocess.Popen

    def request(self, method, path, body=None, *, key=True, headers=None) -> Reply:
        """One request on a connection of its own; `body` is bytes, or anything JSON can say."""
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE_S)
        sent = {"Authorization": f"Bearer {self.key}"} if key else {}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent.update(headers or {})
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def command(self, *arguments, check=True):
        """One command of the program, which goes over this server's control socket."""
        binary = str(required("HOLDFAST_TEST_BINARY", "the holdfast program"))
        command = [binary, "--data-dir", self.data_dir, *arguments]
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
        assert not check or run.returncode == 0, run.stderr
        return run

    def search(self, query, **more):
        reply = self.request("POST", "/api/v1/search", {"query": query, **more})
        assert reply.status == 200, reply.body
        return reply.json()


class Events:
    """The lines of JSON that a program prints, read as they come."""

    def __init__(self, process):
        self._lines = Queue()
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stream):
        for line in stream:
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, name):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                pytest.fail(f"the program did not say {name!r} within {PATIENCE_S} s")
            if line is None:
                pytest.fail(f"the program ended before it said {name!r}")
            event = json.loads(line)
            if event.get("event") == name:
                return event


@contextmanager
def starting(binary, data_dir, *paths, settings=None):
    """The program serving these paths and what it tells; whatever happens, it does not outlive this."""
    log = data_dir.parent / "server.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [binary, "--data-dir", data_dir, "--json", "--listen", "127.0.0.1:0", "up", *paths],
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env=os.environ | (settings or {}),
        )
        try:
            events = Events(process)
            listening = events.wait_for("listening")
            yield Server(data_dir, listening["url"], listening["admin_key"], process), events
            assert "panicked" not in log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextmanager
def running(binary, data_dir, *paths):
    """The program with these paths indexed; it has to end well when it is interrupted."""
    with starting(binary, data_dir, *paths) as (server, events):
        events.wait_for("indexed")
        yield server
        assert server.process.poll() is None, "the server died"
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(PATIENCE_S) == 0, "the server did not stop cleanly"


@pytest.fixture(scope="session")
def server(binary, tmp_path_factory):
    """A server that has indexed the fixtures and is ready."""
    data_dir = furnish(tmp_path_factory.mktemp("server") / "data")
    with running(binary, data_dir, FIXTURES / "docs") as server:
        yield server


@dataclass
class Strict:
    """A server that bears little, and keys of its own for each test."""

    server: Server
    binary: str

    @property
    def url(self):
        return self.server.url

    def key(self):
        """A key that has not asked yet, made by the owner, who is not limited."""
        command = [self.binary, "--data-dir", self.server.data_dir, "--json", "keys", "create", "strict", "--role", "reader"]
        made = subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)
        return json.loads(made.stdout)["key"]

    @contextmanager
    def busy(self):
        """Every place is taken, by requests whose bodies do not come."""
        address = urlsplit(self.url)
        head = (
            f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key()}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        )
        with ExitStack() as held:
            for _ in range(PLACES):
                connection = socket.create_connection((address.hostname, address.port), timeout=PATIENCE_S)
                held.enter_context(connection)
                connection.sendall(head.encode())
                # It is asked for its body once it has its place.
                assert connection.recv(1024).startswith(b"HTTP/1.1 100")
            yield


@pytest.fixture(scope="session")
def strict(binary, tmp_path_factory):
    """A server that each key may ask a few times at once and then once a second, and that has few places."""
    settings = {
        "HOLDFAST_LIMITS__KEY_REQUESTS_BURST": "5",
        "HOLDFAST_LIMITS__KEY_REQUESTS_PER_SECOND": "1",
        "HOLDFAST_SERVER__MAX_CONCURRENT_REQUESTS": str(PLACES),
    }
    data_dir = furnish(tmp_path_factory.mktemp("strict") / "data")
    with starting(binary, data_dir, settings=settings) as (server, _):
        deadline = time.monotonic() + PATIENCE_S
        while server.request("GET", "/health/ready").status != 200:
            assert time.monotonic() < deadline, "it never became ready"
            time.sleep(0.05)
        yield Strict(server, binary)


@pytest.fixture(scope="session")
def without_model(binary, tmp_path_factory):
    """A server whose model is not there, and comes from nowhere."""
    data_dir = tmp_path_factory.mktemp("without") / "data"
    data_dir.mkdir(mode=0o700)
    with starting(binary, data_dir, settings={"HOLDFAST_MODELS__SOURCES": "[]"}) as (server, _):
        yield server


@pytest.fixture(scope="session")
def questions():
    """Real questions, each with the file that answers it."""
    return json.loads((FIXTURES / "questions.json").read_text())
