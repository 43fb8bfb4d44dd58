"""The checks of infra/, run by `make check-infra`."""
