"""The entry point that `workspace.yaml` names."""

import dagster as dg

from assets import checks, collection, label_tasks, labelling, learning, release, signals, synthesis, task_labels
from assets.resources import HomeResource
from jobs import jobs, schedules, sensors

defs = dg.Definitions(
    assets=dg.load_assets_from_modules(
        [collection, signals, labelling, label_tasks, task_labels, synthesis, learning, release]
    ),
    asset_checks=dg.load_asset_checks_from_modules([checks]),
    jobs=[
        *(jobs.drain, jobs.daily_data, jobs.aggregate_answers, jobs.synthesize),
        *(jobs.learn, jobs.decide, jobs.tidy, jobs.retain),
    ],
    schedules=[
        schedules.daily_data_schedule,
        schedules.synthesize_schedule,
        schedules.learn_schedule,
        schedules.tidy_schedule,
        schedules.retain_schedule,
    ],
    sensors=[sensors.spooled, sensors.enough_preferences, sensors.panel_answered, sensors.tasks_answered],
    resources={"home": HomeResource()},
    executor=dg.in_process_executor,  # a step is a second of work: a process for each would cost ten times that
)
