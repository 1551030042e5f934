"""Where does a study lie, and is it the one that was begun there?"""

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from segtrain.errors import UserError
from segtrain.sweep.database import LOCKED, open_database, reaching, shown
from segtrain.sweep.lost import GRACE, HEARTBEAT
from segtrain.sweep.patience import Patience
from segtrain.sweep.samplers import SamplerSettings, make_pruner, make_sampler
from segtrain.sweep.space import Space
from segtrain.sweep.study import Search

# what may differ between the machines of one search: where files lie, and how many devices and processes it has
OF_MACHINES = ("paths.", "hydra.searchpath", "loader.num_workers", "trainer.devices")

MAKING = LOCKED + 10.0  # seconds in which another worker that makes a study gives it an id


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
    seeds: Sequence[int] = (0,),
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
        seeds: of each trial's trainings.

    Raises:
        UserError: if the storage cannot be reached, or has a study of this name of another search.
    """
    facts = {
        "space": space.texts(),
        "objectives": dict(objectives),
        "overrides": _compared(overrides),
        "seeds": {"seed": seeds[0], "seeds": len(seeds)},
    }
    directions = [StudyDirection.MAXIMIZE if mode == "max" else StudyDirection.MINIMIZE for mode in objectives.values()]
    with reaching(url):
        storage = open_database(
            url,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
        )
        study = _make_or_load(name, storage, directions, settings=settings, space=space)
        _refuse_foreign(study, directions, shown(url))
        known = study.user_attrs
        for key, value in facts.items():
            if key not in known:  # each by itself: another worker may be writing them too
                study.set_user_attr(key, value)
    _compare(study, facts, shown(url))
    patience = Patience(shown(url))
    return Search(
        study, space, id=_id_of(study), n_trials=n_trials, storage=storage, retries=retries, patience=patience
    )


def _make_or_load(
    name: str, storage: RDBStorage, directions: list[StudyDirection], *, settings: SamplerSettings, space: Space
) -> optuna.Study:
    """Return the study; the one worker that makes it draws with the seed that was asked for."""
    pruner = make_pruner(settings)
    try:
        sampler = make_sampler(settings, space, seed=settings.seed)
        study = optuna.create_study(
            study_name=name, storage=storage, directions=directions, sampler=sampler, pruner=pruner
        )
        study.set_user_attr("id", secrets.token_hex(8))
        return study
    except optuna.exceptions.DuplicatedStudyError:
        # workers that draw the same numbers would try the same values
        sampler = make_sampler(settings, space, seed=secrets.randbits(32))
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)


def _id_of(study: optuna.Study) -> str:
    """Return what tells a study from another of its name; empty if whoever made it died before it had one."""
    deadline = time.monotonic() + MAKING
    while "id" not in study.user_attrs and not study.get_trials(deepcopy=False) and time.monotonic() < deadline:
        time.sleep(0.05)
    return str(study.user_attrs.get("id", ""))


def local_url(folder: Path) -> str:
    """Return the storage of a search that names none: a file in its folder."""
    return f"sqlite:///{folder.absolute() / 'study.db'}"


def _compared(overrides: Sequence[str]) -> dict[str, str]:
    """Return the overrides by which two searches differ, and not two machines that share one."""
    own = dict(override.partition("=")[::2] for override in overrides)
    return {key: value for key, value in own.items() if not key.lstrip("+~").startswith(OF_MACHINES)}


def _refuse_foreign(study: optuna.Study, directions: Sequence[StudyDirection], url: str) -> None:
    """Refuse a study that another program made; one of ours has its space before its first trial.

    Raises:
        UserError: saying by what it is seen.
    """
    if "space" in study.user_attrs:
        return
    theirs, ours = (", ".join(each.name.lower() for each in each_of) for each_of in (study.directions, directions))
    if (count := len(study.get_trials(deepcopy=False))) or theirs != ours:
        what = f"has {count} trials and no space" if count else f"is to {theirs}, and this search to {ours}"
        raise UserError(
            f"study: {study.study_name} on {url} was not begun by segtrain: it {what}; give study=ANOTHER for a new one"
        )


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
