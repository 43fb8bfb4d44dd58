"""What every run has, whatever its work: lease, record, progress, announcements, parameters, catalogue of tables."""
