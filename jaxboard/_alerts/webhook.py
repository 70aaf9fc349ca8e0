"""Webhooks: alerts that are posted to a URL as JSON."""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from jaxboard._alerts.alert import Alert

_TIMEOUT = 10.0
"""Most seconds that a connection may be silent."""


class Webhook:
    """Posts alerts to a URL. It follows no redirect.

    Args:
        url: the URL, beginning with ``https://`` or ``http://``.
    """

    def __init__(self, url: str):
        self._url = url
        # Without the handlers of files, FTP and data, and without one that follows redirects.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler,
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            urllib.request.HTTPDefaultErrorHandler,
            urllib.request.HTTPErrorProcessor,
        ):
            self._opener.add_handler(handler())

    def __call__(self, alert: Alert) -> None:
        """Post an alert.

        Raises:
            OSError: it was not accepted.
        """
        request = urllib.request.Request(  # noqa: S310 (the scheme is checked)
            self._url,
            data=json.dumps(_contents(alert)).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "jaxboard"},
            method="POST",
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                response.read(1)
        except urllib.error.HTTPError as error:
            error.close()
            advice = ". Redirects are not followed" if 300 <= error.code < 400 else ""
            raise OSError(f"the server answered {error.code} {error.reason}{advice}") from None
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(type(error).__name__) from None


def problem_with(url: str) -> str | None:
    """Return what is wrong with the URL of a webhook, or None."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not a URL"
    if parts.scheme not in ("http", "https"):
        return "a webhook begins with https:// or http://"
    if not host or any(not " " < letter < "\x7f" for letter in url):
        return "it is not a URL"
    return None


def host_of(url: str) -> str:
    """Return the scheme, the host and the port of a URL, for messages. The rest is often a secret."""
    parts = urllib.parse.urlsplit(url)
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}"


def _contents(alert: Alert) -> dict[str, Any]:
    """Return what is posted. Slack and Mattermost show ``text``, Discord ``content``."""
    message = f"{alert.run}: {alert.text}"
    value = alert.value if math.isfinite(alert.value) else str(alert.value)
    return {
        "text": message,
        "content": message,
        "rule": alert.rule,
        "run": alert.run,
        "tag": alert.tag,
        "step": alert.step,
        "value": value,
    }
