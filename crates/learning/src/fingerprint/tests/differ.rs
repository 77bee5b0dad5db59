//! Different failures: another class, another message, another name of what is missing, another code, another status.

use super::{Same, fingerprint, pairs};

pub(super) const DIFFER: &[(&str, &str, &str)] = &[
    (
        "another module",
        "ModuleNotFoundError: No module named 'requests'",
        "ModuleNotFoundError: No module named 'numpy'",
    ),
    (
        "another submodule",
        "ModuleNotFoundError: No module named 'app.db'",
        "ModuleNotFoundError: No module named 'app.web'",
    ),
    ("another class", "TypeError: 'NoneType' object is not iterable", "ValueError: 'NoneType' object is not iterable"),
    ("another type", "TypeError: 'NoneType' object is not iterable", "TypeError: 'int' object is not iterable"),
    (
        "another attribute",
        "AttributeError: 'NoneType' object has no attribute 'group'",
        "AttributeError: 'NoneType' object has no attribute 'split'",
    ),
    ("another key", "KeyError: 'user_id'", "KeyError: 'email'"),
    ("another name", "NameError: name 'foo' is not defined", "NameError: name 'bar' is not defined"),
    (
        "another import",
        "ImportError: cannot import name 'A' from 'pkg' (/x/pkg.py)",
        "ImportError: cannot import name 'B' from 'pkg' (/x/pkg.py)",
    ),
    (
        "another package to import from",
        "ImportError: cannot import name 'A' from 'pkg' (/x/pkg.py)",
        "ImportError: cannot import name 'A' from 'other' (/x/pkg.py)",
    ),
    (
        "another argument",
        "TypeError: f() got an unexpected keyword argument 'a'",
        "TypeError: f() got an unexpected keyword argument 'b'",
    ),
    ("another errno", "OSError: [Errno 28] No space left on device", "OSError: [Errno 24] Too many open files"),
    ("the number of an errno alone", "OSError: [Errno 5] x", "OSError: [Errno 6] x"),
    (
        "the function of an assertion",
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in test_a\nAssertionError",
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in test_b\nAssertionError",
    ),
    (
        "why a connection fails",
        "ConnectionError: Max retries exceeded (Caused by NewConnectionError('<x>: Failed to establish a new connection: [Errno 111] Connection refused'))",
        "ConnectionError: Max retries exceeded (Caused by NewConnectionError('<x>: Failed to establish a new connection: [Errno -2] Name or service not known'))",
    ),
    (
        "another code of rustc",
        "error[E0382]: borrow of moved value: `x`",
        "error[E0499]: cannot borrow `x` as mutable more than once at a time",
    ),
    (
        "another import of rustc",
        "error[E0432]: unresolved import `serde_yaml`",
        "error[E0432]: unresolved import `serde_json`",
    ),
    (
        "other types of rustc",
        "error[E0308]: mismatched types\n --> a.rs:1:1\n  |\n1 | x\n  | ^ expected `u32`, found `&str`",
        "error[E0308]: mismatched types\n --> a.rs:1:1\n  |\n1 | x\n  | ^ expected `String`, found `&str`",
    ),
    (
        "another trait",
        "error[E0277]: the trait bound `Foo: Serialize` is not satisfied",
        "error[E0277]: the trait bound `Foo: Clone` is not satisfied",
    ),
    (
        "another method",
        "error[E0599]: no method named `foo` found for struct `Bar` in the current scope",
        "error[E0599]: no method named `baz` found for struct `Bar` in the current scope",
    ),
    (
        "another panic",
        "thread 'main' panicked at src/a.rs:1:1:\nindex out of bounds: the len is 3 but the index is 5",
        "thread 'main' panicked at src/a.rs:1:1:\nattempt to subtract with overflow",
    ),
    (
        "another value of unwrap",
        "thread 'main' panicked at a.rs:1:1:\ncalled `Option::unwrap()` on a `None` value",
        "thread 'main' panicked at a.rs:1:1:\ncalled `Result::unwrap()` on an `Err` value: ParseIntError { kind: InvalidDigit }",
    ),
    (
        "another property",
        "TypeError: Cannot read properties of undefined (reading 'name')",
        "TypeError: Cannot read properties of undefined (reading 'id')",
    ),
    (
        "null and undefined",
        "TypeError: Cannot read properties of undefined (reading 'name')",
        "TypeError: Cannot read properties of null (reading 'name')",
    ),
    ("another module of Node", "Error: Cannot find module 'express'", "Error: Cannot find module 'lodash'"),
    ("a module beside it", "Error: Cannot find module './utils/a'", "Error: Cannot find module './utils/b'"),
    ("another errno of Node", "Error: connect ECONNREFUSED 127.0.0.1:80", "Error: connect ETIMEDOUT 127.0.0.1:80"),
    ("another host", "Error: getaddrinfo ENOTFOUND api.example.com", "Error: getaddrinfo ENOTFOUND db.example.com"),
    ("another reference", "ReferenceError: foo is not defined", "ReferenceError: bar is not defined"),
    (
        "another code of TypeScript",
        "a.ts(1,1): error TS2304: Cannot find name 'x'.",
        "a.ts(1,1): error TS2552: Cannot find name 'x'.",
    ),
    (
        "another name of TypeScript",
        "a.ts(1,1): error TS2304: Cannot find name 'x'.",
        "a.ts(1,1): error TS2304: Cannot find name 'y'.",
    ),
    (
        "another cause of Java",
        "java.lang.RuntimeException: x\n\tat A.b(A.java:1)\nCaused by: java.io.IOException: disk\n\tat C.d(C.java:1)",
        "java.lang.RuntimeException: x\n\tat A.b(A.java:1)\nCaused by: java.net.SocketException: net\n\tat C.d(C.java:1)",
    ),
    (
        "another frame, where there is no message",
        "java.lang.NullPointerException\n\tat com.example.A.b(A.java:1)",
        "java.lang.NullPointerException\n\tat com.example.C.d(C.java:1)",
    ),
    (
        "another panic of Go",
        "panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:",
        "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation]\n\ngoroutine 1 [running]:",
    ),
    (
        "another package of Go",
        "main.go:3:2: no required module provides package github.com/a/b; to add it:",
        "main.go:3:2: no required module provides package github.com/a/c; to add it:",
    ),
    ("another command", "bash: kubectl: command not found", "bash: helm: command not found"),
    ("another program", "cat: /x/a.txt: No such file or directory", "grep: /x/a.txt: No such file or directory"),
    ("another phrase", "bash: ./a.sh: Permission denied", "bash: ./a.sh: No such file or directory"),
    (
        "another unit",
        "nginx.service: Main process exited, code=exited, status=1/FAILURE",
        "redis.service: Main process exited, code=exited, status=1/FAILURE",
    ),
    (
        "another status of a unit",
        "nginx.service: Main process exited, code=exited, status=203/EXEC",
        "nginx.service: Main process exited, code=exited, status=217/USER",
    ),
    ("another exit code", "Process completed with exit code 1.", "Process completed with exit code 137."),
    (
        "another header",
        "a.c:1:10: fatal error: openssl/ssl.h: No such file or directory",
        "a.c:1:10: fatal error: zlib.h: No such file or directory",
    ),
    (
        "another folder of a header",
        "a.c:1:10: fatal error: openssl/ssl.h: No such file or directory",
        "a.c:1:10: fatal error: wolf/ssl.h: No such file or directory",
    ),
    (
        "another symbol",
        "a.c:(.text+0x1): undefined reference to `sqrt'",
        "a.c:(.text+0x1): undefined reference to `pow'",
    ),
    ("another library", "ld: cannot find -lssl", "ld: cannot find -lz"),
    (
        "another shared object",
        "./a: error while loading shared libraries: libssl.so.1.1: cannot open shared object file: No such file or directory",
        "./a: error while loading shared libraries: libGL.so.1: cannot open shared object file: No such file or directory",
    ),
    (
        "another package of pip",
        "ERROR: No matching distribution found for foo==1.2",
        "ERROR: No matching distribution found for bar==1.2",
    ),
    (
        "another package of npm",
        "npm ERR! code E404\nnpm ERR! 404  'a-x@1' is not in this registry.",
        "npm ERR! code E404\nnpm ERR! 404  'b-x@1' is not in this registry.",
    ),
    ("another code of npm", "npm ERR! code E404\nnpm ERR! 404 x", "npm ERR! code E401\nnpm ERR! 401 x"),
    (
        "another derivation",
        "error: builder for '/nix/store/abcd1234efgh5678ijkl9012mnop3456-hello-2.12.drv' failed with exit code 1;",
        "error: builder for '/nix/store/abcd1234efgh5678ijkl9012mnop3456-curl-8.1.drv' failed with exit code 1;",
    ),
    ("another attribute of Nix", "error: attribute 'foo' missing", "error: attribute 'bar' missing"),
    ("another relation", "ERROR:  relation \"orders\" does not exist", "ERROR:  relation \"users\" does not exist"),
    (
        "another constraint",
        "ERROR:  duplicate key value violates unique constraint \"users_email_key\"",
        "ERROR:  duplicate key value violates unique constraint \"orders_pkey\"",
    ),
    (
        "another code of MySQL",
        "ERROR 1146 (42S02): Table 'a.b' doesn't exist",
        "ERROR 1064 (42000): You have an error in your SQL syntax",
    ),
    (
        "another code of Oracle",
        "ORA-00942: table or view does not exist",
        "ORA-01017: invalid username/password; logon denied",
    ),
    (
        "another SQLSTATE",
        "SQLSTATE[42S02]: Base table or view not found",
        "SQLSTATE[23000]: Base table or view not found",
    ),
    (
        "another status of HTTP",
        "requests.exceptions.HTTPError: 404 Client Error: x for url: https://a.b/c",
        "requests.exceptions.HTTPError: 403 Client Error: x for url: https://a.b/c",
    ),
    ("another status line", "HTTP/1.1 502 Bad Gateway", "HTTP/1.1 503 Service Unavailable"),
    ("another status in JSON", "{\"status\":404,\"error\":\"x y\"}", "{\"status\":500,\"error\":\"x y\"}"),
    (
        "another code in JSON",
        "{\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"no\"}}",
        "{\"error\":{\"code\":\"insufficient_quota\",\"message\":\"no\"}}",
    ),
    (
        "another message in JSON",
        "{\"error\":{\"code\":400,\"message\":\"name is required\"}}",
        "{\"error\":{\"code\":400,\"message\":\"price is required\"}}",
    ),
    (
        "another code of curl",
        "curl: (7) Failed to connect to a port 1: x",
        "curl: (28) Failed to connect to a port 1: x",
    ),
    ("another code of gRPC", "rpc error: code = Unavailable desc = x", "rpc error: code = NotFound desc = x"),
    ("another code of a browser", "net::ERR_CONNECTION_REFUSED", "net::ERR_CERT_DATE_INVALID"),
    (
        "another message of a daemon",
        "Error response from daemon: No such container: a1b2c3d4e5f6",
        "Error response from daemon: No such image: a1b2c3d4e5f6",
    ),
    ("another option", "error: unrecognized arguments: --foo", "error: unrecognized arguments: --bar"),
    (
        "another deployment",
        "Error from server (NotFound): deployments.apps \"web\" not found",
        "Error from server (NotFound): deployments.apps \"api\" not found",
    ),
    (
        "a missing manifest and a missing file",
        "npm ERR! code ENOENT\nnpm ERR! enoent ENOENT: no such file or directory, open '/a/package.json'",
        "npm ERR! code ENOENT\nnpm ERR! enoent ENOENT: no such file or directory, open '/a/data.csv'",
    ),
    (
        "another crate",
        "error: no matching package named `serd` found",
        "error: no matching package named `tokyo` found",
    ),
    ("another signal", "Segmentation fault (core dumped)", "Illegal instruction (core dumped)"),
    ("another HRESULT", "error: Exception from HRESULT: 0x80070005", "error: Exception from HRESULT: 0x8007000E"),
];

#[test]
fn different_failures_have_different_ids() {
    pairs(DIFFER, Same::No);
}

/// All failures of both tables, told apart or not as the tables say: no two lines of the table share an id by accident.
#[test]
fn no_two_lines_share_an_id_by_accident() {
    let mut ids: Vec<(String, &str)> = DIFFER
        .iter()
        .filter_map(|(_, one, other)| Some([(fingerprint(one)?.id, *one), (fingerprint(other)?.id, *other)]))
        .flatten()
        .collect();
    ids.sort();
    ids.dedup_by_key(|(_, text)| *text);
    for pair in ids.windows(2) {
        let [(one, one_text), (other, other_text)] = pair else { continue };
        // Some texts stand in several lines, or differ in what is no part of a failure.
        let is_alike = one_text.get(..12) == other_text.get(..12);
        assert!(one != other || is_alike, "{one_text}\n{other_text}");
    }
}
