"""A provider of language models that says what it is told to, in OpenAI's shape."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def chunk(delta, finish=None, usage=None):
    body = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
        "choices": [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return body | ({"usage": usage} if usage else {})


def usage(asked, answered):
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


class Scripted:
    """Answers each request with what `answer` makes of its body: a message, or the HTTP status of a failure."""

    def __init__(self, answer):
        self.asked = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.whole({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                scripted.asked.append(body)
                message = answer(body)
                if isinstance(message, int):
                    error = {"error": {"message": "sk-upstream-0123456789abcdefghij is no key", "type": "x", "code": "x"}}
                    return self.whole(error, message)
                if body.get("stream"):
                    return self.pieces(message, body)
                finish = "tool_calls" if message.get("tool_calls") else "stop"
                choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": finish}
                self.whole(
                    {
                        "id": "chatcmpl-scripted",
                        "object": "chat.completion",
                        "created": 1,
                        "model": "scripted",
                        "choices": [choice],
                        "usage": usage(11, 7),
                    }
                )

            def whole(self, body, status=200):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def pieces(self, message, body):
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                self.piece(chunk({"role": "assistant", "content": ""}))
                for word in (message.get("content") or "").split(" "):
                    self.piece(chunk({"content": word + " "}))
                    time.sleep(0.002)
                for index, call in enumerate(message.get("tool_calls") or []):
                    named = {"index": index, "id": call["id"], "type": "function"}
                    self.piece(chunk({"tool_calls": [named | {"function": {"name": call["function"]["name"], "arguments": ""}}]}))
                    for part in call["function"]["arguments"].split(" "):
                        self.piece(chunk({"tool_calls": [{"index": index, "function": {"arguments": part + " "}}]}))
                self.piece(chunk({}, "tool_calls" if message.get("tool_calls") else "stop"))
                if (body.get("stream_options") or {}).get("include_usage"):
                    self.piece(chunk(None, usage=usage(11, 7)))
                self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def piece(self, body):
                self.wfile.write(f"data: {json.dumps(body)}\n\n".encode())
                self.wfile.flush()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def call(name, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
