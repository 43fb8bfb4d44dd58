"""Servers that a home brings along: started on demand, shared by processes, ended by ``lookbook stop``."""
