"""The messages between client, engine and worker, as msgspec Structs: field names are Vast's, bounds are ours.

Unknown fields pass, for each side may be newer than the other. ``None`` stands where Vast's own client sends null for
"not given". Seconds are ``_time`` and ``_at`` here because Vast named them so; ``_at`` is the sender's Unix time.
This module needs msgspec, which comes with the engine's extra; workers and clients use `paths` and `errors` alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from nullworker.wire.decoding import decode
from nullworker.wire.redaction import SECRET_FIELDS

__all__ = [
    "SECRET_FIELDS",
    "Credentials",
    "DeleteRequests",
    "DispatcherReport",
    "DrainBody",
    "EndpointBody",
    "EndpointCreated",
    "EndpointList",
    "EndpointResult",
    "EndpointRow",
    "ErrorBody",
    "ExtendBody",
    "FinishedRequest",
    "GetLogs",
    "GetWorkers",
    "Invitation",
    "JobTold",
    "LabelReport",
    "Labels",
    "Logs",
    "Message",
    "OrderDone",
    "Preview",
    "PreviewBody",
    "QueueReport",
    "Removal",
    "ReplaceBody",
    "Replaced",
    "RouteReady",
    "RouteRequest",
    "RouteWaiting",
    "SignInBody",
    "SignedInBody",
    "Success",
    "UpdateWorkers",
    "WithdrawBody",
    "WorkerOrder",
    "WorkerOrders",
    "WorkerRow",
    "WorkerStatus",
    "WorkergroupBody",
    "WorkergroupCreated",
    "WorkergroupList",
    "WorkergroupRow",
    "WorkersUpdating",
    "decode",
]

#: Identifiers and counts stay where a JSON number is still exact in every language.
ID_MAX = 2**53 - 1
#: Amounts in perf units, and all else that is measured. Workers' own may be larger: see `nullworker.wire.tolerant`.
AMOUNT_MAX = 1e9
QUANTITY_MAX = 1e12

#: No control characters, and none that change the direction of writing or are not seen.
_SHOWN = r"^[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*$"

Id = Annotated[int, Meta(ge=0, le=ID_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
#: A name about to be given: no control characters, which would garble every list that shows it.
NewName = Annotated[str, Meta(min_length=1, max_length=200, pattern=_SHOWN)]
Word = Annotated[str, Meta(max_length=200)]
Key = Annotated[str, Meta(max_length=1_000)]
Url = Annotated[str, Meta(max_length=2_000)]
Sentence = Annotated[str, Meta(max_length=2_000)]
Text = Annotated[str, Meta(max_length=100_000)]
Load = Annotated[float, Meta(ge=0, le=AMOUNT_MAX)]  # cost, load and perf, all in perf units
#: Anything else that is measured; finite is what matters.
Quantity = Annotated[float, Meta(ge=-QUANTITY_MAX, le=QUANTITY_MAX)]
Count = Annotated[int, Meta(ge=-ID_MAX, le=ID_MAX)]


class Message(Struct, frozen=True, gc=False):
    """What all types here have in common: they do not change, and their ``repr`` shows no secret.

    They never refer to each other in circles, so that the collector of cycles need not look at them.
    """

    def __repr__(self) -> str:
        """As a Struct's own, with ``***`` for what is secret."""
        fields = (
            f"{name}={'***' if name in SECRET_FIELDS else repr(getattr(self, name))}" for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(fields)})"


class ErrorBody(Message, frozen=True):
    """Any refusal. ``field`` names what is wrong in the request, where one field is to blame."""

    error: str
    msg: str
    success: Literal[False] = False
    field: str | UnsetType = UNSET


class Success(Message, frozen=True):
    """Done as asked."""

    success: bool = True


class Credentials(Message, frozen=True):
    """The body of the command line's list calls, which is sent even with GET."""

    api_key: Key | None = None


# ------------------------------------------------------------------------------------------------- client and engine


class RouteRequest(Message, frozen=True):
    """A client asks for a worker. ``request_idx`` is 0 the first time, then the one that the first answer gave."""

    endpoint: Name
    api_key: Key | None = None
    cost: Load = 0.0
    request_idx: Id = 0
    #: Seconds without a call after which the client counts as gone.
    replay_timeout: Annotated[float, Meta(gt=0, le=86_400)] = 60.0


