"""Every way in: the lookbook command."""
