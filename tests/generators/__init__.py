"""Programs that are generated from the OpenAPI document. `make generators` installs what the tests need."""
