"""What Lookbook talks to: typed connections and settings. Imports nothing of ours."""
