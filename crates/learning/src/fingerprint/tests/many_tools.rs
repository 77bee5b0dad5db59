//! Failures of many tools, written after the rules. At first 45 of 66 alike and 20 of 35 different pairs were told right.

use super::{Same, nothing, pairs};

pub(super) const SAME: &[(&str, &str, &str)] = &[
    (
        "ruby",
        "app/models/user.rb:12:in `load': undefined method `name' for nil:NilClass (NoMethodError)\n\tfrom app/a.rb:3:in `<main>'",
        "/srv/app/models/user.rb:80:in `load': undefined method `name' for nil:NilClass (NoMethodError)",
    ),
    (
        "php",
        "PHP Fatal error:  Uncaught TypeError: foo(): Argument #1 ($x) must be of type int, string given, called in /var/www/a.php on line 3 and defined in /var/www/b.php:7",
        "[02-Jan-2026 10:00:00 UTC] PHP Fatal error:  Uncaught TypeError: foo(): Argument #1 ($x) must be of type int, string given, called in /srv/x.php on line 99 and defined in /srv/y.php:1",
    ),
    (
        "php undefined",
        "PHP Warning:  Undefined variable $foo in /var/www/a.php on line 3",
        "PHP Warning:  Undefined variable $foo in /srv/b.php on line 33",
    ),
    (
        "elixir",
        "** (ArgumentError) could not fetch application environment :url for application :shop because configuration at :url was not set",
        "10:00:00.123 [error] ** (ArgumentError) could not fetch application environment :url for application :shop because configuration at :url was not set",
    ),
    (
        "perl",
        "Can't locate JSON/XS.pm in @INC (you may need to install the JSON::XS module) (@INC contains: /etc/perl /usr/lib/perl5) at a.pl line 3.",
        "Can't locate JSON/XS.pm in @INC (you may need to install the JSON::XS module) (@INC contains: /usr/share/perl/5.36) at /x/b.pl line 12.",
    ),
    (
        "gradle",
        "FAILURE: Build failed with an exception.\n\n* What went wrong:\nExecution failed for task ':app:compileJava'.\n> Compilation failed; see the compiler error output for details.",
        "FAILURE: Build failed with an exception.\n\n* What went wrong:\nExecution failed for task ':app:compileJava'.\n> Compilation failed; see the compiler error output for details.\n\n* Try:\n> Run with --stacktrace",
    ),
    (
        "maven",
        "[ERROR] Failed to execute goal org.apache.maven.plugins:maven-compiler-plugin:3.8.1:compile (default-compile) on project shop: Compilation failure",
        "[ERROR] Failed to execute goal org.apache.maven.plugins:maven-compiler-plugin:3.11.0:compile (default-compile) on project shop: Compilation failure",
    ),
    (
        "pnpm",
        " ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with \"frozen-lockfile\" because pnpm-lock.yaml is not up to date with package.json",
        "ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with \"frozen-lockfile\" because pnpm-lock.yaml is not up to date with package.json\n\nNote: x",
    ),
    (
        "yarn",
        "error Couldn't find package \"left-padd\" on the \"npm\" registry.",
        "error Couldn't find package \"left-padd\" on the \"npm\" registry.\ninfo Visit https://yarnpkg.com/en/docs/cli/add for documentation about this command.",
    ),
    (
        "docker build",
        "ERROR: failed to solve: process \"/bin/sh -c npm ci\" did not complete successfully: exit code: 1",
        "------\n > [build 4/7] RUN npm ci:\n------\nERROR: failed to solve: process \"/bin/sh -c npm ci\" did not complete successfully: exit code: 1",
    ),
    (
        "docker daemon",
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        "Cannot connect to the Docker daemon at unix:///run/user/1000/docker.sock. Is the docker daemon running?",
    ),
    (
        "docker pull",
        "Error response from daemon: pull access denied for foo/bar, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        "docker: Error response from daemon: pull access denied for foo/bar, repository does not exist or may require 'docker login': denied: requested access to the resource is denied.",
    ),
    (
        "kubectl",
        "Unable to connect to the server: dial tcp 10.0.0.1:6443: connect: connection refused",
        "Unable to connect to the server: dial tcp 192.168.49.2:8443: connect: connection refused",
    ),
    (
        "helm",
        "Error: INSTALLATION FAILED: cannot re-use a name that is still in use",
        "Error: INSTALLATION FAILED: cannot re-use a name that is still in use\n",
    ),
    (
        "terraform lock",
        "Error: Error acquiring the state lock\n\nError message: ConditionalCheckFailedException: The conditional request failed\nLock Info:\n  ID:        1f2e3d4c-5b6a-7988-9a0b-1c2d3e4f5a6b",
        "Error: Error acquiring the state lock\n\nError message: ConditionalCheckFailedException: The conditional request failed\nLock Info:\n  ID:        99999999-5b6a-7988-9a0b-1c2d3e4f5a6b",
    ),
    (
        "ansible",
        "fatal: [web1]: FAILED! => {\"msg\": \"Missing sudo password\"}",
        "fatal: [db7.example.com]: FAILED! => {\"changed\": false, \"msg\": \"Missing sudo password\"}",
    ),
    (
        "ansible unreachable",
        "fatal: [web1]: UNREACHABLE! => {\"changed\": false, \"msg\": \"Failed to connect to the host via ssh: alice@10.0.0.1: Permission denied (publickey).\", \"unreachable\": true}",
        "fatal: [web2]: UNREACHABLE! => {\"changed\": false, \"msg\": \"Failed to connect to the host via ssh: bob@10.0.0.2: Permission denied (publickey).\", \"unreachable\": true}",
    ),
    (
        "git clone",
        "fatal: unable to access 'https://github.com/a/b.git/': Could not resolve host: github.com",
        "fatal: unable to access 'https://github.com/c/d.git/': Could not resolve host: github.com",
    ),
    (
        "git conflict",
        "CONFLICT (content): Merge conflict in src/a.rs\nAutomatic merge failed; fix conflicts and then commit the result.",
        "Auto-merging x.py\nCONFLICT (content): Merge conflict in lib/x.py\nAutomatic merge failed; fix conflicts and then commit the result.",
    ),
    (
        "git index",
        "fatal: Unable to create '/data/a/x/.git/index.lock': File exists.",
        "fatal: Unable to create '/w/.git/index.lock': File exists.",
    ),
    (
        "apt lock",
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 (apt-get)",
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 99 (apt-get)",
    ),
    (
        "apt package",
        "E: Unable to locate package foo",
        "Reading package lists... Done\nE: Unable to locate package foo",
    ),
    (
        "dpkg",
        "dpkg: error processing package nginx (--configure):\n installed nginx package post-installation script subprocess returned error exit status 1",
        "dpkg: error processing package nginx (--configure):\n installed nginx package post-installation script subprocess returned error exit status 1\nErrors were encountered while processing:\n nginx",
    ),
    (
        "pacman",
        "error: failed to commit transaction (conflicting files)\nfoo: /usr/bin/foo exists in filesystem",
        "error: failed to commit transaction (conflicting files)\nfoo: /usr/lib/foo.so exists in filesystem",
    ),
    (
        "brew",
        "Error: No available formula with the name \"foo\".",
        "==> Searching\nError: No available formula with the name \"foo\".",
    ),
    (
        "rsync",
        "rsync: [sender] link_stat \"/data/a/x\" failed: No such file or directory (2)",
        "rsync: [sender] link_stat \"/srv/y\" failed: No such file or directory (2)",
    ),
    (
        "tar",
        "tar: /backup/a.tar.gz: Cannot open: Permission denied\ntar: Error is not recoverable: exiting now",
        "tar: /b/c.tar: Cannot open: Permission denied",
    ),
    (
        "mount",
        "mount: /mnt/usb: wrong fs type, bad option, bad superblock on /dev/sdb1, missing codepage or helper program, or other error.",
        "mount: /media/x: wrong fs type, bad option, bad superblock on /dev/sdc2, missing codepage or helper program, or other error.",
    ),
    (
        "segfault in the kernel's log",
        "kernel: node[1234]: segfault at 7f1122334455 ip 00007f99aabbccdd sp 00007ffe00112233 error 4 in libc.so.6[7f9900000000+1b0000]",
        "Jan  2 10:00:00 h kernel: node[99]: segfault at 0 ip 000055aa00112233 sp 00007ffd99887766 error 4 in libc.so.6[7f0000000000+1b0000]",
    ),
    (
        "ffmpeg",
        "/data/a/in.mp4: Invalid data found when processing input",
        "/b/c.mkv: Invalid data found when processing input",
    ),
    (
        "C++",
        "src/a.cpp:10:5: error: no matching function for call to ‘foo(int)’",
        "/x/b.cpp:99:15: error: no matching function for call to 'foo(int)'",
    ),
    (
        "clang",
        "a.cpp:3:10: fatal error: 'boost/asio.hpp' file not found",
        "/w/b.cpp:7:10: fatal error: 'boost/asio.hpp' file not found",
    ),
    (
        "MSVC",
        "C:\\src\\a.cpp(12): error C2065: 'foo': undeclared identifier",
        "D:\\b\\c.cpp(7): error C2065: 'foo': undeclared identifier [D:\\b\\c.vcxproj]",
    ),
    (
        "cmake",
        "CMake Error at CMakeLists.txt:12 (find_package):\n  By not providing \"FindFoo.cmake\" in CMAKE_MODULE_PATH this project has asked\n  CMake to find a package configuration file provided by \"Foo\", but CMake did\n  not find one.\n",
        "CMake Error at src/CMakeLists.txt:3 (find_package):\n  By not providing \"FindFoo.cmake\" in CMAKE_MODULE_PATH this project has asked\n  CMake to find a package configuration file provided by \"Foo\", but CMake did\n  not find one.\n\n",
    ),
    (
        "cargo test",
        "---- tests::adds stdout ----\n\nthread 'tests::adds' panicked at src/lib.rs:10:9:\nassertion `left == right` failed\n  left: 3\n right: 4\n",
        "thread 'tests::adds' (77) panicked at crates/x/src/lib.rs:99:9:\nassertion `left == right` failed\n  left: 1\n right: 2\nnote: run with `RUST_BACKTRACE=1`",
    ),
    (
        "pytest",
        "FAILED tests/test_a.py::test_login - AssertionError: assert 401 == 200\n",
        "FAILED tests/sub/test_a.py::test_login - AssertionError: assert 403 == 200",
    ),
    (
        "go test",
        "--- FAIL: TestLoad (0.00s)\n    a_test.go:12: got 3, want 4",
        "--- FAIL: TestLoad (1.21s)\n    a_test.go:15: got 5, want 4",
    ),
    (
        "mypy",
        "src/a.py:12: error: Incompatible types in assignment (expression has type \"int\", variable has type \"str\")  [assignment]",
        "b/c.py:9: error: Incompatible types in assignment (expression has type \"int\", variable has type \"str\")  [assignment]",
    ),
    (
        "webpack",
        "ERROR in ./src/a.js 12:0-30\nModule not found: Error: Can't resolve './b' in '/data/a/src'",
        "ERROR in ./src/x.js 1:0-9\nModule not found: Error: Can't resolve './b' in '/w/src'",
    ),
    (
        "mongo",
        "MongoServerSelectionError: connect ECONNREFUSED 127.0.0.1:27017",
        "MongoServerSelectionError: connect ECONNREFUSED 10.0.0.9:27018\n    at Timeout._onTimeout (/app/node_modules/mongodb/lib/sdam/topology.js:278:38)",
    ),
    (
        "redis",
        "redis.exceptions.ConnectionError: Error 111 connecting to localhost:6379. Connection refused.",
        "redis.exceptions.ConnectionError: Error 111 connecting to localhost:6380. Connection refused.",
    ),
    (
        "sqlite",
        "sqlite3.OperationalError: no such table: users",
        "Traceback (most recent call last):\n  File \"x.py\", line 9, in q\n    c.execute(s)\nsqlite3.OperationalError: no such table: users",
    ),
    (
        "sqlalchemy",
        "sqlalchemy.exc.ProgrammingError: (psycopg2.errors.UndefinedTable) relation \"users\" does not exist\nLINE 1: SELECT * FROM users",
        "sqlalchemy.exc.ProgrammingError: (psycopg2.errors.UndefinedTable) relation \"users\" does not exist\nLINE 2: FROM users WHERE id = 7",
    ),
    (
        "elasticsearch",
        "{\"error\":{\"root_cause\":[{\"type\":\"index_not_found_exception\",\"reason\":\"no such index [logs-2026.01.02]\"}],\"type\":\"index_not_found_exception\",\"reason\":\"no such index [logs-2026.01.02]\"},\"status\":404}",
        "{\"error\":{\"root_cause\":[{\"type\":\"index_not_found_exception\",\"reason\":\"no such index [logs-2026.03.09]\"}],\"type\":\"index_not_found_exception\",\"reason\":\"no such index [logs-2026.03.09]\"},\"status\":404}",
    ),
    (
        "kafka",
        "org.apache.kafka.clients.consumer.CommitFailedException: Offset commit cannot be completed since the consumer is not part of an active group",
        "[2026-01-02 10:00:00,123] ERROR [Consumer clientId=c-1, groupId=g] org.apache.kafka.clients.consumer.CommitFailedException: Offset commit cannot be completed since the consumer is not part of an active group",
    ),
    (
        "aws",
        "An error occurred (AccessDenied) when calling the PutObject operation: Access Denied",
        "botocore.exceptions.ClientError: An error occurred (AccessDenied) when calling the PutObject operation: Access Denied",
    ),
    (
        "openai",
        "openai.RateLimitError: Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-4o in organization org-AbC123dEf456 on tokens per min', 'type': 'tokens', 'code': 'rate_limit_exceeded'}}",
        "openai.RateLimitError: Error code: 429 - {'error': {'message': 'Rate limit reached for gpt-4o in organization org-XyZ987wVu654 on tokens per min', 'type': 'tokens', 'code': 'rate_limit_exceeded'}}",
    ),
    (
        "huggingface",
        "OSError: foo/bar is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
        "OSError: foo/bar is not a local folder and is not a valid model identifier listed on 'https://hf-mirror.com/models'",
    ),
    (
        "glibc",
        "./app: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by ./app)",
        "/opt/a/app: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by /opt/a/app)",
    ),
    (
        "browser",
        "Access to fetch at 'https://api.example.com/x' from origin 'http://localhost:3000' has been blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present on the requested resource.",
        "Access to fetch at 'https://other.example.com/y' from origin 'http://localhost:5173' has been blocked by CORS policy: No 'Access-Control-Allow-Origin' header is present on the requested resource.",
    ),
    (
        "certbot",
        "Certbot failed to authenticate some domains (authenticator: nginx). The Certificate Authority reported these problems:",
        "2026-01-02 10:00:00,000:ERROR:certbot._internal.log:Certbot failed to authenticate some domains (authenticator: nginx). The Certificate Authority reported these problems:",
    ),
    (
        "openssl",
        "SSL: CERTIFICATE_VERIFY_FAILED certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)",
        "SSL: CERTIFICATE_VERIFY_FAILED certificate verify failed: unable to get local issuer certificate (_ssl.c:997)",
    ),
    (
        "nginx config",
        "nginx: [emerg] unknown directive \"foo\" in /etc/nginx/nginx.conf:12",
        "2026/01/02 10:00:00 [emerg] 1#1: unknown directive \"foo\" in /etc/nginx/conf.d/a.conf:3",
    ),
    (
        "nginx bind",
        "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)",
        "2026/01/02 10:00:00 [emerg] 77#77: bind() to [::]:8080 failed (98: Address already in use)",
    ),
    (
        "java's memory",
        "java.lang.OutOfMemoryError: Java heap space",
        "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space\n\tat java.base/java.util.Arrays.copyOf(Arrays.java:3537)",
    ),
    (
        "node's memory",
        "<--- Last few GCs --->\n\n[1234:0x5555]   12345 ms: Mark-sweep 2048.1 (2083.2) -> 2047.9 (2083.9) MB\n\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n 1: 0xb090e0 node::Abort() [node]",
        "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
    ),
    (
        "sudo",
        "alice is not in the sudoers file.  This incident will be reported.",
        "bob is not in the sudoers file.  This incident will be reported.",
    ),
    (
        "powershell policy",
        "a.ps1 : File C:\\Users\\a\\a.ps1 cannot be loaded because running scripts is disabled on this system.",
        "b.ps1 : File D:\\b\\b.ps1 cannot be loaded because running scripts is disabled on this system.",
    ),
    (
        "nixos",
        "error: The option `services.foo' does not exist. Definition values:\n       - In `/etc/nixos/configuration.nix': true",
        "error:\n       … while calling the 'head' builtin\n\n       error: The option `services.foo' does not exist. Definition values:\n       - In `/data/a/flake.nix': {",
    ),
    (
        "restic",
        "Fatal: unable to create lock in backend: repository is already locked by PID 1234 on web1 by root (UID 0, GID 0)",
        "Fatal: unable to create lock in backend: repository is already locked by PID 88 on web1 by root (UID 0, GID 0)",
    ),
    (
        "vault",
        "Error making API request.\n\nURL: GET https://vault.example.com:8200/v1/secret/data/a\nCode: 403. Errors:\n\n* permission denied",
        "Error making API request.\n\nURL: GET https://vault.example.com:8200/v1/secret/data/b\nCode: 403. Errors:\n\n* permission denied",
    ),
    (
        "jest",
        "  ● cart › adds an item\n\n    expect(received).toBe(expected) // Object.is equality\n\n    Expected: 3\n    Received: 4\n\n      at Object.<anonymous> (src/a.test.js:12:20)",
        "  ● cart › adds an item\n\n    expect(received).toBe(expected) // Object.is equality\n\n    Expected: 5\n    Received: 7\n\n      at Object.<anonymous> (src/b.test.js:1:2)",
    ),
    (
        "swift",
        "Fatal error: Unexpectedly found nil while unwrapping an Optional value: file Shop/Cart.swift, line 42",
        "Shop/Cart.swift:42: Fatal error: Unexpectedly found nil while unwrapping an Optional value",
    ),
    (
        "haskell",
        "src/Main.hs:12:5: error: [GHC-88464]\n    Variable not in scope: foo :: Int -> t",
        "app/X.hs:1:2: error: [GHC-88464]\n    Variable not in scope: foo :: Int -> t",
    ),
    (
        "a service of Windows",
        "Error 1053: The service did not respond to the start or control request in a timely fashion.",
        "Error 1053: The service did not respond to the start or control request in a timely fashion.",
    ),
    (
        "tracing of Rust",
        "2026-01-02T10:00:00.000000Z ERROR holdfast_server::gate: request failed error=\"pool timed out\" request_id=01890a5d-ac96-774b-bcce-b302099a8057",
        "2026-01-02T11:00:00.000000Z ERROR holdfast_server::gate: request failed error=\"pool timed out\" request_id=01890a5d-ac96-774b-ffff-b302099a8057",
    ),
];

