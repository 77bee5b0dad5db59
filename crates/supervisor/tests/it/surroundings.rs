//! What a service gets from us and what it leaves: environment, files, output.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use holdfast_supervisor::PASSED_ON;

use crate::rig::{Heard, Lifeline, PATIENCE, Rig, exists};

/// Starts a service, and waits until its script says that it is done.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
async fn ran(rig: &Rig, mut spec: holdfast_supervisor::Spec) -> holdfast_supervisor::Supervised {
    spec.ready = exists(rig.path("done"));
    let service = rig.supervisor.add(spec).unwrap();
    service.until_ready(PATIENCE).await.unwrap();
    service
}

#[tokio::test]
async fn the_environment_has_what_is_passed_on_and_what_is_specified() {
    let rig = Rig::with_environment(&[
        ("HOME", "/srv/somebody"),
        ("LANG", "C.UTF-8"),
        ("HOLDFAST_PROVIDERS__KEY", "secret"),
        ("OPENAI_API_KEY", "secret"),
        ("LD_PRELOAD", "/no/such.so"),
    ]);
    let mut spec = rig.spec("s", "env -0 > environment; touch done; exec sleep 1000");
    spec.environment = vec![("MODEL".into(), "a b\nc".into()), ("LANG".into(), "de_DE.UTF-8".into())];
    ran(&rig, spec).await;
    let environment = fs::read_to_string(rig.path("environment")).unwrap();
    let variables: BTreeMap<&str, &str> =
        environment.split_terminator('\0').map(|variable| variable.split_once('=').unwrap()).collect();
    // What the shell sets by itself.
    let of_shell = ["PWD", "OLDPWD", "SHLVL", "_"];
    let given: BTreeMap<_, _> = variables.into_iter().filter(|(name, _)| !of_shell.contains(name)).collect();
    let expected = [
        ("HOME", "/srv/somebody"),
        ("LANG", "de_DE.UTF-8"),
        ("MODEL", "a b\nc"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ];
    assert_eq!(given, BTreeMap::from(expected));
    assert!(PASSED_ON.iter().all(|name| !name.contains("KEY") && !name.contains("TOKEN")));
    rig.end().await;
}

/// Numbers of the open files of a process that the programs it starts get, too.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
fn inherited(process: &str) -> BTreeSet<u32> {
    let numbers = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let numbers = numbers.map(|entry| entry.unwrap().file_name().to_string_lossy().parse::<u32>().unwrap());
    let stays = |number: &u32| {
        // One that is closed by now is none.
        let info = fs::read_to_string(format!("/proc/{process}/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.is_some_and(|flags| {
            u32::from_str_radix(flags.trim(), 8).unwrap() & rustix::fs::OFlags::CLOEXEC.bits() == 0
        })
    };
    numbers.filter(stays).collect()
}

#[tokio::test]
async fn it_has_three_files_a_session_and_a_folder_of_its_own() {
    // Whoever started the tests may have left something open, which is then open everywhere.
    let left_open = inherited("self");
    let rig = Rig::new();
    let _open = fs::File::open("/dev/null").unwrap();
    let script = "ps -o pid=,pgid=,sid=,tty= -p $$ > session; pwd > folder; touch done; exec sleep 1000";
    let service = ran(&rig, rig.spec("s", script)).await;
    let process = crate::rig::pid(&service).to_string();
    let expected: BTreeSet<u32> = left_open.into_iter().chain([0, 1, 2]).collect();
    assert_eq!(inherited(&process), expected);
    assert_eq!(fs::read_link(format!("/proc/{process}/fd/0")).unwrap(), Path::new("/dev/null"));
    let session = fs::read_to_string(rig.path("session")).unwrap();
    let session: Vec<&str> = session.split_whitespace().collect();
    assert_eq!(session, [&process, &process, &process, "?"]);
    assert_eq!(Path::new(fs::read_to_string(rig.path("folder")).unwrap().trim()), rig.folder.path());
    rig.end().await;
}

#[tokio::test]
async fn arguments_arrive_as_they_were_given() {
    let rig = Rig::new();
    let mut spec = rig.spec("s", "printf '%s|' \"$0\" \"$@\" > arguments; touch done; exec sleep 1000");
    let odd = ["zero", "--help", "", "a b", "ü\n", "__child", "--"];
    spec.arguments.extend(odd.map(str::to_owned));
    ran(&rig, spec).await;
    let expected: String = odd.iter().map(|argument| format!("{argument}|")).collect();
    assert_eq!(fs::read_to_string(rig.path("arguments")).unwrap(), expected);
    rig.end().await;
}

#[tokio::test]
async fn the_log_is_bounded_and_for_its_owner() {
    let rig = Rig::new();
    let script = "i=0; while [ $i -lt 20000 ]; do echo \"line $i of many, some of them on the other stream\" >&$((1 + i % 2)); \
                  i=$((i + 1)); done; touch done; exec sleep 1000";
    let mut spec = rig.spec("loud", script);
    spec.log_bytes_max = 64 << 10;
    let service = ran(&rig, spec).await;
    service.stop().await;
    let (log, older) = (rig.path("loud.log"), rig.path("loud.log.1"));
    for path in [&log, &older] {
        let metadata = fs::metadata(path).unwrap();
        assert!(metadata.len() <= 64 << 10, "{} bytes", metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
    let files = fs::read_dir(rig.folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("loud.log"));
    assert_eq!(files.count(), 2);
    let last = "line 19999 of many, some of them on the other stream\n";
    assert!(fs::read_to_string(log).unwrap().ends_with(last));
    assert!(service.log_tail(1 << 20).ends_with(last));
    assert!(service.log_tail(1 << 20).len() <= 16 << 10);
    assert_eq!(service.log_tail(last.len()), last);
    rig.end().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_written_holds_nothing_up() {
    let rig = Rig::new();
    // More than a pipe holds.
    let mut spec = rig.spec("s", "head -c 1000000 /dev/zero; echo the end; touch done; exec sleep 1000");
    spec.log_file = rig.path("no/such/folder/s.log");
    let service = ran(&rig, spec).await;
    service.stop().await;
    assert!(service.log_tail(100).ends_with("the end\n"));
    rig.end().await;
}

#[tokio::test]
async fn one_that_leaves_the_group_with_the_output_holds_nothing_up() {
    let rig = Rig::new();
    let mut line = Lifeline::new(rig.folder.path());
    let held = line.held();
    let script = format!("setsid sh -c '{held} touch done; exec sleep 1000' & exec sleep 1000");
    let service = ran(&rig, rig.spec("s", &script)).await;
    let stray = line.pid().await;
    let stopped = tokio::time::timeout(Duration::from_secs(10), service.stop()).await;
    let stray = rustix::process::Pid::from_raw(stray as i32).unwrap();
    rustix::process::kill_process(stray, rustix::process::Signal::KILL).unwrap();
    stopped.unwrap();
    assert_eq!(line.next().await, Heard::Gone);
    rig.end().await;
}
