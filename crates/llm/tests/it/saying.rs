//! What providers are sent: bodies that pass, bodies that are made, and what cannot be said.

use std::sync::Arc;

use holdfast_llm::{
    Call, ErrorKind, Format, Image, Message, Part, Request, Role, Sampling, Shape, Tool, ToolChoice, check,
    message::REDACTED,
};
use serde_json::{Value, json};

use super::rig::{MANNERS, Manner, call, original, question, sent};

fn with(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = question("hi");
    change(&mut request);
    request
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role, parts }
}

fn tool() -> Tool {
    Tool {
        name: "look".into(),
        description: Some("Looks.".into()),
        parameters: json!({"type": "object"}),
        strict: Some(true),
    }
}

fn tool_call(id: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: "look".into(), arguments: arguments.into() }
}

fn result(id: &str, text: &str) -> Message {
    let content = vec![Part::Text(text.into())];
    message(Role::Tool, vec![Part::ToolResult { id: id.into(), content, is_error: false }])
}

/// A conversation with everything that both shapes have words for.
fn conversation() -> Vec<Message> {
    vec![
        Message::text(Role::System, "Be brief."),
        Message::text(Role::System, "Be kind."),
        message(
            Role::User,
            vec![
                Part::Text("What is that?".into()),
                Part::Image(Image::Inline { media_type: "image/png".into(), data: "AAAA".into() }),
                Part::Image(Image::Url("https://example.org/a.png".into())),
            ],
        ),
        message(
            Role::Assistant,
            vec![Part::Text("Let me look.".into()), tool_call("a", "{\"x\":1}"), tool_call("b", "")],
        ),
        result("a", "kelp"),
        result("b", "rock"),
        Message::text(Role::User, "Thanks."),
    ]
}

async fn sent_for(shape: Shape, request: Request) -> Value {
    sent(shape, Manner::Whole, &call(request)).await.unwrap()
}

#[tokio::test]
async fn a_body_of_the_same_shape_passes_with_what_nobody_knows() {
    let body = json!({
        "model": "auto", "stream": false, "max_tokens": 5, "logit_bias": {"50256": -100}, "n": 3,
        "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}], "new": 1}],
        "a_field_of_tomorrow": {"deep": [1, 2.5, null]}, "thinking": {"type": "adaptive", "budget_tokens": 1},
    });
    for shape in [Shape::OpenAi, Shape::Anthropic] {
        for manner in MANNERS {
            let came = sent(shape, manner, &call(original(shape, &body))).await.unwrap();
            let mut expected = body.clone();
            expected["model"] = json!("up-1");
            expected["stream"] = json!(manner == Manner::Streamed);
            if (shape, manner) == (Shape::OpenAi, Manner::Streamed) {
                expected["stream_options"] = json!({"include_usage": true});
            }
            assert_eq!(came, expected);
        }
        assert_eq!(check(shape, &original(shape, &body)), Ok(vec![]));
    }
}

/// A model that keeps to a schema fills its fields as they come: one that is to think first does not, if `answer` is sorted
/// before `thoughts`.
#[tokio::test]
async fn what_a_schema_asks_for_first_stays_first() {
    let schema =
        json!({"type": "object", "properties": {"thoughts": {"type": "string"}, "answer": {"type": "string"}}});
    let tool = Tool { name: "say".into(), description: None, parameters: schema.clone(), strict: None };
    let made = Request { tools: vec![tool], ..question("hi") };
    for shape in [Shape::OpenAi, Shape::Anthropic] {
        let passed = original(shape, &json!({"messages": [], "z": schema, "a": 1}));
        for request in [made.clone(), passed] {
            let came = sent_for(shape, request).await.to_string();
            assert!(came.contains(&schema.to_string()), "{came}");
        }
    }
}

#[tokio::test]
async fn options_of_streams_go_with_streams() {
    let body = json!({"messages": [], "stream_options": {"include_usage": false, "chunk_size": 7}});
    let whole = sent(Shape::OpenAi, Manner::Whole, &call(original(Shape::OpenAi, &body))).await.unwrap();
    assert_eq!(whole.get("stream_options"), None);
    let streamed = sent(Shape::OpenAi, Manner::Streamed, &call(original(Shape::OpenAi, &body))).await.unwrap();
    assert_eq!(streamed["stream_options"], json!({"include_usage": true, "chunk_size": 7}));
}

