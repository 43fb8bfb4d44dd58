"""What every run has: lease, records, progress, announcements, parameters. No work on images or rows."""
