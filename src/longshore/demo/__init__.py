"""The demo: a believable data set, and the main job run on it from end to end."""
