"""Embeddings through the clients people use, unmodified: the vectors they get are the ones the server gives."""

import concurrent.futures
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from langchain_openai import OpenAIEmbeddings
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

MODEL = "all-MiniLM-L6-v2"
TEXTS = [
    "How do I pin a version of nixpkgs?",
    "The quick brown fox jumps over the lazy dog.",
    "Ein Café in München, 漢字 and 👩‍🚀",
    "x",
]
TOO_LONG = "word " * 2_000
CL100K = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"


@pytest.fixture(scope="module")
def vectors(server):
    """What the server itself says of the texts, one request each."""
    return numpy.array([embed(server, text) for text in TEXTS])


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """The vocabulary langchain-openai would download, from the crate the server reads it from."""
    root = Path(__file__).resolve().parents[3]
    command = ["cargo", "metadata", "--format-version", "1", "--frozen"]
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)
    crate = next(package for package in metadata["packages"] if package["name"] == "tiktoken-rs")
    folder = tmp_path_factory.mktemp("tiktoken")
    source = Path(crate["manifest_path"]).parent / "assets" / "cl100k_base.tiktoken"
    shutil.copy(source, folder / hashlib.sha1(CL100K.encode()).hexdigest())
    return folder


def embed(server, text):
    reply = server.request("POST", "/embed", {"inputs": text})
    assert reply.status == 200, reply.body
    return reply.json()[0]


def same(given, vectors):
    numpy.testing.assert_allclose(numpy.array(given), vectors, rtol=0, atol=1e-6)


def test_openai_in_its_default_encoding_and_as_numbers(client, vectors):
    answer = client.embeddings.create(model=MODEL, input=TEXTS)
    same([datum.embedding for datum in answer.data], vectors)
    assert [datum.index for datum in answer.data] == list(range(len(TEXTS)))
    assert answer.model == MODEL
    numbers = client.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float")
    same([datum.embedding for datum in numbers.data], vectors)
    assert answer.usage.prompt_tokens == numbers.usage.total_tokens > 2 * len(TEXTS)


def test_openai_counts_the_tokens_that_are_read(client, server):
    spelled = server.request("POST", "/tokenize", {"inputs": TEXTS}).json()
    answer = client.embeddings.create(model=MODEL, input=TEXTS)
    assert answer.usage.prompt_tokens == sum(len(tokens) for tokens in spelled)
    for text, tokens in zip(TEXTS, spelled, strict=True):
        assert tokens[0]["text"] == "[CLS]" and tokens[-1]["text"] == "[SEP]"
        for token in tokens[1:-1]:
            assert text[token["start"] : token["stop"]] == token["text"]


def test_openai_raises_its_own_errors(client, server):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="text-embedding-unheard-of", input="x")
    assert unknown.value.code == "model_not_found" and MODEL in unknown.value.message
    with pytest.raises(openai.BadRequestError) as dimensions:
        client.embeddings.create(model=MODEL, input="x", dimensions=7)
    assert dimensions.value.param == "dimensions" and "384" in dimensions.value.message
    with pytest.raises(openai.BadRequestError, match="blank"):
        client.embeddings.create(model=MODEL, input=["x", " "])
    with pytest.raises(openai.APIStatusError, match="2049 texts") as many:
        client.embeddings.create(model=MODEL, input=["x"] * 2_049)
    assert many.value.status_code == 413 and many.value.code == "too_many_texts"
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="hf_wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.embeddings.create(model=MODEL, input="x")


def key_of(server, role):
    made = server.request("POST", "/api/v1/keys", {"name": f"a {role}", "roles": [role]})
    assert made.status == 201, made.body
    return made.json()["key"]


def test_openais_errors_have_the_code_and_the_error_id(server, client):
    """Each is raised as the class that programs catch, and leads to the server's log."""

    def with_key(key):
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)

    cases = [
        (openai.AuthenticationError, with_key("hf_wrong"), {"input": "x"}, "unauthorized", "authentication_error"),
        (openai.PermissionDeniedError, with_key(key_of(server, "metrics")), {"input": "x"}, "forbidden", "permission_error"),
        (openai.NotFoundError, client, {"input": "x", "model": "unheard-of"}, "model_not_found", "invalid_request_error"),
        (openai.BadRequestError, client, {"input": " "}, "empty_input", "invalid_request_error"),
        (openai.BadRequestError, client, {"input": "x", "dimensions": 7}, "invalid_field", "invalid_request_error"),
    ]
    for kind, asking, request, code, word in cases:
        with pytest.raises(kind) as raised:
            asking.embeddings.create(**{"model": MODEL, **request})
        error = raised.value
        assert (error.code, error.type) == (code, word), error.body
        assert len(error.body["error_id"]) == 32 and error.request_id, error.body


