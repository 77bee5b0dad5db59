//! Prose to plant things in: mail, logs, code, settings, chat, as conversations have them.

/// Paragraphs in several registers. Nothing in them is a secret or tells of a person.
pub const PARAGRAPHS: [&str; 30] = [
    "Hello everybody, the migration is planned for the evening of the third Thursday, since the traffic is lowest then. \
     We will stop the writers first, wait until the queue is empty, and only then copy the tables. If anything takes longer \
     than two hours, we go back to where we were and try again in the week after.",
    "Thank you for the quick answer. I have read the section on retries twice now, and what I still do not understand is why \
     the budget is shared between callers. Would one caller that misbehaves not take it away from all the others?",
    "The walk from the station takes about twenty minutes. You follow the river until the second bridge, cross it, and turn \
     left at the bakery. The office is on the third floor, above the bicycle shop; the bell is the one without a name.",
    "so I tried what you said and it does work on my machine, but not in CI?? the only difference I can see is that CI runs \
     everything in a container and the clock there is off by a couple of seconds. could that be it?",
    "2026-03-14T08:15:27.104Z INFO  worker{id=7}: batch finished items=128 took_ms=412 queue=0\n\
     2026-03-14T08:15:27.611Z WARN  worker{id=7}: slow statement took_ms=1843 rows=90210\n\
     2026-03-14T08:15:31.002Z INFO  server: listening port=8088 tls=false",
    "fn merge(left: &[u32], right: &[u32]) -> Vec<u32> {\n    let mut merged = Vec::with_capacity(left.len() + right.len());\n    \
     let (mut i, mut j) = (0, 0);\n    while i < left.len() && j < right.len() {\n        if left[i] <= right[j] { \
     merged.push(left[i]); i += 1; } else { merged.push(right[j]); j += 1; }\n    }\n    merged\n}",
    "def tokens(text):\n    \"\"\"Yields the tokens of a text; a token is a row of letters.\"\"\"\n    for token in re.findall(r\"[a-z]+\", \
     text.lower()):\n        if token not in STOP_WORDS:\n            yield token",
    "[server]\nlisten = \"127.0.0.1:8088\"\nworkers = 4\n\n[limits]\nenabled = true\nrequests_per_minute = 600\nbody_bytes_max = 1048576",
    "services:\n  web:\n    image: registry.example/web:1.14.2\n    ports:\n      - \"8080:80\"\n    environment:\n      LOG_LEVEL: info\n      \
     TZ: Europe/Berlin\n    restart: unless-stopped",
    "Monoclonal antibodies against the receptor reduced the response by 42% (n = 17, p = 0.016), whereas the control group \
     showed no change over 28 weeks. The apparent diffusion coefficient decreased from 1.8 to 1.2 toward term.",
    "The password policy asks for twelve characters and no change without a reason. Tokens expire after an hour, and the \
     token limit is 4096; whoever needs more has to ask. Keys are rotated every ninety days.",
    "Can you explain what a bearer token is? I know basic authentication, where the user name and the password go into a \
     header, but the documentation speaks of an access token and a refresh token, and of a client secret on top.",
    "A secret that is shared by three people is none. We should move it out of the repository, into the vault, and let the \
     deployment read it from there; the API key of the map service as well.",
    "error[E0502]: cannot borrow `state` as mutable because it is also borrowed as immutable\n  --> src/session.rs:118:9\n   |\n\
     117 |     let first = &state.entries[0];\n    |                  ------------- immutable borrow occurs here",
    "Traceback (most recent call last):\n  File \"app/main.py\", line 42, in <module>\n    run()\n  File \"app/run.py\", line 17, in run\n    \
     raise TimeoutError(f\"no answer after {seconds:.1f} s\")\nTimeoutError: no answer after 30.0 s",
    "$ cargo test --workspace\n   Compiling holdfast-routing v0.1.0\n    Finished `test` profile in 12.84s\n     Running \
     unittests src/lib.rs\ntest result: ok. 214 passed; 0 failed; 0 ignored; finished in 3.02s",
    "| region | requests | p50 | p99 |\n|---|---:|---:|---:|\n| eu-central-1 | 1 204 551 | 12 ms | 88 ms |\n| us-east-1 | 884 120 | 14 ms | 131 ms |",
    "SELECT customer_id, count(*) AS orders, sum(total_cents) / 100.0 AS revenue\nFROM orders\nWHERE created_at >= '2025-11-01' \
     AND status <> 'cancelled'\nGROUP BY customer_id\nHAVING count(*) > 3\nORDER BY revenue DESC\nLIMIT 20;",
    "Könntest du bitte noch einmal nachsehen, ob die Rechnung vom 3. März bezahlt ist? Der Betrag war 1.249,50 €, und in der \
     Liste vom Montag steht sie immer noch als offen. Vielen Dank und schöne Grüße!",
    "La réunion de jeudi est déplacée à 14 h 30, salle 204. Merci d'apporter les chiffres du trimestre ; on parlera aussi du \
     budget de l'année prochaine et des deux postes à pourvoir.",
    "El pedido llegó el martes, pero faltan dos piezas. He mirado en el manual y son las que llevan los números 4 y 17; sin \
     ellas no se puede montar la puerta. ¿Podéis enviarlas esta semana?",
    "明天下午三点开会，请把上个月的数据准备好。如果来不及，可以先发一个草稿，我们在会上一起看。",
    "The recipe is for four: 320 g of pasta, 150 g of guanciale, 4 yolks, 80 g of pecorino, and pepper. Keep a cup of the \
     water, and take the pan off the heat before the yolks go in, or they will set.",
    "I moved the constants into a module of their own (`limits::BODY_BYTES_MAX` and so on), so `std::time::Duration::from_secs(30)` \
     stands in one place only. The diff looks large, but it is all renames: +312 −298.",
    "The second law says that the entropy of an isolated system does not decrease. In 1872 Boltzmann gave it a statistical \
     meaning: S = k log W, with k = 1.380649 × 10⁻²³ J/K.",
    "{\"model\":\"local/qwen\",\"messages\":[{\"role\":\"user\",\"content\":\"Summarise the minutes in three sentences.\"}],\
     \"max_tokens\":512,\"temperature\":0.2,\"stream\":true}",
    "lol yes that was me 😅 I pushed to the wrong branch again. reverted in a minute, nobody noticed. anyway, lunch at 12:30? \
     there is a new ramen place round the corner",
    "Dear Sir or Madam, I refer to your letter of 12 January concerning invoice no. 2025-00417. The amount of $1,299.00 was \
     transferred on 3 January; please find the confirmation attached. Yours faithfully",
    "# Release notes\n\n## 2.4.0\n\n- The index is rebuilt in the background (#1182).\n- `search` takes `--limit` up to 100.\n- \
     Fixed: a cursor from an older generation answered 500 instead of 410.",
    "To reproduce: start two replicas, stop the first one with SIGKILL while it writes, and start it again. On the third or \
     fourth try the second replica reports a gap between positions 88213 and 88215.",
];
