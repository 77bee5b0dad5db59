"""A server of one language model, as OpenAI's interface has it: it says what it was asked, and which process it is.

parrot.py PORT [FILE]: with port 0 it takes a free one, and prints it.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Parrot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/health":
            return self.answer({"status": "ok"})
        if self.path == "/v1/models":
            return self.answer({"object": "list", "data": [{"id": "parrot", "object": "model"}]})
        return self.answer({"error": {"message": "no such path"}}, 404)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = asked["messages"][-1]["content"]
        system = "".join(message["content"] for message in asked["messages"] if message["role"] == "system")
        cited = " [1]" if "<passage" in system else ""
        words = [f"{os.getpid()} heard: ", said, cited]
        usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return self.answer(self.about("chat.completion", choices=[choice], usage=usage))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for word in words:
            self.event(choices=[{"index": 0, "delta": {"content": word}, "finish_reason": None}])
        self.event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
        self.event(choices=[], usage=usage)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def about(self, kind, **fields):
        return {"id": "c1", "object": kind, "created": 1, "model": "parrot", **fields}

    def event(self, **fields):
        chunk = json.dumps(self.about("chat.completion.chunk", **fields))
        self.wfile.write(f"data: {chunk}\n\n".encode())
        self.wfile.flush()

    def answer(self, body, status=200):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Parrot)
print(server.server_port, flush=True)
server.serve_forever()
