"""What runs: one file per deployable flow; orchestration only."""
