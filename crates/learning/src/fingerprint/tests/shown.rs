//! What people see of a failure: its class and its normal form.

use super::{all, of};

const SHOWN: &[(&str, &str, &str)] = &[
    ("TypeError: 'int' object is not iterable", "TypeError", "'int' object is not iterable"),
    (
        "error[E0308]: mismatched types\n --> a.rs:1:1\n  |\n3 |     x\n  |     ^ expected `u32`, found `&str`",
        "E0308",
        "mismatched types: expected 'u32', found '&str'",
    ),
    ("Error: connect ECONNREFUSED 127.0.0.1:5432", "ECONNREFUSED", "connect ECONNREFUSED <ip>"),
    (
        "thread 'main' panicked at src/main.rs:4:5:\nindex out of bounds: the len is 3 but the index is 7",
        "panicked",
        "index out of bounds: the len is <n> but the index is <n>",
    ),
    ("Process completed with exit code 1.", "exit status 1", "Process completed with exit code 1"),
    ("error: the thing broke for 12 reasons", "error", "the thing broke for <n> reasons"),
    ("zsh: command not found: foo", "command not found", "command not found: 'foo'"),
    ("bash: ./a.sh: Permission denied", "EACCES", "bash: <path>: Permission denied"),
    ("curl: (6) Could not resolve host: example.invalid", "curl (6)", "Could not resolve host: example.invalid"),
    (
        "java.lang.IllegalStateException: Pool 3 is closed\n\tat A.b(A.java:1)",
        "IllegalStateException",
        "Pool <n> is closed",
    ),
    (
        "java.lang.NullPointerException\n\tat com.example.Shop.total(Shop.java:42)",
        "NullPointerException",
        "NullPointerException in com.example.Shop.total",
    ),
    (
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in test_a\nAssertionError",
        "AssertionError",
        "AssertionError in test_a",
    ),
    (
        "main.c:1:10: fatal error: zlib.h: No such file or directory",
        "error",
        "header 'zlib.h': No such file or directory",
    ),
    ("x.c:(.text+0x1d): undefined reference to `sqrt'", "undefined reference", "undefined reference to 'sqrt'"),
    (
        "ERROR 1146 (42S02) at line 1: Table 'shop.orders' doesn't exist",
        "ERROR 1146",
        "Table 'shop.orders' doesn't exist",
    ),
    (
        "{\"error\":{\"message\":\"The model `x` does not exist\",\"type\":\"invalid_request_error\",\"code\":\"model_not_found\"}}",
        "invalid_request_error",
        "The model 'x' does not exist",
    ),
    (
        "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"document 17 is unknown\"}",
        "HTTP 404",
        "document <n> is unknown",
    ),
    ("HTTP/1.1 502 Bad Gateway", "HTTP 502", "HTTP 502"),
    (
        "nginx.service: Main process exited, code=exited, status=203/EXEC",
        "exit status 203",
        "unit 'nginx.service': Main process exited, code=exited, status=203/EXEC",
    ),
    ("[Errno 13] Permission denied: '/etc/shadow'", "EACCES", "[Errno 13] Permission denied: '<path>'"),
    (
        "FATAL:  password authentication failed for user \"alice\"",
        "error",
        "password authentication failed for user '…'",
    ),
    ("E: Unable to locate package foo", "error", "Unable to locate package foo"),
    (
        "CONFLICT (content): Merge conflict in src/a.rs",
        "merge conflict",
        "CONFLICT (content): Merge conflict in <path>",
    ),
];

#[test]
fn class_and_message_are_readable() {
    all(SHOWN, |(text, class, normal)| {
        let found = of(text);
        if (found.class.as_str(), found.normal.as_str()) == (*class, *normal) {
            Ok(())
        } else {
            Err(format!("{text:?}\n    [{}] {}\n    [{class}] {normal}", found.class, found.normal))
        }
    });
}

#[test]
fn an_excerpt_is_the_lines_of_the_error() {
    let text = "before\n\u{1b}[31mTraceback (most recent call last):\u{1b}[0m\n  File \"a.py\", line 1, in f\n    x()\nValueError: no\nafter\n";
    insta::assert_snapshot!(of(text).excerpt, @r#"
    Traceback (most recent call last):
      File "a.py", line 1, in f
        x()
    ValueError: no
    "#);
    let frames: String = (0..400).map(|number| format!("\tat com.example.A.f{number}(A.java:{number})\n")).collect();
    let excerpt = of(&format!("java.lang.IllegalStateException: no\n{frames}")).excerpt;
    assert_eq!(excerpt.lines().count(), 13);
    assert!(excerpt.contains("…\n") && excerpt.ends_with("(A.java:399)"), "{excerpt}");
}
