"""Who may do what: access tokens and the levels they carry."""
