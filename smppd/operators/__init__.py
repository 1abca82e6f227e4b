"""The people who work with an installation: names, second factors, roles, and what two of them have to agree on."""