def test_the_hubs_client_raises_what_leads_to_the_code_and_the_error_id(server):
    def asking(key, path="embed"):
        return InferenceClient(model=f"{server.url}/{path}", token=key)

    cases = [
        (asking("hf_wrong"), "x", 401, "unauthorized", "Validation"),
        (asking(key_of(server, "metrics")), "x", 403, "forbidden", "Validation"),
        (asking(server.key, "embedd"), "x", 404, "route_not_found", None),
        (asking(server.key), " ", 400, "empty_input", "Empty"),
        (asking(server.key), ["x"] * 2_049, 413, "too_many_texts", "Validation"),
    ]
    for client, text, status, code, word in cases:
        with pytest.raises(HfHubHTTPError) as raised:
            client.feature_extraction(text)
        response = raised.value.response
        told = response.json()
        assert (response.status_code, told["code"], told.get("error_type")) == (status, code, word), told
        assert len(told["error_id"]) == 32, told


def asks_until(kind, ask):
    """What is raised once a key has asked as often as it may."""
    for _ in range(50):
        try:
            ask()
        except kind as error:
            return error
    pytest.fail(f"{kind} was never raised")


def test_openais_client_over_its_limit_raises_and_comes_again(strict):
    def client(retries):
        return openai.OpenAI(base_url=f"{strict.url}/v1", api_key=strict.key(), max_retries=retries)

    impatient = client(0)
    error = asks_until(openai.RateLimitError, lambda: impatient.embeddings.create(model=MODEL, input="x"))
    assert (error.status_code, error.code, error.type) == (429, "rate_limited", "rate_limit_error"), error.body
    assert "key_requests" in error.message and len(error.body["error_id"]) == 32, error.body
    headers = error.response.headers
    assert headers["retry-after"] == "1" and headers["x-ratelimit-remaining-requests"] == "0", headers
    assert headers["ratelimit-policy"].startswith('"key_requests";q=5;w=5'), headers
    # As it comes from the box, it waits for as long as it is told to.
    patient = client(5)
    for _ in range(8):
        patient.embeddings.create(model=MODEL, input="x")


def test_openais_client_at_a_busy_server_raises_and_comes_again(strict):
    client = openai.OpenAI(base_url=f"{strict.url}/v1", api_key=strict.key(), max_retries=0)
    with strict.busy(), pytest.raises(openai.InternalServerError) as busy:
        client.embeddings.create(model=MODEL, input="x")
    error = busy.value
    assert (error.status_code, error.code, error.type) == (503, "overloaded", "server_error"), error.body
    assert error.response.headers["retry-after"] == "1" and len(error.body["error_id"]) == 32, error.body
    client.with_options(max_retries=5).embeddings.create(model=MODEL, input="x")


def test_the_hubs_client_over_its_limit_and_at_a_busy_server(strict):
    client = InferenceClient(model=f"{strict.url}/embed", token=strict.key())
    with strict.busy(), pytest.raises(HfHubHTTPError) as busy:
        client.feature_extraction("x")
    limited = asks_until(HfHubHTTPError, lambda: client.feature_extraction("x"))
    for error, code in [(busy.value, "overloaded"), (limited, "rate_limited")]:
        told = error.response.json()
        # What is 503 elsewhere is 429 in that interface.
        assert (error.response.status_code, told["code"], told["error_type"]) == (429, code, "Overloaded"), told
        assert error.response.headers["retry-after"] == "1" and len(told["error_id"]) == 32, told


def test_clients_of_a_server_whose_model_is_not_there(without_model):
    client = openai.OpenAI(base_url=f"{without_model.url}/v1", api_key=without_model.key, max_retries=0)
    with pytest.raises(openai.InternalServerError) as raised:
        client.embeddings.create(model=MODEL, input="x")
    error = raised.value
    assert (error.status_code, error.code, error.type) == (503, "model_not_ready", "server_error"), error.body
    assert int(error.response.headers["retry-after"]) >= 1, error.response.headers
    hub = InferenceClient(model=f"{without_model.url}/embed", token=without_model.key)
    with pytest.raises(HfHubHTTPError) as raised:
        hub.feature_extraction("x")
    told = raised.value.response.json()
    assert (raised.value.response.status_code, told["code"], told["error_type"]) == (503, "model_not_ready", "Unhealthy"), told


