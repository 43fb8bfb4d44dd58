"""The YAML of a pipeline as models, with bounds and descriptions. Reads files, and runs nothing."""
