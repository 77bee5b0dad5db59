"""The HTTP API of the real program, over real sockets."""

import concurrent.futures
import json
import socket
import time
from urllib.parse import quote, urlsplit

import pytest

PROBES = ["/health", "/health/live", "/health/ready", "/health/startup"]


def problem(reply, status, code):
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    told = reply.json()
    assert told["code"] == code, told
    assert told["status"] == status and told["title"] and told["detail"] and told["error_id"], told
    return told


def found_paths(answer):
    return [result["path"] or "" for result in answer["results"]]


def test_questions_find_their_files(server, questions):
    missed = []
    for entry in questions:
        paths = found_paths(server.search(entry["question"], limit=5, group="document"))
        if not any(path.endswith(entry["path"]) for path in paths):
            missed.append((entry["question"], paths))
    assert len(missed) <= len(questions) // 10, missed


def test_pages_hold_what_one_long_list_holds(server):
    everything = [r["chunk_id"] for r in server.search("device", limit=30)["results"]]
    paged, cursor = [], None
    while len(paged) < 30:
        page = server.search("device", limit=7, **({"cursor": cursor} if cursor else {}))
        paged += [r["chunk_id"] for r in page["results"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged[:30] == everything
    assert len(set(paged)) == len(paged)


def test_a_filter_narrows(server):
    filtered = {"field": "content_type", "prefix": "text/markdown"}
    results = server.search("sensor", limit=20, filter=filtered)["results"]
    assert results and all(result["path"].endswith(".md") for result in results)


def test_only_probes_answer_without_a_key(server):
    for path in PROBES:
        assert server.request("GET", path, key=False).status == 200
    for path in ["/", "/metrics", "/api/v1/search", "/api/v1/keys", "/nowhere", "/health/../metrics"]:
        problem(server.request("GET", path, key=False), 401, "unauthorized")
        wrong = {"Authorization": "Bearer hf_" + "0" * 64}
        problem(server.request("GET", path, key=False, headers=wrong), 401, "unauthorized")


def test_status_and_metrics(server):
    status = server.request("GET", "/api/v1/status").json()
    assert status["status"] == "ready", status
    assert {"name", "status", "reason", "since"} <= set(status["components"][0])
    metrics = server.request("GET", "/metrics")
    assert metrics.status == 200
    text = metrics.body.decode()
    for name in ["holdfast_http_requests_total", "holdfast_index_chunks", "process_resident_memory_bytes"]:
        assert f"# TYPE {name} " in text
    assert server.key not in text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"\xef\xbb\xbf{}", 400, "invalid_json"),
        (b'{"query": ', 400, "invalid_json"),
        (b"[" * 500_000, 400, "json_too_deep"),
        (b'{"query":"x","filter":' + b'{"not":' * 10_000 + b"{}" + b"}" * 10_001, 400, "json_too_deep"),
        ({"query": ""}, 422, "invalid_field"),
        ({"query": "x" * 11_000}, 422, "invalid_field"),
        ({"query": ["x"]}, 422, "invalid_field"),
        ({"query": "x", "limit": 0}, 422, "invalid_field"),
        ({"query": "x", "limit": -1}, 422, "invalid_field"),
        ({"query": "x", "limit": 10**9}, 422, "invalid_field"),
        ({"query": "x", "limit": "10"}, 422, "invalid_field"),
        ({"query": "x", "filter": {"any": [{"field": "y", "eq": 1}]}}, 422, "invalid_filter"),
        ({"query": "x", "collections": ["nowhere"]}, 404, "collection_not_found"),
        ({"query": "x", "collections": ["../../etc"]}, 422, "invalid_field"),
        ({"query": "x", "collections": ["a\0b"]}, 422, "invalid_field"),
    ],
)
def test_bad_searches_are_refused_with_a_code(server, body, status, code):
    problem(server.request("POST", "/api/v1/search", body), status, code)


def test_bodies_have_a_limit_and_a_type(server):
    # The server answers once it has seen the length; a client that goes on writing may find the connection closed.
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        head = f"POST /api/v1/documents HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {server.key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {1 << 30}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 413 ")
    plain = {"Content-Type": "text/plain"}
    problem(server.request("POST", "/api/v1/search", b"{}", headers=plain), 415, "unsupported_media_type")


