"""Files, names and data directories that would harm a careless program."""

import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from urllib.parse import urlsplit

import pytest

from conftest import PATIENCE_S, furnish, running, starting

EQUAL_FILES = 3_000
# `cargo xtask bench faults many` does the same with 200 000.
RESIDENT_MAX_MB = 400


def resident_mb(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


@pytest.fixture(scope="module")
def hostile(binary, tmp_path_factory):
    """A server that was given a folder of such files, one of which changed all the time."""
    base = tmp_path_factory.mktemp("hostile")
    folder = base / "folder"
    folder.mkdir()
    (folder / "good.md").write_text("# Quagga\n\nThe quagga was a zebra.\n")
    (folder / "wide.txt").write_bytes("The word is xerophyte.".encode("utf-16"))
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbf")
    (folder / "invalid.txt").write_bytes(b"plain until here \xff\xfe\x81\x8d\x90 and after")
    (folder / "binary.dat").write_bytes(bytes(range(256)) * 40)
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / "control\x07name.txt").write_text("a bell in the name")
    with open(folder / "huge.txt", "wb") as huge:
        huge.truncate(2 << 30)
    (folder / "outside").symlink_to("/etc")
    (folder / "loop").symlink_to(folder)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "zeros").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo")
    equal = folder / "equal"
    equal.mkdir()
    for number in range(EQUAL_FILES):
        (equal / f"{number}.txt").write_text("The same words in every file.")
    stop = threading.Event()

    def keep_changing():
        number = 0
        while not stop.is_set():
            number += 1
            (folder / "changing.txt").write_text(f"The state is {number}. " * 2_000)
            time.sleep(0.002)

    writer = threading.Thread(target=keep_changing)
    writer.start()
    try:
        with running(binary, furnish(base / "data"), folder) as server:
            yield server
    finally:
        stop.set()
        writer.join()


def test_good_files_are_in_and_bad_ones_are_reported(hostile):
    assert hostile.search("zebra", mode="lexical")["results"][0]["title"] == "Quagga"
    assert hostile.search("xerophyte", mode="lexical")["results"][0]["path"].endswith("wide.txt")
    source = hostile.request("GET", "/api/v1/sources").json()["sources"][0]["id"]
    listed = hostile.request("GET", f"/api/v1/sources/{source}/skipped?limit=100").json()
    codes = {os.path.basename(file["path"]): file["code"] for file in listed["skipped"]}
    assert codes["huge.txt"] == "too_large"
    assert codes["binary.dat"] == "binary"
    assert {"outside", "circle", "zeros", "fifo"} <= set(codes), codes
    assert all(codes.values())


def test_equal_files_are_each_there_in_bounded_memory(hostile):
    collection = hostile.request("GET", "/api/v1/collections/default").json()
    assert collection["documents"] >= EQUAL_FILES
    assert resident_mb(hostile.process.pid) < RESIDENT_MAX_MB


@pytest.mark.parametrize(
    "document",
    [
        {"id": "a\0b", "content": "x"},
        {"id": "x" * 4_096, "content": "x"},
        {"path": "../../etc/passwd", "content": "x"},
        {"path": "a\0b", "content": "x"},
        {"path": "p" * 4_096, "content": "x"},
        {"title": "t\x1b[31m", "content": "x"},
        {"id": "m", "content": "x", "metadata": [1]},
        {"id": "m", "content": "x", "metadata": {"a": "x" * 100_000}},
    ],
)
def test_bad_documents_are_refused_and_leave_nothing(hostile, document):
    before = hostile.request("GET", "/api/v1/collections/default").json()["documents"]
    reply = hostile.request("POST", "/api/v1/documents", {"documents": [document]})
    assert (reply.status, reply.json()["code"]) == (422, "invalid_field"), reply.body
    assert hostile.request("GET", "/api/v1/documents/m").status == 404
    # The file that keeps changing is one document all the time.
    assert hostile.request("GET", "/api/v1/collections/default").json()["documents"] == before


@pytest.mark.parametrize("name", ["..", "a/b", "a\0b", "x" * 4_096, "", "Ünicode", "-" * 65])
def test_bad_collection_names_are_refused(hostile, name):
    reply = hostile.request("POST", "/api/v1/collections", {"name": name})
    assert (reply.status, reply.json()["code"]) == (422, "invalid_field"), reply.body


def run(binary, data_dir, *arguments):
    return subprocess.run(
        [binary, "--data-dir", data_dir, "--json", *arguments], capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_a_newer_database_is_refused_untouched(binary, tmp_path):
    data_dir = furnish(tmp_path / "data")
    assert run(binary, data_dir, "status").returncode == 0
    path = data_dir / "db" / "holdfast.db"
    database = sqlite3.connect(path)
    database.execute("INSERT INTO schema_migrations VALUES (9999, 'from the future', 'x', 0)")
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    for arguments in (["status"], ["up"], ["search", "x"], ["doctor", "--fix"]):
        refused = run(binary, data_dir, *arguments)
        assert refused.returncode == 1, (arguments, refused.stdout)
        problem = json.loads(refused.stderr.strip().splitlines()[-1])
        assert problem["code"] == "database_newer", problem
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_a_directory_in_use_names_its_holder(binary, hostile):
    refused = run(binary, hostile.data_dir, "up")
    assert refused.returncode == 1
    assert '"code":"data_directory_in_use"' in refused.stderr, refused.stderr
    assert str(hostile.process.pid) in refused.stderr, refused.stderr


def test_a_second_signal_does_not_wait(binary, tmp_path):
    data_dir = furnish(tmp_path / "data")
    with starting(binary, data_dir) as (server, _):
        process = server.process
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            # A body that never comes: the first signal waits for the request to end.
            head = (
                "POST /api/v1/search HTTP/1.1",
                f"Host: {address.netloc}",
                f"Authorization: Bearer {server.key}",
                "Content-Type: application/json",
                "Content-Length: 10",
            )
            connection.sendall("\r\n".join([*head, "", ""]).encode())
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3)
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 130
    assert run(binary, data_dir, "status").returncode == 0
