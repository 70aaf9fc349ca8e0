"""Names that MLflow accepts."""

import re


def metric_name(name: str) -> str:
    """Return a name that MLflow accepts for a metric, a parameter or an artifact."""
    allowed = re.sub(r"[^\w\-. :/]", "_", name)
    parts = [part for part in allowed.split("/") if part.strip(". ")]
    return "/".join(parts)[:250].rstrip("/") or "_"


def image_key(name: str) -> str:
    """Return a key that MLflow accepts for an image. It becomes a part of a file name."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:100]
