"""What operators do, taken in: endpoints and workergroups come, change and go; workers join, and are updated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import fallback, limits
from nullworker.core.causes import Cause
from nullworker.core.failures import retire
from nullworker.core.intake.clients import refuse_all
from nullworker.core.parameters import EndpointState
from nullworker.core.worker import WorkerState, WorkerTransition

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.events import (
        EndpointDeleted,
        EndpointPut,
        WorkergroupDeleted,
        WorkergroupPut,
        WorkerJoined,
        WorkersUpdated,
    )
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker


def endpoint_put(state: EngineState, event: EndpointPut) -> None:
    """An endpoint is made, or its parameters change."""
    endpoint = state.endpoints.get(event.endpoint_id)
    if endpoint is not None and endpoint.deleted:
        return
    state.put_endpoint(event.endpoint_id, event.name, event.parameters)
    if endpoint is not None and endpoint.parameters.state is EndpointState.STOPPED:
        _stop_free(state, endpoint)
    state.mark_dirty(event.endpoint_id)


def _stop_free(state: EngineState, endpoint: Endpoint) -> None:
    for worker in list(endpoint.workers.values()):
        if worker.owned and worker.endable and worker.state in (WorkerState.READY, WorkerState.STARTING):
            state.stop(worker, Cause.ENDPOINT_STOPPED, "its endpoint is stopped")


def endpoint_deleted(state: EngineState, event: EndpointDeleted) -> None:
    """An endpoint goes: its waiters are told, its free workers go now, its held ones when they are released."""
    endpoint = state.endpoints.get(event.endpoint_id)
    if endpoint is None:
        return
    endpoint.deleted = True
    refuse_all(state, endpoint, Cause.ENDPOINT_DELETED, f"endpoint {endpoint.name} is being deleted")
    for worker in list(endpoint.workers.values()):
        retire(state, worker, Cause.ENDPOINT_DELETED, force=event.force)
    if not endpoint.workers and event.endpoint_id in state.endpoints:
        state.forget_endpoint(endpoint, Cause.NO_WORKERS, "it had no workers")


def workergroup_put(state: EngineState, event: WorkergroupPut) -> None:
    """A workergroup is made or changed."""
    if event.workergroup.endpoint_id in state.endpoints:
        state.put_workergroup(event.workergroup)
        fallback.plan(state, state.endpoints[event.workergroup.endpoint_id])


def workergroup_deleted(state: EngineState, event: WorkergroupDeleted) -> None:
    """A workergroup goes: its free workers now, its held ones when they are released."""
    workergroup = state.workergroups.get(event.workergroup_id)
    if workergroup is None:
        return
    workergroup.deleted = True
    endpoint = state.endpoints[workergroup.spec.endpoint_id]
    for worker in [w for w in endpoint.workers.values() if w.workergroup is workergroup]:
        retire(state, worker, Cause.WORKERGROUP_DELETED)
    if not workergroup.workers and event.workergroup_id in state.workergroups:
        state.forget_workergroup(workergroup, Cause.NO_WORKERS, "it had no workers")
    state.mark_dirty(endpoint.endpoint_id)


def workers_updated(state: EngineState, event: WorkersUpdated) -> None:
    """A rolling update of a workergroup, or its cancelling."""
    workergroup = state.workergroups.get(event.workergroup_id)
    if workergroup is None:
        return
    endpoint = state.endpoints[workergroup.spec.endpoint_id]
    workers = [w for w in endpoint.workers.values() if w.workergroup is workergroup and w.owned]
    for worker in workers:
        if event.cancel and worker.retire is Cause.UPDATED:
            _stays(state, worker)
        elif not event.cancel and worker.retire is None:
            retire(state, worker, Cause.UPDATED)


def _stays(state: EngineState, worker: Worker) -> None:
    state.set_retire(worker, None)
    if worker.state is WorkerState.DRAINING:
        state.transition(worker, WorkerTransition.UNDRAIN)
        if not worker.held:  # it was only kept because it may hold something unknown
            worker.free_since = state.now
            state.transition(worker, WorkerTransition.FREED)


def worker_joined(state: EngineState, event: WorkerJoined) -> None:
    """A worker that was started outside the engine is here."""
    workergroup = state.workergroups.get(event.workergroup_id)
    if workergroup is None or event.worker_id in state.workers or workergroup.deleted:
        return
    worker = state.add_worker(workergroup, event.worker_id, WorkerState.CREATING, owned=False)
    if event.worker_id < limits.JOINED_IDS_FROM:
        state.next_worker_id = max(state.next_worker_id, event.worker_id + 1)
    state.note_worker(worker, "worker_joined", Cause.JOINED, "it reported with the endpoint's join token")