class RouteReady(Message, frozen=True):
    """The worker at ``url`` is granted to the client. The whole answer goes to the worker as its ``auth_data``."""

    request_idx: int
    endpoint: str
    url: str
    signature: str  # of the URL alone; see nullworker.wire.signature
    cost: float
    reqnum: int
    #: Binds worker, URL, request_idx and expiry, where the engine gives one.
    grant: str | UnsetType = UNSET


class RouteWaiting(Message, frozen=True):
    """No worker yet: ask again with this ``request_idx``. ``reason`` says what is being waited for, where known."""

    request_idx: int
    endpoint: str
    status: Literal["WAITING"] = "WAITING"
    reason: str | UnsetType = UNSET


class GetWorkers(Message, frozen=True):
    """Asks for the workers of the endpoint ``id``."""

    id: Id
    api_key: Key | None = None


class WorkerRow(Message, frozen=True):
    """One worker of an endpoint, as the client's ``Worker.from_dict`` and the command line read it."""

    id: int
    status: str
    cur_load: float = 0.0
    new_load: float = 0.0
    cur_load_rolling_avg: float = 0.0
    cur_perf: float = 0.0
    perf: float = 0.0
    measured_perf: float = 0.0
    dlperf: float = 0.0
    reliability: float = 0.0
    reqs_working: int = 0
    disk_usage: float = 0.0
    loaded_at: float = 0.0
    started_at: float = 0.0
    gpu_name: str | None = None
    url: str = ""
    workergroup_id: int = 0
    error_msg: str = ""


# ------------------------------------------------------------------------------------------------- worker and engine


class OrderDone(Message, frozen=True):
    """What came of a `WorkerOrder`; "": it is carried out."""

    id: Id
    refusal: Sentence = ""


class JobTold(Message, frozen=True):
    """What a session is for, as its consumer says."""

    request_idx: Id
    job: Word


class WorkerStatus(Message, frozen=True):
    """A worker's report. The framework sends all of it; `start_server.sh` a short form when it fails."""

    id: Id
    mtoken: Key
    url: Url | None = ""
    version: Word | None = ""
    error_msg: Text | None = ""
    loadtime: Quantity | None = 0.0
    cur_load: Load = 0.0
    rej_load: Quantity = 0.0
    new_load: Quantity = 0.0
    max_perf: Load = 0.0
    cur_perf: Quantity = 0.0
    cur_capacity: Quantity = 0.0
    max_capacity: Quantity = 0.0
    num_requests_working: Count = 0
    num_requests_recieved: Count = 0  # Vast's spelling
    additional_disk_usage: Quantity = 0.0  # GB, as the next
    disk_usage: Quantity = 0.0
    working_request_idxs: list[Id] = field(default_factory=list)  # as many as are in progress: no bound of ours
    #: The Null PyWorker's own order of its reports, growing from process to process; 0: none given.
    seq: Id = 0
    #: The name of the worker's own clock, "" for none, and what it shows: its grants expire by it.
    clock: Word = ""
    clock_s: Quantity = 0.0
    #: The orders that are done, of a worker that takes any; and what its sessions are for, where it knows.
    orders_done: list[OrderDone] | UnsetType = UNSET
    jobs: list[JobTold] = field(default_factory=list)


class WorkerOrder(Message, frozen=True):
    """What a worker is asked to do about what it holds, until it says that it is done."""

    id: int
    act: str  # "end" or "extend"
    request_idx: int
    seconds: float = 0.0


class PlaceEnds(Message, frozen=True):
    """The place of a worker ends it, whatever it holds."""

    in_s: float
    reason: str  # the place's own, as the end of a sentence


class WorkerOrders(Message, frozen=True):
    """The answer to a report of a worker that is to do or to know something."""

    orders: list[WorkerOrder]
    ends: PlaceEnds | None = None
    success: bool = True


class FinishedRequest(Message, frozen=True):
    """A request that a worker is done with."""

    request_idx: Id
    status: Literal["Success", "Error", "Cancelled", "Rejected"]
    success: bool | None = None
    entered_queue_at: Quantity | None = 0.0
    work_started_at: Quantity | None = 0.0
    work_completed_at: Quantity | None = 0.0


