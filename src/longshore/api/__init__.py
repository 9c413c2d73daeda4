"""HTTP: the contract's endpoints, one file for each resource."""
