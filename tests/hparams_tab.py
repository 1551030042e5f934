"""What TensorBoard's hyperparameters tab shows of a folder, by TensorBoard's own backend."""

from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context


class Session(NamedTuple):
    """A row of the tab: settings, scores, and whether it has ended."""

    settings: dict[str, Any]
    scores: dict[str, float]
    ended: bool


def read_tab(folder: Path) -> tuple[dict[str, Session], set[str], set[str]]:
    """Return {run: its row}, the settings that differ, and the columns of scores."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    backend = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder))))
    context = RequestContext()
    metadata = backend.hparams_metadata(context, "")
    experiment = backend.experiment_from_metadata(
        context, "", True, metadata, backend.hparams_from_data_provider(context, "", None)
    )
    statuses = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING]
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=statuses, start_index=0, slice_size=1000, include_metrics=True
    )
    answer = list_session_groups.Handler(context, backend, "", request).run()
    rows = {}
    for group in answer.session_groups:
        (session,) = group.sessions
        settings = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
        scores = {value.name.tag: value.value for value in session.metric_values}
        rows[session.name] = Session(settings, scores, session.status == api_pb2.STATUS_SUCCESS)
    differing = {info.name for info in experiment.hparam_infos if info.differs}
    return rows, differing, {info.name.tag for info in experiment.metric_infos}