#[tokio::test]
async fn what_a_session_says_of_the_system_becomes_part_of_its_words() {
    let added = |shape, body: Value| Request {
        history: vec![Message::text(Role::System, "Before: kelp."), Message::text(Role::User, "before")],
        context: Some("[1] kelp".into()),
        ..original(shape, &body)
    };
    let own = json!({"role": "user", "content": "now"});
    for (first, words) in
        [(None, "Before: kelp.\n\n[1] kelp"), (Some("Be brief."), "Be brief.\n\nBefore: kelp.\n\n[1] kelp")]
    {
        let system = first.map(|words| json!({"role": "system", "content": words}));
        let messages: Vec<Value> = system.into_iter().chain([own.clone()]).collect();
        let came = sent_for(Shape::OpenAi, added(Shape::OpenAi, json!({"messages": messages}))).await;
        let expected = json!([{"role": "system", "content": words}, {"role": "user", "content": "before"}, own]);
        assert_eq!(came["messages"], expected);
        let body = json!({"messages": [own], "system": first});
        let came = sent_for(Shape::Anthropic, added(Shape::Anthropic, body)).await;
        assert_eq!((&came["system"], came["messages"].as_array().unwrap().len()), (&json!(words), 2));
    }
}

#[tokio::test]
async fn the_most_tokens_of_a_model_bound_an_answer_that_nobody_bounded() {
    let bounded = async |request: Request| {
        let call = Call { max_output_tokens: Some(7), ..call(request) };
        let came = sent(Shape::OpenAi, Manner::Whole, &call).await.unwrap();
        (came["max_tokens"].clone(), came["max_completion_tokens"].clone())
    };
    let own = |body: Value| original(Shape::OpenAi, &body);
    assert_eq!(bounded(question("hi")).await, (json!(7), Value::Null));
    assert_eq!(bounded(own(json!({"messages": [], "max_tokens": null}))).await, (json!(7), Value::Null));
    assert_eq!(bounded(own(json!({"messages": [], "max_tokens": 3}))).await, (json!(3), Value::Null));
    assert_eq!(bounded(own(json!({"messages": [], "max_completion_tokens": 3}))).await, (Value::Null, json!(3)));
}

#[tokio::test]
async fn thoughts_without_a_signature_are_left_out_of_a_body_of_anthropics_shape() {
    let thought = |signature: &str| json!({"type": "thinking", "thinking": "hm", "signature": signature});
    let said = json!({"type": "text", "text": "yes"});
    let body = json!({"max_tokens": 1, "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [thought(""), thought("c2ln"), said]},
        {"role": "assistant", "content": [thought("")]},
    ]});
    let came = sent_for(Shape::Anthropic, original(Shape::Anthropic, &body)).await;
    let expected =
        json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": [thought("c2ln"), said]}]);
    assert_eq!(came["messages"], expected);
}

#[tokio::test]
async fn ids_that_differ_in_what_is_not_allowed_stay_two() {
    let calls = vec![tool_call("a:1", "{}"), tool_call("a.1", "{}")];
    let request = Request { messages: vec![message(Role::Assistant, calls)], ..Request::default() };
    let came = sent_for(Shape::Anthropic, request).await;
    assert_ne!(came["messages"][0]["content"][0]["id"], came["messages"][0]["content"][1]["id"]);
}

