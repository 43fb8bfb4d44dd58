"""The YAML of a pipeline as models: what a spec may say, with bounds and descriptions."""