def test_a_text_beyond_the_window_is_refused_or_cut_as_the_request_says(client, server):
    with pytest.raises(openai.APIStatusError, match="more than the 256 tokens") as refused:
        client.embeddings.create(model=MODEL, input=["x", TOO_LONG])
    assert refused.value.code == "text_too_long" and refused.value.param == "input[1]"
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model=MODEL, input=TOO_LONG)
    assert refused.value.param == "input"
    answer = client.embeddings.with_raw_response.create(
        model=MODEL, input=["x", TOO_LONG], extra_body={"truncate": True}
    )
    assert answer.headers["x-holdfast-truncated"] == "1"
    assert answer.parse().usage.prompt_tokens == 3 + 256
    ends = {"inputs": f"{TOO_LONG} the end", "truncate": True, "truncation_direction": "Left"}
    left, right = (server.request("POST", "/embed", {**ends, "truncation_direction": d}) for d in ("Left", "Right"))
    assert left.headers["x-holdfast-truncated"] == "1" and left.json() != right.json()


def test_langchain_sends_token_numbers_and_gets_the_texts_vectors(server, vectors, vocabulary, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(vocabulary))
    embeddings = OpenAIEmbeddings(model=MODEL, base_url=f"{server.url}/v1", api_key=server.key)
    same(embeddings.embed_documents(TEXTS), vectors)
    same(embeddings.embed_query(TEXTS[0]), vectors[0])


def test_llama_index(server, vectors):
    embeddings = TextEmbeddingsInference(model_name=MODEL, base_url=server.url, auth_token=server.key)
    same(embeddings.get_text_embedding_batch(TEXTS), vectors)
    same(embeddings.get_query_embedding(TEXTS[0]), vectors[0])
    # It asks for truncation by default.
    assert len(embeddings.get_text_embedding(TOO_LONG)) == len(vectors[0])


def test_inference_client(server, vectors):
    client = InferenceClient(model=f"{server.url}/embed", token=server.key)
    same(client.feature_extraction(TEXTS), vectors)
    same(client.feature_extraction(TEXTS[0])[0], vectors[0])
    raw = client.feature_extraction(TEXTS, normalize=False)
    lengths = numpy.linalg.norm(raw, axis=1, keepdims=True)
    assert (abs(lengths - 1) > 0.1).all()
    same(raw / lengths, vectors)
    cut = client.feature_extraction(TOO_LONG, truncate=True, truncation_direction="left")
    assert cut.shape == (1, len(vectors[0]))
    with pytest.raises(HfHubHTTPError) as refused:
        client.feature_extraction(TOO_LONG)
    told = refused.value.response.json()
    assert refused.value.response.status_code == 413 and told["error_type"] == "Validation", told
    assert told["code"] == "text_too_long" and told["error_id"]


def test_inference_client_compares_sentences(server, vectors):
    client = InferenceClient(model=f"{server.url}/similarity", token=server.key)
    same(client.sentence_similarity(TEXTS[0], other_sentences=TEXTS), vectors @ vectors[0])


@pytest.mark.parametrize(
    ("source", "sentences", "field"),
    [
        (TOO_LONG, ["x"], "inputs.source_sentence"),
        ("x", ["x", TOO_LONG], "inputs.sentences[1]"),
        ("x", "x", "inputs.sentences"),
        ("x", ["x", [1]], "inputs.sentences"),
        ("x", ["x", ""], "inputs.sentences[1]"),
    ],
)
def test_what_cannot_be_compared_is_named(server, source, sentences, field):
    body = {"inputs": {"source_sentence": source, "sentences": sentences}}
    told = server.request("POST", "/similarity", body).json()
    assert told["field"] == field, told


def test_syllables_and_marks_of_any_kind_have_their_place(server):
    for text in ["각 " * 100_000, "\U0001d16d\u302e\U0001d165", "\U0001d16d" * 50_000 + "\U0001d165" * 50_000]:
        [tokens] = server.request("POST", "/tokenize", {"inputs": text, "add_special_tokens": False}).json()
        places = [(token["start"], token["stop"]) for token in tokens]
        assert places and all(0 <= start < stop <= len(text) for start, stop in places)
        assert max(stop for _, stop in places) >= len(text.rstrip()) - 1


