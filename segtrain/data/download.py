"""Downloads through torchvision: a failure is a sentence, and what was fetched in part is not taken for whole."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from segtrain.errors import DataError


@contextmanager
def fetching(name: str, folder: Path) -> Iterator[None]:
    """Turn what can go wrong inside into a DataError; torchvision checks the archives' MD5 and shows the progress.

    Raises:
        DataError: if there is no network, the archive is damaged or the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
