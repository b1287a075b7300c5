"""Providers of rented machines, one a file; see `heretic.cloud.provider`."""
