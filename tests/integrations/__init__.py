"""The integrations in the programs that they are for, each in an environment of its own; `make integrations`."""
