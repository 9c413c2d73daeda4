"""`longshore doctor`: examine an installation and say what is wrong and how to mend it."""
