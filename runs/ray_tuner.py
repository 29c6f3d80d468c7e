"""One Ray Tune experiment that trains whatever the core loop hands out.

Tune brings workers to jobs: it asks for them, reuses them and notices when one is lost. It decides
nothing, keeps nothing and is never restored: the record of the run is the truth.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from runs.exchange import ENDED, Exchange
from runs.ray_node import JOB, OUTFIT, TOLD, Outfit, Training

logger = logging.getLogger(__name__)

SURROUNDINGS = {
    # A training that tells nothing, or what is no number, is none of Tune's business.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Snapshots are never read: as rarely as possible.
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    # What is needed and is not there is said by the pool.
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "1000000",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # The new output engine writes whatever the verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Environment of the experiment: Tune takes these settings from nowhere else."""
END_S = 15.0
"""An experiment that does not end within it is left to the end of the cluster's session."""

Tell = Callable[[int, Any], None]
"""Is told what a job's worker told: a list of events, or the exception that ended the worker."""


class Experiment:
    """A thread with one `Tuner.fit`, from the first job on."""

    def __init__(
        self,
        exchange: Exchange,
        tell: Tell,
        *,
        outfit: Outfit,
        resources: dict[str, float],
        on_end: Callable[[BaseException], None],
    ) -> None:
        """Prepare it.

        Args:
            exchange: where jobs come from.
            tell: is told about them, in the experiment's thread.
            outfit: of the workers.
            resources: of each, as Ray counts them.
            on_end: is told why the experiment ended although it was not closed.
        """
        self._exchange = exchange
        self._on_end = on_end
        self._listener = _Listener(exchange, tell)
        self._outfit = outfit
        self._resources = resources
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ray-tune", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it with everything that it trains."""
        self._exchange.end()
        self._listener.kill()
        if self._thread is not None:
            self._thread.join(END_S)
            if self._thread.is_alive():
                logger.warning("Ray Tune did not end within %g s", END_S)

    def _run(self) -> None:
        before = {name: os.environ.get(name) for name in SURROUNDINGS}
        os.environ.update(SURROUNDINGS)
        try:
            with tempfile.TemporaryDirectory(prefix="replk-tune-") as folder:
                self._tuner(folder).fit()
            if not self._exchange.ended:
                raise RuntimeError("the experiment ended by itself")
        except BaseException as error:  # noqa: BLE001
            # Whatever it is: the core loop must not wait for ever.
            if not self._exchange.ended:
                self._on_end(error)
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def _tuner(self, folder: str) -> tune.Tuner:
        return tune.Tuner(
            tune.with_resources(Training, self._resources),
            tune_config=tune.TuneConfig(
                search_alg=_Jobs(self._exchange, asdict(self._outfit)),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: f"job-{trial.config[JOB]}",
                trial_dirname_creator=lambda trial: str(trial.config[JOB]),
            ),
            run_config=tune.RunConfig(
                name="trainings",
                storage_path=folder,
                # Tune would save every trial at its end.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=0),
                callbacks=[self._listener],
                stop=_Closed(self._exchange),
                verbose=0,
            ),
        )


class _Unsaved:
    """Tune writes what it is given into its snapshots; there is nothing to keep of this."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Jobs(_Unsaved, Searcher):
    """Suggests the next job that was handed out, by its number."""

    def __init__(self, exchange: Exchange, outfit: dict[str, Any]) -> None:
        super().__init__()
        self._exchange = exchange
        self._outfit = outfit

    def suggest(self, trial_id: str) -> Any:  # noqa: ARG002
        number = self._exchange.fetch()
        if number == ENDED:
            return Searcher.FINISHED
        return None if number is None else {JOB: number, OUTFIT: self._outfit}

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        """Do nothing: the listener has told it."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class _Closed(_Unsaved, tune.Stopper):
    """Stops everything once the exchange has ended."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        return self._exchange.ended


class _Listener(_Unsaved, tune.Callback):
    """Passes on what workers tell, and keeps it out of Tune's own memory."""

    def __init__(self, exchange: Exchange, tell: Tell) -> None:
        self._exchange = exchange
        self._tell = tell
        self._actors: dict[int, Any] = {}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._actors[trial.config[JOB]] = trial.temporary_state.ray_actor

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002
        trials: Any,  # noqa: ARG002
        trial: Any,
        result: dict[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        told = result.pop(TOLD)
        if result["done"]:
            self._over(trial)
        self._tell(trial.config[JOB], told)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: ARG002
        self._over(trial)
        self._tell(trial.config[JOB], trial.get_pickled_error())

    def kill(self) -> None:
        """End the workers that are busy at once; their children end with them."""
        for actor in list(self._actors.values()):
            ray.kill(actor)

    def _over(self, trial: Any) -> None:
        self._actors.pop(trial.config[JOB], None)
        self._exchange.returned(trial.config[JOB])
