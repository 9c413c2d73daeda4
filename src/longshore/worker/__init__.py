"""The worker process: take attempts from the queue, run them, retry them, clean up."""
