"""Lookbook: an image collection and its catalogue become a verified, versioned, queryable dataset.

The folders `flows`, `tasks`, `blocks` and `deployments` at the top of the repository are packages of this one.
"""
