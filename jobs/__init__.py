"""What Dagster loads: the definitions, the jobs, the schedules and the sensors. No logic lives here."""