#[tokio::test]
async fn history_and_context_come_between_in_openais_shape() {
    let added = |body: Value| Request {
        history: vec![Message::text(Role::User, "before"), Message::text(Role::Assistant, "answer")],
        context: Some("[1] kelp".into()),
        ..original(Shape::OpenAi, &body)
    };
    let between = [json!({"role": "user", "content": "before"}), json!({"role": "assistant", "content": "answer"})];
    let check = async |messages: Value, first: Value| {
        let last = messages.as_array().unwrap().last().unwrap().clone();
        let came = sent_for(Shape::OpenAi, added(json!({"messages": messages}))).await;
        assert_eq!(came["messages"], json!([first, between[0], between[1], last]));
    };
    let user = json!({"role": "user", "content": "hi", "name": "me"});
    check(json!([user]), json!({"role": "system", "content": "[1] kelp"})).await;
    check(
        json!([{"role": "system", "content": "Be brief.", "name": "s"}, user]),
        json!({"role": "system", "content": "Be brief.\n\n[1] kelp", "name": "s"}),
    )
    .await;
    check(
        json!([{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, user]),
        json!({"role": "developer", "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "[1] kelp"}]}),
    )
    .await;
}

#[tokio::test]
async fn history_and_context_come_between_in_anthropics_shape() {
    let added = |body: Value| Request {
        history: vec![Message::text(Role::User, "before"), Message::text(Role::Assistant, "answer")],
        context: Some("[1] kelp".into()),
        ..original(Shape::Anthropic, &body)
    };
    let user = json!({"role": "user", "content": "hi"});
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    let check = async |system: Value, expected: Value| {
        let came =
            sent_for(Shape::Anthropic, added(json!({"messages": [user], "max_tokens": 5, "system": system}))).await;
        assert_eq!(came["system"], expected);
        let before = json!({"role": "user", "content": text("before")});
        let answer = json!({"role": "assistant", "content": text("answer")});
        assert_eq!(came["messages"], json!([before, answer, user]));
    };
    check(Value::Null, json!("[1] kelp")).await;
    check(json!("Be brief."), json!("Be brief.\n\n[1] kelp")).await;
    let cached = json!({"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}});
    check(json!([cached]), json!([cached, {"type": "text", "text": "[1] kelp"}])).await;
}

#[tokio::test]
async fn a_conversation_in_openais_words() {
    let came = sent_for(Shape::OpenAi, with(|request| request.messages = conversation())).await;
    let called = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}});
    let expected = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is that?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ]},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [called("a", "{\"x\":1}"), called("b", "")]},
        {"role": "tool", "tool_call_id": "a", "content": "kelp"},
        {"role": "tool", "tool_call_id": "b", "content": "rock"},
        {"role": "user", "content": "Thanks."},
    ]);
    assert_eq!(came["messages"], expected);
}

#[tokio::test]
async fn a_conversation_in_anthropics_words() {
    let came = sent_for(Shape::Anthropic, with(|request| request.messages = conversation())).await;
    let used = |id: &str, input: Value| json!({"type": "tool_use", "id": id, "name": "look", "input": input});
    let text = |text: &str| json!({"type": "text", "text": text});
    let result = |id: &str, words: &str| json!({"type": "tool_result", "tool_use_id": id, "content": [text(words)]});
    let expected = json!({
        "model": "up-1",
        "stream": false,
        "max_tokens": 4_096,
        "system": "Be brief.\nBe kind.",
        "messages": [
            {"role": "user", "content": [
                text("What is that?"),
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
            ]},
            {"role": "assistant", "content": [text("Let me look."), used("a", json!({"x": 1})), used("b", json!({}))]},
            {"role": "user", "content": [result("a", "kelp"), result("b", "rock"), text("Thanks.")]},
        ],
    });
    assert_eq!(came, expected);
}

#[tokio::test]
async fn details_of_messages_in_anthropics_words() {
    let check = async |messages: Vec<Message>, expected: Value| {
        let came = sent_for(Shape::Anthropic, with(|request| request.messages = messages)).await;
        assert_eq!(came["messages"], expected);
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    let thoughts = |text: &str, signature: Option<&str>| Part::Reasoning {
        text: text.into(),
        signature: signature.map(Into::into),
    };
    let signed = vec![
        thoughts("hm", Some("c2ln")),
        thoughts("unsigned", None),
        thoughts("", Some(&format!("{REDACTED}b3A="))),
        Part::Text("yes".into()),
    ];
    check(
        vec![Message::text(Role::User, "hi"), message(Role::Assistant, signed), Message::text(Role::User, "go on")],
        json!([
            {"role": "user", "content": [text("hi")]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "b3A="},
                text("yes"),
            ]},
            {"role": "user", "content": [text("go on")]},
        ]),
    )
    .await;
    // What is empty is left out, and who speaks twice speaks once.
    check(
        vec![Message::text(Role::User, "a"), Message::text(Role::Assistant, ""), Message::text(Role::User, "b")],
        json!([{"role": "user", "content": [text("a"), text("b")]}]),
    )
    .await;
    // A beginning of the answer must not end in white space.
    check(
        vec![Message::text(Role::User, "a"), Message::text(Role::Assistant, "Once \n")],
        json!([{"role": "user", "content": [text("a")]}, {"role": "assistant", "content": [text("Once")]}]),
    )
    .await;
    // Ids of other providers may have signs in them that are not allowed here; both ends change alike.
    let failed = Part::ToolResult { id: "functions.look:0".into(), content: vec![], is_error: true };
    check(
        vec![message(Role::Assistant, vec![tool_call("functions.look:0", " ")]), message(Role::Tool, vec![failed])],
        json!([
            {"role": "assistant", "content": [{"type": "tool_use", "id": "functions_look_0_9a3a9af1", "name": "look", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "functions_look_0_9a3a9af1", "content": [], "is_error": true}]},
        ]),
    )
    .await;
    let data = Image::Url("data:image/jpeg;base64,BBBB".into());
    check(
        vec![message(Role::User, vec![Part::Image(data)])],
        json!([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "BBBB"}}]}]),
    )
    .await;
}

