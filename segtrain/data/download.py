"""Downloads through torchvision: a failure is a sentence, and what was fetched in part is not taken for whole."""

import fcntl
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from segtrain.errors import DataError


@contextmanager
def fetching(name: str, folder: Path) -> Iterator[None]:
    """Turn what can go wrong inside into a DataError; torchvision checks the archives' MD5 and shows the progress.

    Of several processes one is inside at a time; the others then find what it has fetched.

    Raises:
        DataError: if there is no network, the archive is damaged or the disk is full.
    """
    try:
        with _alone(folder):
            yield
    except (URLError, HTTPException, ssl.SSLError, ConnectionError, TimeoutError) as error:
        raise DataError(
            f"dataset.download: {name} cannot be fetched ({error}); try again, or download it yourself into {folder}"
        ) from error
    except RuntimeError as error:
        raise DataError(
            f"dataset.download: the archive of {name} in {folder} is damaged ({error}); remove it and try again"
        ) from error
    except OSError as error:
        raise DataError(f"dataset.download: {folder} cannot be written ({error.strerror or error})") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes out; where nothing can be written nobody fetches."""
    with ExitStack() as stack:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((folder / ".segtrain-download.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
