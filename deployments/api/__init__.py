"""The HTTP API: it reads the lake's snapshots, and submits runs of the deployments; it does no work itself."""