#[tokio::test]
async fn tools_and_choices_in_both_shapes() {
    let with_choice = |choice: ToolChoice, parallel: Option<bool>| {
        with(|request| {
            request.tools = vec![tool()];
            request.tool_choice = choice;
            request.parallel_tool_calls = parallel;
        })
    };
    let named = || ToolChoice::Named("look".into());
    for (choice, parallel, openai, anthropic) in [
        (ToolChoice::Auto, None, Value::Null, Value::Null),
        (ToolChoice::Auto, Some(false), Value::Null, json!({"type": "auto", "disable_parallel_tool_use": true})),
        (ToolChoice::None, Some(false), json!("none"), json!({"type": "none"})),
        (ToolChoice::Required, None, json!("required"), json!({"type": "any"})),
        (ToolChoice::Required, Some(true), json!("required"), json!({"type": "any"})),
        (
            named(),
            None,
            json!({"type": "function", "function": {"name": "look"}}),
            json!({"type": "tool", "name": "look"}),
        ),
    ] {
        let request = with_choice(choice, parallel);
        let came = sent_for(Shape::OpenAi, request.clone()).await;
        assert_eq!(
            (&came["tool_choice"], &came["parallel_tool_calls"]),
            (&openai, &parallel.map_or(Value::Null, Value::from))
        );
        let function =
            json!({"name": "look", "description": "Looks.", "parameters": {"type": "object"}, "strict": true});
        assert_eq!(came["tools"], json!([{"type": "function", "function": function}]));
        let came = sent_for(Shape::Anthropic, request).await;
        assert_eq!(came["tool_choice"], anthropic);
        assert_eq!(
            came["tools"],
            json!([{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}, "strict": true}])
        );
    }
    let without = with(|request| request.parallel_tool_calls = Some(false));
    let came = sent_for(Shape::OpenAi, without.clone()).await;
    assert_eq!((came.get("tools"), came.get("parallel_tool_calls")), (None, None));
    assert_eq!(sent_for(Shape::Anthropic, without).await.get("tool_choice"), None);
}

#[tokio::test]
async fn sampling_and_formats_in_both_shapes() {
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let request = with(|request| {
        request.sampling = Sampling {
            max_tokens: Some(64),
            temperature: Some(0.5),
            top_p: Some(0.9),
            top_k: Some(40),
            stop: vec!["END".into()],
            seed: Some(-7),
            frequency_penalty: Some(0.1),
            presence_penalty: Some(-0.1),
            answers: Some(1),
            thinking_tokens: None,
            reasoning_effort: Some("minimal".into()),
        };
        request.format = Format::JsonSchema { name: "thing".into(), schema: schema.clone(), strict: Some(true) };
    });
    let mut openai = sent_for(Shape::OpenAi, request.clone()).await;
    openai.as_object_mut().unwrap().retain(|name, _| name != "messages");
    let described = json!({"name": "thing", "schema": schema, "strict": true});
    let expected = json!({
        "model": "up-1", "stream": false, "max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "stop": ["END"], "seed": -7,
        "frequency_penalty": 0.1, "presence_penalty": -0.1, "n": 1, "reasoning_effort": "minimal",
        "response_format": {"type": "json_schema", "json_schema": described},
    });
    assert_eq!(openai, expected);
    assert_eq!(check(Shape::OpenAi, &request), Ok(vec!["top_k"]));
    let mut anthropic = sent_for(Shape::Anthropic, request.clone()).await;
    anthropic.as_object_mut().unwrap().retain(|name, _| name != "messages");
    let expected = json!({
        "model": "up-1", "stream": false, "max_tokens": 64, "temperature": 0.5, "top_p": 0.9, "top_k": 40,
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "low"},
    });
    assert_eq!(anthropic, expected);
    assert_eq!(check(Shape::Anthropic, &request), Ok(vec!["seed", "frequency_penalty", "presence_penalty"]));
    let json_object = with(|request| request.format = Format::JsonObject);
    assert_eq!(sent_for(Shape::OpenAi, json_object).await["response_format"], json!({"type": "json_object"}));
}

