"""From one node of a checked config to its object: the only file that instantiates."""

import re
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException

from segtrain.errors import UserError


def build_node(path: str, node: Any, **arguments: Any) -> Any:
    """Instantiate a node; what its constructor refuses becomes a sentence with the key."""
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (ValueError, MisconfigurationException)):
            inner = re.search(r"full_key: (\S+)", str(error))  # the component inside this one that refused
            where = f"{path}.{inner[1]}" if inner else path
            names_argument = re.match(r"[a-z_]+: ", str(cause)) is not None
            raise UserError(f"{where}{'.' if names_argument else ': '}{cause}") from error
        raise
