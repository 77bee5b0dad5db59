"""Chat through the clients people use, unmodified: whole and streamed, with tools, and what their errors look like."""

import json

import anthropic
import openai
import pytest
from pydantic import BaseModel

from conftest import furnish, starting
from scripted import Scripted, call

WEATHER = {
    "type": "object",
    "properties": {"place": {"type": "string"}},
    "required": ["place"],
    "additionalProperties": False,
}


def answer(body):
    last = body["messages"][-1]
    text = last["content"] if isinstance(last["content"], str) else json.dumps(last["content"])
    if "fail" in text:
        return 500
    if last["role"] == "tool":
        return {"content": f"It is {text}."}
    if body.get("tools") and "weather" in text:
        return call("weather", place="Kiel")
    if body.get("response_format", {}).get("type") == "json_schema":
        return {"content": json.dumps({"place": "Kiel"})}
    return {"content": "Hello from the scripted model."}


@pytest.fixture(scope="module")
def upstream():
    with Scripted(answer) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server(binary, tmp_path_factory, upstream):
    data_dir = furnish(tmp_path_factory.mktemp("chat") / "data")
    with starting(binary, data_dir) as (server, _):
        # A provider on this machine is the owner's to add.
        server.command("providers", "add", "scripted", "--url", upstream.url, "--model", "scripted")
        yield server


@pytest.fixture
def oai(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)


@pytest.fixture
def claude(server):
    return anthropic.Anthropic(base_url=server.url, api_key=server.key, max_retries=0)


def ask(text):
    return [{"role": "user", "content": text}]


def test_the_models_are_listed(oai):
    names = [model.id for model in oai.models.list()]
    assert {"auto", "scripted/scripted"} <= set(names)


def test_openai_whole_and_streamed(oai):
    whole = oai.chat.completions.create(model="auto", messages=ask("hello"))
    assert whole.choices[0].message.content == "Hello from the scripted model."
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (11, 7)
    stream = oai.chat.completions.create(
        model="auto", messages=ask("hello"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.strip() == "Hello from the scripted model."
    assert chunks[-1].usage.total_tokens == 18
    quiet = oai.chat.completions.create(model="auto", messages=ask("hello"), stream=True)
    assert all(chunk.usage is None for chunk in quiet), "usage that nobody asked for"


def test_openai_tools(oai):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    messages = ask("What is the weather?")
    first = oai.chat.completions.create(model="auto", messages=messages, tools=tools)
    assert first.choices[0].finish_reason == "tool_calls"
    asked = first.choices[0].message.tool_calls[0]
    assert json.loads(asked.function.arguments) == {"place": "Kiel"}
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": asked.id, "content": "windy"}]
    second = oai.chat.completions.create(model="auto", messages=messages, tools=tools)
    assert second.choices[0].message.content == "It is windy."
    with oai.chat.completions.stream(model="auto", messages=ask("What is the weather?"), tools=tools) as stream:
        final = stream.get_final_completion()
    assert json.loads(final.choices[0].message.tool_calls[0].function.arguments) == {"place": "Kiel"}


def test_openai_structured_output(oai):
    class Place(BaseModel):
        place: str

    parsed = oai.chat.completions.parse(model="auto", messages=ask("Where?"), response_format=Place)
    assert parsed.choices[0].message.parsed == Place(place="Kiel")


def test_openai_errors_have_their_class_code_and_no_word_of_the_provider(oai, server):
    with pytest.raises(openai.NotFoundError) as unknown:
        oai.chat.completions.create(model="gpt-17", messages=ask("hello"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError):
        oai.chat.completions.create(model="auto", messages=ask("hello"), max_tokens=-1)
    with pytest.raises(openai.BadRequestError):
        oai.chat.completions.create(model="auto", messages=ask("hello"), n=10**9)
    with pytest.raises(openai.InternalServerError) as failed:
        oai.chat.completions.create(model="auto", messages=ask("fail"))
    assert "sk-upstream" not in str(failed.value.body)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="nothing", max_retries=0).chat.completions.create(
            model="auto", messages=ask("hello")
        )


def test_anthropic_whole_and_streamed(claude):
    whole = claude.messages.create(model="auto", max_tokens=64, messages=ask("hello"), system="Be brief.")
    assert whole.content[0].text == "Hello from the scripted model."
    assert (whole.stop_reason, whole.usage.input_tokens, whole.usage.output_tokens) == ("end_turn", 11, 7)
    with claude.messages.stream(model="auto", max_tokens=64, messages=ask("hello")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.strip() == "Hello from the scripted model."
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 7)


def test_anthropic_tools(claude, upstream):
    tools = [{"name": "weather", "input_schema": WEATHER}]
    messages = ask("What is the weather?")
    first = claude.messages.create(model="auto", max_tokens=64, messages=messages, tools=tools)
    assert first.stop_reason == "tool_use"
    asked = next(block for block in first.content if block.type == "tool_use")
    assert asked.input == {"place": "Kiel"}
    result = {"type": "tool_result", "tool_use_id": asked.id, "content": "windy"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = claude.messages.create(model="auto", max_tokens=64, messages=messages, tools=tools)
    assert second.content[0].text == "It is windy."
    assert [message["role"] for message in upstream.asked[-1]["messages"]] == ["user", "assistant", "tool"]
    with claude.messages.stream(model="auto", max_tokens=64, messages=ask("weather?"), tools=tools) as stream:
        final = stream.get_final_message()
    assert next(block for block in final.content if block.type == "tool_use").input == {"place": "Kiel"}


def test_anthropic_counts_and_errors(claude, server):
    counted = claude.messages.count_tokens(model="auto", messages=ask("How many tokens are these?"))
    assert 5 <= counted.input_tokens <= 30
    with pytest.raises(anthropic.NotFoundError) as unknown:
        claude.messages.create(model="claude-17", max_tokens=8, messages=ask("hello"))
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as bad:
        claude.messages.create(model="auto", max_tokens=0, messages=ask("hello"))
    assert bad.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.APIStatusError) as failed:
        claude.messages.create(model="auto", max_tokens=8, messages=ask("fail"))
    assert failed.value.status_code >= 500 and "sk-upstream" not in str(failed.value.body)
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=server.url, api_key="nothing", max_retries=0).messages.create(
            model="auto", max_tokens=8, messages=ask("hello")
        )


def test_hints_of_another_shape_are_named(claude):
    raw = claude.messages.with_raw_response.create(
        model="auto", max_tokens=64, messages=ask("hello"), metadata={"user_id": "somebody"}
    )
    assert "metadata" in raw.headers["x-holdfast-dropped"]


def test_why_tells_of_it(oai, server):
    raw = oai.chat.completions.with_raw_response.create(model="auto", messages=ask("hello"))
    interaction = raw.headers["x-holdfast-interaction"]
    why = server.request("GET", f"/api/v1/interactions/{interaction}/why").json()
    assert why["result"]["outcome"] == "answered" and why["result"]["attempts"][0]["outcome"] == "ok", why


def test_without_a_provider_the_error_says_how_to_add_one(binary, tmp_path):
    with starting(binary, furnish(tmp_path / "data")) as (server, _):
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
        with pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(model="auto", messages=ask("hello"))
        assert refused.value.code == "no_provider" and "holdfast providers add" in str(refused.value)