#[tokio::test]
async fn effort_and_budgets_for_thoughts_become_each_other() {
    for (tokens, effort) in [(1_024, "low"), (4_096, "medium"), (16_383, "medium"), (32_000, "high")] {
        let request = with(|request| request.sampling.thinking_tokens = Some(tokens));
        assert_eq!(sent_for(Shape::OpenAi, request.clone()).await["reasoning_effort"], effort);
        assert_eq!(check(Shape::OpenAi, &request), Ok(vec!["thinking.budget_tokens"]));
        let thinking = json!({"type": "enabled", "budget_tokens": tokens});
        assert_eq!(sent_for(Shape::Anthropic, request).await["thinking"], thinking);
    }
    for (effort, expected, hints) in [
        ("low", json!({"effort": "low"}), vec![]),
        ("high", json!({"effort": "high"}), vec![]),
        ("none", Value::Null, vec!["reasoning_effort"]),
        ("tremendous", Value::Null, vec!["reasoning_effort"]),
    ] {
        let request = with(|request| request.sampling.reasoning_effort = Some(effort.into()));
        assert_eq!(check(Shape::Anthropic, &request), Ok(hints));
        assert_eq!(sent_for(Shape::Anthropic, request).await["output_config"], expected);
    }
}

#[tokio::test]
async fn an_answer_is_bounded_by_what_the_model_can() {
    let bound = async |max_tokens: Option<u32>, max_output_tokens: Option<u32>| {
        let request = with(|request| request.sampling.max_tokens = max_tokens);
        let call = Call { max_output_tokens, ..call(request) };
        let openai = sent(Shape::OpenAi, Manner::Whole, &call).await.unwrap()["max_tokens"].clone();
        (openai, sent(Shape::Anthropic, Manner::Whole, &call).await.unwrap()["max_tokens"].clone())
    };
    assert_eq!(bound(None, None).await, (Value::Null, json!(4_096)));
    assert_eq!(bound(None, Some(64_000)).await, (json!(64_000), json!(64_000)));
    assert_eq!(bound(Some(5), Some(64_000)).await, (json!(5), json!(5)));
}

#[tokio::test]
async fn what_to_go_on_from_is_the_last_message() {
    for request in [question("hi"), original(Shape::OpenAi, &json!({"messages": [{"role": "user", "content": "hi"}]}))]
    {
        let call = Call { continued: Some("Once upon ".into()), ..call(request) };
        let came = sent(Shape::OpenAi, Manner::Streamed, &call).await.unwrap();
        let last = json!({"role": "assistant", "content": "Once upon "});
        assert_eq!(came["messages"], json!([{"role": "user", "content": "hi"}, last]));
        assert_eq!((&came["add_generation_prompt"], &came["continue_final_message"]), (&json!(false), &json!(true)));
    }
    let body =
        json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "thinking": {"type": "adaptive"}});
    let call = Call { continued: Some("Once upon ".into()), ..call(original(Shape::Anthropic, &body)) };
    let came = sent(Shape::Anthropic, Manner::Streamed, &call).await.unwrap();
    assert_eq!(came["messages"][1], json!({"role": "assistant", "content": "Once upon"}));
    assert_eq!(came.get("thinking"), None);
}

/// What is left out, in the order of the alphabet: that of a body's fields depends on features of a library.
fn left_out(shape: Shape, request: &Request) -> Result<Vec<&'static str>, String> {
    let mut hints = check(shape, request).map_err(|error| error.reason)?;
    hints.sort_unstable();
    Ok(hints)
}