class DeleteRequests(Message, frozen=True):
    """A worker's list of finished requests, sent again until it is taken."""

    worker_id: Id
    mtoken: Key
    requests: list[FinishedRequest]
    seq: Id = 0


# ------------------------------------------------------------------------------------- command line, console, engine

State = Literal["active", "suspended", "stopped"]


class EndpointBody(Message, frozen=True):
    """Creates an endpoint, or changes what is given of it. Null and absent mean the same: leave it as it is."""

    endpoint_name: NewName | None = None
    min_load: Quantity | None = None
    min_cold_load: Quantity | None = None
    target_util: Quantity | None = None
    cold_mult: Quantity | None = None
    cold_workers: Count | None = None
    min_workers: Count | None = None  # another name of cold_workers
    max_workers: Count | None = None
    max_queue_time: Quantity | None = None
    target_queue_time: Quantity | None = None
    inactivity_timeout: Quantity | None = None
    endpoint_state: State | None = None
    autoscaler_instance: Word | None = None
    endptjob_id: Id | None = None
    api_key: Key | None = None


class EndpointRow(Message, frozen=True):
    """An endpoint with its parameters, as lists and `GET /api/v0/endptjobs/{id}/` show it."""

    id: int
    endpoint_name: str
    api_key: str
    user_id: int
    created_at: float
    min_load: float
    min_cold_load: float
    target_util: float
    cold_mult: float
    cold_workers: int
    max_workers: int
    max_queue_time: float
    target_queue_time: float
    inactivity_timeout: float | None
    endpoint_state: State


class EndpointCreated(Message, frozen=True):
    """``result`` is the new endpoint's id."""

    result: int
    success: bool = True


class EndpointResult(Message, frozen=True):
    """One endpoint."""

    result: EndpointRow
    success: bool = True


class EndpointList(Message, frozen=True):
    """All endpoints."""

    results: list[EndpointRow]
    success: bool = True


class WorkergroupBody(Message, frozen=True):
    """Creates a workergroup, or changes what is given of it; ``template_hash`` names the backend (``null``)."""

    endpoint_id: Id | None = None
    endpoint_name: Name | None = None
    template_hash: Word | None = None
    template_id: Id | None = None
    search_params: Text | dict[str, Any] | None = None
    launch_args: Text | None = None
    gpu_ram: Quantity | None = None
    min_load: Quantity | None = None
    min_cold_load: Quantity | None = None
    target_util: Quantity | None = None
    cold_mult: Quantity | None = None
    cold_workers: Count | None = None
    max_workers: Count | None = None
    autoscaler_instance: Word | None = None
    autojob_id: Id | None = None
    docker_login_user: Word | None = None
    docker_login_pass: Key | None = None
    docker_login_repo: Url | None = None
    api_key: Key | None = None


class WorkergroupRow(Message, frozen=True):
    """A workergroup, as lists show it: Vast's fields, and what it is on this engine."""

    id: int
    endpoint_id: int
    endpoint_name: str
    user_id: int
    created_at: float
    template_hash: str | None = None
    template_id: int | None = None
    search_params: str | dict[str, Any] = ""
    launch_args: str | None = None
    gpu_ram: float | None = None
    max_workers: int | None = None
    fleet: str = ""
    backend: str = ""
    consumer: str = ""
    price_per_hour: float = 0.0


class WorkergroupCreated(Message, frozen=True):
    """``id`` is the new workergroup's."""

    id: int
    success: bool = True


class WorkergroupList(Message, frozen=True):
    """All workergroups."""

    results: list[WorkergroupRow]
    success: bool = True


class Removal(Message, frozen=True):
    """The body of a DELETE. ``force``: do not wait for held workers to be released."""

    force: bool = False
    api_key: Key | None = None


class GetLogs(Message, frozen=True):
    """Asks for the record of an endpoint's or a workergroup's decisions: the last ``tail`` lines of each level."""

    id: Id
    api_key: Key | None = None
    tail: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Logs(Message, frozen=True):
    """The record at its four levels, each a text of one line a decision."""

    info0: str = ""
    info1: str = ""
    trace: str = ""
    debug: str = ""