def test_unknown_routes_and_methods(server):
    problem(server.request("GET", "/api/v2/search"), 404, "route_not_found")
    refused = server.request("PUT", "/api/v1/search", {})
    problem(refused, 405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"


def test_documents_come_change_and_go(server):
    collection = made(server, "notes")
    body = {"collection": collection, "documents": [
        {"id": "a/1", "title": "First", "content": "Zebras sleep standing up.", "metadata": {"kind": "fact"}},
        {"content": "Otters hold hands."},
    ]}
    stored = server.request("POST", "/api/v1/documents", body)
    assert stored.status == 200, stored.body
    assert [d["status"] for d in stored.json()["documents"]] == ["indexed", "indexed"]
    assert found_ids(server, "zebras", collection)[0] == "a/1"

    body["documents"][0]["content"] = "Giraffes hum at night."
    assert server.request("POST", "/api/v1/documents", body).json()["documents"][0]["revision"] == 2
    shown = server.request("GET", f"/api/v1/documents/{quote('a/1', safe='')}?collection={collection}").json()
    assert shown["content"] == "Giraffes hum at night." and shown["metadata"] == {"kind": "fact"}
    lexical = server.search("zebras", collections=[collection], mode="lexical")
    assert lexical["results"] == []

    target = f"/api/v1/documents/{quote('a/1', safe='')}?collection={collection}"
    assert server.request("DELETE", target).status == 204
    problem(server.request("GET", target), 404, "document_not_found")
    assert "a/1" not in found_ids(server, "giraffes", collection)
    assert server.request("DELETE", f"/api/v1/collections/{collection}").status == 204
    problem(server.request("POST", "/api/v1/search", {"query": "x", "collections": [collection]}), 404,
            "collection_not_found")


def made(server, collection):
    reply = server.request("POST", "/api/v1/collections", {"name": collection})
    assert reply.status == 201, reply.body
    return collection


def found_ids(server, query, collection):
    return [result["document_id"] for result in server.search(query, collections=[collection])["results"]]


def test_writing_twice_with_one_key_is_writing_once(server):
    body = {"collection": made(server, "once"), "documents": [{"content": "Otters hold hands."}]}
    key = {"Idempotency-Key": "otters-1"}
    first = server.request("POST", "/api/v1/documents", body, headers=key)
    again = server.request("POST", "/api/v1/documents", body, headers=key)
    assert (first.status, first.json()) == (again.status, again.json())
    body["documents"][0]["content"] = "They do not."
    problem(server.request("POST", "/api/v1/documents", body, headers=key), 422, "idempotency_key_reused")
    server.request("DELETE", "/api/v1/collections/once")


def test_sources_follow_their_folder(server, tmp_path):
    (tmp_path / "one.md").write_text("# Quokka\n\nA quokka smiles.\n")
    collection = made(server, "followed")
    added = server.request("POST", "/api/v1/sources", {"path": str(tmp_path), "collection": collection})
    assert added.status == 202, added.body
    source = added.json()["source"]["id"]
    (tmp_path / "two.md").write_text("# Numbat\n\nA numbat eats termites.\n")
    eventually(lambda: any(p.endswith("two.md") for p in found_paths(server.search("numbat", collections=[collection]))))
    (tmp_path / "one.md").unlink()
    eventually(lambda: not any(
        p.endswith("one.md") for p in found_paths(server.search("quokka", collections=[collection]))))
    assert server.request("DELETE", f"/api/v1/sources/{source}").json()["documents_removed"] == 1
    server.request("DELETE", f"/api/v1/collections/{collection}")


def eventually(holds, seconds=30.0):
    """Waits for something that comes about by itself."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_many_clients_at_once_all_get_an_answer(server, questions):
    asked = [entry["question"] for entry in questions] * 5
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(lambda q: server.request("POST", "/api/v1/search", {"query": q}), asked))
    assert all(reply.status == 200 for reply in replies), {reply.status for reply in replies}
    ids = {reply.headers["x-request-id"] for reply in replies}
    assert len(ids) == len(replies)


def test_pipelined_and_broken_requests_do_no_harm(server):
    address = urlsplit(server.url)
    for rubbish in [b"\x00" * 1000, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 200_000]:
        with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
            try:
                connection.sendall(rubbish)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass  # Closed on us in the middle of it, which is an answer too.
    assert server.request("GET", "/health/live", key=False).status == 200


def test_keys_are_made_and_revoked(server):
    made = server.request("POST", "/api/v1/keys", {"name": "visitor"})
    assert made.status == 201
    made = made.json()
    visitor = {"X-API-Key": made["key"]}
    assert server.request("GET", "/api/v1/status", key=False, headers=visitor).status == 200
    assert made["key"] not in server.request("GET", "/api/v1/keys").body.decode()
    assert server.request("DELETE", f"/api/v1/keys/{made['id']}").status == 204
    problem(server.request("GET", "/api/v1/status", key=False, headers=visitor), 401, "unauthorized")


def test_answers_are_json_that_python_reads(server):
    for path in ["/api/v1/collections", "/api/v1/documents", "/api/v1/sources", "/api/v1/jobs", "/api/v1/models"]:
        reply = server.request("GET", path)
        assert reply.status == 200, (path, reply.body)
        answer = json.loads(reply.body)
        name = path.rsplit("/", 1)[1]
        assert isinstance(answer[name], list) and "next_cursor" in answer
