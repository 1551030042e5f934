"""By what does a resumed run know its training images?"""

import hashlib
from pathlib import Path
from typing import Any

from segtrain.data.source import Source, names_of


def fingerprint(source: Source) -> dict[str, Any]:
    """Return the number of a split's images, and a hash of their files' names without folders, which may move."""
    digest = hashlib.sha256()
    for index in range(len(source)):
        digest.update(Path(names_of(source, index)[0]).name.encode(errors="surrogateescape") + b"\0")
    return {"count": len(source), "names": digest.hexdigest()}


def difference(now: dict[str, Any], then: dict[str, Any]) -> str | None:
    """Return a sentence if two fingerprints are those of different training images."""
    if now == then:
        return None
    others = " of other names" if now["count"] == then["count"] else ""
    return (
        f"dataset: the train split has {now['count']} images{others}, and the run that is resumed had {then['count']}; "
        "give it those, or start another run with init_from=RUN/checkpoints/last.ckpt"
    )
