"""The door to MLflow, on a real database."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from nba.errors import UnavailableError
from nba.home import Home
from training.tracking import CHAMPION, Tracking, UnknownVersionError, Version


def folder(tmp_path: Path, name: str = "artefact") -> Path:
    path = tmp_path / name
    path.mkdir()
    (path / "policy.json").write_text(f'{{"name": "{name}"}}')
    (path / "weights.safetensors").write_bytes(b"\0\1")
    return path


def registered(tracking: Tracking, path: Path, **tags: str) -> Version:
    with tracking.run("support", "train") as run:
        return tracking.register(run, path, tags)


def test_a_run_keeps_params_metrics_by_step_and_pictures(tracking: Tracking) -> None:
    with tracking.run("support", "train", tags={"quarter": "2026Q4"}) as run:
        run.params({"kind": "uniform", "rounds": 3})
        for step in range(1_200):  # more than one batch
            run.metrics({"value": float(step), "undefined": float("nan")}, step=step)
        figure = Figure()
        figure.subplots().plot([1, 2])
        run.figure(figure, "curve")
    kept = tracking.client.get_run(run.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"kind": "uniform", "rounds": "3"}
    assert kept.data.tags["quarter"] == "2026Q4"
    assert "undefined" not in kept.data.metrics
    history = tracking.client.get_metric_history(run.run_id, "value")
    assert [(m.step, m.value) for m in history] == [(i, float(i)) for i in range(1_200)]
    assert [f.path for f in tracking.client.list_artifacts(run.run_id, "plots")] == ["plots/curve.png"]
    assert tracking.client.get_experiment(kept.info.experiment_id).name == "nba/support"


def test_everything_lies_under_the_home(tracking: Tracking, home: Home, tmp_path: Path) -> None:
    version = registered(tracking, folder(tmp_path), digest="aa")
    where = tracking.client.get_model_version("support", version.version).source
    assert where.startswith(home.mlflow.resolve().as_uri() + "/artifacts/support/")


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_breaks_off_says_so_and_keeps_what_it_had(
    tracking: Tracking, error: type[BaseException], status: str
) -> None:
    begun = []

    def break_off() -> None:
        with tracking.run("support", "train") as run:
            begun.append(run.run_id)
            run.metrics({"value": 1.0})
            raise error

    with pytest.raises(error):
        break_off()
    kept = tracking.client.get_run(begun[0])
    assert (kept.info.status, kept.data.metrics) == (status, {"value": 1.0})


def test_children_name_their_parent(tracking: Tracking) -> None:
    with tracking.run("support", "quarter") as parent, tracking.run("support", "child", parent=parent) as child:
        pass
    assert tracking.client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id


def test_a_run_is_found_by_its_tags_and_resumed(tracking: Tracking) -> None:
    assert tracking.find_run("support", window="w") is None
    with tracking.run("support", "quarter", tags={"window": "w", "stage": "retrain"}) as run:
        pass
    with tracking.resume("support", run.run_id) as again:
        again.tag(outcome="done")
    found = tracking.find_run("support", window="w", stage="retrain")
    assert found is not None
    assert (found[0], found[1]["outcome"]) == (run.run_id, "done")
    assert tracking.find_run("support", window="w", stage="other") is None


def test_versions_count_up_and_keep_their_tags(tracking: Tracking, tmp_path: Path) -> None:
    assert tracking.versions("support") == []
    first = registered(tracking, folder(tmp_path), digest="aa", prior="")
    second = registered(tracking, folder(tmp_path, "other"), digest="bb", quarter="2026Q4")
    assert [v.version for v in tracking.versions("support")] == ["1", "2"]
    assert tracking.versions("retail") == []
    assert first.tags == {"digest": "aa", "prior": ""}
    assert tracking.find("support", digest="aa", prior="") == first
    assert tracking.find("support", quarter="2026Q4") == second
    assert tracking.find("support", digest="aa", quarter="2026Q4") is None
    tracking.tag(first, verdict="refuse")
    assert tracking.version("support", "1").tags["verdict"] == "refuse"


def test_a_fetched_artefact_is_the_registered_one(tracking: Tracking, tmp_path: Path) -> None:
    made = folder(tmp_path)
    version = registered(tracking, made)
    into = tmp_path / "into"
    into.mkdir()
    fetched = tracking.fetch(version, into)
    assert {p.name: p.read_bytes() for p in fetched.iterdir()} == {p.name: p.read_bytes() for p in made.iterdir()}


def test_aliases_move_and_go(tracking: Tracking, tmp_path: Path) -> None:
    assert tracking.aliased("support", CHAMPION) is None
    one, two = registered(tracking, folder(tmp_path)), registered(tracking, folder(tmp_path, "other"))
    for version in (one, two):
        tracking.set_alias("support", CHAMPION, version)
        assert tracking.aliased("support", CHAMPION) == version
    assert tracking.version("support", CHAMPION) == two
    for _ in range(2):  # taking away what is not there is no error
        tracking.set_alias("support", CHAMPION, None)
    assert tracking.aliases("support") == {}


def test_an_unknown_version_names_the_known_ones(tracking: Tracking, tmp_path: Path) -> None:
    with pytest.raises(UnknownVersionError, match="known are none yet"):
        tracking.version("support", "3")
    tracking.set_alias("support", CHAMPION, registered(tracking, folder(tmp_path)))
    with pytest.raises(UnknownVersionError, match="no version '3'\nhelp: known are champion, 1"):
        tracking.version("support", "3")


def test_a_call_waits_while_the_database_is_locked(tracking: Tracking, home: Home, tmp_path: Path) -> None:
    """Another process holds the write lock for a second; MLflow's own wait, or ours, outlasts it."""
    version = registered(tracking, folder(tmp_path))
    holder = sqlite3.connect(home.mlflow / "mlflow.db", check_same_thread=False, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(1.0, lambda: holder.execute("COMMIT"))
    timer.start()
    began = time.monotonic()
    tracking.set_alias("support", CHAMPION, version)
    assert time.monotonic() - began > 0.9
    timer.join()
    holder.close()


def test_a_locked_database_is_tried_again_and_not_for_ever() -> None:
    """Fails `failures` times with SQLite's word for it; five attempts are made."""
    from mlflow.exceptions import MlflowException

    def failing(failures: int) -> tuple[Any, list[int]]:
        calls: list[int] = []

        def call() -> str:
            calls.append(1)
            if len(calls) <= failures:
                raise MlflowException("(sqlite3.OperationalError) database is locked")
            return "done"

        return call, calls

    tracking = Tracking("sqlite:////nowhere", pause=0.0)
    call, calls = failing(4)
    assert tracking.call(call) == "done"
    assert len(calls) == 5
    call, calls = failing(99)
    with pytest.raises(UnavailableError, match="database is locked"):
        tracking.call(call)
    assert len(calls) == 5


def test_another_error_is_not_tried_again() -> None:
    from mlflow.exceptions import MlflowException

    calls = []

    def call() -> None:
        calls.append(1)
        raise MlflowException("disk I/O error")

    with pytest.raises(UnavailableError, match=r"(?s)disk I/O error.*help: "):
        Tracking("sqlite:////nowhere", pause=0.0).call(call)
    assert calls == [1]


def _register(uri: str, artefacts: Path, made: Path) -> None:
    registered(Tracking(uri, artefacts=artefacts), made)


@pytest.mark.system
def test_two_processes_may_be_the_first(home: Home, tmp_path: Path) -> None:
    """Both find neither experiment nor model, both make them; both versions are there in the end."""
    context = multiprocessing.get_context("spawn")
    made = folder(tmp_path)
    args = (home.tracking_uri, home.mlflow / "artifacts", made)
    processes = [context.Process(target=_register, args=args) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [v.version for v in Tracking.of(home).versions("support")] == ["1", "2"]
