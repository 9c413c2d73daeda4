"""What a task is, and its life: every change of state happens here, as one statement with its log entry."""