pub(super) const DIFFER: &[(&str, &str, &str)] = &[
    (
        "ruby",
        "a.rb:1:in `f': undefined method `name' for nil:NilClass (NoMethodError)",
        "a.rb:1:in `f': undefined method `size' for nil:NilClass (NoMethodError)",
    ),
    (
        "perl",
        "Can't locate JSON/XS.pm in @INC (you may need to install the JSON::XS module)",
        "Can't locate YAML/XS.pm in @INC (you may need to install the YAML::XS module)",
    ),
    ("gradle", "Execution failed for task ':app:compileJava'.", "Execution failed for task ':app:test'."),
    (
        "yarn",
        "error Couldn't find package \"left-padd\" on the \"npm\" registry.",
        "error Couldn't find package \"right-padd\" on the \"npm\" registry.",
    ),
    (
        "docker pull",
        "Error response from daemon: pull access denied for foo/bar, repository does not exist",
        "Error response from daemon: pull access denied for foo/baz, repository does not exist",
    ),
    (
        "ansible",
        "fatal: [web1]: FAILED! => {\"msg\": \"Missing sudo password\"}",
        "fatal: [web1]: FAILED! => {\"msg\": \"Incorrect sudo password\"}",
    ),
    ("apt package", "E: Unable to locate package foo", "E: Unable to locate package bar"),
    (
        "dpkg",
        "dpkg: error processing package nginx (--configure):",
        "dpkg: error processing package redis (--configure):",
    ),
    (
        "brew",
        "Error: No available formula with the name \"foo\".",
        "Error: No available formula with the name \"bar\".",
    ),
    ("tar and gzip", "tar: /a/b: Cannot open: Permission denied", "gzip: /a/b: Permission denied"),
    (
        "clang",
        "a.cpp:3:10: fatal error: 'boost/asio.hpp' file not found",
        "a.cpp:3:10: fatal error: 'zlib.h' file not found",
    ),
    (
        "MSVC",
        "a.cpp(12): error C2065: 'foo': undeclared identifier",
        "a.cpp(12): error C2065: 'bar': undeclared identifier",
    ),
    (
        "cmake",
        "CMake Error at CMakeLists.txt:12 (find_package):\n  Could not find a package configuration file provided by \"Foo\"\n",
        "CMake Error at CMakeLists.txt:12 (find_package):\n  Could not find a package configuration file provided by \"Bar\"\n",
    ),
    (
        "pytest",
        "FAILED tests/test_a.py::test_login - AssertionError: assert ok",
        "FAILED tests/test_a.py::test_login - KeyError: 'ok'",
    ),
    ("go test", "--- FAIL: TestLoad (0.00s)", "--- FAIL: TestSave (0.00s)"),
    (
        "webpack",
        "Module not found: Error: Can't resolve './b' in '/data/a/src'",
        "Module not found: Error: Can't resolve './c' in '/data/a/src'",
    ),
    (
        "webpack package",
        "Module not found: Error: Can't resolve 'react' in '/data/a/src'",
        "Module not found: Error: Can't resolve 'vue' in '/data/a/src'",
    ),
    ("sqlite", "sqlite3.OperationalError: no such table: users", "sqlite3.OperationalError: database is locked"),
    (
        "elasticsearch",
        "{\"error\":{\"type\":\"index_not_found_exception\",\"reason\":\"no such index\"},\"status\":404}",
        "{\"error\":{\"type\":\"mapper_parsing_exception\",\"reason\":\"failed to parse\"},\"status\":400}",
    ),
    (
        "aws",
        "An error occurred (AccessDenied) when calling the PutObject operation: Access Denied",
        "An error occurred (NoSuchBucket) when calling the PutObject operation: The specified bucket does not exist",
    ),
    (
        "openai",
        "openai.NotFoundError: Error code: 404 - {'error': {'message': 'The model `gpt-9` does not exist', 'code': 'model_not_found'}}",
        "openai.AuthenticationError: Error code: 401 - {'error': {'message': 'Incorrect API key provided', 'code': 'invalid_api_key'}}",
    ),
    (
        "nginx",
        "nginx: [emerg] unknown directive \"foo\" in /etc/nginx/nginx.conf:12",
        "nginx: [emerg] unknown directive \"bar\" in /etc/nginx/nginx.conf:12",
    ),
    ("java's memory", "java.lang.OutOfMemoryError: Java heap space", "java.lang.OutOfMemoryError: Metaspace"),
    (
        "nixos",
        "error: The option `services.foo' does not exist. Definition values:",
        "error: The option `services.bar' does not exist. Definition values:",
    ),
    (
        "haskell",
        "src/Main.hs:12:5: error: [GHC-88464]\n    Variable not in scope: foo",
        "src/Main.hs:12:5: error: [GHC-88464]\n    Variable not in scope: bar",
    ),
    (
        "Windows",
        "Error 1053: The service did not respond in a timely fashion.",
        "Error 1067: The process terminated unexpectedly.",
    ),
    (
        "php",
        "PHP Warning:  Undefined variable $foo in /var/www/a.php on line 3",
        "PHP Warning:  Undefined variable $bar in /var/www/a.php on line 3",
    ),
    (
        "C++",
        "a.cpp:1:1: error: no matching function for call to 'foo(int)'",
        "a.cpp:1:1: error: no matching function for call to 'bar(int)'",
    ),
    (
        "glibc",
        "./app: /lib/libc.so.6: version `GLIBC_2.34' not found (required by ./app)",
        "./app: /lib/libc.so.6: version `GLIBCXX_3.4.30' not found (required by ./app)",
    ),
    (
        "segfault",
        "kernel: node[1234]: segfault at 0 ip 0 sp 0 error 4 in libc.so.6[7f9900000000+1b0000]",
        "kernel: nginx[1234]: segfault at 0 ip 0 sp 0 error 4 in libc.so.6[7f9900000000+1b0000]",
    ),
    ("kubernetes", "Error: ImagePullBackOff", "Error: CrashLoopBackOff"),
    (
        "TLS",
        "curl: (60) SSL certificate problem: certificate has expired",
        "curl: (60) SSL certificate problem: unable to get local issuer certificate",
    ),
    ("git", "fatal: refusing to merge unrelated histories", "fatal: pathspec 'x' did not match any files"),
    ("npm", "npm ERR! Missing script: \"build\"", "npm ERR! Missing script: \"start\""),
    ("make", "make: *** No rule to make target 'foo'.  Stop.", "make: *** No rule to make target 'bar'.  Stop."),
];