class Invitation(Message, frozen=True):
    """What a worker that is started separately needs to join an endpoint: environment variables, in small letters."""

    container_id: int
    report_addr: str
    master_token: str
    engine_ca: str = ""  # the authority of the engine's certificate, where that is its own
    client_certificate: str = ""  # that the worker shows, with its key, where the engine asks workers for one


class UpdateWorkers(Message, frozen=True):
    """Asks for a rolling update of a workergroup's workers, or for its cancelling."""

    workergroup_id: Id
    cancel_update: bool = False
    api_key: Key | None = None


class WorkersUpdating(Message, frozen=True):
    """The rolling update as it stands; ``error_msg`` when there is none to start or cancel."""

    success: bool
    workers_to_update: int | UnsetType = UNSET
    cancelled: bool | UnsetType = UNSET
    error_msg: str | UnsetType = UNSET


# ------------------------------------------------------------------------------------------------- the page's own calls


class SignInBody(Message, frozen=True):
    """Signs a page in: ``api_key`` is the account key, or one of role ``read``, ``operate`` or ``admin``."""

    api_key: Key


class SignedInBody(Message, frozen=True):
    """What a page is signed in as: the role of its key ("" for nothing), and what that is called."""

    role: str
    version: str
    key: str = ""
    success: bool = True


class PreviewBody(Message, frozen=True):
    """Asks what a change of an endpoint would do at once; the fields of ``change`` are those of an endpoint."""

    id: Id
    change: EndpointBody
    api_key: Key | None = None


class Preview(Message, frozen=True):
    """What a change would do at once, in numbers and in a sentence."""

    creates: int
    starts: int
    stops: int
    within_s: float  # until the last of ``stops``
    text: str
    success: bool = True


class DrainBody(Message, frozen=True):
    """Drains a worker: it gets nothing new, and goes when what it holds has ended. Or cancels that."""

    worker_id: Id
    cancel: bool = False
    reason: Word = ""
    api_key: Key | None = None


class WithdrawBody(Message, frozen=True):
    """Ends a request, whether it waits or holds a worker."""

    request_idx: Id
    api_key: Key | None = None


class ExtendBody(Message, frozen=True):
    """Has a worker held for so long from now on at least, whether its client asks for it or not."""

    request_idx: Id
    seconds: Annotated[float, Meta(gt=0, le=2_592_000)]
    api_key: Key | None = None


class ReplaceBody(Message, frozen=True):
    """Drains a worker, and says what comes in its place. With ``dry_run``, only says it."""

    worker_id: Id
    dry_run: bool = False
    reason: Word = ""
    api_key: Key | None = None


class Replaced(Message, frozen=True):
    """What a replacement does, in numbers and in a sentence."""

    creates: int
    starts: int
    text: str
    success: bool = True


class QueueReport(Message, frozen=True):
    """A queue as its dispatcher reads it. Null: not read yet, or not told by the broker."""

    queue: Name
    endpoint: Name
    waiting: Count | None = None
    in_flight: Count | None = None
    delayed: Count | None = None
    abandoned: Count | None = None
    paused: bool = False
    want: Count | None = None
    asked: Count = 0
    held: Count = 0
    doing: Annotated[dict[Word, Count], Meta(max_length=10)] = field(default_factory=dict)  # of those held
    reason: Sentence = ""
    trouble: Sentence = ""
    warnings: Annotated[list[Sentence], Meta(max_length=50)] = field(default_factory=list)
    read_s_ago: Quantity | None = None


class LabelReport(Message, frozen=True):
    """What a reservation is for; "" where that is not known."""

    request_idx: Id
    queue: Word = ""
    job: Word = ""


class Labels(Message, frozen=True):
    """A holder tells what its reservations are for, for people to read: nothing is decided by it."""

    labels: Annotated[list[LabelReport], Meta(max_length=10_000)]
    api_key: Key | None = None


class DispatcherReport(Message, frozen=True):
    """What a dispatcher tells the engine of its queues, for people to read: nothing is decided by it."""

    dispatcher: Name  # host and process
    queues: Annotated[list[QueueReport], Meta(max_length=1_000)]
    labels: Annotated[list[LabelReport], Meta(max_length=10_000)] = field(default_factory=list)  # of those held
    api_key: Key | None = None
