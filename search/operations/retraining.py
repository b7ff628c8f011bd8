"""Retrains the best configs of a run on its training and validation images, and tests each once."""

from __future__ import annotations

from typing import Any

from winnow.reports.run_data import RunFacts
from winnow.reports.text.next_step import retrain_options
from winnow.reports.text.wording import largest_class_text, plural
from winnow.search.operations.checks import load_recorded
from winnow.search.operations.execution import Execution, job_of, recorded_gpus, storage_errors
from winnow.search.settings import RetrainSettings, Settings, check_options
from winnow.search.storage.run_folder import RunFolder, space_of, write_study
from winnow.search.study.trials import Event
from winnow.search.trackers.following import check_installed, following


def retrain(
    folder: RunFolder,
    execution: Execution,
    *,
    top: int | None = None,
    seeds: int | None = None,
    keep_validation: bool | None = None,
) -> int:
    """Train the best configs and the baseline with fresh seeds, and test each once.

    Args:
        folder: The run.
        execution: Devices, images and view.
        top: Number of best configs, at least 1. Default: the setting of the run.
        seeds: Number of seeds per config, at least 1. Default: the setting of the run.
        keep_validation: Whether the validation images choose the epoch, as in the search, instead of being trained on. Default: the
            setting of the run.

    Returns:
        Number of trainings that this call ran; results of earlier calls are kept.

    Raises:
        InputError: The run has no completed trial, or the images are not those of the run.
    """
    from winnow.search.ray_backend.end_with_ray import ending_with_ray
    from winnow.search.winners.candidates import Candidate, choose_candidates
    from winnow.search.winners.retraining import retrain as run_retraining

    options = check_options({"top": top, "seeds": seeds, "keep_validation": keep_validation}, RetrainSettings)
    study = folder.read_study()
    log = study.get("log", ())
    check_installed(log)
    space, settings = space_of(folder, study), Settings.from_dict(study["settings"])
    settings = settings.changed(retrain=settings.retrain.model_copy(update=options))
    execution, view = execution.connected(), execution.view
    with folder.locked(), storage_errors(folder, "retrain"):
        candidates = choose_candidates(folder, space, settings)
        data = load_recorded(folder, study, space, execution.recorded_source(study))
        num_trainings, gpus = len(candidates) * settings.retrain.seeds, recorded_gpus(study)
        with execution.workers([space], num_trainings, [data], folder.shared, recorded=gpus) as (ray, plan, [shared]):
            _record_plan(folder, settings.retrain)
            images = "train" if settings.retrain.keep_validation else "train + validation"
            view.step(
                f"retraining {plural(len(candidates), 'config')}, {plural(settings.retrain.seeds, 'seed')} each, on {images}"
            )
            if largest := largest_class_text(RunFacts(path=folder.path, study=study), "test"):
                view.message(largest)
            job = job_of(folder, plan, settings)
            with following(log, folder, space, view.message) as tell_trackers:

                def tell(candidate: Candidate, result: dict[str, Any], curve: list[dict[str, Any]]) -> None:
                    record = {"result": result, "curve": curve}
                    tell_trackers(Event("retrained", candidate.trial, candidate.config, record, result["status"]))

                command = folder.command("retrain", *retrain_options(options))
                with ending_with_ray(f"Finished trainings are kept. Continue with: {command}"):
                    return run_retraining(
                        ray, folder, candidates, settings, shared, job, plan, view.progress, tell, view.message
                    )


def _record_plan(folder: RunFolder, options: RetrainSettings) -> None:
    """Record the options of this retraining in `study.yaml`, so that a report can say how many trainings remain."""
    study, plan = folder.read_study(), options.model_dump()
    if study.get("retraining") != plan:
        write_study(folder, {**study, "retraining": plan})
