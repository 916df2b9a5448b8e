"""A W&B server of this machine: keeps views, and fails as it is told."""

import json
import os
import signal
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEY = "0" * 40


class Server:
    """Its ``views`` by id, the ``projects`` that exist, and how it is ``failing``: a status, refuses or silent."""

    def __init__(self, projects, failing):
        self.projects, self.failing = set(projects), failing
        self.views = {}
        self.asked = []

    def answer(self, query, variables):
        """What the server says to a query of GraphQL."""
        name = query.split("{")[0].split("(")[0].split()[1]
        self.asked.append(name)
        if name in ("Viewer", "GetDefaultEntity"):
            return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if name == "ProjectViews":
            if (variables["entity"], variables["project"]) not in self.projects:
                return {"project": None}
            found = [
                {"node": {"id": id, "name": view["name"]}}
                for id, view in self.views.items()
                if (view["type"], view["name"]) == (variables["viewType"], variables["viewName"])
            ]
            return {"project": {"id": "p", "allViews": {"edges": found}}}
        if name == "upsertView":
            assert (variables["entityName"], variables["projectName"]) in self.projects
            id = variables.pop("id") or f"view{len(self.views)}"
            inserted = id not in self.views
            self.views[id] = variables
            return {"upsertView": {"view": {"id": id, "name": variables["name"]}, "inserted": inserted}}
        assert name == "CreateProject", query
        made = variables["input"]
        self.projects.add((made.get("entityName") or made["entity_name"], made["name"]))
        return {"upsertModel": {"project": None, "model": None, "inserted": True}}


def services():
    """The processes by which this one's W&B talks to a server."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if any("wandb-core" in word for word in command) and str(os.getpid()) in command:
            yield int(folder.name)


def end_services():
    """Asks them to end, and ends what goes on: one may try for minutes what a server has refused it."""
    import wandb

    def kill():
        for service in services():
            with suppress(ProcessLookupError):
                os.kill(service, signal.SIGKILL)

    impatience = threading.Timer(2, kill)
    impatience.start()
    try:
        wandb.teardown()
    except SystemExit:  # W&B's word for a service that was killed, with which it leaves off
        wandb.teardown()
    impatience.cancel()
    impatience.join()


@contextmanager
def running(monkeypatch, projects=(("me", "lit_l2softmax"),), failing=None):
    """A server that this process's W&B talks to, with a key."""
    import wandb

    server = Server(projects, failing)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if server.failing == "silent":
                over.wait(30)
                return
            status, answer = 200, {"errors": [{"message": "permission denied"}], "data": None}
            if isinstance(server.failing, int):
                status = server.failing
            elif server.failing is None or "upsertView" not in asked["query"]:
                answer = {"data": server.answer(asked["query"], asked.get("variables") or {})}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    wandb.teardown()  # it remembers whom an earlier test talked to
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{http.server_port}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    try:
        yield server
    finally:
        over.set()
        end_services()
        http.shutdown()
        http.server_close()
        thread.join()
