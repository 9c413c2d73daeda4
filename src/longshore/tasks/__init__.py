"""Tasks: their states, schedules, queue, log, runs and watermarks."""
