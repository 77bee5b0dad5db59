//! `holdfast mcp`: agents that start it without a server, several at once.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::home::{Home, wait_with_output};

struct Agent {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Agent {
    fn start(home: &Home) -> Result<Self> {
        let mut command = home.command(&["--listen", "127.0.0.1:0", "mcp"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, input, output })
    }

    fn tell(&mut self, message: &Value) -> Result<()> {
        writeln!(self.input, "{message}")?;
        Ok(self.input.flush()?)
    }

    fn hear(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("no message but {line:?}"))
    }

    /// The names of the tools, after a proper greeting.
    fn tools(&mut self) -> Result<Vec<String>> {
        self.tell(&json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18", "capabilities": {},
                "clientInfo": { "name": "test", "version": "1" },
            },
        }))?;
        assert_eq!(self.hear()?["result"]["serverInfo"]["name"], "holdfast");
        self.tell(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        self.tell(&json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" }))?;
        let answer = self.hear()?;
        let tools = answer["result"]["tools"].as_array().context("no tools")?;
        Ok(tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect())
    }

    /// Ends the input, as an agent does that is done, and gives what else was said.
    fn leave(self) -> Result<String> {
        let Self { mut child, input, output } = self;
        drop(input);
        let rest: Vec<String> = output.lines().collect::<std::io::Result<_>>()?;
        assert_eq!(rest, Vec::<String>::new());
        child.stdout = None;
        let ended = wait_with_output(child)?;
        assert_eq!(ended.status.code(), Some(0));
        Ok(String::from_utf8(ended.stderr)?)
    }
}

#[test]
fn two_agents_at_once_share_the_server_that_one_of_them_started() -> Result<()> {
    let home = Home::new()?;
    let (mut one, mut other) = (Agent::start(&home)?, Agent::start(&home)?);
    let tools = one.tools()?;
    assert_eq!(other.tools()?, tools);
    assert!(tools.iter().any(|tool| tool.contains("search")), "{tools:?}");
    assert_eq!(one.leave()?, "");
    assert_eq!(other.tools_again()?, tools);
    assert_eq!(other.leave()?, "");
    // The server stays for a while, and commands find it.
    let told = home.succeed(&["status"])?;
    assert!(told.contains("server running"), "{told}");
    Ok(())
}

impl Agent {
    fn tools_again(&mut self) -> Result<Vec<String>> {
        self.tell(&json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/list" }))?;
        let answer = self.hear()?;
        let tools = answer["result"]["tools"].as_array().context("no tools")?;
        Ok(tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect())
    }
}

#[test]
fn lines_that_are_no_messages_are_answered_and_harm_no_session() -> Result<()> {
    let home = Home::new()?;
    let _server = home.up(&[])?;
    let mut agent = Agent::start(&home)?;
    let tools = agent.tools()?;
    let deep = format!("{{\"jsonrpc\":\"2.0\",\"id\":8,\"params\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let twice = r#"{"jsonrpc":"2.0","id":9,"method":"tools/list","method":"ping"}"#;
    for (line, code) in [("no JSON", "invalid_json"), (&deep, "json_too_deep"), (twice, "invalid_request")] {
        writeln!(agent.input, "{line}")?;
        agent.input.flush()?;
        let answer = agent.hear()?;
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&(-32_700).into(), &Value::Null), "{answer}");
        assert_eq!(answer["error"]["data"]["code"], code, "{answer}");
        assert_eq!(agent.tools_again()?, tools);
    }
    agent.leave()?;
    Ok(())
}

#[test]
fn an_agent_uses_the_server_that_runs() -> Result<()> {
    let home = Home::with_documents()?;
    let server = home.up_with_documents()?;
    let mut agent = Agent::start(&home)?;
    agent.tools()?;
    agent.leave()?;
    assert!(!home.data_dir().join("logs/server.log").exists(), "no other server was started");
    drop(server);
    Ok(())
}

#[test]
fn a_server_that_cannot_start_says_why() -> Result<()> {
    let home = Home::new()?;
    std::fs::write(home.data_dir().join("db/holdfast.db"), "this is no database, whatever its name says, at all")?;
    let output = wait_with_output(Agent::start(&home)?.child)?;
    assert_eq!(output.status.code(), Some(1));
    let told = home.told(&output);
    assert!(told.contains("damaged") && told.contains("server.log"), "{told}");
    Ok(())
}
