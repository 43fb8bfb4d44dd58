"""Sources, catalogue, inventory and plan, duplicates, snapshot and publish, report."""