pub(super) const NONE: &[&str] = &[
    "I want to build a small web server. Which language should I use?",
    "Compile finished. 0 errors, 3 warnings.",
    "SELECT * FROM errors WHERE code = 500;",
    "The function returns an error if the file is missing.",
    "# Error handling\n\nWrap each call in a Result and return early.",
    "git commit -m 'fix: handle missing file error'",
    "curl -f https://example.com || exit 1",
    "let result = parse(input).map_err(|error| Error::Parse(error))?;",
    "if err != nil {\n    return fmt.Errorf(\"failed to open: %w\", err)\n}",
    "logger.error(\"failed to connect: %s\", error)",
    "200 OK",
    "PASS src/a.test.js\n  ✓ handles errors (3 ms)",
    "What does exit code 137 mean in Kubernetes?",
    "Explain the CAP theorem",
    "The HTTP status 404 means that something was not found.",
    "systemctl status nginx\n● nginx.service - A web server\n     Active: active (running) since Fri 2026-01-02",
    "Retry-After: 120",
    "errors: []",
    "def test_raises():\n    with pytest.raises(ValueError):\n        load()",
    "{\"openapi\":\"3.1.0\",\"paths\":{\"/x\":{\"get\":{\"responses\":{\"404\":{\"description\":\"not found\"}}}}}}",
    "Downloaded 120 files, failed: 0",
    "There are several kinds of exceptions: checked and unchecked.",
    "https://docs.rs/anyhow/latest/anyhow/struct.Error.html",
    "- [ ] handle errors\n- [x] write tests",
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
