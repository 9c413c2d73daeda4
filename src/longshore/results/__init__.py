"""Result files: the stores that keep them, and signed download addresses."""
