"""Results as tables: the Delta Sharing protocol on the service itself."""
