"""The answers of the link from hell, right and wrong: status, headers, body. Pure."""

from __future__ import annotations

import gzip
from typing import Final

from tests.fakes.hell_plan import Wrong

PORTAL: Final = b"<html><body>Welcome to the caf\xc3\xa9. Log in to go on.</body></html>" * 40
DENIED: Final = b"<Error><Code>AccessDenied</Code><Message>Forbidden</Message></Error>" * 40


def whole(size: int) -> dict[str, str]:
    """Headers of the whole file."""
    return {
        "Content-Length": str(size),
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
    }


def ranged(start: int, stop: int, size: int) -> dict[str, str]:
    """Headers of a range of it."""
    return whole(stop - start) | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}


def wrong_answer(
    wrong: Wrong, content: memoryview, span: slice
) -> tuple[int, dict[str, str], memoryview]:
    """Status, headers and body, where the bytes of ``span`` were wanted."""
    size, body = len(content), content[span]
    status, headers = 206, ranged(span.start, span.stop, size)
    match wrong:
        case Wrong.WHOLE_200:
            status, headers, body = 200, {}, content
        case Wrong.OTHER_RANGE:
            headers = ranged(span.start + 1, span.stop + 1, size)
        case Wrong.SHORT:
            body = body[: len(body) // 2]
        case Wrong.GZIP:
            headers["Content-Encoding"] = "gzip"
            body = memoryview(gzip.compress(body[: 1 << 16]))
        case Wrong.PORTAL:
            status, headers, body = 200, {"Content-Type": "text/html"}, memoryview(PORTAL)
        case Wrong.DENIED:
            status, headers, body = 403, {"Content-Type": "text/xml"}, memoryview(DENIED)
    return status, headers | {"Content-Length": str(len(body))}, body
