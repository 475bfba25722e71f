"""A W&B server on loopback, as far as the SDK asks: runs, history pages, files; counts requests, can misbehave.

There is no official one. Operations are named by `operationName`; unknown ones get an empty answer, as the SDK bears.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"


class Stub:
    """Runs by (entity, project, id): {"config": {}, "rows": [], "name": str, "state": str, "files": {name: text}}."""

    def __init__(self, runs: dict[tuple[str, str, str], dict[str, Any]]) -> None:
        self.runs = runs
        self.operations: Counter[str] = Counter()
        self.refuse_next = 0  # answer so many GraphQL requests with 429
        self.cut_after: int | None = None  # break the connection after so many history pages
        self.pages = 0
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path != "/graphql":
                    self.answer(200, {})
                    return
                if not stub.authorised(self.headers.get("Authorization", "")):
                    self.answer(401, {"errors": [{"message": "invalid api key"}]})
                    return
                if stub.refuse_next > 0:
                    stub.refuse_next -= 1
                    stub.operations["429"] += 1
                    self.answer(429, {"errors": [{"message": "rate limit"}]})
                    return
                request = json.loads(body)
                status, reply = stub.reply(request)
                self.answer(status, reply)

            def do_GET(self) -> None:
                stub.operations["GET"] += 1
                _, _, entity, project, run, name = self.path.split("/", 5)
                text = stub.runs[(entity, project, run)]["files"][name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def answer(self, status: int, reply: Any) -> None:
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @staticmethod
    def authorised(header: str) -> bool:
        return header == "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()

    def reply(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name = request.get("operationName") or request["query"].split("query ")[-1].split("(")[0].split("{")[0].strip()
        self.operations[name] += 1
        variables = request.get("variables") or {}
        handler = getattr(self, f"on_{name}", None)
        if handler is None:
            return 200, {"data": {}}
        found = handler(variables)
        return found if isinstance(found, tuple) else (200, {"data": found})

    def _one(self, variables: dict[str, Any]) -> dict[str, Any] | None:
        key = tuple(variables.get(k) for k in ("entity", "project", "name"))
        if key not in self.runs:
            key = tuple(variables.get(k) for k in ("entity", "project", "run"))
        return self.runs.get(key)  # type: ignore[arg-type]

    @staticmethod
    def _node(key: tuple[str, str, str], run: dict[str, Any]) -> dict[str, Any]:
        rows = run["rows"]
        return {
            "id": "/".join(key), "name": key[2], "displayName": run.get("name", key[2]), "state": run.get("state", "finished"),
            "tags": run.get("tags", []), "sweepName": None, "group": run.get("group"), "jobType": None, "commit": None,
            "readOnly": False, "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T01:00:00", "description": "",
            "notes": "", "systemMetrics": "{}", "summaryMetrics": json.dumps(rows[-1] if rows else {}),
            "config": json.dumps({k: {"value": v, "desc": None} for k, v in run["config"].items()}),
            "historyLineCount": len(rows), "user": {"name": "someone", "username": "someone"}, "projectId": "1",
            "historyKeys": {"lastStep": rows[-1]["_step"] if rows else -1, "sets": [],
                            "keys": {k: {} for row in rows for k in row}},
        }  # fmt: skip

    def on_Viewer(self, v: dict[str, Any]) -> Any:
        return {"viewer": {"id": "1", "username": "someone", "entity": "team", "email": "", "flags": "{}",
                           "teams": {"edges": []}}}  # fmt: skip

    def on_GetDefaultEntity(self, v: dict[str, Any]) -> Any:
        return {"viewer": {"id": "1", "entity": "team"}}

    def on_Run(self, v: dict[str, Any]) -> Any:
        for key, run in self.runs.items():
            if key == (v.get("entity"), v.get("project"), v.get("name")):
                return {"project": {"run": self._node(key, run)}}
        return {"project": {"run": None}}

    def on_Runs(self, v: dict[str, Any]) -> Any:
        filters = json.loads(v.get("filters") or "{}")
        found = [
            (key, run) for key, run in self.runs.items()
            if key[:2] == (v.get("entity"), v.get("project")) and self._passes(key, run, filters)
        ]  # fmt: skip
        start = int(v.get("cursor") or 0)
        page = found[start : start + int(v.get("perPage") or 50)]
        end = start + len(page)
        edges = [{"node": self._node(key, run), "cursor": str(start + i + 1)} for i, (key, run) in enumerate(page)]
        return {"project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": {
            "edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(found)}}}}  # fmt: skip

    @staticmethod
    def _passes(key: tuple[str, str, str], run: dict[str, Any], filters: dict[str, Any]) -> bool:
        wanted = {"group": run.get("group"), "sweep": run.get("sweep"), "display_name": run.get("name")}
        return all(wanted.get(k) == v for k, v in filters.items() if k in wanted) and all(
            set(v["$in"]) & set(run.get("tags", [])) for k, v in filters.items() if k == "tags"
        )

    def on_RunHistoryKeys(self, v: dict[str, Any]) -> Any:
        run = self._one(v)
        rows = run["rows"] if run else []
        return {
            "project": {"run": {"historyKeys": {"lastStep": rows[-1]["_step"] if rows else -1, "keys": {}, "sets": []}}}
        }

    def on_RunParquetHistory(self, v: dict[str, Any]) -> Any:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": []}}}}

    def on_HistoryPage(self, v: dict[str, Any]) -> Any:
        self.pages += 1
        if self.cut_after is not None and self.pages > self.cut_after:
            return 400, {"errors": [{"message": "connection reset"}]}
        run = self._one(v)
        low, high = int(v["minStep"]), int(v["maxStep"])
        rows = [json.dumps(row) for row in (run["rows"] if run else []) if low <= row["_step"] < high]
        return {"project": {"run": {"history": rows}}}

    def on_RunFiles(self, v: dict[str, Any]) -> Any:
        run = self._one(v)
        wanted = v.get("fileNames") or []
        key = next((k for k, r in self.runs.items() if r is run), None)
        files = {n: t for n, t in (run or {}).get("files", {}).items() if not wanted or n in wanted}
        edges = [
            {"node": {"id": n, "name": n, "url": f"{self.url}/files/{'/'.join(key)}/{n}", "sizeBytes": len(t),
                      "directUrl": f"{self.url}/files/{'/'.join(key)}/{n}", "mimetype": "text/plain",
                      "updatedAt": "2026-01-01", "md5": ""}, "cursor": "x"}
            for n, t in files.items()
        ]  # fmt: skip
        return {"project": {"internalId": "1", "run": {"fileCount": len(files), "files": {
            "edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}}}  # fmt: skip
