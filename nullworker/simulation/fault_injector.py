"""What goes wrong by itself: when, where and for how long, by the faults that are on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nullworker.core import events
from nullworker.core.parameters import EndpointState
from nullworker.simulation.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core.parameters import Parameters
    from nullworker.simulation.context import Context
    from nullworker.simulation.driver import SimulatedDriver
    from nullworker.simulation.fleet import Fleet, Instance
    from nullworker.simulation.process import Process, WorkerKind

#: Beyond the numbers that the engine gives: each restart skips a thousand.
_STRAY_ID = 500_000


class FaultInjector:
    """Draws misfortunes from its own chance, so that switching one off leaves the others much as they are."""

    def __init__(self, context: Context, driver: SimulatedDriver, fleet: Fleet, stray_kind: WorkerKind) -> None:
        self.context = context
        self.driver = driver
        self.fleet = fleet
        self.random = context.injected
        self._stray_kind = stray_kind
        self.over = False

    def start(self) -> None:
        """Begins with what happens to the whole world."""
        for name, mean_s, happen in (
            ("kill", 30.0, self._kill),
            ("pause", 120.0, self._pause),
            ("clock_forward", 200.0, self._clock_forward),
            ("clock_backward", 100.0, self._clock_backward),
            ("outage", 200.0, self._outage),
            ("preempt_all", 300.0, self._preempt_all),
            ("change", 60.0, self._change),
            ("suspend", 150.0, self._suspend),
            ("update", 120.0, self._update),
            ("delete", 400.0, self._delete),
            ("forge", 4.0, self._forge),
        ):
            if getattr(self.context.faults, name):
                self._every(name, mean_s, happen)
        if self.context.faults.strays:
            for number in range(1 + int(4 * self.context.faults.strays)):
                self.fleet.make(_STRAY_ID + number, 0, self._stray_kind)
        if self.context.faults.store_lag:
            self.driver.store.lag_s += 2 * self.context.faults.store_lag

    def stop(self) -> None:
        """Nothing goes wrong from now on."""
        self.over = True
        driver = self.driver
        self.context.set_faults(Faults())
        self.context.network.heal()
        self.fleet.out_until = driver.paused_until = 0.0
        driver.kill_at = None
        driver.resume()
        for instance in self.fleet.instances.values():
            process = instance.process
            if process is not None:
                process.mute_until = process.flaps_until = process.hung_until = 0.0
                process.changed()
        if driver.engine is None:
            driver.start()
        for endpoint_id, (name, parameters) in list(driver.endpoints.items()):
            if parameters.state is not EndpointState.ACTIVE:
                active = replace(parameters, state=EndpointState.ACTIVE)
                driver.operate(events.EndpointPut(endpoint_id, name, active))

    def _every(self, name: str, mean_s: float, happen: Callable[[float], None]) -> None:
        strength = getattr(self.context.faults, name)
        delay_s = self.random.expovariate(strength / mean_s) if strength else 0.0

        def do() -> None:
            if not self.over:
                happen(strength)
                self._every(name, mean_s, happen)

        self.context.queue.after(delay_s, do)

    # -------------------------------------------------------------------------------------------------------- engine

    def _kill(self, _strength: float) -> None:
        self.driver.kill_at = self.context.now

    def engine_is_down(self) -> None:
        """The engine was killed: it is started again some time later."""
        self.context.queue.after(self.random.choice([0.1, 1.0, 5.0, 30.0]), self._start_engine)

    def _start_engine(self) -> None:
        if self.driver.engine is None:
            self.driver.start()

    def _pause(self, strength: float) -> None:
        self.driver.pause(1 + self.random.uniform(0, 120 * strength))

    def _clock_forward(self, strength: float) -> None:
        self.driver.clock_jumps(self.random.uniform(1, 1 + 3600 * strength))

    def _clock_backward(self, strength: float) -> None:
        self.driver.clock_jumps(-self.random.uniform(0.1, 0.1 + 3 * strength))

    # ------------------------------------------------------------------------------------------- workers and fleets

    def booted(self, instance: Instance, process: Process, boot_s: float) -> None:
        """A process boots: its fate is drawn."""
        faults, random = self.context.faults, self.random
        if self.over:
            return
        if faults.crash_young and random.random() < faults.crash_young:
            self.context.queue.after(random.uniform(0, 1.5 * boot_s + 10), self._to, instance, process, self._crash)
        for name, mean_s, happen in (
            ("crash", 100.0, self._crash),
            ("hang", 150.0, self._hang),
            ("unhealthy", 150.0, self._unhealthy),
            ("restart", 150.0, self._restart),
            ("flap", 100.0, self._flap),
            ("mute", 100.0, self._mute),
            ("preempt", 100.0, self._preempt),
        ):
            strength = getattr(faults, name)
            if strength:
                delay_s = random.expovariate(strength / mean_s)
                self.context.queue.after(delay_s, self._to, instance, process, happen)

    def never_gets_ready(self) -> bool:
        """Whether the process that boots now loads for ever."""
        strength = self.context.faults.never_ready
        return bool(strength) and not self.over and self.random.random() < 0.5 * strength

    def _to(self, instance: Instance, process: Process, happen: Callable[[Instance, Process], None]) -> None:
        if not self.over and instance.process is process and process.alive:
            happen(instance, process)

    def _crash(self, instance: Instance, _process: Process) -> None:
        self.fleet.crash(instance)

    def _hang(self, _instance: Instance, process: Process) -> None:
        seconds = self.random.uniform(1, 120) if self.random.random() < 0.8 else 1e9
        process.hung_until = self.context.now + seconds

    def _unhealthy(self, _instance: Instance, process: Process) -> None:
        process.break_down("the health check failed")

    def _restart(self, instance: Instance, _process: Process) -> None:
        self.fleet.restart_process(instance)

    def _flap(self, _instance: Instance, process: Process) -> None:
        process.flaps_until = self.context.now + self.random.uniform(1, 15)
        process.changed()

    def _mute(self, _instance: Instance, process: Process) -> None:
        process.mute_until = self.context.now + self.random.uniform(1, 1 + 60 * self.context.faults.mute)

    def _preempt(self, instance: Instance, _process: Process) -> None:
        self.fleet.take_away(instance)

    def _preempt_all(self, _strength: float) -> None:
        for instance in list(self.fleet.instances.values()):
            self.fleet.take_away(instance)

    def _outage(self, strength: float) -> None:
        self.fleet.out_until = self.context.now + self.random.uniform(5, 5 + 200 * strength)

    # ----------------------------------------------------------------------------------------------------- operators

    def _an_endpoint(self) -> tuple[int, str, Parameters] | None:
        driver = self.driver
        there = [endpoint_id for endpoint_id in driver.endpoints if endpoint_id not in driver.deleting]
        if not there:
            return None
        endpoint_id = self.random.choice(there)
        return (endpoint_id, *driver.endpoints[endpoint_id])

    def _change(self, _strength: float) -> None:
        chosen = self._an_endpoint()
        if chosen is None:
            return
        endpoint_id, name, parameters = chosen
        random = self.random
        changes: list[tuple[str, Any]] = [
            ("max_workers", random.randint(1, 12)),
            ("min_load", random.choice([0.0, 0.0, 100.0, 150.0])),
            ("target_util", random.choice([1.0, 0.9, 0.5])),
            ("cold_workers", random.choice([0, 0, 1, 2])),
            ("cold_mult", random.choice([0.0, 1.0, 2.0])),
            ("max_queue_time", random.choice([0.0, 1.0, 30.0])),
            ("target_queue_time", random.choice([0.0, 0.5, 10.0])),
            ("inactivity_timeout", random.choice([None, 1.0, 10.0, 60.0, -1.0])),
        ]
        field, value = random.choice(changes)
        changed = replace(parameters, **{field: value})
        self.driver.operate(events.EndpointPut(endpoint_id, name, changed))

    def _suspend(self, _strength: float) -> None:
        chosen = self._an_endpoint()
        if chosen is None:
            return
        endpoint_id, name, parameters = chosen
        state = self.random.choice([EndpointState.SUSPENDED, EndpointState.STOPPED, EndpointState.ACTIVE])
        self.driver.operate(events.EndpointPut(endpoint_id, name, replace(parameters, state=state)))
        self.context.queue.after(self.random.uniform(5, 60), self._activate, endpoint_id)

    def _activate(self, endpoint_id: int) -> None:
        driver = self.driver
        if endpoint_id in driver.endpoints and endpoint_id not in driver.deleting:
            name, parameters = driver.endpoints[endpoint_id]
            active = replace(parameters, state=EndpointState.ACTIVE)
            driver.operate(events.EndpointPut(endpoint_id, name, active))

    def _update(self, _strength: float) -> None:
        if self.driver.groups:
            group_id = self.random.choice(list(self.driver.groups))
            self.driver.operate(events.WorkersUpdated(group_id, cancel=self.random.random() < 0.3))

    def _delete(self, _strength: float) -> None:
        chosen = self._an_endpoint()
        if chosen is not None:
            self.driver.operate(events.EndpointDeleted(chosen[0], force=self.random.random() < 0.4))

    # -------------------------------------------------------------------------------------------------------- malice

    def _forge(self, _strength: float) -> None:
        """A message about a worker, request or endpoint that is not there, let alone its sender's."""
        random = self.random
        unknown_id = 10_000_000 + random.randrange(1000)
        forgeries: list[events.Event] = [
            events.WorkerReported(unknown_id, "http://evil", True, "", 1e9, 0.0, (1, 2), 99, 99),
            events.RequestsFinished(unknown_id, (events.Finished(1, "Success", 1.0),)),
            events.HoldEnded(unknown_id),
            events.WaiterGone(unknown_id),
            events.InstanceGone(unknown_id),
            events.InstanceExited(unknown_id, "forged"),
            events.InstanceCreated(unknown_id),
            events.InstanceFailed(unknown_id, "destroy", "forged"),
            events.WorkerJoined(unknown_id, unknown_id),
            events.WorkersUpdated(unknown_id),
            events.WorkergroupDeleted(unknown_id),
            events.EndpointDeleted(unknown_id, force=True),
            events.Asked(unknown_id, unknown_id, 100.0),
        ]
        self.driver.forged(random.choice(forgeries))
