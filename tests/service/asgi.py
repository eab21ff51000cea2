"""Requests without a client: a test says what arrives when, and sees what is sent when."""

import asyncio

JSON = ((b"content-type", b"application/json"),)


def http_scope(method, path, *, query=b"", headers=()):
    return {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "root_path": "",
        "raw_path": path.encode(), "query_string": query, "scheme": "http",
        "server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"127.0.0.1"), *headers],
    }  # fmt: skip


async def call(app, method, path, *, body=b"", query=b"", headers=JSON, gone=None, send=None):
    """(status, headers, body); `gone`: when this event is set the client goes away."""
    sent, bodies = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        if bodies:
            return bodies.pop()
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def keep(message):
        sent.append(message)
        if send is not None:
            await send(message)

    await app(http_scope(method, path, query=query, headers=headers), receive, keep)
    start = sent[0] if sent else {"status": None, "headers": []}
    text = b"".join(message.get("body", b"") for message in sent[1:])
    return start["status"], dict(start["headers"]), text
