"""A real llama.cpp server that Holdfast runs: it becomes ready, streams, is left, is cut, is killed, and comes back."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import openai
import pytest

import tiny_gguf
from conftest import PATIENCE_S, furnish, starting

DATA = Path(os.environ.get("HOLDFAST_DATA", Path(__file__).resolve().parents[3] / ".." / "shared" / "data"))
STORIES = DATA / "models" / "stories260K.gguf"
COMMAND = [
    sys.executable, "-m", "llama_cpp.server", "--model", "{gguf}", "--host", "{host}", "--port", "{port}",
    "--chat_format", "chatml", "--n_ctx", "{context}",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The one that tells stories, where the data sets are; else one that can be written here."""
    return STORIES if STORIES.is_file() else tiny_gguf.write(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def server(binary, model, tmp_path_factory):
    data_dir = furnish(tmp_path_factory.mktemp("llama") / "data")
    with starting(binary, data_dir) as (server, _):
        server.command("providers", "add", "local", "--gguf", str(model), "--command", *COMMAND)
        until_ready(server)
        yield server


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=60)


def services(server):
    status = server.request("GET", "/api/v1/status").json()
    return {part["name"]: part for part in status["components"] if part["name"].startswith("service:")}


def until_ready(server):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        parts = services(server)
        if parts and all(part["status"] == "ready" for part in parts.values()):
            return
        time.sleep(0.05)
    pytest.fail(f"the model did not become ready: {services(server)}")


def child(server):
    """The process id of the model's server: the child of ours that is not a thread of it."""
    children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    pids = [int(pid) for listed in children for pid in listed.read_text().split()]
    assert pids, "nothing runs"
    return pids[0]


def ask(text="Once upon a time"):
    return [{"role": "user", "content": text}]


def test_it_answers_and_streams(client):
    whole = client.chat.completions.create(model="local", messages=ask(), max_tokens=16)
    assert whole.choices[0].message.content
    stream = client.chat.completions.create(model="local", messages=ask(), max_tokens=16, stream=True)
    chunks = list(stream)
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")


def test_what_is_too_long_for_it_is_refused_with_counts(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="local", messages=ask("word " * 20_000), max_tokens=16)
    assert refused.value.code == "context_too_long", refused.value
    assert len(re.findall(r"\d+", str(refused.value.body["message"]))) >= 2, refused.value


def test_a_client_that_leaves_frees_the_model(client):
    stream = client.chat.completions.create(model="local", messages=ask(), max_tokens=400, stream=True)
    next(iter(stream))
    stream.close()
    # The next one is answered at once, not after the 400 tokens.
    began = time.monotonic()
    client.chat.completions.create(model="local", messages=ask(), max_tokens=4)
    assert time.monotonic() - began < 10


def test_a_stream_that_another_request_cuts_ends_with_an_error(client):
    stream = iter(client.chat.completions.create(model="local", messages=ask(), max_tokens=400, stream=True))
    next(stream)
    other = threading.Thread(
        target=lambda: client.chat.completions.create(model="local", messages=ask(), max_tokens=4, stream=True).close()
    )
    other.start()
    finish = None
    try:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].finish_reason:
                finish = chunk.choices[0].finish_reason
    except openai.APIError as error:
        assert error.code, error
    else:
        assert finish in ("stop", "length"), "it simply stopped"
    other.join()


def test_killed_in_the_middle_it_comes_back(client, server):
    until_ready(server)
    before = child(server)
    stream = iter(client.chat.completions.create(model="local", messages=ask(), max_tokens=400, stream=True))
    next(stream)
    os.kill(before, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        for _ in stream:
            pass
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if client.chat.completions.create(model="local", messages=ask(), max_tokens=4).choices:
                break
        except openai.APIStatusError as error:
            assert error.status_code in (502, 503, 504), error
            time.sleep(0.1)
    else:
        pytest.fail("it did not come back")
    assert child(server) != before


def test_it_dies_with_the_program(binary, model, tmp_path):
    with starting(binary, furnish(tmp_path / "data")) as (server, _):
        server.command("providers", "add", "local", "--gguf", str(model), "--command", *COMMAND)
        until_ready(server)
        process = child(server)
        server.process.kill()
        server.process.wait()
        deadline = time.monotonic() + 5
        while Path(f"/proc/{process}/status").exists():
            state = Path(f"/proc/{process}/status").read_text()
            if "State:\tZ" in state:
                break
            assert time.monotonic() < deadline, "the model's server outlived the program"
            time.sleep(0.02)


def test_what_is_no_model_is_refused(server, tmp_path):
    bogus = tmp_path / "bogus.gguf"
    bogus.write_bytes(b"not a model at all")
    refused = server.command("providers", "add", "bogus", "--gguf", str(bogus), check=False)
    assert refused.returncode == 1 and "GGUF" in refused.stderr, refused.stderr
