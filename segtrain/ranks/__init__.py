"""The ranks of a run end together, and with the error that came first.

`together` wraps a command's body. Each rank has a `Watch`, a thread that sees when another has died or failed; what is
told, and by whom, is decided in `first_error`.
"""

from segtrain.ranks.ending import go_on
from segtrain.ranks.job import children_started, failing, in_job, together

__all__ = ["children_started", "failing", "go_on", "in_job", "together"]
