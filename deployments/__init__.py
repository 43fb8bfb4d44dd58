"""Every way in: command, API and page, what stands on a Prefect server, the receiver. Does no work itself."""
