"""Answers, and how they become aiohttp's responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from api.rate_limits import UNLIMITED, Quota
from api.reply import JSON_TYPE, TEXT_TYPE, Reply

REQUEST_ID = web.RequestKey("request_id", str)
"""Under this name aiohttp's request keeps its id."""

RATE_LIMIT_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining")
"""On every answer, also where nothing is counted."""

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Answer:
    """Status, encoded body, extra headers, and what the body is."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    type: str = JSON_TYPE


def answer(status: int, value: Any, headers: dict[str, str] | None = None) -> Answer:
    """Encode a struct or plain value as an answer."""
    return Answer(status, _encode(value), headers or {})


def text_answer(status: int, text: str) -> Answer:
    """Give a plain text as an answer."""
    return Answer(status, text.encode(), type=TEXT_TYPE)


def respond(answer: Answer, quota: Quota = UNLIMITED) -> Reply:
    """Give an answer the headers that all have."""
    return Reply(answer.status, answer.body, {"Cache-Control": "no-store", **answer.headers}, quota, answer.type)
