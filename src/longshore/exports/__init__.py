"""The action `export`: what can be exported, which rows of it, and how they become a file."""
