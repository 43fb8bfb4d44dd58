"""The page that a browser gets: plain files, served by the API's app. No build step, nothing from elsewhere."""
