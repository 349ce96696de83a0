"""What Ray says, read: its own words as Ray 2.60 printed them."""

from __future__ import annotations

import pytest

from nullworker.fleets.ray.wording import demands, how_it_ended, last_words, report_of, shape_of, what_is_short

STATUS = """======== Autoscaler status: 2026-11-28 01:50:29.743503 ========
Node status
---------------------------------------------------------------
Active:
 1 node_2ad3e82cd1fa82a15921308d055061c2bafcf9933325ce940e7ac00e
Pending:
 (no pending nodes)
Recent failures:
 (no failures)

Resources
---------------------------------------------------------------
Total Usage:
 1.0/16.0 CPU
 0.0/2.0 GPU
 0B/63.18GiB memory
 0B/228.88MiB object_store_memory

From request_resources:
 (none)
Pending Demands:
 {'nope': 1.0}: 1+ pending tasks/actors
 {'CPU': 1.0, 'memory': 1500000000.0}: 3+ pending tasks/actors
 {'GPU': 8.0}: 1+ pending tasks/actors
 {'CPU': 1.0} * 2 (PACK): 1+ pending placement groups
 {'broken: 1+ pending tasks/actors"""


def test_what_ray_has_no_place_for() -> None:
    waiting = demands(STATUS)
    assert waiting == {"nope:1": 1, "CPU:1": 3, "GPU:8": 1}
    assert shape_of({"CPU": 1, "memory": 1.4e9}) == "CPU:1", "Ray prints memory as it rounds it"
    assert shape_of({"GPU": 8, "CPU": 0}) in waiting
    assert shape_of({"GPU": 4}) not in waiting
    assert demands("") == demands("\x00 {'a': 1") == {}
    assert report_of(STATUS).endswith("2026-11-28 01:50:29.743503 ========")


def test_why_there_is_no_place() -> None:
    assert what_is_short({"CPU": 1, "GPU": 8}, {}, STATUS) == "it wants 1 CPU, 8 GPU; in use: 1 of 16 CPU, 0 of 2 GPU"
    said = "it wants 1 nope, 1.5 GB, disk=fast; in use: no nope in the cluster"
    assert what_is_short({"nope": 1, "memory": 1.5e9}, {"disk": "fast"}, STATUS) == said


NODE = """Job supervisor actor died: The actor died unexpectedly before finishing this task.
\tclass_name: JobSupervisor
\tip: 127.0.0.3
The actor died because its node has died. Node Id: 01ca
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"""
EXITED = (
    "Job entrypoint command failed with exit code 3, last available logs (truncated to 20,000 chars):\none\ntwo tok"
)


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        ("FAILED", NODE, "its node has died (health check failed due to missing too many heartbeats)"),
        ("FAILED", EXITED, "exit code 3; its log ends: two ***"),
        (
            "FAILED",
            "Job entrypoint command failed with exit code -9. No logs available.",
            "killed by signal 9; it log",
        ),
        ("SUCCEEDED", "Job finished successfully.", "exit code 0"),
        ("STOPPED", "Job was intentionally stopped.", "its job was stopped, and not by this engine"),
        (
            "FAILED",
            "x\nThe actor is dead because it was killed by `ray.kill`.",
            "Ray says: The actor is dead",
        ),
        ("FAILED", "", "Ray says: it does not say why"),
    ],
)
def test_how_a_job_ended(status: str, message: str, said: str) -> None:
    assert how_it_ended(status, message, "tok").startswith(said)


def test_a_traceback_is_one_sentence() -> None:
    text = "Traceback (most recent call last):\n  File x\nray.exceptions.SomeError: it is\tso.\n.\n"
    assert last_words(text) == "it is so"
    assert last_words("x" * 1000) == "x" * 240 + "…"
    assert last_words("\x1b[31mred") == "[31mred"
