"""Which engine a server is, by what it answers at its own addresses."""

from __future__ import annotations

import os
from typing import Any

import httpx

from bitdraft.errors import UserError, one_line
from bitdraft.schema.serving import ServerRecord

API_KEY = "BITDRAFT_API_KEY"
_START = "Start it, or name its http://HOST:PORT"
_OWNERS = {"vllm": "vllm", "llamacpp": "llama.cpp", "sglang": "sglang", "organization_owner": "lm-studio"}


def headers_of(name: str) -> dict[str, str]:
    """A key is the environment's: BITDRAFT_API_KEY_NAME, BITDRAFT_API_KEY or OPENAI_API_KEY. It stands in no
    result and no log."""
    own = "".join(c if c.isalnum() else "_" for c in name).upper()
    for variable in (f"{API_KEY}_{own}", API_KEY, "OPENAI_API_KEY"):
        key = os.environ.get(variable)
        if key:
            return {"Authorization": f"Bearer {key}"}
    return {}


def identify(name: str, url: str, asked_model: str | None) -> ServerRecord:
    """Raises `UserError` for a server that doesn't answer, or that lists no model where none was named."""
    with httpx.Client(base_url=url, headers=headers_of(name), timeout=10.0) as client:
        models = _listed(client, name, url)
        engine, version = _engine_of(client, models)
    ids = [str(one["id"]) for one in models if isinstance(one, dict) and "id" in one]
    served = asked_model or next(iter(ids), None)
    if served is None:
        raise UserError("servers", f"{name}={url}", "lists no model", "Name it: --served-model NAME")
    if asked_model and ids and asked_model not in ids:
        problem = f"{name} serves no such model"
        raise UserError("served_model", asked_model, problem, f"Choose from {', '.join(ids[:8])}")
    return ServerRecord(name=name, engine=engine, version=version, served_model=served)


def _listed(client: httpx.Client, name: str, url: str) -> list[Any]:
    try:
        answer = client.get("/v1/models")
    except httpx.HTTPError as error:
        why = f"does not answer ({one_line(error)})"
        raise UserError("servers", f"{name}={url}", why, _START) from error
    if answer.status_code in (401, 403):
        problem, remedy = f"answers {answer.status_code}: it wants a key", f"Set {API_KEY} in the environment"
        raise UserError("servers", f"{name}={url}", problem, remedy)
    found = _json(answer)
    data = found.get("data") if isinstance(found, dict) else None
    if not isinstance(data, list):
        problem = f"has no list of models at /v1/models (HTTP {answer.status_code})"
        raise UserError("servers", f"{name}={url}", problem, _START)
    return data


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.status_code == 200 else None
    except ValueError:
        return None


def _get(client: httpx.Client, path: str) -> Any:
    try:
        return _json(client.get(path))
    except httpx.HTTPError:
        return None


def _engine_of(client: httpx.Client, models: list[Any]) -> tuple[str, str | None]:
    owners = [str(one.get("owned_by", "")).lower() for one in models if isinstance(one, dict)]
    owner = next((_OWNERS[one] for one in owners if one in _OWNERS), None)
    properties = _get(client, "/props")
    if owner == "llama.cpp" or (isinstance(properties, dict) and "build_info" in properties):
        return "llama.cpp", str(properties["build_info"]) if isinstance(properties, dict) else None
    info = _get(client, "/server_info") or _get(client, "/get_server_info")
    if isinstance(info, dict) and ("internal_states" in info or owner == "sglang"):
        return "sglang", str(info["version"]) if info.get("version") else None
    version = _get(client, "/version")
    if isinstance(version, dict) and version.get("version"):
        return ("vllm" if owner in (None, "vllm") else owner), str(version["version"])
    if owner is None and _get(client, "/prometheus/metrics") is not None:
        return "tensorrt-llm", None
    return owner or "generic", None
