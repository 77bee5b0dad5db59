//! Failures of further tools, written after the rules had been mended for `many_tools`. At first 25 of 34 alike and 14 of
//! 18 different pairs were told right, which is what to expect of tools that the rules have never seen.

use super::{Same, nothing, pairs};

pub(super) const SAME: &[(&str, &str, &str)] = &[
    (
        "pydantic",
        "pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings\nport\n  Input should be a valid integer [type=int_parsing, input_value='abc', input_type=str]",
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for Settings\nport\n  Input should be a valid integer",
    ),
    (
        "django",
        "django.db.utils.OperationalError: could not connect to server: Connection refused\n\tIs the server running on host \"127.0.0.1\" and accepting\n\tTCP/IP connections on port 5432?",
        "django.db.utils.OperationalError: could not connect to server: Connection refused\n\tIs the server running on host \"10.0.0.1\" and accepting\n\tTCP/IP connections on port 6543?",
    ),
    (
        "flask",
        "[2026-01-02 10:00:00,123] ERROR in app: Exception on /items/17 [GET]\nTraceback (most recent call last):\n  File \"/srv/a.py\", line 1, in x\n    y()\nZeroDivisionError: division by zero",
        "Traceback (most recent call last):\n  File \"/b.py\", line 17, in q\n    1/0\nZeroDivisionError: division by zero",
    ),
    (
        "json",
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "json.decoder.JSONDecodeError: Expecting value: line 4 column 17 (char 88)",
    ),
    (
        "axios",
        "AxiosError: Request failed with status code 401\n    at settle (/app/node_modules/axios/lib/core/settle.js:19:12)",
        "AxiosError: Request failed with status code 401\n    at settle (webpack-internal:///./node_modules/axios/lib/core/settle.js:24:12)",
    ),
    (
        "react",
        "Uncaught Error: Too many re-renders. React limits the number of renders to prevent an infinite loop.\n    at renderWithHooks (react-dom.development.js:14985:19)",
        "Error: Too many re-renders. React limits the number of renders to prevent an infinite loop.",
    ),
    (
        "next",
        "Error: Hydration failed because the initial UI does not match what was rendered on the server.",
        "Unhandled Runtime Error\nError: Hydration failed because the initial UI does not match what was rendered on the server.",
    ),
    (
        "esm",
        "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'chalk' imported from /data/a/x.mjs\n    at packageResolve (node:internal/modules/esm/resolve:853:9)",
        "node:internal/errors:496\nError [ERR_MODULE_NOT_FOUND]: Cannot find package 'chalk' imported from C:\\b\\y.mjs\n    at x (node:internal/modules/esm/resolve:1:1)",
    ),
    (
        "prisma",
        "PrismaClientInitializationError: Can't reach database server at `localhost:5432`",
        "PrismaClientInitializationError: Can't reach database server at `localhost:5433`",
    ),
    (
        "spring",
        "Caused by: org.springframework.beans.factory.NoSuchBeanDefinitionException: No qualifying bean of type 'com.example.Foo' available",
        "org.springframework.beans.factory.NoSuchBeanDefinitionException: No qualifying bean of type 'com.example.Foo' available\n\tat org.springframework.X.y(X.java:1)",
    ),
    (
        "kotlin",
        "e: file:///data/a/src/Main.kt:3:5 Unresolved reference: foo",
        "e: file:///w/src/Other.kt:30:15 Unresolved reference: foo",
    ),
    (
        "go modules",
        "go: github.com/a/b@v1.2.3: reading github.com/a/b/go.mod at revision v1.2.3: unknown revision v1.2.3",
        "go: github.com/a/b@v1.9.9: reading github.com/a/b/go.mod at revision v1.9.9: unknown revision v1.9.9",
    ),
    (
        "a log of Go",
        "2026/01/02 10:00:00 main.go:12: listen tcp :8080: bind: address already in use",
        "2026/03/04 11:00:00 main.go:99: listen tcp :9090: bind: address already in use",
    ),
    (
        "docker compose",
        "Error response from daemon: Conflict. The container name \"/web\" is already in use by container \"3f2a1bc9d0e13f2a1bc9d0e13f2a1bc9d0e13f2a1bc9d0e13f2a1bc9d0e1\". You have to remove (or rename) that container to be able to reuse that name.",
        "Error response from daemon: Conflict. The container name \"/web\" is already in use by container \"99aabbccddee99aabbccddee99aabbccddee99aabbccddee99aabbccddee\". You have to remove (or rename) that container to be able to reuse that name.",
    ),
    (
        "a probe",
        "Warning  Unhealthy  12s (x3 over 1m)  kubelet  Readiness probe failed: HTTP probe failed with statuscode: 503",
        "Warning  Unhealthy  99s (x17 over 4m)  kubelet  Readiness probe failed: HTTP probe failed with statuscode: 503",
    ),
    (
        "a scheduler",
        "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available",
        "0/5 nodes are available: 5 Insufficient memory. preemption: 0/5 nodes are available",
    ),
    (
        "pg_dump",
        "pg_dump: error: connection to server at \"localhost\" (127.0.0.1), port 5432 failed: FATAL:  database \"shop\" does not exist",
        "pg_dump: error: connection to server at \"db1\" (10.0.0.7), port 6432 failed: FATAL:  database \"shop\" does not exist",
    ),
    (
        "a deadlock",
        "ERROR:  deadlock detected\nDETAIL:  Process 123 waits for ShareLock on transaction 77; blocked by process 99.",
        "2026-01-02 10:00:00 UTC [5] ERROR:  deadlock detected\nDETAIL:  Process 9 waits for ShareLock on transaction 1; blocked by process 2.",
    ),
    (
        "a syntax error of PostgreSQL",
        "ERROR:  syntax error at or near \"SELEC\"\nLINE 1: SELEC 1",
        "ERROR:  syntax error at or near \"FORM\"\nLINE 9: FORM x",
    ),
    (
        "redis",
        "(error) WRONGTYPE Operation against a key holding the wrong kind of value",
        "redis.exceptions.ResponseError: WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    (
        "TLS",
        "x509: certificate has expired or is not yet valid: current time 2026-01-02T10:00:00Z is after 2025-12-31T23:59:59Z",
        "x509: certificate has expired or is not yet valid: current time 2026-09-09T10:00:00+02:00 is after 2026-08-31T23:59:59Z",
    ),
    (
        "wget",
        "--2026-01-02 10:00:00--  https://example.com/a\nResolving example.com... failed: Temporary failure in name resolution.\nwget: unable to resolve host address ‘example.com’",
        "Resolving example.com... failed: Temporary failure in name resolution.\nwget: unable to resolve host address 'example.com'",
    ),
    (
        "systemd's start",
        "Job for nginx.service failed because the control process exited with error code.\nSee \"systemctl status nginx.service\" and \"journalctl -xeu nginx.service\" for details.",
        "Job for nginx.service failed because the control process exited with error code.",
    ),
    (
        "a unit that is not there",
        "Failed to start foo.service: Unit foo.service not found.",
        "Jan 02 10:00:00 h systemctl[12]: Failed to start foo.service: Unit foo.service not found.",
    ),
    (
        "a file system",
        "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #131: comm ls: reading directory lblock 0",
        "[12.3] EXT4-fs error (device sdb2): ext4_find_entry:1460: inode #99: comm ls: reading directory lblock 7",
    ),
    (
        "NVIDIA",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    ),
    ("a Makefile", "Makefile:12: *** missing separator.  Stop.", "Makefile:99: *** missing separator.  Stop."),
    (
        "autoconf",
        "configure: error: Package requirements (libfoo >= 1.2) were not met:",
        "configure: error: Package requirements (libfoo >= 1.9) were not met:",
    ),
    (
        "rustup",
        "error: toolchain 'nightly-2026-01-02-x86_64-unknown-linux-gnu' is not installed",
        "error: toolchain 'nightly-2026-05-06-x86_64-unknown-linux-gnu' is not installed",
    ),
    (
        "miri of pytest fixture",
        "E       fixture 'client' not found\n>       available fixtures: a, b",
        "E       fixture 'client' not found",
    ),
    (
        "a person with a fence",
        "It fails like this:\n\n```\n$ cargo build\nerror[E0463]: can't find crate for `std`\n```\nWhat can I do?",
        "error[E0463]: can't find crate for `std`",
    ),
    (
        "github api",
        "{\"message\":\"Bad credentials\",\"documentation_url\":\"https://docs.github.com/rest\",\"status\":\"401\"}",
        "HTTP 401: {\"message\":\"Bad credentials\",\"documentation_url\":\"https://docs.github.com/en/rest\",\"status\":\"401\"}",
    ),
    (
        "problem+json",
        "{\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"code\":\"rate_limited\",\"detail\":\"try again in 3 s\",\"error_id\":\"01HX\"}",
        "{\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"code\":\"rate_limited\",\"detail\":\"try again in 17 s\",\"error_id\":\"01HY\"}",
    ),
    (
        "pino",
        "{\"level\":50,\"time\":1767348000000,\"pid\":12,\"hostname\":\"a\",\"err\":{\"type\":\"Error\",\"message\":\"pool is closed\",\"stack\":\"Error: pool is closed\\n    at x (/a.js:1:2)\"},\"msg\":\"query failed\"}",
        "{\"level\":50,\"time\":1767349999999,\"pid\":77,\"hostname\":\"b\",\"err\":{\"type\":\"Error\",\"message\":\"pool is closed\",\"stack\":\"Error: pool is closed\\n    at y (/b.js:3:4)\"},\"msg\":\"query failed\"}",
    ),
];

