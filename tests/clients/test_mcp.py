"""MCP with the real Python client, in both generations of the protocol it speaks, over stdio and over HTTP."""

import contextlib
import os
import signal
import subprocess

import anyio
import httpx2
import pytest
from mcp import Client, ClientSession, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from conftest import FIXTURES, furnish

TOOLS = ["search", "augment", "fetch_document", "add_document", "list_collections", "track_interaction", "update_outcome", "status"]
SESSION, OLD, NEW, AUTO = "ClientSession", "legacy", "2026-07-28", "auto"
VERSIONS = {SESSION: "2025-11-25", OLD: "2025-11-25", NEW: "2026-07-28", AUTO: "2026-07-28"}

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def stdio(binary, tmp_path_factory):
    """A data directory with the fixtures indexed and no server: `holdfast mcp` starts one."""
    data_dir = furnish(tmp_path_factory.mktemp("stdio") / "data")
    subprocess.run(
        [binary, "--data-dir", data_dir, "add", FIXTURES / "docs"], check=True, timeout=300, stdin=subprocess.DEVNULL
    )
    arguments = ["--data-dir", str(data_dir), "--listen", "127.0.0.1:0", "mcp"]
    yield StdioServerParameters(command=binary, args=arguments, env=dict(os.environ))
    # The server outlives the clients that started it by some minutes, which is of no use here.
    holder = (data_dir / "run" / "lock").read_text().strip()
    running = subprocess.run(["ps", "-o", "args=", "-p", holder], capture_output=True, text=True, check=False).stdout
    if str(data_dir) in running:
        os.kill(int(holder), signal.SIGINT)


@contextlib.asynccontextmanager
async def over_http(server, key=None):
    headers = {"Authorization": f"Bearer {key or server.key}"}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as client:
        async with streamable_http_client(f"{server.url}/mcp", http_client=client) as streams:
            yield streams


@contextlib.asynccontextmanager
async def session(transport, generation):
    """What the tests need of a client, the same in every generation."""
    if generation == SESSION:
        async with transport as (read, write):
            async with ClientSession(read, write) as client:
                await client.initialize()
                yield client
    else:
        async with Client(transport, mode=generation) as client:
            yield client


async def ready(client):
    """Waits for the embedding model: a server that `holdfast mcp` has just started is still loading it."""
    with anyio.fail_after(60):
        while True:
            status = await client.call_tool("status", {})
            if status.structured_content["status"] == "ready":
                return
            await anyio.sleep(0.05)


def transport_of(name, request):
    if name == "stdio":
        return stdio_client(request.getfixturevalue("stdio"))
    return over_http(request.getfixturevalue("server"))


def text(result):
    return "\n".join(block.text for block in result.content)


@pytest.fixture(params=["stdio", "http"])
def transport(request):
    return lambda: transport_of(request.param, request)


@pytest.mark.parametrize("generation", [SESSION, OLD, NEW, AUTO])
async def test_tools_are_listed_and_search_answers(transport, generation, questions):
    async with session(transport(), generation) as client:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == TOOLS
        assert all(tool.description and tool.input_schema and tool.output_schema for tool in tools)
        await ready(client)
        hits = 0
        for entry in questions[:5]:
            result = await client.call_tool("search", {"query": entry["question"], "limit": 5})
            assert not result.is_error, text(result)
            paths = [found.get("path", "") for found in result.structured_content["results"]]
            hits += any(path.endswith(entry["path"]) for path in paths)
            assert text(result).startswith("1. ")
        assert hits >= 4


@pytest.mark.parametrize("generation", [SESSION, NEW])
async def test_a_text_is_added_found_and_fetched(transport, generation):
    word = f"quagga{generation.replace('-', '').lower()}"
    async with session(transport(), generation) as client:
        await ready(client)
        added = await client.call_tool(
            "add_document",
            {"content": f"# Herd\n\nThe {word} grazes.", "path": f"{word}.md", "metadata": {"kind": "animal"}},
        )
        assert not added.is_error, text(added)
        assert added.structured_content["status"] == "indexed"
        document = added.structured_content["document_id"]
        found = await client.call_tool(
            "search", {"query": word, "mode": "lexical", "filter": {"field": "metadata.kind", "eq": "animal"}}
        )
        assert found.structured_content["results"][0]["document_id"] == document, text(found)
        fetched = await client.call_tool("fetch_document", {"document_id": document})
        assert word in fetched.structured_content["text"] and word in text(fetched)
        passages = await client.call_tool("augment", {"query": word, "budget_tokens": 500})
        assert word in passages.structured_content["context"] and word in text(passages)
        assert passages.structured_content["citations"][0]["document_id"] == document, text(passages)
        listed = await client.call_tool("list_collections", {})
        assert any(entry["name"] == "default" for entry in listed.structured_content["collections"])