/// Asks both `check` and a provider, which have to agree, and gives what the refusal names.
async fn refused(shape: Shape, request: Request) -> String {
    let error = check(shape, &request).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Inexpressible);
    assert_eq!(sent(shape, Manner::Streamed, &call(request)).await.unwrap_err(), error);
    let suffix = format!(" cannot be said to a provider that speaks {}", shape.as_str());
    error.reason.strip_suffix(&suffix).unwrap().to_owned()
}

#[tokio::test]
async fn what_bears_meaning_and_has_no_word_is_refused() {
    let sampling = |change: fn(&mut Sampling)| with(|request| change(&mut request.sampling));
    let image = || Part::Image(Image::Url("https://example.org/a.png".into()));
    let shape = Shape::Anthropic;
    assert_eq!(refused(shape, sampling(|it| it.answers = Some(2))).await, "n above 1");
    assert_eq!(refused(shape, sampling(|it| it.temperature = Some(1.01))).await, "temperature above 1");
    assert_eq!(refused(shape, sampling(|it| it.stop = vec![" \n".into()])).await, "stop at white space");
    assert_eq!(refused(shape, with(|it| it.format = Format::JsonObject)).await, "response_format json_object");
    for arguments in ["{", "[1]", "null", "\"a\""] {
        let request = with(|it| it.messages.push(message(Role::Assistant, vec![tool_call("a", arguments)])));
        assert_eq!(refused(shape, request).await, "arguments of a tool call that are no JSON object");
    }
    let request = with(|it| it.messages.insert(0, message(Role::System, vec![image()])));
    assert_eq!(refused(shape, request).await, "an image in a system message");
    let seen = Part::ToolResult { id: "a".into(), content: vec![image()], is_error: false };
    let request = with(|it| it.messages.push(message(Role::Tool, vec![seen.clone()])));
    assert_eq!(refused(Shape::OpenAi, request).await, "an image in a tool's result");
    // What the session has is sent whatever shape the client speaks.
    let request =
        Request { history: vec![message(Role::Tool, vec![seen])], ..original(Shape::OpenAi, &json!({"messages": []})) };
    assert_eq!(refused(Shape::OpenAi, request).await, "an image in a tool's result");
}

#[tokio::test]
async fn what_the_vocabulary_has_no_word_for_is_refused_or_named() {
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let check_openai = |body: Value| left_out(Shape::Anthropic, &original(Shape::OpenAi, &body));
    let refused_openai = |body: Value| check_openai(body).unwrap_err().split(" cannot").next().unwrap().to_owned();
    assert_eq!(refused_openai(json!({"logprobs": true})), "logprobs");
    assert_eq!(refused_openai(json!({"modalities": ["text", "audio"]})), "modalities");
    assert_eq!(refused_openai(json!({"logit_bias": {"1": 5}})), "logit_bias");
    assert_eq!(refused_openai(json!({"functions": [{"name": "f"}]})), "functions");
    assert_eq!(refused_openai(json!({"a\r\n<b>_of-tomorrow.": 1})), "ab_of-tomorrow.");
    assert_eq!(refused_openai(user(json!([{"type": "input_audio"}]))), "messages.content.input_audio");
    assert_eq!(refused_openai(json!({"tools": [{"type": "custom"}]})), "tools that are no functions");
    assert_eq!(refused_openai(json!({"tool_choice": {"type": "allowed_tools"}})), "tool_choice.allowed_tools");
    assert_eq!(refused_openai(json!({"messages": [{"role": "function", "content": "x"}]})), "messages.function_call");
    let calls = |calls: Value| json!({"messages": [{"role": "assistant", "tool_calls": calls}]});
    let custom = calls(json!([{"type": "custom", "id": "c", "custom": {"name": "n", "input": "i"}}]));
    assert_eq!(refused_openai(custom), "messages.tool_calls that are no functions");
    let untyped = calls(json!([{"id": "c", "function": {"name": "n", "arguments": "{}"}}]));
    assert_eq!(check_openai(untyped), Ok(vec![]));
    // Off may be what was asked for.
    assert_eq!(refused_openai(json!({"enable_thinking": false})), "enable_thinking");
    let nothing = json!({"logprobs": false, "store": false, "echo": false, "top_logprobs": 0, "modalities": ["text"], "logit_bias": {}, "functions": [], "audio": null});
    assert_eq!(check_openai(nothing), Ok(vec![]));
    let hints = json!({
        "user": "u", "metadata": {"a": "b"}, "store": true, "store_": null, "prompt_cache_key": "k",
        "messages": [{"role": "user", "name": "me", "content": [{"type": "image_url", "image_url": {"url": "x", "detail": "low"}}]}],
    });
    let named = vec!["messages.image_url.detail", "messages.name", "metadata", "prompt_cache_key", "store", "user"];
    assert_eq!(check_openai(hints), Ok(named));

    let check_anthropic = |body: Value| left_out(Shape::OpenAi, &original(Shape::Anthropic, &body));
    let refused_anthropic =
        |body: Value| check_anthropic(body).unwrap_err().split(" cannot").next().unwrap().to_owned();
    assert_eq!(refused_anthropic(json!({"mcp_servers": [{"url": "x"}]})), "mcp_servers");
    assert_eq!(refused_anthropic(user(json!([{"type": "document", "source": {}}]))), "messages.content.document");
    assert_eq!(
        refused_anthropic(user(json!([{"type": "image", "source": {"type": "file"}}]))),
        "messages.content.image"
    );
    let result = json!([{"type": "tool_result", "content": [{"type": "search_result"}]}]);
    assert_eq!(refused_anthropic(user(result)), "messages.content.search_result");
    assert_eq!(
        refused_anthropic(json!({"tools": [{"type": "web_search_20250305", "name": "w"}]})),
        "tools that the provider has itself"
    );
    let cached = json!({"type": "ephemeral"});
    let hints = json!({
        "metadata": {"user_id": "u"}, "service_tier": "auto", "mcp_servers": [],
        "system": [{"type": "text", "text": "s", "cache_control": cached}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "t", "citations": [], "cache_control": cached}]}],
        "tools": [{"name": "look", "input_schema": {}, "cache_control": cached}],
    });
    let mut request = original(Shape::Anthropic, &hints);
    request.betas = vec!["interleaved-thinking-2025-05-14".into()];
    let named = vec!["anthropic-beta", "cache_control", "messages.citations", "metadata", "service_tier"];
    assert_eq!(left_out(Shape::OpenAi, &request), Ok(named));
}