pub(super) const DIFFER: &[(&str, &str, &str)] = &[
    ("axios", "AxiosError: Request failed with status code 401", "AxiosError: Request failed with status code 500"),
    (
        "esm",
        "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'chalk' imported from /a",
        "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'ora' imported from /a",
    ),
    (
        "spring",
        "org.x.NoSuchBeanDefinitionException: No qualifying bean of type 'com.example.Foo' available",
        "org.x.NoSuchBeanDefinitionException: No qualifying bean of type 'com.example.Bar' available",
    ),
    (
        "kotlin",
        "e: file:///a/Main.kt:3:5 Unresolved reference: foo",
        "e: file:///a/Main.kt:3:5 Unresolved reference: bar",
    ),
    ("go", "go: github.com/a/b@v1.2.3: unknown revision v1.2.3", "go: github.com/a/c@v1.2.3: unknown revision v1.2.3"),
    ("a scheduler", "0/3 nodes are available: 3 Insufficient memory.", "0/3 nodes are available: 3 Insufficient cpu."),
    (
        "a database",
        "psql: error: FATAL:  database \"shop\" does not exist",
        "psql: error: FATAL:  database \"blog\" does not exist",
    ),
    (
        "a unit",
        "Failed to start foo.service: Unit foo.service not found.",
        "Failed to start bar.service: Unit bar.service not found.",
    ),
    (
        "autoconf",
        "configure: error: Package requirements (libfoo >= 1.2) were not met:",
        "configure: error: Package requirements (libbar >= 1.2) were not met:",
    ),
    ("a fixture", "E       fixture 'client' not found", "E       fixture 'server' not found"),
    ("a crate", "error[E0463]: can't find crate for `std`", "error[E0463]: can't find crate for `serde`"),
    (
        "github",
        "{\"message\":\"Bad credentials\",\"status\":\"401\"}",
        "{\"message\":\"Not Found\",\"status\":\"404\"}",
    ),
    (
        "a probe",
        "Readiness probe failed: HTTP probe failed with statuscode: 503",
        "Readiness probe failed: HTTP probe failed with statuscode: 404",
    ),
    (
        "wget",
        "wget: unable to resolve host address 'example.com'",
        "wget: unable to resolve host address 'example.org'",
    ),
    ("a deadlock", "ERROR:  deadlock detected", "ERROR:  canceling statement due to statement timeout"),
    (
        "redis",
        "(error) WRONGTYPE Operation against a key holding the wrong kind of value",
        "(error) NOAUTH Authentication required.",
    ),
    ("pydantic", "ValidationError: 1 validation error for Settings", "ValidationError: 1 validation error for User"),
    ("go's variables", "./a.go:3:2: declared and not used: x", "./a.go:3:2: missing return"),
];

pub(super) const NONE: &[&str] = &[
    "My favourite bug was an off-by-one in a calendar.",
    "Could you review this function for me?\n\n```python\ndef f(x):\n    return x + 1\n```",
    "INFO: Application startup complete.\nINFO: Uvicorn running on http://127.0.0.1:8000",
    "Uploading 3 of 3 files… done. No failures.",
    "What is a segmentation fault?",
    "Why would a server return 503?",
    "ok: [web1] => {\"changed\": false}\n\nPLAY RECAP\nweb1 : ok=3 changed=0 unreachable=0 failed=0",
    "fn main() {\n    panic!(\"never\");\n}",
    "assert error is None",
    "Translate: the file was not found in the archive",
    "The lecture is about fault tolerance and error correction.",
    "0 passing (3ms)",
    "const onError = (error) => console.log(error);",
    "    Checking holdfast v0.1.0\n    Finished in 3s",
];

#[test]
fn the_same_failure_has_the_same_id() {
    pairs(SAME, Same::Yes);
}

#[test]
fn different_failures_have_different_ids() {
    pairs(DIFFER, Same::No);
}

#[test]
fn what_has_no_error_has_no_fingerprint() {
    nothing(NONE);
}
