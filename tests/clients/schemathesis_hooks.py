"""Keeps fuzzed requests on this machine and within the test's own folders, and its key alive.

Loaded by schemathesis, which is told by SCHEMATHESIS_HOOKS. It changes what is asked for and never what is answered.
"""

import os

import schemathesis

KEY = os.environ["HOLDFAST_FUZZ_KEY_ID"]
FOLDER = os.environ["HOLDFAST_FUZZ_FOLDER"]
NOWHERE = "/nonexistent"
INSTALLED = "all-MiniLM-L6-v2"


@schemathesis.hook
def filter_case(context, case):
    """The key that the run itself uses is neither revoked nor rotated."""
    return not (case.path.startswith("/api/v1/keys/{id}") and (case.path_parameters or {}).get("id") == KEY)


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict) or case.method.upper() != "POST":
        return
    if case.path == "/api/v1/sources":
        contain_path(body)
    elif case.path == "/api/v1/models/{name}/pull":
        # A model that is there in full is fetched from nowhere; any other would be looked for outside.
        if (case.path_parameters or {}).get("name") != INSTALLED and body.get("from") in (None, "hub", "pip"):
            body["from"] = NOWHERE
    elif case.path == "/api/v1/models/{name}/connect":
        if isinstance(body.get("url"), str) and body["url"].lower().startswith("http"):
            # Nobody listens there.
            body["url"] = "http://127.0.0.1:9/v1"


def contain_path(body):
    """Every second folder is the fixtures', and the others are not there."""
    path = body.get("path")
    if isinstance(path, str) and path.startswith("/"):
        body["path"] = FOLDER if len(path) % 2 == 0 else NOWHERE + path
