"""What programs are generated from the OpenAPI document works. `make generators` installs what the tests need."""
