//! The same failure twice: with other numbers, ids, paths, times, people, and as another log wrote it.

use super::{Same, fingerprint, pairs};

pub(super) const SAME: &[(&str, &str, &str)] = &[
    // Python.
    (
        "a traceback of another machine",
        "Traceback (most recent call last):\n  File \"/data/alice/app/main.py\", line 12, in <module>\n    import requests\nModuleNotFoundError: No module named 'requests'\n",
        "Traceback (most recent call last):\n  File \"C:\\Users\\bob\\app\\main.py\", line 99, in load\n    import requests\nModuleNotFoundError: No module named \"requests\"\n",
    ),
    (
        "a traceback and its last line",
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\nNameError: name 'foo' is not defined",
        "NameError: name 'foo' is not defined",
    ),
    (
        "a traceback in the journal",
        "Jan 02 15:04:05 web1 app[811]: Traceback (most recent call last):\nJan 02 15:04:05 web1 app[811]:   File \"/srv/app/a.py\", line 7, in run\nJan 02 15:04:05 web1 app[811]:     return data[\"user_id\"]\nJan 02 15:04:05 web1 app[811]: KeyError: 'user_id'",
        "Traceback (most recent call last):\n  File \"b.py\", line 70, in go\n    x = d[k]\nKeyError: 'user_id'",
    ),
    (
        "a value that is no number",
        "ValueError: invalid literal for int() with base 10: 'abc'",
        "ValueError: invalid literal for int() with base 10: '12,5'",
    ),
    (
        "a float",
        "ValueError: could not convert string to float: 'n/a'",
        "ValueError: could not convert string to float: 'twelve'",
    ),
    (
        "a file elsewhere",
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/a/data.csv'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'D:\\x\\other.csv'",
    ),
    (
        "addresses of objects",
        "TypeError: cannot pickle <Foo object at 0x7f001122aabb>",
        "TypeError: cannot pickle <Foo object at 0x55d0c0ffee00>",
    ),
    (
        "a chain, of which the last one counts",
        "Traceback (most recent call last):\n  File \"a.py\", line 3, in a\nKeyError: 'x'\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  File \"a.py\", line 9, in b\nRuntimeError: cannot load 'x17'\n",
        "Traceback (most recent call last):\n  File \"/q/a.py\", line 8, in c\nRuntimeError: cannot load 'y3'\n",
    ),
    (
        "a connection of requests",
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='localhost', port=8080): Max retries exceeded with url: /v1/items/17 (Caused by NewConnectionError('<urllib3.connection.HTTPConnection object at 0x7f9a>: Failed to establish a new connection: [Errno 111] Connection refused'))",
        "ConnectionError: HTTPConnectionPool(host='10.0.0.7', port=9090): Max retries exceeded with url: /v1/items/99 (Caused by NewConnectionError('<urllib3.connection.HTTPConnection object at 0x7faa12>: Failed to establish a new connection: [Errno 111] Connection refused'))",
    ),
    (
        "a decoded byte",
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xfe in position 812: invalid start byte",
    ),
    (
        "an assertion without words, in the same function",
        "Traceback (most recent call last):\n  File \"/a/test_x.py\", line 5, in test_login\n    assert ok\nAssertionError",
        "Traceback (most recent call last):\n  File \"/b/test_x.py\", line 50, in test_login\n    assert ok\nAssertionError\n",
    ),
    ("pytest's mark", "E   ModuleNotFoundError: No module named 'app'", "ModuleNotFoundError: No module named 'app'"),
    (
        "CUDA's memory",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 11.91 GiB total capacity; 10.12 GiB already allocated)",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB (GPU 1; 7.79 GiB total capacity; 6.00 GiB already allocated)",
    ),
    // Rust.
    (
        "a type, elsewhere",
        "error[E0308]: mismatched types\n --> src/main.rs:3:18\n  |\n3 |     let x: u32 = \"a\";\n  |            ---   ^^^ expected `u32`, found `&str`\n",
        "error[E0308]: mismatched types\n   --> crates/other/src/lib.rs:310:9\n    |\n310 |         count(\"b\")\n    |               ^^^ expected `u32`, found `&str`\n",
    ),
    (
        "a moved value of another name",
        "error[E0382]: borrow of moved value: `config`\n --> src/a.rs:1:1",
        "error[E0382]: borrow of moved value: `items`\n --> src/b.rs:20:4",
    ),
    (
        "a panic, as it was told before and after Rust 1.73",
        "thread 'main' panicked at 'index out of bounds: the len is 3 but the index is 7', src/main.rs:4:5\nnote: run with `RUST_BACKTRACE=1`",
        "thread 'tokio-runtime-worker' (4711) panicked at /build/src/lib.rs:90:12:\nindex out of bounds: the len is 0 but the index is 0\nnote: run with `RUST_BACKTRACE=1`",
    ),
    (
        "unwrap",
        "thread 'main' panicked at src/main.rs:8:40:\ncalled `Result::unwrap()` on an `Err` value: Os { code: 2, kind: NotFound, message: \"No such file or directory\" }",
        "thread 'worker-3' panicked at src/io.rs:81:4:\ncalled `Result::unwrap()` on an `Err` value: Os { code: 2, kind: NotFound, message: \"No such file or directory\" }",
    ),
    (
        "a crate that is not there",
        "error[E0432]: unresolved import `serde_yaml`\n --> src/a.rs:1:5",
        "    Checking x v0.1.0\nerror[E0432]: unresolved import `serde_yaml`\n --> src/very/far.rs:100:5\n",
    ),
    (
        "a linker that is not there",
        "error: linker `cc` not found\n  |\n  = note: No such file or directory (os error 2)\n\nerror: could not compile `a` (bin \"a\") due to 1 previous error",
        "   Compiling libc v0.2.1\nerror: linker `cc` not found\n  |\n  = note: No such file or directory (os error 2)\n\nerror: could not compile `libc` (build script) due to 2 previous errors",
    ),
    // JavaScript.
    (
        "a stack of Node",
        "/app/dist/index.js:12\n    foo.bar();\n        ^\n\nTypeError: Cannot read properties of undefined (reading 'name')\n    at Object.<anonymous> (/app/dist/index.js:12:9)\n    at Module._compile (node:internal/modules/cjs/loader:1105:14)\n\nNode.js v20.1.0",
        "Uncaught TypeError: Cannot read properties of undefined (reading 'name')\n    at render (https://example.com/assets/app.3f2a1b.js:1:2345)",
    ),
    (
        "a refused connection",
        "Error: connect ECONNREFUSED 127.0.0.1:5432\n    at TCPConnectWrap.afterConnect [as oncomplete] (node:net:1494:16) {\n  errno: -111,\n  code: 'ECONNREFUSED',\n  port: 5432\n}",
        "2026-01-02T10:00:00Z ERROR shop::db: connect ECONNREFUSED 10.2.3.4:6000",
    ),
    (
        "a port in use",
        "Error: listen EADDRINUSE: address already in use :::3000\n    at Server.setupListenHandle (node:net:1463:16)",
        "Error: listen EADDRINUSE: address already in use 0.0.0.0:8080",
    ),
    (
        "a module that is not there",
        "node:internal/modules/cjs/loader:1080\n  throw err;\n  ^\n\nError: Cannot find module 'express'\nRequire stack:\n- /srv/app/index.js\n    at Module._resolveFilename (node:internal/modules/cjs/loader:1077:15)",
        "Error: Cannot find module 'express'\nRequire stack:\n- C:\\app\\server.js\n    at Function.Module._load (internal/modules/cjs/loader.js:778:27)",
    ),
    (
        "the cause of a failed fetch",
        "TypeError: fetch failed\n    at node:internal/deps/undici/undici:12345:11 {\n  [cause]: Error: connect ECONNREFUSED 127.0.0.1:11434\n      at TCPConnectWrap.afterConnect (node:net:1600:16) {\n    errno: -111\n  }\n}",
        "TypeError: fetch failed\n    at fetch (/x/y.js:1:1) {\n  [cause]: Error: connect ECONNREFUSED 192.168.1.9:80\n      at afterConnect (node:net:1:1) {\n  }\n}",
    ),
    (
        "an unexpected token",
        "SyntaxError: Unexpected token '<', \"<!DOCTYPE \"... is not valid JSON",
        "SyntaxError: Unexpected token '<', \"<html><bod\"... is not valid JSON",
    ),
    (
        "TypeScript, in both forms",
        "src/app/a.ts(3,5): error TS2304: Cannot find name 'process'.",
        "src/b.ts:30:1 - error TS2304: Cannot find name 'process'.",
    ),
    // Java, .NET and Go.
    (
        "the root cause",
        "Exception in thread \"main\" java.lang.RuntimeException: startup failed\n\tat com.example.Main.main(Main.java:10)\nCaused by: java.sql.SQLException: Connection to db1:5432 refused\n\tat com.example.Db.open(Db.java:33)\n\t... 1 more\n",
        "2026-01-02 15:04:05.123 ERROR 812 --- [main] com.example.App : boom\norg.spring.BeanCreationException: no bean\n\tat org.spring.X.y(X.java:1)\nCaused by: java.lang.IllegalStateException: again\n\tat a.B.c(B.java:2)\n\t... 20 more\nCaused by: java.sql.SQLException: Connection to db1:6432 refused\n\tat a.Db.open(Db.java:35)\n\t... 31 more",
    ),
    (
        "a pointer of nothing",
        "java.lang.NullPointerException\n\tat com.example.Shop.total(Shop.java:42)\n\tat com.example.Main.main(Main.java:3)",
        "Exception in thread \"worker-7\" java.lang.NullPointerException\n\tat com.example.Shop.total(Shop.java:57)\n\tat com.example.Other.run(Other.java:9)",
    ),
    (
        "an index of Java",
        "java.lang.ArrayIndexOutOfBoundsException: Index 5 out of bounds for length 3\n\tat A.b(A.java:3)",
        "java.lang.ArrayIndexOutOfBoundsException: Index 17 out of bounds for length 17\n\tat Q.r(Q.java:8)",
    ),
    (
        ".NET",
        "Unhandled exception. System.IO.FileNotFoundException: Could not find file '/app/a.json'.\n   at Program.Main() in /src/Program.cs:line 12",
        "Unhandled exception. System.IO.FileNotFoundException: Could not find file 'C:\\app\\b.json'.\n   at App.Run() in C:\\src\\App.cs:line 99",
    ),
    (
        "a panic of Go",
        "panic: runtime error: index out of range [5] with length 3\n\ngoroutine 1 [running]:\nmain.main()\n\t/data/a/main.go:8 +0x1d\nexit status 2",
        "panic: runtime error: index out of range [12] with length 4\n\ngoroutine 18 [running]:\nmain.load(0xc000012345)\n\t/src/x.go:80 +0x9f",
    ),
    ("Go, undefined", "./main.go:10:2: undefined: foo", "pkg/a/b.go:100:20: undefined: foo"),
    // Shells.
    ("one command, four shells", "bash: kubectl: command not found", "zsh: command not found: kubectl"),
    ("dash and a script", "sh: 1: kubectl: not found", "./run.sh: line 12: kubectl: command not found"),
    (
        "Windows",
        "'kubectl' is not recognized as an internal or external command,\r\noperable program or batch file.",
        "kubectl : The term 'kubectl' is not recognized as the name of a cmdlet, function, script file, or operable program.",
    ),
    (
        "a folder that is not there",
        "cat: /data/alice/notes.txt: No such file or directory",
        "cat: /srv/data/list.txt: No such file or directory",
    ),
    ("no permission", "bash: ./deploy.sh: Permission denied", "bash: /opt/x/run.sh: Permission denied"),
    (
        "a key that is not accepted",
        "git@github.com: Permission denied (publickey).\nfatal: Could not read from remote repository.",
        "alice@10.0.0.3: Permission denied (publickey).",
    ),
    (
        "a host that does not answer",
        "ssh: connect to host 10.0.0.1 port 22: Connection refused",
        "ssh: connect to host 192.168.7.9 port 2222: Connection refused",
    ),
    (
        "a full disk",
        "cp: error writing '/mnt/a/x.iso': No space left on device",
        "cp: error writing '/backup/y.tar': No space left on device",
    ),
    (
        "not a repository",
        "fatal: not a git repository (or any of the parent directories): .git",
        "$ git status\nfatal: not a git repository (or any of the parent directories): .git\n",
    ),
    (
        "a refused push",
        "To github.com:alice/a.git\n ! [rejected]        main -> main (fetch first)\nerror: failed to push some refs to 'github.com:alice/a.git'",
        "error: failed to push some refs to 'https://gitlab.com/bob/b.git'",
    ),
    // Services.
    (
        "a unit that does not start",
        "Jan 02 10:00:00 web1 systemd[1]: nginx.service: Main process exited, code=exited, status=203/EXEC",
        "2026-01-02T10:00:00+01:00 db7 systemd[1]: nginx.service: Main process exited, code=exited, status=203/EXEC",
    ),
    (
        "nginx without its upstream",
        "2026/01/02 03:04:05 [error] 123#123: *45 connect() failed (111: Connection refused) while connecting to upstream, client: 10.0.0.1, server: _",
        "2026/02/03 13:14:15 [error] 9#9: *7712 connect() failed (111: Connection refused) while connecting to upstream, client: 172.16.0.9, server: _",
    ),
    (
        "a killed process",
        "kernel: [12345.678] Out of memory: Killed process 4711 (node) total-vm:1234kB, anon-rss:99kB",
        "Jan  2 01:02:03 h kernel: [99.1] Out of memory: Killed process 12 (node) total-vm:88kB, anon-rss:1kB",
    ),
    (
        "a pod with a generated name",
        "Error from server (NotFound): pods \"web-7d4b9c6f5-x2x9z\" not found",
        "Error from server (NotFound): pods \"web-58f6c8d7b9-qwrtp\" not found",
    ),
    (
        "a container's id",
        "Error response from daemon: No such container: 3f2a1bc9d0e1",
        "Error response from daemon: No such container: a81b2c3d4e5f",
    ),
    (
        "a mount",
        "Error response from daemon: driver failed programming external connectivity on endpoint web (4f5e6d7c8b9a0f1e2d3c): Bind for 0.0.0.0:80 failed: port is already allocated",
        "Error response from daemon: driver failed programming external connectivity on endpoint web (00aa11bb22cc33dd44ee): Bind for 0.0.0.0:8080 failed: port is already allocated",
    ),
    (
        "Compose's prefix",
        "db-1   | FATAL:  password authentication failed for user \"app\"",
        "2026-01-02 10:00:00.000 UTC [77] FATAL:  password authentication failed for user \"alice\"",
    ),
    // Compilers.
    (
        "a header",
        "main.c:1:10: fatal error: openssl/ssl.h: No such file or directory\n    1 | #include <openssl/ssl.h>\ncompilation terminated.",
        "/tmp/x/src/conn.c:12:10: fatal error: openssl/ssl.h: No such file or directory",
    ),
    (
        "an undeclared name, in another locale",
        "a.c:12:5: error: ‘foo’ undeclared (first use in this function)",
        "/src/b.c:3:1: error: 'foo' undeclared (first use in this function)",
    ),
    (
        "a missing reference",
        "/usr/bin/ld: /tmp/ccAbCdEf.o: in function `main':\nmain.c:(.text+0x1d): undefined reference to `sqrt'\ncollect2: error: ld returned 1 exit status",
        "/usr/bin/ld: b.o:(.text+0x99): undefined reference to `sqrt'\nmake: *** [Makefile:12: all] Error 1",
    ),
    ("a library", "/usr/bin/ld: cannot find -lssl: No such file or directory", "ld: library not found for -lssl"),
    ("a consequence alone", "make: *** [Makefile:12: all] Error 2", "make: *** [Makefile:99: all] Error 2"),
    // Packages.
    (
        "pip, with another version",
        "ERROR: Could not find a version that satisfies the requirement foo==1.2 (from versions: none)\nERROR: No matching distribution found for foo==1.2",
        "ERROR: No matching distribution found for foo>=2",
    ),
    (
        "npm, before and after 10",
        "npm ERR! code E404\nnpm ERR! 404 Not Found - GET https://registry.npmjs.org/left-padd - Not found\nnpm ERR! 404 \nnpm ERR! 404  'left-padd@^1.0.0' is not in this registry.\nnpm ERR! A complete log of this run can be found in: /data/a/.npm/_logs/2026.log",
        "npm error code E404\nnpm error 404 Not Found - GET https://npm.example.com/left-padd - Not found\nnpm error 404\nnpm error 404  'left-padd@latest' is not in this registry.",
    ),
    (
        "npm without a manifest",
        "npm ERR! code ENOENT\nnpm ERR! syscall open\nnpm ERR! path /data/a/package.json\nnpm ERR! errno -2\nnpm ERR! enoent ENOENT: no such file or directory, open '/data/a/package.json'",
        "npm ERR! code ENOENT\nnpm ERR! syscall open\nnpm ERR! path C:\\w\\package.json\nnpm ERR! errno -4058\nnpm ERR! enoent ENOENT: no such file or directory, open 'C:\\w\\package.json'",
    ),
    (
        "a build of Nix",
        "error: builder for '/nix/store/abcd1234efgh5678ijkl9012mnop3456-hello-2.12.drv' failed with exit code 1;\n       last 10 log lines:",
        "error: builder for '/nix/store/zzzz1234efgh5678ijkl9012mnop9999-hello-2.13.drv' failed with exit code 1;",
    ),
    (
        "an attribute of Nix",
        "error:\n       … while evaluating the attribute 'x'\n\n         at /data/a/flake.nix:12:3:\n\n       error: attribute 'foo' missing\n\n       at /data/a/flake.nix:20:5:",
        "error:\n       … while calling the 'derivationStrict' builtin\n\n       error: attribute 'foo' missing\n\n       at /etc/nixos/configuration.nix:2:5:",
    ),
    (
        "apt without a name server",
        "E: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving 'deb.debian.org'",
        "E: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving 'deb.debian.org'\nE: Some index files failed to download.",
    ),
    (
        "cargo's version",
        "error: failed to select a version for the requirement `serde = \"^9\"`\ncandidate versions found which didn't match: 1.0.1",
        "    Updating crates.io index\nerror: failed to select a version for the requirement `serde = \"^10\"`\n",
    ),
    // Databases.
    (
        "a relation",
        "ERROR:  relation \"orders\" does not exist\nLINE 1: select * from orders;\n                      ^",
        "2026-01-02 10:00:00.123 CET [4711] alice@shop ERROR:  relation \"orders\" does not exist at character 15",
    ),
    (
        "a duplicate",
        "ERROR 1062 (23000): Duplicate entry 'a@b.com' for key 'users.email'",
        "ERROR 1062 (23000) at line 12: Duplicate entry 'c@d.org' for key 'users.email'",
    ),
    (
        "MySQL and another user",
        "ERROR 1045 (28000): Access denied for user 'root'@'localhost' (using password: YES)",
        "ERROR 1045 (28000): Access denied for user 'app'@'10.0.0.7' (using password: YES)",
    ),
    ("Oracle", "ORA-00942: table or view does not exist", "java.sql: ORA-00942: table or view does not exist"),
    // HTTP.
    (
        "JSON of an API, at another time",
        "{\"timestamp\":\"2026-01-02T10:00:00Z\",\"status\":500,\"error\":\"Internal Server Error\",\"path\":\"/api/orders/17\"}",
        "{\n  \"timestamp\": \"2027-02-03T11:00:00Z\",\n  \"status\": 500,\n  \"error\": \"Internal Server Error\",\n  \"path\": \"/api/orders/99\"\n}",
    ),
    (
        "a limit",
        "{\"error\":{\"message\":\"Rate limit reached for requests. Please try again in 20s.\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"},\"request_id\":\"req_1a2b3c\"}",
        "HTTP body: {\"error\": {\"message\": \"Rate limit reached for requests. Please try again in 7s.\", \"type\": \"requests\", \"code\": \"rate_limit_exceeded\"}}",
    ),
    (
        "curl",
        "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Connection refused",
        "curl: (7) Failed to connect to localhost port 9999 after 12 ms: Connection refused",
    ),
    (
        "a status of requests",
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://api.example.com/v1/users/123?token=abc",
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://api.example.com/v1/users/456",
    ),
    (
        "gRPC",
        "rpc error: code = Unavailable desc = connection error: dial tcp 10.0.0.1:443: connect: connection refused",
        "E0102 15:04:05.000000    1234 a.go:12] rpc error: code = Unavailable desc = connection error: dial tcp 10.9.9.9:8443: connect: connection refused",
    ),
    (
        "an error that is an object with a message alone",
        "{\"error\":{\"message\":\"no such part 17\"}}",
        "{\"id\":\"a1\",\"error\":{\"message\":\"no such part 99\"}}",
    ),
    // As it was pasted.
    (
        "colours and line ends of Windows",
        "\u{1b}[0m\u{1b}[1m\u{1b}[38;5;9merror[E0425]\u{1b}[0m\u{1b}[1m: cannot find value `x1` in this scope\u{1b}[0m\r\n \u{1b}[34m--> \u{1b}[0msrc/a.rs:1:1\r\n",
        "error[E0425]: cannot find value `x1` in this scope\n --> src/b.rs:2:2",
    ),
    (
        "a quote",
        "> TypeError: x.map is not a function\n>     at f (a.js:1:2)",
        "TypeError: x.map is not a function\n    at g (b.js:3:4)",
    ),
    (
        "a person who asks",
        "why do I get `ModuleNotFoundError: No module named 'yaml'` when I run it?",
        "ModuleNotFoundError: No module named 'yaml'",
    ),
    (
        "a person who tells",
        "I get ModuleNotFoundError: No module named 'yaml' when I run my script",
        "Traceback (most recent call last):\n  File \"x\", line 1, in <module>\nModuleNotFoundError: No module named 'yaml'",
    ),
    (
        "a workflow",
        "2026-01-02T10:00:00.1234567Z ##[error]Process completed with exit code 101.",
        "2026-05-06T11:10:00.7654321Z ##[error]Process completed with exit code 101.",
    ),
    (
        "logfmt",
        "time=\"2026-01-02T10:00:00Z\" level=error msg=\"cannot open database /var/lib/a.db\" pid=12",
        "time=\"2026-01-03T10:00:00Z\" level=error msg=\"cannot open database /srv/b.db\" pid=7712",
    ),
    (
        "Terraform",
        "╷\n│ Error: Unsupported argument\n│ \n│   on main.tf line 12, in resource \"x\" \"y\":\n╵",
        "Error: Unsupported argument\n\n  on other.tf line 3:",
    ),
];

#[test]
fn the_same_failure_has_the_same_id() {
    pairs(SAME, Same::Yes);
}

/// An error in the middle of a log of 200 lines, whatever the lines around it say.
#[test]
fn an_error_in_the_middle_of_a_log_is_found() {
    let line = |number: usize| {
        format!("2026-01-02T10:00:{:02}Z INFO request {number} done in {} ms, 0 errors\n", number % 60, number * 7)
    };
    let log: String = (0..200)
        .map(|number| match number {
            100 => "2026-01-02T10:01:40Z ERROR shop::db: connect ECONNREFUSED 127.0.0.1:5432\n".to_owned(),
            _ => line(number),
        })
        .collect();
    assert_eq!(fingerprint(&log).unwrap().id, fingerprint("Error: connect ECONNREFUSED 10.1.1.1:99").unwrap().id);
    assert_eq!(fingerprint(&log).unwrap().class, "ECONNREFUSED");
}
