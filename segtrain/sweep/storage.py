"""Where does a study lie, and is it the one that was begun there?"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.study import StudyDirection
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from segtrain.errors import UserError, first_line
from segtrain.sweep.lost import GRACE, HEARTBEAT
from segtrain.sweep.patience import Patience
from segtrain.sweep.samplers import SamplerSettings, make_pruner, make_sampler
from segtrain.sweep.space import Space
from segtrain.sweep.study import Search

LOCKED = 20  # seconds for another worker to finish with an SQLite file; see `Patience` for what follows


def open_search(
    url: str,
    name: str,
    *,
    space: Space,
    objectives: Mapping[str, str],
    overrides: Sequence[str],
    settings: SamplerSettings,
    n_trials: int,
    retries: int,
) -> Search:
    """Return the study of this name, made if it is not there.

    Args:
        url: of the storage, as SQLAlchemy's: sqlite:///study.db, postgresql://user@host/database.
        name: of the study.
        space: what is searched.
        objectives: {name in metrics.json: "max" or "min"}.
        overrides: of every trial's train command.
        settings: of sampler and pruner.
        n_trials: how many trials there are to be in all.
        retries: how often a trial that is lost is tried again.

    Raises:
        UserError: if the storage cannot be reached, or has a study of this name of another search.
    """
    own = dict(override.partition("=")[::2] for override in overrides)
    facts = {"space": space.texts(), "objectives": dict(objectives), "overrides": own}
    directions = [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in objectives.values()]
    try:
        storage = optuna.storages.RDBStorage(
            _with_driver(url),
            engine_kwargs=_engine_arguments(url),
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
        )
        known = name in optuna.study.get_all_study_names(storage)
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=directions,
            load_if_exists=True,
            # workers that draw the same numbers would try the same values
            sampler=make_sampler(settings, space, seed=secrets.randbits(32) if known else settings.seed),
            pruner=make_pruner(settings),
        )
        if "space" not in study.user_attrs:
            for key, value in facts.items():
                study.set_user_attr(key, value)
    except ModuleNotFoundError as error:
        raise UserError(
            f"storage: {shown(url)} needs a driver ({error}); pip install 'psycopg[binary]>=3.2'"
        ) from error
    except ArgumentError as error:
        raise UserError(f"storage: {url!r} is no address of a database, such as sqlite:///study.db") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        raise UserError(f"storage: {shown(url)} cannot be reached ({first_line(cause)})") from error
    _compare(study, facts, shown(url))
    patience = Patience(shown(url))
    return Search(study, space, n_trials=n_trials, storage=storage, retries=retries, patience=patience)


def local_url(folder: Path) -> str:
    """Return the storage of a search that names none: a file in its folder."""
    return f"sqlite:///{folder.absolute() / 'study.db'}"


def shown(url: str) -> str:
    """Return a storage's address without its password."""
    return make_url(url).render_as_string(hide_password=True)


def _with_driver(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace("postgres://", "postgresql+psycopg://", 1)


def _engine_arguments(url: str) -> dict[str, object]:
    """Return what makes a connection wait for other workers, and notice a server that started anew."""
    if url.startswith("sqlite"):
        return {"connect_args": {"timeout": LOCKED}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 20}}


def _compare(study: optuna.Study, facts: Mapping[str, object], url: str) -> None:
    """Refuse a study that is of another search.

    Raises:
        UserError: naming what is another.
    """
    for key, ours in facts.items():
        theirs = study.user_attrs.get(key)
        if theirs == ours:
            continue
        assert isinstance(ours, dict)
        theirs = theirs if isinstance(theirs, dict) else {}
        name = next(k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k))
        raise UserError(
            f"study: {study.study_name} on {url} was begun with other {key}: {name} is {ours.get(name, 'not there')} "
            f"now and was {theirs.get(name, 'not there')}; give study=ANOTHER for a new one, or the {key} that it has"
        )