def test_the_vectors_of_tokens_have_the_pooled_one_as_their_mean(server, vectors):
    reply = server.request("POST", "/embed_all", {"inputs": TEXTS})
    for tokens, vector in zip(reply.json(), vectors, strict=True):
        mean = numpy.array(tokens).mean(axis=0)
        same(mean / numpy.linalg.norm(mean), vector)


def test_token_numbers_of_the_model_are_taken_too(server, vectors):
    spelled = server.request("POST", "/tokenize", {"inputs": TEXTS}).json()
    reply = server.request("POST", "/embed", {"inputs": [[token["id"] for token in tokens] for tokens in spelled]})
    same(reply.json(), vectors)


def test_info_says_what_the_model_takes(server):
    told = server.request("GET", "/info").json()
    assert told["model_id"] == MODEL and told["max_input_length"] == 256
    assert told["model_type"] == {"embedding": {"pooling": "mean"}} and told["auto_truncate"] is False


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"inputs": ["x"] * 2_049}, 413, "Validation"),
        ("/embed", {"inputs": [["x"]]}, 422, "Validation"),
        ("/embed", {"inputs": 5}, 422, "Validation"),
        ("/embed", {"inputs": [10**6]}, 422, "Validation"),
        ("/embed", {"inputs": "x", "dimensions": 0}, 422, "Validation"),
        ("/embed", {"inputs": "x", "prompt_name": "unheard of"}, 422, "Validation"),
        ("/embed", {"inputs": "x", "truncation_direction": "up"}, 422, "Validation"),
        ("/embed_all", {"inputs": ["x"] * 33}, 413, "Validation"),
        ("/similarity", {"inputs": {"source_sentence": "", "sentences": ["x"]}}, 400, "Empty"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": []}}, 400, "Empty"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": ["x"] * 2_048}}, 413, "Validation"),
        ("/tokenize", {"inputs": [[1]]}, 422, "Validation"),
        ("/tokenize", {"inputs": ["a " * 2**19, "a"]}, 413, "Validation"),
        ("/embed", {"inputs": [""] * 1_000_000}, 413, "Validation"),
    ],
)
def test_what_is_wrong_is_told_in_the_shape_of_the_route(server, path, body, status, kind):
    reply = server.request("POST", path, body)
    told = reply.json()
    assert (reply.status, told["error_type"]) == (status, kind), told
    assert told["error"] and told["code"] and told["error_id"], told


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"input": "\\ud800"}', 400),
        (b'{"input": [1.5]}', 400),
        (b'{"input": [-1]}', 400),
        (b'{"input": [100256]}', 400),
        (b'{"input": [220]}', 400),
        (b'{"input": "x", "encoding_format": "x"}', 400),
        (b'{"input": "x", "dimensions": 0}', 400),
        (b'{"input": ' + json.dumps("word " * 2_000_000).encode() + b"}", 413),
    ],
)
def test_hostile_requests_are_refused_in_openais_shape(server, body, status):
    reply = server.request("POST", "/v1/embeddings", body)
    told = reply.json()["error"]
    assert reply.status == status and told["type"] == "invalid_request_error", told
    assert told["message"] and told["code"] and told["error_id"], told


def test_a_hundred_thousand_combining_characters_have_a_vector(client):
    answer = client.embeddings.create(model=MODEL, input="e" + "\u0301" * 100_000)
    assert abs(numpy.linalg.norm(answer.data[0].embedding) - 1) < 1e-5


def counted(server, series):
    metrics = server.request("GET", "/metrics").body.decode()
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(series))


def test_what_was_asked_before_is_kept_and_what_is_under_way_is_shared(server):
    hits = 'holdfast_embedding_cache_total{outcome="hit"}'
    before = counted(server, hits)
    for _ in range(3):
        embed(server, "asked for three times")
    assert counted(server, hits) == before + 2
    # The server's own probe embeds a few tokens now and then: a round without one tells.
    assert any(shared_once(server, number) for number in range(5))


def shared_once(server, number):
    """Whether ten texts that sixteen clients ask for at once are embedded once each."""
    tokens = "holdfast_embedding_tokens_total"
    texts = [f"shared by many, {number} number {n // 16}" for n in range(160)]
    before = counted(server, tokens)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        vectors = list(pool.map(lambda text: embed(server, text), texts))
    embedded = counted(server, tokens) - before
    spelled = server.request("POST", "/tokenize", {"inputs": texts[::16]}).json()
    assert all(vector == vectors[n // 16 * 16] for n, vector in enumerate(vectors))
    return embedded == sum(map(len, spelled))
