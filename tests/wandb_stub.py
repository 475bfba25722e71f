"""A W&B server on loopback, as far as the SDK asks: runs, history pages, exports, files, uploads; it can misbehave.

There is no official one. Operations are named by `operationName`; unknown ones get an empty answer, as the SDK bears.
Every request is counted by operation. `python tests/wandb_stub.py` serves a small project for a look by hand.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"
_FIELDS = {"displayName": "name", "display_name": "name", "created_at": "created", "createdAt": "created"}
RunKey = tuple[str, str, str]  # entity, project, id


class Stub:
    """Runs by (entity, project, id).

    A run is {"config": {}, "rows": [{"_step": 0, ...}], "name", "state", "group", "tags", "sweep", "created", "files":
    {name: text}, "parquet": bytes, "parquet_last": last step of the export}; all but the first two may be absent.
    """

    def __init__(self, runs: dict[RunKey, dict[str, Any]]) -> None:
        self.runs = runs
        self.operations: Counter[str] = Counter()
        self.others: list[str] = []  # paths of what is neither asked nor sent here: telemetry
        self.refuse_next = 0  # answer so many GraphQL requests with 429
        self.cut_from: int | None = None  # close the line in the middle of history pages from this step on
        self.hang: dict[str, float] = {}  # operation -> seconds before its answer
        self.status: dict[str, int] = {}  # operation -> HTTP status instead of an answer
        self.uploads: dict[RunKey, dict[str, Any]] = defaultdict(
            lambda: {"rows": [], "config": {}, "upserts": [], "files": {}}
        )
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, client: None  # a client that goes away is no error here
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # --- HTTP ----------------------------------------------------------------------------------------------------------

    def _handler(stub) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def body(self) -> bytes:
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data

            def do_POST(self) -> None:
                body = self.body()
                if self.path.endswith("/file_stream"):
                    stub.streamed(self.path, json.loads(body or b"{}"))
                    self.answer(200, {})
                elif self.path == "/graphql":
                    self.graphql(json.loads(body))
                else:
                    stub.others.append(self.path)
                    self.answer(200, {})

            def graphql(self, request: dict[str, Any]) -> None:
                name = request.get("operationName") or stub.operation_of(request["query"])
                if self.headers.get("Authorization", "") != stub.authorization:
                    stub.operations["401"] += 1
                    self.answer(401, {"errors": [{"message": "user is not logged in"}]})
                elif stub.refuse_next > 0:
                    stub.refuse_next -= 1
                    stub.operations["429"] += 1
                    self.answer(429, {"errors": [{"message": "rate limit"}]})
                elif name in stub.status:
                    stub.operations[name] += 1
                    self.answer(stub.status[name], {"errors": [{"message": "no"}]})
                else:
                    time.sleep(stub.hang.get(name, 0))
                    variables = request.get("variables") or {}
                    reply = stub.reply(name, variables)
                    cut = (
                        name == "HistoryPage"
                        and stub.cut_from is not None
                        and int(variables["minStep"]) >= stub.cut_from
                    )
                    self.answer(200, reply, cut=cut)

            def do_GET(self) -> None:
                stub.operations["GET"] += 1
                kind, *rest = self.path.split("?")[0].lstrip("/").split("/")
                run = stub.runs.get(tuple(rest[:3]), {})  # type: ignore[call-overload]
                data = run.get("parquet") if kind == "parquet" else run.get("files", {}).get("/".join(rest[3:]))
                if data is None:
                    self.answer(404, {})
                    return
                data = data.encode() if isinstance(data, str) else data
                span = self.headers.get("Range", "").removeprefix("bytes=")
                low, _, high = span.partition("-")
                start, end = int(low or 0), int(high) + 1 if high else len(data)
                self.send_response(206 if span else 200)
                if span:
                    self.send_header("Content-Range", f"bytes {start}-{min(end, len(data)) - 1}/{len(data)}")
                self.raw(data[start:end])

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_PUT(self) -> None:
                stub.operations["PUT"] += 1
                _, _, entity, project, run, name = self.path.split("/", 5)
                stub.uploads[(entity, project, run)]["files"][name] = self.body()
                self.answer(200, {})

            def answer(self, status: int, reply: Any, *, cut: bool = False) -> None:
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if cut:  # the promised length never comes
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                else:
                    self.raw(data)

            def raw(self, data: bytes) -> None:
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

        return Handler

    authorization = "Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()

    @staticmethod
    def operation_of(query: str) -> str:
        word = "mutation " if "mutation " in query else "query "
        return query.split(word)[-1].split("(")[0].split("{")[0].strip()

    def reply(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        self.operations[name] += 1
        handler = getattr(self, f"on_{name}", None)
        return {"data": handler(variables) if handler else {}}

    # --- reading -------------------------------------------------------------------------------------------------------

    def _key(self, v: dict[str, Any]) -> RunKey:
        return (
            v.get("entity") or "team",
            v.get("project") or "",
            v.get("name") or v.get("run") or v.get("runName") or "",
        )

    @staticmethod
    def _history_keys(run: dict[str, Any]) -> dict[str, Any]:
        rows = run["rows"]
        keys = {k: {"typeCounts": []} for row in (*rows[:50], *rows[-1:]) for k in row}
        return {"lastStep": rows[-1]["_step"] if rows else -1, "sets": [], "keys": keys}

    def _node(self, key: RunKey, run: dict[str, Any], *, full: bool = True) -> dict[str, Any]:
        rows = run["rows"]
        node = {
            "id": "/".join(key), "name": key[2], "displayName": run.get("name", key[2]), "projectId": "1",
            "state": run.get("state", "finished"), "tags": run.get("tags", []), "sweepName": run.get("sweep"),
            "group": run.get("group"), "jobType": None, "commit": None, "readOnly": False,
            "createdAt": run.get("created", "2026-01-01T00:00:00"), "heartbeatAt": run.get("heartbeat", "2026-01-01T01:00:00"),
            "description": "", "notes": run.get("notes", ""), "historyLineCount": len(rows),
            "user": {"name": "someone", "username": "someone"},
        }  # fmt: skip
        if full:
            summary = run.get("summary", rows[-1] if rows else {})
            node |= {
                "systemMetrics": "{}", "summaryMetrics": json.dumps(summary), "historyKeys": self._history_keys(run),
                "config": json.dumps({k: {"value": v, "desc": None} for k, v in run["config"].items()}),
            }  # fmt: skip
        return node

    def on_Viewer(self, v: dict[str, Any]) -> Any:
        return {"viewer": {"id": "1", "username": "someone", "entity": "team", "email": "", "flags": "{}",
                           "teams": {"edges": []}}}  # fmt: skip

    def on_GetDefaultEntity(self, v: dict[str, Any]) -> Any:
        return {"viewer": {"id": "1", "entity": "team"}}

    def on_Run(self, v: dict[str, Any]) -> Any:
        run = self.runs.get(self._key(v))
        return {"project": {"run": None if run is None else self._node(self._key(v), run)}}

    def on_Runs(self, v: dict[str, Any]) -> Any:
        filters = json.loads(v.get("filters") or "{}")
        place = (v.get("entity"), v.get("project"))
        if not any(key[:2] == place for key in self.runs) and place != ("team", "empty"):
            return {"project": None}
        found = [(k, run) for k, run in self.runs.items() if k[:2] == place and self._passes(run, filters)]
        start = int(v.get("cursor") or 0)
        page = found[start : start + int(v.get("perPage") or 50)]
        end = start + len(page)
        nodes = [self._node(key, run, full=False) for key, run in page]
        edges = [{"node": node, "cursor": str(start + i + 1)} for i, node in enumerate(nodes)]
        return {"project": {"internalId": "1", "runCount": len(found), "readOnly": False, "runs": {
            "edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(found)}}}}  # fmt: skip

    def _passes(self, run: dict[str, Any], filters: dict[str, Any]) -> bool:
        for key, wanted in filters.items():
            if key in {"$and", "$or"}:
                every = [self._passes(run, part) for part in wanted]
                if not (all(every) if key == "$and" else any(every)):
                    return False
                continue
            field = _FIELDS.get(key, key)
            default = "finished" if field == "state" else None
            value = run["config"].get(key.split(".")[1]) if key.startswith("config.") else run.get(field, default)
            for sign, other in (wanted if isinstance(wanted, dict) else {"$eq": wanted}).items():
                if sign == "$in":
                    held = set(value if isinstance(value, list) else [value])
                    ok = bool(held & set(other))
                else:
                    ok = {"$eq": value == other, "$ne": value != other}.get(sign, False)
                    if value is not None and sign in {"$gt", "$gte", "$lt", "$lte"}:
                        ok = {
                            "$gt": value > other,
                            "$gte": value >= other,
                            "$lt": value < other,
                            "$lte": value <= other,
                        }[sign]
                if not ok:
                    return False
        return True

    def on_RunHistoryKeys(self, v: dict[str, Any]) -> Any:
        return {"project": {"run": {"historyKeys": self._history_keys(self.runs[self._key(v)])}}}

    def on_RunParquetHistory(self, v: dict[str, Any]) -> Any:
        key = self._key(v)
        run = self.runs[key]
        if "parquet" not in run:
            return {"project": {"run": {"parquetHistory": {"parquetUrls": []}}}}
        live = [{"_step": row["_step"]} for row in run["rows"] if row["_step"] > run["parquet_last"]]
        urls = [f"{self.url}/parquet/{'/'.join(key)}"]
        return {"project": {"run": {"parquetHistory": {"parquetUrls": urls, "liveData": live}}}}

    def on_HistoryPage(self, v: dict[str, Any]) -> Any:
        low, high = int(v["minStep"]), int(v["maxStep"])
        rows = self.runs[self._key(v)]["rows"]
        # where the rows are dense the page is found without a walk
        page = rows[low:high] if len(rows) and rows[-1]["_step"] == len(rows) - 1 else rows
        return {"project": {"run": {"history": [json.dumps(r) for r in page if low <= r["_step"] < high]}}}

    def on_SampledHistoryPage(self, v: dict[str, Any]) -> Any:
        """Rows that hold every key of the spec, and of them these keys alone; here the last step counts too."""
        spec = json.loads(v["spec"])
        low, high, keys = int(spec["minStep"]), int(spec["maxStep"]), spec["keys"]
        rows = [r for r in self.runs[self._key(v)]["rows"] if low <= r["_step"] <= high and all(k in r for k in keys)]
        return {"project": {"run": {"sampledHistory": [[{k: r[k] for k in keys} for r in rows]]}}}

    def on_RunFiles(self, v: dict[str, Any]) -> Any:
        key = self._key(v)
        wanted = v.get("fileNames") or []
        files = {n: t for n, t in self.runs.get(key, {}).get("files", {}).items() if not wanted or n in wanted}
        edges = [
            {"node": {"id": n, "name": n, "url": f"{self.url}/files/{'/'.join(key)}/{n}", "sizeBytes": len(t),
                      "directUrl": f"{self.url}/files/{'/'.join(key)}/{n}", "mimetype": "text/plain",
                      "updatedAt": "2026-01-01", "md5": ""}, "cursor": "x"}
            for n, t in files.items()
        ]  # fmt: skip
        return {"project": {"internalId": "1", "run": {"fileCount": len(files), "files": {
            "edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}}}  # fmt: skip

    # --- writing -------------------------------------------------------------------------------------------------------

    def on_RunResumeStatus(self, v: dict[str, Any]) -> Any:
        return {"model": {"id": "1", "name": v.get("project"), "entity": {"id": "1", "name": "team"}, "bucket": None}}

    def on_UpsertBucket(self, v: dict[str, Any]) -> Any:
        key: RunKey = (
            v.get("entity") or "team",
            v.get("project") or v.get("groupName") or "uncategorized",
            v.get("name") or "",
        )
        if not v.get("name") and v.get("id"):
            key = tuple(str(v["id"]).split("/"))  # type: ignore[assignment]
        kept = self.uploads[key]
        kept["upserts"].append(v)
        if v.get("config"):
            kept["config"] = {
                k: x.get("value") if isinstance(x, dict) else x for k, x in json.loads(v["config"]).items()
            }
        if v.get("summaryMetrics"):
            kept["summary"] = json.loads(v["summaryMetrics"])
        for name in ("tags", "notes", "groupName", "displayName", "jobType"):
            if v.get(name):
                kept[name] = v[name]
        bucket = {
            "id": "/".join(key), "name": key[2], "displayName": v.get("displayName") or key[2], "description": "", "config": "{}",
            "sweepName": "", "historyLineCount": 0,
            "project": {"id": "1", "name": key[1], "entity": {"id": "1", "name": key[0]}},
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def streamed(self, path: str, body: dict[str, Any]) -> None:
        self.operations["file_stream"] += 1
        _, _, entity, project, run, _ = path.split("/")
        for name, part in (body.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                self.uploads[(entity, project, run)]["rows"] += [json.loads(line) for line in part["content"]]

    def on_CreateRunFiles(self, v: dict[str, Any]) -> Any:
        key = self._key(v)
        files = [{"name": n, "uploadUrl": f"{self.url}/upload/{'/'.join(key)}/{n}"} for n in v.get("files") or []]
        return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}


def environment(url: str, folder: Path, key: str = KEY) -> dict[str, str]:
    """Variables that point the SDK at a stub and keep it inside a folder."""
    names = ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR")
    paths = {f"WANDB_{name}": str(folder / name.lower()) for name in names}
    for path in paths.values():
        Path(path).mkdir(parents=True, exist_ok=True)
    return {
        **paths, "WANDB_BASE_URL": url, "WANDB_API_KEY": key, "HOME": str(folder), "NETRC": str(folder / "netrc"),
        "GA_AUDIT_CACHE": str(folder / "ga-audit-cache"), "WANDB_ERROR_REPORTING": "false",
        "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "0.1", "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "0.5",
    }  # fmt: skip


@contextmanager
def serving(runs: dict[RunKey, dict[str, Any]]) -> Iterator[Stub]:
    """A stub for a while."""
    stub = Stub(runs)
    try:
        yield stub
    finally:
        stub.close()


def trainer_rows(steps: int, factor: float = 1.0, eval_every: int = 10, seed: int = 0) -> list[dict[str, Any]]:
    """History as HF's Trainer logs it: eval rows never share a row with train rows; `_step` counts rows."""
    import numpy as np

    rng = np.random.default_rng(seed)
    noise, norms = rng.normal(0, 0.02, steps), rng.lognormal(0, 0.15, steps)
    rows: list[dict[str, Any]] = []
    for i in range(steps):
        loss = 2.0 + 2.0 * float(np.exp(-i / max(steps / 4, 1))) + noise[i]
        rows.append({"train/loss": round(loss * factor, 5), "train/grad_norm": round(1.5 * norms[i] * factor, 5),
                     "train/learning_rate": 1e-4, "train/epoch": i / steps, "train/global_step": i + 1})  # fmt: skip
        if eval_every and (i + 1) % eval_every == 0:
            rows.append({"eval/loss": round(loss, 5), "eval/runtime": 1.0, "train/global_step": i + 1})
    return [{**row, "_step": i, "_timestamp": 1.76e9 + i, "_runtime": float(i)} for i, row in enumerate(rows)]


def project(gas: tuple[int, ...] = (1, 2, 8), steps: int = 40, *, summed: bool = True, entity: str = "team",
            name: str = "proj") -> dict[RunKey, dict[str, Any]]:  # fmt: skip
    """Runs that differ in GA alone."""
    return {
        (entity, name, f"run{ga:05d}"): {
            "config": {"gradient_accumulation_steps": ga, "per_device_train_batch_size": 16 // ga, "seed": 42,
                       "learning_rate": 1e-4, "max_grad_norm": 1.0, "_name_or_path": "tiny", "transformers_version": "4.48.0",
                       "dataset": "same"},
            "name": f"ga{ga}", "rows": trainer_rows(steps, ga if summed else 1.0),
            "files": {"requirements.txt": "transformers==4.48.0\naccelerate==1.2.1\n",
                      "wandb-metadata.json": '{"gpu_count": 1}'},
        }
        for ga in gas
    }  # fmt: skip


if __name__ == "__main__":
    with serving(project()) as shown:
        print(f"export WANDB_BASE_URL={shown.url} WANDB_API_KEY={KEY}", flush=True)
        while True:
            time.sleep(3600)
            os.sched_yield()