#[tokio::test]
async fn what_is_only_lost_in_translation_is_named() {
    let thoughts =
        |signature: Option<&str>| Part::Reasoning { text: "hm".into(), signature: signature.map(Into::into) };
    let request = with(|it| it.messages.push(message(Role::Assistant, vec![thoughts(Some("c2ln"))])));
    assert_eq!(check(Shape::OpenAi, &request), Ok(vec!["messages.thinking"]));
    assert_eq!(check(Shape::Anthropic, &request), Ok(vec![]));
    let request = with(|it| it.messages.push(message(Role::Assistant, vec![thoughts(None)])));
    assert_eq!(check(Shape::Anthropic, &request), Ok(vec!["messages.reasoning"]));
    let request = with(|it| it.messages.push(Message::text(Role::System, "later")));
    assert_eq!(check(Shape::Anthropic, &request), Ok(vec!["messages.system.position"]));
    assert_eq!(sent_for(Shape::Anthropic, request).await["system"], "later");
    let failed = Part::ToolResult { id: "a".into(), content: vec![], is_error: true };
    let request = with(|it| it.messages.push(message(Role::Tool, vec![failed])));
    assert_eq!(check(Shape::OpenAi, &request), Ok(vec!["messages.tool_result.is_error"]));
}

#[tokio::test]
async fn unfinished_features_are_asked_for_where_they_are_known() {
    let upstream = super::rig::upstream().await;
    upstream.always(holdfast_testkit::upstream::Script::anthropic("a"));
    let provider = super::rig::provider_at(Shape::Anthropic, upstream.url());
    let mut request = original(Shape::Anthropic, &json!({"messages": [], "max_tokens": 1}));
    request.betas = vec!["one-2025-01-01".into(), "two-2025-01-01".into()];
    assert_eq!(check(Shape::Anthropic, &request), Ok(vec![]));
    provider.complete(&call(request)).await.unwrap();
    assert_eq!(upstream.wait_for(0, |_| true).await.header("anthropic-beta"), "one-2025-01-01,two-2025-01-01");
    let other = Arc::new(Request { betas: vec!["one".into()], ..question("hi") });
    provider.complete(&Call { request: other, ..call(question("hi")) }).await.unwrap();
    assert_eq!(upstream.wait_for(1, |_| true).await.header("anthropic-beta"), "");
}
