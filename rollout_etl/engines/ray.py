"""Tasks on a Ray cluster. Inputs and the temporary folder must be on storage that all nodes see under the same path.

A task that is lost with its worker or node is repeated by another; it leaves a whole file or none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from rollout_etl.errors import EngineError, RolloutETLError, UsageError

_RETRIES = 10
"""How often a task is repeated if its worker is lost."""


def _do(task: Callable[..., int], arguments: tuple[Any, ...]) -> int:
    return task(*arguments)


class Ray:
    """Executes tasks on the cluster at `address`; without one, on the cluster of this machine, or on a new one on this machine alone."""

    def __init__(self, address: str | None = None, threads: int = 1) -> None:
        try:
            import ray
        except ImportError as error:
            raise UsageError("--engine ray needs Ray: pip install '.[ray]' in a checkout of rollout-etl") from error
        self._ray, self._address, self._threads = ray, address, threads

    def __enter__(self) -> Self:
        self._connected = not self._ray.is_initialized()
        if self._connected:
            try:
                self._ray.init(address=self._address, log_to_driver=False, logging_level="error")
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise EngineError(f"cannot connect to Ray{f' at {self._address}' if self._address else ''}: {str(error).splitlines()[0]}") from error
        return self

    def run(self, task: Callable[..., int], arguments: Iterable[tuple[Any, ...]]) -> Iterator[int]:
        """See `Engine`."""
        ray = self._ray
        # The same for all tasks, and large, so it is sent to each node once.
        held = ray.put(task)
        environment = {"env_vars": {"POLARS_MAX_THREADS": str(self._threads)}}
        remote = ray.remote(_do).options(num_cpus=self._threads, max_retries=_RETRIES, scheduling_strategy="SPREAD", runtime_env=environment)
        waiting = [remote.remote(held, each) for each in arguments]
        try:
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                yield ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, RolloutETLError):
                raise error.cause from error
            raise EngineError(f"a task failed on Ray: {type(error.cause).__name__}: {str(error.cause).splitlines()[0]}") from error
        except ray.exceptions.RayError as error:
            raise EngineError(f"Ray lost a task {_RETRIES} times: {str(error).splitlines()[0]}") from error
        finally:
            for each in waiting:
                ray.cancel(each)

    def __exit__(self, *_: object) -> None:
        if self._connected:
            self._ray.shutdown()