@pytest.mark.parametrize("generation", [SESSION, NEW])
async def test_an_interaction_is_told_and_how_it_went(transport, generation):
    async with session(transport(), generation) as client:
        told = await client.call_tool("track_interaction", {"question": "why?", "answer": "so", "outcome": "partial"})
        assert not told.is_error, text(told)
        interaction = told.structured_content["interaction_id"]
        again = {"interaction_id": interaction, "outcome": "success", "feedback": 1, "useful": ["doc"]}
        went = await client.call_tool("update_outcome", again)
        assert went.structured_content["interaction_id"] == interaction, text(went)
        refused = await client.call_tool("update_outcome", {"interaction_id": interaction, "feedback": 7})
        assert refused.structured_content["code"] == "invalid_field", text(refused)


@pytest.mark.parametrize("generation", [SESSION, NEW])
async def test_failures_reach_the_model_with_their_code(transport, generation):
    async with session(transport(), generation) as client:
        for tool, arguments, code in [
            ("search", {"query": ""}, "invalid_field"),
            ("augment", {"query": "x", "budget_tokens": 0}, "invalid_field"),
            ("search", {"query": "x", "collections": ["nowhere"]}, "collection_not_found"),
            ("search", {"query": "x", "filter": {"field": "nothing", "eq": 1}}, "invalid_filter"),
            ("fetch_document", {"document_id": "nothing"}, "document_not_found"),
            ("add_document", {"content": "x", "path": "../x"}, "invalid_field"),
            ("track_interaction", {"question": " "}, "invalid_field"),
            ("update_outcome", {"interaction_id": "nothing", "outcome": "success"}, "interaction_not_found"),
        ]:
            result = await client.call_tool(tool, arguments)
            assert result.is_error, (tool, arguments)
            assert result.structured_content["code"] == code
            assert code in text(result) and result.structured_content["error_id"] in text(result)


@pytest.mark.parametrize("generation", [OLD, NEW, AUTO])
async def test_the_generation_asked_for_is_spoken(transport, generation):
    async with Client(transport(), mode=generation) as client:
        assert client.protocol_version == VERSIONS[generation]
        if generation != NEW:
            # Pinned to a version, the client asks the server nothing beforehand.
            assert client.server_info.name == "holdfast"
            assert "knowledge base" in client.instructions


async def test_many_sessions_share_one_server(stdio):
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session(stdio_client(stdio), SESSION)) for _ in range(4)]
        for number, client in enumerate(clients):
            added = await client.call_tool("add_document", {"content": f"shared number {number}", "id": f"s{number}"})
            assert not added.is_error, text(added)
        for client in clients:
            for number in range(4):
                assert not (await client.call_tool("fetch_document", {"document_id": f"s{number}"})).is_error


async def test_http_without_a_valid_key_is_refused(server):
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for key in ["", "hf_wrong"]:
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json, text/event-stream"}
        reply = server.request("POST", "/mcp", message, key=False, headers=headers)
        assert reply.status == 401 and reply.json()["error"]["data"]["code"] == "unauthorized"


def raised(error):
    """The error of MCP in what a client's task groups make of it."""
    if isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
        return raised(error)
    assert isinstance(error, MCPError), error
    return error.error


def key_of(server, role):
    made = server.request("POST", "/api/v1/keys", {"name": f"a {role}", "roles": [role]})
    assert made.status == 201, made.body
    return made.json()["key"]


@pytest.mark.parametrize("generation", [SESSION, NEW, AUTO])
async def test_a_client_that_is_not_let_in_is_told_why(server, generation):
    refused = [("hf_wrong", "unauthorized", 401), (key_of(server, "metrics"), "forbidden", 403)]
    for key, code, status in refused:
        with pytest.raises((MCPError, ExceptionGroup)) as failed:
            async with session(over_http(server, key=key), generation) as client:
                await client.list_tools()
        told = raised(failed.value)
        assert told.data["code"] == code and told.data["status"] == status, told
        assert told.data["error_id"] and told.data["detail"] in told.message, told


@pytest.mark.parametrize("generation", [SESSION, NEW])
async def test_a_tool_beyond_the_roles_of_a_key_says_which_scope_it_takes(server, generation):
    async with session(over_http(server, key=key_of(server, "reader")), generation) as client:
        assert not (await client.call_tool("search", {"query": "x"})).is_error
        refused = await client.call_tool("add_document", {"content": "x"})
        assert refused.is_error and refused.structured_content["code"] == "forbidden"
        assert "documents:write" in text(refused) and refused.structured_content["error_id"] in text(refused)


@pytest.mark.parametrize("generation", [SESSION, NEW])
async def test_a_client_over_its_limit_is_told_when_to_come_again(strict, generation):
    with pytest.raises((MCPError, ExceptionGroup)) as failed:
        async with session(over_http(strict, key=strict.key()), generation) as client:
            with anyio.fail_after(60):
                for _ in range(50):
                    await client.list_tools()
    told = raised(failed.value)
    assert told.data["code"] == "rate_limited" and told.data["status"] == 429, told
    assert "wait 1 s" in told.message and told.data["error_id"], told


async def test_a_web_page_elsewhere_is_refused(server):
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"Accept": "application/json, text/event-stream"}
    for headers in [{"Host": "evil.example"}, {"Origin": "https://evil.example"}]:
        reply = server.request("POST", "/mcp", message, headers=accept | headers)
        assert reply.status == 403 and reply.json()["error"]["data"]["code"] == "forbidden_host"
